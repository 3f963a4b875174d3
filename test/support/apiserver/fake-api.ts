// SPDX-License-Identifier: Apache-2.0
/**
 * An API server for tests: real list and watch semantics over real TLS, with everything that can go wrong on demand. It is
 * not a Kubernetes: nothing is defaulted, allocated or reconciled, and it serves what a node agent reads and no more.
 *
 *     const api = await FakeApi.start();
 *     api.create(service("web", ["10.96.0.10"], [{ name: "http", port: 80 }]));
 *     const kubeconfig = api.kubeconfig({ tokenFile: true });
 */
import { randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import type { KubeObject } from "../manifests.js";
import { Access, type Role, type User } from "./access.js";
import { Answer, type Recording } from "./answer.js";
import { CertificateAuthority, type KeyPair } from "./certificates.js";
import { ActiveFault, type Fault, matches, type RequestMatch, type RequestRecord } from "./faults.js";
import { type KubeconfigOptions, writeKubeconfig } from "./kubeconfig.js";
import { pageOf, selectionOf, writeList } from "./list.js";
import { RESOURCES, type ResourceName, resourceOf, type StoredObject } from "./resources.js";
import { readBody, routeOf, wellKnown } from "./route.js";
import { ApiError, reasonOf, unauthorized } from "./status.js";
import { keyOf, Store, type StoreOptions } from "./store.js";
import { type Connection, Transport } from "./transport.js";
import { planWatch, type StreamingLists, WatchStream } from "./watch.js";
import { createFrom, deleteFrom, patchFrom, type Target, updateFrom } from "./writes.js";

const TOKEN_USER = "system:serviceaccount:kube-system:kube-proxy";
const GZIP_FROM_BYTES = 128 * 1024;
const BOOKMARK_MS = 60_000;
/** `until` is a guard against tests that hang, not a measure of anything. */
const UNTIL_MS = 180_000;

/** How the server is set up. */
export interface FakeApiOptions extends StoreOptions {
  /** @default 127.0.0.1 */
  readonly host?: string;
  /** @default any free one */
  readonly port?: number;
  /** Listens on a unix socket as well: the way in from another network namespace. */
  readonly socketPath?: string;
  /** More names and addresses for the certificate. */
  readonly names?: readonly string[];
  /** How often a watch gets a bookmark; 0: only when told (`bookmark`). @default 60,000 */
  readonly bookmarkMs?: number;
  /** @default "on" */
  readonly streamingLists?: StreamingLists;
  /** Bytes from which lists are compressed; null: never. @default 131,072 */
  readonly gzipFrom?: number | null;
  /** What this server does not know, as an older one: 404. */
  readonly without?: readonly ResourceName[];
  /** Fields that this server cannot select by, as "services:spec.clusterIP": 400. */
  readonly unsupportedFields?: readonly string[];
  /** What the token's user may do. @default "node-proxier" (1.15) */
  readonly role?: Role;
}

export class FakeApi {
  /** A directory of the server's own, removed with it. */
  readonly directory: string;
  /** Where the token is kept; `rotateToken` replaces it. */
  readonly tokenFile: string;
  readonly authority: CertificateAuthority;
  /** Every request so far, oldest first. */
  readonly requests: readonly RequestRecord[];
  readonly store: Store;
  readonly #requests: Recording[] = [];
  readonly #options: FakeApiOptions;
  readonly #access: Access;
  readonly #events = new EventEmitter();
  readonly #transport: Transport;
  readonly #watches = new Set<WatchStream>();
  #faults: ActiveFault[] = [];
  #token = "";
  #port = 0;
  #files = 0;
  #client: KeyPair | undefined;
  /** Also for a test that fails before it closes the server. */
  readonly #removeNow = (): void => rmSync(this.directory, { recursive: true, force: true });
  /** The revision at which the watch cache stands still; null: it follows. */
  #heldAt: number | null = null;

  private constructor(options: FakeApiOptions) {
    this.#options = options;
    this.requests = this.#requests;
    this.#events.setMaxListeners(0);
    this.directory = mkdtempSync(`${tmpdir()}/portolan-api-`);
    process.once("exit", this.#removeNow);
    this.tokenFile = `${this.directory}/token`;
    this.authority = new CertificateAuthority(this.directory);
    this.#access = new Access(this.authority.pem);
    const names = ["127.0.0.1", "::1", "localhost", "kubernetes.default.svc", ...(options.names ?? [])];
    this.store = new Store(options);
    this.store.onChange(() => this.#pump());
    this.#transport = new Transport(
      this.authority,
      this.authority.server([...new Set(names)]),
      (request, response, connection) => this.#handle(request, response, connection),
      () => this.#changed(),
    );
    this.rotateToken();
  }

  static async start(options: FakeApiOptions = {}): Promise<FakeApi> {
    const api = new FakeApi(options);
    await api.listen(options.port ?? 0);
    return api;
  }

  /** Listens (again, on the same port, after `refuse`). */
  async listen(port: number = this.#port): Promise<void> {
    this.#port = await this.#transport.listen({ host: this.#options.host ?? "127.0.0.1", port });
    if (this.#options.socketPath !== undefined)
      await this.#transport.listen({ path: this.#options.socketPath });
  }

  /** Nobody is at the port any more: connections are refused, and those that are open are reset. */
  async refuse(): Promise<void> {
    await this.#transport.stopListening();
    this.resetConnections();
  }

  /** Ends all connections and removes the directory. */
  async close(): Promise<void> {
    await this.#transport.close();
    this.#removeNow();
    process.removeListener("exit", this.#removeNow);
  }

  get port(): number {
    return this.#port;
  }

  get url(): string {
    const host = this.#options.host ?? "127.0.0.1";
    return `https://${host.includes(":") ? `[${host}]` : host}:${this.#port}`;
  }

  // ── Objects ────────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Creates an object, status and all. @throws ApiError 409 when it is there */
  create(object: KubeObject): StoredObject {
    return this.store.create(resourceOf(object), object).object;
  }

  /** Replaces an object, status and all. Without a change it writes nothing. @throws ApiError 404, 409 */
  update(object: KubeObject): StoredObject {
    return this.store.update(resourceOf(object), object).object;
  }

  /** Creates or replaces. */
  apply(object: KubeObject): StoredObject {
    return this.get(object) === undefined ? this.create(object) : this.update(object);
  }

  /** Deletes an object; one with finalizers is only marked. @throws ApiError 404 */
  delete(object: Pick<KubeObject, "apiVersion" | "kind" | "metadata">): StoredObject {
    return this.store.delete(resourceOf(object), keyOf(object)).object;
  }

  get(object: Pick<KubeObject, "apiVersion" | "kind" | "metadata">): StoredObject | undefined {
    return this.store.get(resourceOf(object), keyOf(object))?.object;
  }

  /** All objects of a resource, sorted by namespace and name. */
  all(name: ResourceName): readonly StoredObject[] {
    const resource = RESOURCES.find((each) => each.name === name);
    if (resource === undefined) throw new Error(`no resource ${name}`);
    return this.store.at(resource, this.store.revision).map(({ object }) => object);
  }

  /** Forgets old states: who watches from before (or goes on with a page of one) gets 410. */
  compact(): void {
    this.store.compact();
  }

  /**
   * The watch cache stands still: watches tell nothing, and lists with resourceVersion "0" show the state of now, whatever is
   * written. Until `releaseCache`.
   */
  holdCache(): void {
    this.#heldAt = this.store.revision;
  }

  /** The watch cache catches up. */
  releaseCache(): void {
    this.#heldAt = null;
    this.#pump();
  }

  // ── Credentials ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The token of now. */
  get token(): string {
    return this.#token;
  }

  /**
   * Makes a new token. Ends faults of the kind "unauthorized".
   *
   * @param options `keepOld`: the one before is good as well, as with kubelet's rotation. `write`: into the token file (default).
   *   `trailing`: text after it in the file.
   */
  rotateToken(
    options: { readonly keepOld?: boolean; readonly write?: boolean; readonly trailing?: string } = {},
  ): string {
    if (options.keepOld !== true) this.#access.revoke(this.#token);
    this.#token = `${randomUUID()}.${randomUUID()}`;
    this.addToken(this.#token, { name: TOKEN_USER, role: this.#options.role ?? "node-proxier" });
    if (options.write !== false) this.writeTokenFile(options.trailing);
    for (const fault of this.#faults) if (fault.fault.kind === "unauthorized") fault.remove();
    return this.#token;
  }

  /** Replaces the token file at once, as kubelet does. */
  writeTokenFile(trailing = ""): void {
    writeFileSync(`${this.tokenFile}.new`, `${this.#token}${trailing}`, { mode: 0o600 });
    renameSync(`${this.tokenFile}.new`, this.tokenFile);
  }

  /** Another token, for another user. */
  addToken(token: string, user: User): void {
    this.#access.setToken(token, user);
  }

  /** Writes a kubeconfig. @returns its path */
  kubeconfig(options: KubeconfigOptions): string {
    const facts = {
      server: this.url,
      authority: this.authority.certificate,
      tokenFile: this.tokenFile,
      token: this.#token,
      client: () => this.clientCertificate,
    };
    return writeKubeconfig(`${this.directory}/kubeconfig-${this.#files++}`, facts, options);
  }

  /** Of the user system:kube-proxy. */
  get clientCertificate(): KeyPair {
    this.#client ??= this.authority.client("system:kube-proxy", ["system:node-proxier"]);
    return this.#client;
  }

  // ── Faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Makes requests go wrong. Of several that match, the first one that is not used up counts.
   *
   * @param options `times`: for so many requests (default: all). `skip`: so many go well before.
   */
  fault(
    match: RequestMatch,
    fault: Fault,
    options: { readonly times?: number; readonly skip?: number } = {},
  ): ActiveFault {
    const active = new ActiveFault(match, fault, options.times ?? Infinity, options.skip ?? 0);
    this.#faults.push(active);
    return active;
  }

  /** No request goes wrong any more. */
  clearFaults(): void {
    this.#faults = [];
  }

  /** Ends open watches well, as at their deadline. @returns how many */
  closeWatches(match: RequestMatch = {}): number {
    return this.#each(match, (watch) => watch.finish());
  }

  /** Open watches fall silent for ever; new ones do not. @returns how many */
  silenceWatches(match: RequestMatch = {}): number {
    return this.#each(match, (watch) => watch.answer.mute());
  }

  /** Puts an ERROR event on open watches. @returns how many */
  failWatches(code: number, match: RequestMatch = {}): number {
    return this.#each(match, (watch) => watch.fail(new ApiError(code, reasonOf(code), "injected")));
  }

  /** Resets the connections of open watches. @returns how many */
  resetWatches(match: RequestMatch = {}): number {
    return this.#each(match, (watch) => watch.answer.reset());
  }

  /** Puts any text on open watches. @returns how many */
  sendRaw(text: string, match: RequestMatch = {}): number {
    return this.#each(match, (watch) => watch.raw(text));
  }

  /** Sends a bookmark on open watches. @returns how many */
  bookmark(match: RequestMatch = {}): number {
    return this.#each(match, (watch) => watch.bookmark());
  }

  /** TCP RST on everything that is open. */
  resetConnections(): void {
    for (const connection of this.#transport.open) connection.reset();
  }

  /**
   * Connections are accepted and never hear a word, not even of TLS; those that are open hear nothing more, also after it was
   * switched off. The machine still acknowledges their bytes: for a peer that does not, take a network namespace away.
   */
  set blackHole(on: boolean) {
    this.#transport.blackHole = on;
    if (on) for (const connection of this.#transport.open) connection.dead = true;
  }

  get blackHole(): boolean {
    return this.#transport.blackHole;
  }

  #each(match: RequestMatch, act: (watch: WatchStream) => void): number {
    const found = [...this.#watches].filter((watch) => matches(match, watch.answer.record));
    for (const watch of found) act(watch);
    return found.length;
  }

  // ── What was seen ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Connections: those ever accepted, and those open now. */
  get connections(): { readonly total: number; readonly open: number } {
    return { total: this.#transport.connections.length, open: this.#transport.open.length };
  }

  /** Requests that match, oldest first. */
  requestsOf(match: RequestMatch): readonly RequestRecord[] {
    return this.#requests.filter((request) => matches(match, request));
  }

  /** Watches that are open now and have had their headers. */
  openWatches(match: RequestMatch = {}): readonly RequestRecord[] {
    return [...this.#watches].map((watch) => watch.answer.record).filter((record) => matches(match, record));
  }

  /**
   * Waits until something holds; looks at each request, answer, end, and connection.
   *
   * @throws after three minutes, naming `what`
   */
  async until(what: string, holds: () => boolean, timeoutMs: number = UNTIL_MS): Promise<void> {
    const signal = AbortSignal.timeout(timeoutMs);
    while (!holds()) {
      try {
        await once(this.#events, "change", { signal });
      } catch {
        const last = this.#requests
          .slice(-8)
          .map((r) => `  ${r.verb ?? r.method} ${r.path} ${r.status} ${r.end}`);
        throw new Error(`not within ${timeoutMs} ms: ${what}\nlast requests:\n${last.join("\n")}`);
      }
    }
  }

  /** Waits until so many requests have matched, and returns the last of them. */
  async request(match: RequestMatch, count = 1): Promise<RequestRecord> {
    await this.until(
      `request ${count} of ${JSON.stringify(match)}`,
      () => this.requestsOf(match).length >= count,
    );
    return this.requestsOf(match)[count - 1] as RequestRecord;
  }

  /** Waits until a watch of a resource is open. */
  watched(resource: ResourceName): Promise<void> {
    return this.until(`a watch of ${resource}`, () => this.openWatches({ resource }).length > 0);
  }

  // ── Requests ───────────────────────────────────────────────────────────────────────────────────────────────────────

  #changed(): void {
    this.#events.emit("change");
  }

  get #cacheRevision(): number {
    return this.#heldAt ?? this.store.revision;
  }

  #pump(): void {
    for (const watch of this.#watches) watch.pump(this.#cacheRevision);
  }

  #handle(request: IncomingMessage, response: ServerResponse, connection: Connection): void {
    const url = new URL(request.url ?? "/", "https://api");
    const route = routeOf(request.method ?? "GET", url);
    const record: Recording = {
      index: this.#requests.length,
      at: performance.now(),
      method: request.method ?? "GET",
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      verb: route?.verb ?? null,
      resource: route?.resource.name ?? null,
      headers: Object.fromEntries(
        Object.entries(request.headers).map(([key, value]) => [key, String(value)]),
      ),
      user: null,
      connection: connection.index,
      status: 0,
      bytes: 0,
      events: 0,
      end: "open",
    };
    this.#requests.push(record);
    const fault = this.#faults.find((each) => each.take(record))?.fault ?? null;
    const answer = new Answer(response, connection, record, fault, () => this.#changed());
    this.#changed();
    this.#serve(request, answer, route).catch((error: unknown) => {
      if (error instanceof ApiError) answer.refuse(error);
      else
        answer.refuse(
          new ApiError(500, "InternalError", `the fixture failed: ${String((error as Error).stack)}`),
        );
    });
  }

  async #serve(request: IncomingMessage, answer: Answer, route: ReturnType<typeof routeOf>): Promise<void> {
    const { fault, record } = answer;
    if (fault?.kind === "unauthorized") throw unauthorized();
    if (fault?.kind === "status")
      throw new ApiError(fault.code, fault.reason ?? reasonOf(fault.code), fault.message ?? "injected", {
        retryAfterSeconds: fault.retryAfterSeconds,
      });
    if (route === null) return wellKnown(record.path, answer);
    const user = this.#access.userOf(request);
    record.user = user.name;
    this.#access.check(user, route.verb, route.resource, route.namespace);
    if (this.#options.without?.includes(route.resource.name)) return wellKnown("/404", answer);
    const accept = record.headers.accept ?? "*/*";
    if (!/application\/json|\*\/\*|application\/\*/.test(accept))
      throw new ApiError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json",
      );
    if (route.verb === "watch") return this.#watch(answer, route);
    if (route.verb === "list") return this.#list(answer, route);
    await this.#object(request, answer, route);
  }

  async #list(answer: Answer, { resource, namespace }: Target): Promise<void> {
    const { query, headers } = answer.record;
    const selection = selectionOf(resource, namespace, query, this.#options.unsupportedFields ?? []);
    const page = pageOf(this.store, resource, selection, query, this.#cacheRevision);
    const gzipFrom = this.#options.gzipFrom === undefined ? GZIP_FROM_BYTES : this.#options.gzipFrom;
    const packs = /\bgzip\b/.test(headers["accept-encoding"] ?? "");
    await writeList(answer, resource, page, packs ? gzipFrom : null);
  }

  async #watch(answer: Answer, { resource, namespace }: Target): Promise<void> {
    const { query } = answer.record;
    const selection = selectionOf(resource, namespace, query, this.#options.unsupportedFields ?? []);
    const plan = planWatch(query, this.#cacheRevision, this.#options.streamingLists ?? "on");
    const watch = new WatchStream(answer, resource, this.store, selection, plan);
    this.#watches.add(watch);
    answer.onOver(() => {
      this.#watches.delete(watch);
      this.#changed();
    });
    await watch.start(this.#options.bookmarkMs ?? BOOKMARK_MS);
    watch.pump(this.#cacheRevision);
    this.#changed();
  }

  async #object(
    request: IncomingMessage,
    answer: Answer,
    route: Target & { readonly verb: string },
  ): Promise<void> {
    const body = await readBody(request);
    const type = (answer.record.headers["content-type"] ?? "").split(";")[0]?.trim() ?? "";
    const { store } = this;
    switch (route.verb) {
      case "get": {
        const key = route.namespace === undefined ? route.name : `${route.namespace}/${route.name}`;
        const found = store.get(route.resource, key ?? "");
        if (found === undefined)
          throw new ApiError(404, "NotFound", `${route.resource.plural} "${route.name}" not found`);
        return answer.json(200, found.text);
      }
      case "create":
        requireJson(type);
        return answer.json(201, createFrom(store, route, body).text);
      case "update":
        requireJson(type);
        return answer.json(200, updateFrom(store, route, body).text);
      case "patch":
        return answer.json(200, patchFrom(store, route, body, type).text);
      default:
        return answer.json(200, deleteFrom(store, route, body).text);
    }
  }
}

function requireJson(type: string): void {
  if (type !== "application/json" && type !== "")
    throw new ApiError(
      415,
      "UnsupportedMediaType",
      `the body of the request was in an unknown format: ${type}`,
    );
}
