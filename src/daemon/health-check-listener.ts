// SPDX-License-Identifier: Apache-2.0
/** One listening socket of a health check port, and its defence against clients that are slow, silent or talk too much. */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { errorMessage } from "../util/errors.js";
import type { ConnectionBudget } from "./health-check-connections.js";
import type { HealthCheckResponse } from "./health-check-response.js";
import { discardBody } from "./servers/discard-body.js";

/** Whole headers and whole request, and silence between two requests. */
const CLIENT_TIMEOUT_MS = 5_000;

const SERVER_OPTIONS: ServerOptions = {
  headersTimeout: CLIENT_TIMEOUT_MS,
  requestTimeout: CLIENT_TIMEOUT_MS,
  keepAliveTimeout: CLIENT_TIMEOUT_MS,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8 << 10,
};

/** Why a socket could not listen. `code` is the system's: "EADDRINUSE", "EADDRNOTAVAIL", "EAFNOSUPPORT" … */
export class ListenError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "ListenError";
    this.code = code;
  }
}

export interface ListenerOptions {
  /** The address as text; "0.0.0.0" or "::" for every address of that family alone. */
  readonly host: string;
  readonly port: number;
  readonly respond: () => HealthCheckResponse;
  readonly connections: ConnectionBudget;
}

export class HealthCheckListener {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** @throws ListenError when the address or the port cannot be had */
  static open(options: ListenerOptions): Promise<HealthCheckListener> {
    const { host, port, connections, respond } = options;
    const server = createServer(SERVER_OPTIONS, (request, response) => answer(request, response, respond()));
    server.maxHeadersCount = 64;
    // Or silence after the last byte of a request would keep a connection that is being written to.
    server.timeout = 2 * CLIENT_TIMEOUT_MS;
    server.on("connection", (socket: Socket) => connections.add(socket));
    server.on("connect", (_request: IncomingMessage, socket: Duplex) => answerRaw(socket, respond()));
    return new Promise((resolve, reject) => {
      const failed = (error: NodeJS.ErrnoException): void =>
        reject(new ListenError(error.code ?? "UNKNOWN", errorMessage(error)));
      server.once("error", failed);
      // Without ipv6Only [::] would take the IPv4 port as well, which has another answer (6.25).
      server.listen({ host, port, ipv6Only: host.includes(":"), exclusive: true }, () => {
        server.off("error", failed);
        // An accept() that failed (no file descriptor left) is over: the next one may succeed.
        server.on("error", () => {});
        resolve(new HealthCheckListener(server));
      });
    });
  }

  /** Ends the listening socket and all of its connections. Resolves when they are gone. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

/** 6.21: any path and any method. */
function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { status, headers, body }: HealthCheckResponse,
): void {
  request.on("error", () => {});
  discardBody(request);
  response.on("error", () => {});
  response.writeHead(status, { ...headers, "Content-Length": Buffer.byteLength(body) });
  response.end(request.method === "HEAD" ? undefined : body);
}

/** A CONNECT gets no response object from Node, only the socket. */
function answerRaw(socket: Duplex, { status, headers, body }: HealthCheckResponse): void {
  socket.on("error", () => {});
  const lines = [
    `HTTP/1.1 ${status === 200 ? "200 OK" : "503 Service Unavailable"}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
  ];
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`, () => socket.destroy());
}
