// SPDX-License-Identifier: Apache-2.0
/**
 * An HTTP server that comes up as soon as it can: when its port is taken it tries again every 5 s for ever, or, with
 * bindAddressHardFail, says so once and gives up (10.9, 11.6).
 */
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { errorMessage } from "../../util/errors.js";
import type { Logger } from "../../util/log.js";
import { systemTimers, type Timers } from "../../util/timers.js";
import { ConnectionBudget } from "../health-check-connections.js";
import { type BindAddress, bindAddressText } from "./bind-address.js";
import { discardBody } from "./discard-body.js";
import type { Reply } from "./reply.js";

/** What was to be bound and why it was not. `code` is the system's: "EADDRINUSE", "EADDRNOTAVAIL", "EACCES" … */
export interface BindFailure {
  readonly server: string;
  readonly address: BindAddress;
  readonly code: string;
  readonly message: string;
}

export interface KeptServerOptions {
  /** For messages: "healthz", "metrics". */
  readonly name: string;
  readonly address: BindAddress;
  /** Must not reject; what it throws is answered with 500. `response` for those who answer in their own way: return null. */
  readonly respond: (
    request: IncomingMessage,
    response: ServerResponse,
  ) => Reply | null | Promise<Reply | null>;
  /** bindAddressHardFail: called once instead of trying again; posts the event and ends the process. */
  readonly onHardFail: ((failure: BindFailure) => void) | null;
  readonly log: Logger;
  readonly timers?: Timers;
  /** How many connections at once; the oldest makes room. @default 128 */
  readonly maxConnections?: number;
}

export const RETRY_MS = 5_000;

/** Whole headers and whole request, and silence between two requests. */
const CLIENT_TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 128;

const SERVER_OPTIONS: ServerOptions = {
  headersTimeout: CLIENT_TIMEOUT_MS,
  requestTimeout: CLIENT_TIMEOUT_MS,
  keepAliveTimeout: CLIENT_TIMEOUT_MS,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 16 << 10,
};

const WILDCARDS: readonly string[] = ["0.0.0.0", "::"];
const NO_IPV6: readonly string[] = ["EAFNOSUPPORT", "EADDRNOTAVAIL"];

export class KeptServer {
  readonly #options: KeptServerOptions;
  readonly #timers: Timers;
  readonly #connections: ConnectionBudget;
  #server: Server | null = null;
  #cancelRetry: (() => void) | null = null;
  #closed = false;
  /** The failure that was logged; the same one is not said every 5 s. */
  #told = "";

  constructor(options: KeptServerOptions) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#connections = new ConnectionBudget(options.maxConnections ?? MAX_CONNECTIONS);
  }

  /** Resolves when the first attempt is over, whatever came of it. Never rejects. */
  start(): Promise<void> {
    return this.#attempt();
  }

  /** Where it listens; null while it does not. */
  get listening(): BindAddress | null {
    const info = this.#server?.address() as AddressInfo | null | undefined;
    return info ? { host: info.address, port: info.port } : null;
  }

  /** Ends the listening socket and its connections, and tries no more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelRetry?.();
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  async #attempt(): Promise<void> {
    const { name, address, log } = this.#options;
    try {
      const server = await this.#listen();
      if (this.#closed) {
        server.close();
        return;
      }
      this.#server = server;
      log.info({ server: name, address: bindAddressText(this.listening ?? address) }, "serving");
    } catch (error) {
      if (!this.#closed) this.#failed(error as NodeJS.ErrnoException);
    }
  }

  #failed(error: NodeJS.ErrnoException): void {
    const { name: server, address, onHardFail, log } = this.#options;
    const failure = { server, address, code: error.code ?? "UNKNOWN", message: errorMessage(error) };
    if (onHardFail !== null) {
      onHardFail(failure);
      return;
    }
    if (this.#told !== failure.message) {
      const fields = {
        server,
        address: bindAddressText(address),
        code: failure.code,
        reason: failure.message,
      };
      log.error({ ...fields, retryMs: RETRY_MS }, "cannot listen, trying again");
      this.#told = failure.message;
    }
    this.#cancelRetry = this.#timers.after(RETRY_MS, () => void this.#attempt());
  }

  /** As Go's net.Listen does it, a wildcard of either family takes both, where the host has both. */
  async #listen(): Promise<Server> {
    const { host, port } = this.#options.address;
    if (!WILDCARDS.includes(host)) return await this.#bind(host, port);
    try {
      return await this.#bind("::", port);
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (host === "0.0.0.0" && NO_IPV6.includes(code)) return await this.#bind(host, port);
      throw error;
    }
  }

  #bind(host: string, port: number): Promise<Server> {
    const server = createServer(SERVER_OPTIONS, (request, response) => void this.#serve(request, response));
    server.maxHeadersCount = 64;
    server.on("connection", (socket: Socket) => this.#connections.add(socket));
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port, ipv6Only: false, exclusive: true }, () => {
        server.off("error", reject);
        // An accept() that failed (no file descriptor left) is over: the next one may succeed.
        server.on("error", () => {});
        resolve(server);
      });
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.on("error", () => {});
    response.on("error", () => {});
    let reply: Reply | null;
    try {
      reply = await this.#options.respond(request, response);
    } catch (error) {
      this.#options.log.warn(
        { server: this.#options.name, path: pathOf(request), reason: errorMessage(error) },
        "request failed",
      );
      reply = {
        status: 500,
        headers: { "Content-Type": "text/plain; charset=utf-8" },
        body: "internal error\n",
      };
    }
    discardBody(request);
    if (reply === null || response.destroyed) return;
    const { status, headers, body } = reply;
    response.writeHead(status, { ...headers, "Content-Length": Buffer.byteLength(body) });
    response.end(request.method === "HEAD" ? undefined : body);
  }
}

/** Without the query. */
export function pathOf({ url = "/" }: IncomingMessage): string {
  const end = url.indexOf("?");
  return end < 0 ? url : url.slice(0, end);
}
