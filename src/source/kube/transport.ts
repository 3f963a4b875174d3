// SPDX-License-Identifier: Apache-2.0
/**
 * Requests to one API server over node:https: a few connections that are kept, credentials as they are now, and an end to
 * all waiting. Nothing above knows of sockets, so another transport can take its place.
 */
import type { Agent, ClientRequest, IncomingMessage } from "node:http";
import { request as httpRequest } from "node:http";
import type { RequestOptions } from "node:https";
import { request as httpsRequest } from "node:https";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { errorMessage } from "../../util/errors.js";
import type { Timers } from "../../util/timers.js";
import { ApiError, asApiError, statusError } from "./errors.js";
import type { KubeConnection } from "./kubeconfig.js";
import { parseJson } from "./raw.js";
import type { SourceObserver } from "./stats.js";

export interface ApiRequest {
  readonly method?: "GET" | "POST" | "PATCH";
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly contentType?: string;
  /** The answer may be compressed. Not for watches: what is compressed is held back. */
  readonly gzip?: boolean;
  /** Until the answer's headers are there, connecting included. */
  readonly headersMs: number;
  /** Between two pieces of the answer. */
  readonly idleMs: number;
  /** All of it. */
  readonly totalMs: number;
}

/** An answer of 2xx. The body is read once, or closed. */
export interface ApiResponse {
  readonly status: number;
  /**
   * Pieces as they come. Leaving the loop ends the request.
   * @throws ApiError "connect", "idle_timeout", "total_timeout"; what the signal was aborted with.
   */
  readonly body: AsyncIterable<Buffer>;
}

export interface Transport {
  /**
   * Resolves with the headers of an answer of 2xx. A 401 is asked again once, with credentials read anew.
   * @throws ApiError; what the signal was aborted with.
   */
  open(request: ApiRequest, signal: AbortSignal): Promise<ApiResponse>;
  /** The same with a small answer, read whole as JSON. Null when it is empty. */
  json(request: ApiRequest, signal: AbortSignal): Promise<unknown>;
  /** Ends idle connections. Those in use end with their requests. */
  close(): void;
}

export interface TransportOptions {
  readonly version: string;
  readonly timers: Timers;
  readonly observer?: SourceObserver;
}

const MOST_ERROR_BYTES = 64 << 10;
const MOST_JSON_BYTES = 4 << 20;
/** Finds a peer that is gone (node asks ten times, a second apart, after this): 40 s. Milliseconds. */
const KEEPALIVE_MS = 30_000;
const MOST_IDLE_CONNECTIONS = 2;
const PROXY_CONNECT_MS = 30_000;

export function createTransport(connection: KubeConnection, options: TransportOptions): Transport {
  return new HttpTransport(connection, options);
}

/** What makes two Agents interchangeable. */
function identityOf(options: RequestOptions): string {
  const text = (value: unknown): string => (value === undefined ? "" : String(value));
  const { ca, cert, key, servername, rejectUnauthorized } = options;
  return [ca, cert, key, servername, rejectUnauthorized].map(text).join("\0");
}

class HttpTransport implements Transport {
  readonly #connection: KubeConnection;
  readonly #server: URL;
  readonly #userAgent: string;
  readonly #timers: Timers;
  readonly #observer: SourceObserver;
  /** Kept as long as certificates and keys stay the same. */
  #agent: Agent | null = null;
  #agentIdentity = "";
  #closed = false;

  constructor(connection: KubeConnection, { version, timers, observer }: TransportOptions) {
    this.#connection = connection;
    this.#server = new URL(connection.server);
    const arch = process.arch === "x64" ? "amd64" : process.arch;
    this.#userAgent = `portolan/${version} (${process.platform}/${arch})`;
    this.#timers = timers;
    this.#observer = observer ?? {};
  }

  async open(request: ApiRequest, signal: AbortSignal): Promise<ApiResponse> {
    const first = await this.#attempt(request, signal);
    if (!(first instanceof ApiError)) return first;
    if (first.code !== "unauthorized" || !this.#connection.expire()) throw first;
    const second = await this.#attempt(request, signal);
    if (second instanceof ApiError) throw second;
    return second;
  }

  async json(request: ApiRequest, signal: AbortSignal): Promise<unknown> {
    const { body } = await this.open(request, signal);
    const bytes = await readAll(body, MOST_JSON_BYTES);
    if (bytes.length === 0) return null;
    return parseJson(bytes, `${describe(request)}: the answer`);
  }

  close(): void {
    this.#closed = true;
    this.#agent?.destroy();
    this.#agent = null;
  }

  /** One request. An answer other than 2xx is returned as the error that it is. */
  async #attempt(request: ApiRequest, signal: AbortSignal): Promise<ApiResponse | ApiError> {
    signal.throwIfAborted();
    const what = describe(request);
    const exchange = new Exchange(what, request, this.#timers, signal);
    const method = request.method ?? "GET";
    const begin = this.#timers.now();
    const observe = (code: string): void =>
      this.#observer.request?.(method, this.#server.host, code, this.#timers.now() - begin);
    try {
      const options = await this.#options(request);
      exchange.throwIfEnded();
      const response = await exchange.send(options, this.#server.protocol, bodyOf(request));
      const status = response.statusCode ?? 0;
      observe(String(status));
      if (status >= 200 && status < 300) return { status, body: exchange.body() };
      return await readError(what, response, exchange.body(), this.#timers.epoch());
    } catch (error) {
      exchange.end();
      if (signal.aborted) throw signal.reason;
      if (!exchange.answered) observe("<error>");
      throw asApiError(what, error);
    }
  }

  async #options(request: ApiRequest): Promise<RequestOptions> {
    const options: RequestOptions = { headers: {} };
    if (this.#connection.proxy !== null) options.timeout = PROXY_CONNECT_MS;
    try {
      await this.#connection.apply(options);
    } catch (cause) {
      if (cause instanceof ApiError) throw cause;
      throw new ApiError("credentials", `cannot read the credentials: ${errorMessage(cause)}`, { cause });
    }
    const { pathname, hostname, port, protocol } = this.#server;
    const prefix = pathname === "/" ? "" : pathname;
    const query = new URLSearchParams(request.query).toString();
    return {
      protocol,
      host: hostname.replace(/^\[|\]$/g, ""),
      port: port === "" ? (protocol === "https:" ? 443 : 80) : Number(port),
      path: `${prefix}${request.path}${query === "" ? "" : `?${query}`}`,
      method: request.method ?? "GET",
      agent: this.#agentFor(options),
      ...(options.auth === undefined ? {} : { auth: options.auth }),
      headers: {
        ...options.headers,
        Accept: "application/json",
        "User-Agent": this.#userAgent,
        ...(request.gzip === true ? { "Accept-Encoding": "gzip" } : {}),
        ...(request.body === undefined ? {} : { "Content-Type": request.contentType ?? "application/json" }),
      },
    };
  }

  /**
   * KubeConfig makes a new Agent with every call; one stays in use until a certificate, a key or the CA has changed. New
   * connections are made with the new ones from then on, and watches that are open end with their time.
   */
  #agentFor(options: RequestOptions): Agent {
    const identity = identityOf(options);
    if (this.#agent !== null && identity === this.#agentIdentity) return this.#agent;
    const agent = options.agent as Agent & { keepAlive: boolean };
    agent.keepAlive = true;
    agent.maxFreeSockets = MOST_IDLE_CONNECTIONS;
    closeIdle(this.#agent);
    if (this.#closed) return agent;
    this.#agent = agent;
    this.#agentIdentity = identity;
    return agent;
  }
}

/** Of an Agent that is not used any more: connections in use go with their requests. */
function closeIdle(agent: Agent | null): void {
  if (agent === null) return;
  agent.maxFreeSockets = 0;
  for (const sockets of Object.values(agent.freeSockets)) {
    for (const socket of sockets ?? []) socket.destroy();
  }
}

const describe = ({ method = "GET", path }: ApiRequest): string => `${method} ${path}`;

function bodyOf({ body }: ApiRequest): string | null {
  return body === undefined ? null : JSON.stringify(body);
}

/** One request and its answer, with an end to each wait: the signal, and the three deadlines. */
class Exchange {
  answered = false;
  readonly #what: string;
  readonly #request: ApiRequest;
  readonly #timers: Timers;
  readonly #signal: AbortSignal;
  readonly #onAbort = (): void => this.#fail(this.#signal.reason);
  readonly #cancelTotal: () => void;
  #cancelWait: () => void;
  #client: ClientRequest | null = null;
  #stream: Readable | null = null;
  #reason: unknown = null;
  #ended = false;

  constructor(what: string, request: ApiRequest, timers: Timers, signal: AbortSignal) {
    this.#what = what;
    this.#request = request;
    this.#timers = timers;
    this.#signal = signal;
    const { totalMs, headersMs } = request;
    const late = (code: "total_timeout" | "headers_timeout", text: string, ms: number): (() => void) =>
      timers.after(ms, () => this.#fail(new ApiError(code, `${what}: ${text} within ${ms / 1000} s`)));
    this.#cancelTotal = late("total_timeout", "no end of the answer", totalMs);
    this.#cancelWait = late("headers_timeout", "no answer", headersMs);
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  throwIfEnded(): void {
    if (this.#ended) throw this.#reason;
  }

  send(options: RequestOptions, protocol: string, body: string | null): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const client = (protocol === "https:" ? httpsRequest : httpRequest)(options);
      this.#client = client;
      client.on("socket", (socket) => socket.setKeepAlive(true, KEEPALIVE_MS));
      client.on("error", (error) => reject(this.#reason ?? error));
      client.on("response", (response) => {
        this.answered = true;
        this.#cancelWait();
        this.#stream = unpacked(response);
        // Errors come to whoever reads; a stream that nobody reads any more has none to tell.
        this.#stream.on("error", () => undefined);
        resolve(response);
      });
      if (body === null) client.end();
      else client.end(body);
    });
  }

  async *body(): AsyncGenerator<Buffer, void, void> {
    const stream = this.#stream;
    if (stream === null) return;
    try {
      this.throwIfEnded();
      this.#waitIdle();
      for await (const chunk of stream) {
        this.#cancelWait();
        this.throwIfEnded();
        yield chunk as Buffer;
        this.throwIfEnded();
        this.#waitIdle();
      }
      this.throwIfEnded();
    } catch (error) {
      throw this.#reason ?? asApiError(this.#what, error);
    } finally {
      this.end();
    }
  }

  /** Lets go of timers and signal. A request that is not at its end is broken off. */
  end(): void {
    this.#ended = true;
    this.#reason ??= new ApiError("connect", `${this.#what}: ended`);
    this.#cancelTotal();
    this.#cancelWait();
    this.#signal.removeEventListener("abort", this.#onAbort);
    if (this.#stream?.readableEnded === true) return;
    this.#stream?.destroy();
    this.#client?.destroy();
  }

  #waitIdle(): void {
    const { idleMs } = this.#request;
    this.#cancelWait = this.#timers.after(idleMs, () =>
      this.#fail(new ApiError("idle_timeout", `${this.#what}: nothing came for ${idleMs / 1000} s`)),
    );
  }

  #fail(reason: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#reason = reason;
    const error = reason instanceof Error ? reason : new Error(String(reason));
    // The answer first: a request that is destroyed lets what has come of its answer run out.
    this.#stream?.destroy(error);
    this.#client?.destroy(error);
  }
}

function unpacked(response: IncomingMessage): Readable {
  if (response.headers["content-encoding"] !== "gzip") return response;
  const gunzip = createGunzip();
  pipeline(response, gunzip, () => undefined);
  return gunzip;
}

async function readAll(body: AsyncIterable<Buffer>, most: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > most) throw new ApiError("garbage", `the answer has more than ${most} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The Status object of an answer, or what a proxy in between has said. */
async function readError(
  what: string,
  { statusCode = 0, headers }: IncomingMessage,
  body: AsyncIterable<Buffer>,
  epoch: number,
): Promise<ApiError> {
  let value: unknown = null;
  try {
    value = JSON.parse((await readAll(body, MOST_ERROR_BYTES)).toString("utf8"));
  } catch {
    // The status says enough.
  }
  return statusError(what, statusCode, value, retryAfterMs(headers["retry-after"], epoch));
}

/** Longer than this nobody waits, whatever a proxy says. */
const LONGEST_RETRY_AFTER_MS = 10 * 60_000;

/** Seconds, or a date. */
function retryAfterMs(header: string | undefined, epoch: number): number | null {
  if (header === undefined) return null;
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - epoch;
  return Number.isNaN(ms) || ms <= 0 ? null : Math.min(ms, LONGEST_RETRY_AFTER_MS);
}
