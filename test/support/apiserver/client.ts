// SPDX-License-Identifier: Apache-2.0
/** A plain HTTP client of an API server, for tests: it interprets nothing. The fixture's own tests use it, and the backends. */
import { EventEmitter, once } from "node:events";
import { readFileSync } from "node:fs";
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import { gunzipSync } from "node:zlib";
import type { KubeObject } from "../manifests.js";
import type { KeyPair } from "./certificates.js";
import { resourceOf, type StoredObject } from "./resources.js";

/** Where and who. */
export interface ClientOptions {
  readonly url: string;
  /** Path of the authority's certificate. */
  readonly authority: string;
  readonly token?: string | undefined;
  readonly pair?: KeyPair | undefined;
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Decompressed. */
  readonly text: string;
  /** Bytes on the wire. */
  readonly bytes: number;
}

export interface ListReply {
  readonly kind: string;
  readonly apiVersion: string;
  readonly metadata: {
    readonly resourceVersion: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
  readonly items: readonly StoredObject[];
}

export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: StoredObject & { readonly code?: number; readonly reason?: string };
}

/** How long the test waits for one thing that must come. */
const PATIENCE_MS = 180_000;

export class ApiClient {
  readonly #options: ClientOptions;
  readonly #agent: Agent;

  constructor(options: ClientOptions) {
    this.#options = options;
    const { pair } = options;
    this.#agent = new Agent({
      keepAlive: true,
      ca: readFileSync(options.authority),
      ...(pair === undefined ? {} : { cert: readFileSync(pair.certificate), key: readFileSync(pair.key) }),
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  /** One request and its whole answer. */
  async send(
    method: string,
    path: string,
    more: { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> } = {},
  ): Promise<Reply> {
    const body = more.body === undefined ? undefined : JSON.stringify(more.body);
    const headers = { ...(body === undefined ? {} : framed(body)), ...more.headers };
    const outgoing = this.#open(method, path, headers, body);
    const incoming = await answerTo(outgoing);
    const parts: Buffer[] = [];
    for await (const part of incoming) parts.push(part as Buffer);
    const raw = Buffer.concat(parts);
    const packed = incoming.headers["content-encoding"] === "gzip";
    const text = (packed ? gunzipSync(raw) : raw).toString();
    return { status: incoming.statusCode ?? 0, headers: incoming.headers, text, bytes: raw.length };
  }

  /** @throws when the answer is no success, with what it says */
  async json<T>(method: string, path: string, more: Parameters<ApiClient["send"]>[2] = {}): Promise<T> {
    const { status, text } = await this.send(method, path, more);
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${text.slice(0, 2000)}`);
    return JSON.parse(text) as T;
  }

  /** One page. */
  list(path: string): Promise<ListReply> {
    return this.json<ListReply>("GET", path);
  }

  /** Opens a watch; resolves when its headers have come. @throws when it is refused */
  async watch(path: string): Promise<Watch> {
    const outgoing = this.#open("GET", `${path}${path.includes("?") ? "&" : "?"}watch=1`, {});
    const incoming = await answerTo(outgoing);
    if (incoming.statusCode !== 200) {
      incoming.resume();
      throw new Error(`watch ${path}: ${incoming.statusCode}`);
    }
    return new Watch(outgoing, incoming);
  }

  create(object: KubeObject): Promise<StoredObject> {
    return this.json("POST", pathOf(object, false), { body: object });
  }

  /** Replaces an object (not its status). */
  replace(object: KubeObject): Promise<StoredObject> {
    return this.json("PUT", pathOf(object, true), { body: object });
  }

  /** RFC 7386; `subresource`: "status". */
  mergePatch(object: KubeObject, patch: object, subresource?: "status"): Promise<StoredObject> {
    const path = pathOf(object, true) + (subresource === undefined ? "" : `/${subresource}`);
    return this.json("PATCH", path, {
      body: patch,
      headers: { "content-type": "application/merge-patch+json" },
    });
  }

  delete(object: KubeObject): Promise<unknown> {
    return this.json("DELETE", pathOf(object, true));
  }

  get(object: KubeObject): Promise<StoredObject> {
    return this.json("GET", pathOf(object, true));
  }

  #open(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body?: string,
  ): ClientRequest {
    const { token, url } = this.#options;
    const outgoing = request(url + path, {
      method,
      agent: this.#agent,
      headers: {
        accept: "application/json",
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
    });
    outgoing.end(body);
    return outgoing;
  }
}

/** Node does not say how long a DELETE's body is by itself. */
function framed(body: string): Record<string, string> {
  return { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) };
}

async function answerTo(outgoing: ClientRequest): Promise<IncomingMessage> {
  const [incoming] = await once(outgoing, "response", { signal: AbortSignal.timeout(PATIENCE_MS) });
  return incoming as IncomingMessage;
}

/** The path of an object, or of the collection that it is created in. */
export function pathOf(object: KubeObject, itself: boolean): string {
  const { group, version, plural, namespaced } = resourceOf(object);
  const prefix = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const { namespace, name } = object.metadata;
  return `${prefix}${namespaced ? `/namespaces/${namespace}` : ""}/${plural}${itself ? `/${name}` : ""}`;
}

/** An open watch; its lines come out in order. */
export class Watch {
  /** Lines that were taken already are not in it. */
  readonly #lines: string[] = [];
  readonly #changes = new EventEmitter();
  readonly #outgoing: ClientRequest;
  /** null: open. */
  ended: "complete" | "cut" | null = null;

  constructor(outgoing: ClientRequest, incoming: IncomingMessage) {
    this.#outgoing = outgoing;
    let rest = "";
    incoming.setEncoding("utf8");
    incoming.on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.#lines.push(...lines);
      this.#changes.emit("change");
    });
    incoming.on("error", () => {});
    outgoing.on("error", () => {});
    incoming.on("close", () => {
      this.ended = incoming.complete ? "complete" : "cut";
      this.#changes.emit("change");
    });
  }

  /** The next line, as it came. @throws at the end, or when none comes */
  async line(): Promise<string> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (this.#lines.length === 0) {
      if (this.ended !== null) throw new Error(`the watch has ended (${this.ended})`);
      await once(this.#changes, "change", { signal });
    }
    return this.#lines.shift() as string;
  }

  async next(): Promise<WatchEvent> {
    return JSON.parse(await this.line()) as WatchEvent;
  }

  /** The next `count` events as "TYPE name". */
  async take(count: number): Promise<string[]> {
    const taken: string[] = [];
    while (taken.length < count) {
      const { type, object } = await this.next();
      taken.push(`${type} ${object.metadata.name}`);
    }
    return taken;
  }

  /** How it ended, once it has; lines that are left are lost. */
  async end(): Promise<"complete" | "cut"> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (this.ended === null) await once(this.#changes, "change", { signal });
    return this.ended;
  }

  /** Lines that have come and were not taken. */
  get waiting(): number {
    return this.#lines.length;
  }

  close(): void {
    this.#outgoing.destroy();
  }
}
