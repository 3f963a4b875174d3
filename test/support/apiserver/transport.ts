// SPDX-License-Identifier: Apache-2.0
/** TLS over TCP and unix sockets, with the raw socket of every connection at hand, so that it can be cut, reset or left to rot. */
import { readFileSync } from "node:fs";
import {
  createServer as createHttpServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createSecureContext, TLSSocket } from "node:tls";
import type { CertificateAuthority, KeyPair } from "./certificates.js";

/** Go's server keeps idle connections that long. */
const KEEP_ALIVE_MS = 90_000;

/** A connection that was accepted. */
export class Connection {
  /** From 0. */
  readonly index: number;
  readonly raw: Socket;
  /** Requests that came over it. */
  requests = 0;
  /** Nothing more goes out on it, whatever happens. */
  dead = false;
  open = true;

  constructor(index: number, raw: Socket) {
    this.index = index;
    this.raw = raw;
  }

  /** Ends it with a TCP RST (a unix socket: at once). */
  reset(): void {
    if (this.raw.remoteAddress === undefined) this.raw.destroy();
    else this.raw.resetAndDestroy();
  }
}

export type Handler = (request: IncomingMessage, response: ServerResponse, connection: Connection) => void;

export class Transport {
  /** All connections so far. */
  readonly connections: Connection[] = [];
  /** New connections are accepted and then never hear a word; those there are fall silent for ever. */
  blackHole = false;
  readonly #http: HttpServer;
  readonly #servers: Server[] = [];
  readonly #of = new WeakMap<object, Connection>();
  readonly #authority: string;
  readonly #pair: KeyPair;
  readonly #changed: () => void;

  constructor(authority: CertificateAuthority, pair: KeyPair, handler: Handler, changed: () => void) {
    this.#authority = authority.pem;
    this.#pair = pair;
    this.#changed = changed;
    this.#http = createHttpServer(
      { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0 },
      (request, response) => {
        const connection = this.#of.get(request.socket) as Connection;
        connection.requests++;
        handler(request, response, connection);
      },
    );
    this.#http.on("clientError", (_error, socket) => socket.destroy());
  }

  /** Connections that are open now. */
  get open(): Connection[] {
    return this.connections.filter((connection) => connection.open);
  }

  /** Listens. @returns the port (of a path: 0) */
  async listen(
    where: { readonly host: string; readonly port: number } | { readonly path: string },
  ): Promise<number> {
    const server = createServer((socket) => this.#accept(socket));
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(where, resolve);
    });
    const address = server.address();
    return typeof address === "object" ? (address as AddressInfo).port : 0;
  }

  /** Accepts nothing more: new connections are refused. Those that are open stay. */
  async stopListening(): Promise<void> {
    const closing = this.#servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve)));
    // close() waits for the connections too, which are none of its business here.
    void Promise.all(closing);
    await new Promise((resolve) => setImmediate(resolve));
  }

  async close(): Promise<void> {
    await this.stopListening();
    for (const connection of this.open) connection.raw.destroy();
    this.#http.close();
  }

  #accept(raw: Socket): void {
    const connection = new Connection(this.connections.length, raw);
    this.connections.push(connection);
    raw.setNoDelay(true);
    raw.on("error", () => {});
    raw.on("close", () => {
      connection.open = false;
      this.#changed();
    });
    this.#changed();
    if (this.blackHole) {
      connection.dead = true;
      // What comes is read and thrown away: else nobody would see the other side's end.
      raw.resume();
    } else this.#encrypt(raw, connection);
  }

  #encrypt(raw: Socket, connection: Connection): void {
    const secureContext = createSecureContext({
      key: readFileSync(this.#pair.key),
      cert: readFileSync(this.#pair.certificate),
      ca: this.#authority,
    });
    const socket = new TLSSocket(raw, {
      isServer: true,
      secureContext,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
    });
    socket.on("error", () => raw.destroy());
    this.#of.set(socket, connection);
    this.#http.emit("connection", socket);
  }
}
