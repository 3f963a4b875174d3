// SPDX-License-Identifier: Apache-2.0
/** Watches: from which revision, what a change looks like through a selector, bookmarks, streaming lists, and how they end. */
import type { Answer } from "./answer.js";
import { type Query, revisionOf, type Selection } from "./list.js";
import { apiVersionOf, type Resource } from "./resources.js";
import { ApiError, expired, invalidOptions, reasonOf, tooLarge } from "./status.js";
import { type Change, type Store, Stored } from "./store.js";

const EVENTS_PER_TURN = 256;
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What a watch's query asks for. */
export interface WatchPlan {
  /** Send all that is there first. */
  readonly initial: boolean;
  /** And say when that is done: a streaming list. */
  readonly endBookmark: boolean;
  /** Changes after this revision (initial: the state of it comes first). */
  readonly revision: number;
  readonly bookmarks: boolean;
  readonly timeoutSeconds: number | null;
}

/** Whether streaming lists are served; 400 or 422: how they are refused. */
export type StreamingLists = "on" | 400 | 422;

/** @throws ApiError 400, 422, 504. A revision that is too old is no error here: the stream says so */
export function planWatch(query: Query, cacheRevision: number, streaming: StreamingLists): WatchPlan {
  const { resourceVersion: version = "", resourceVersionMatch: match = "", sendInitialEvents: send } = query;
  const seconds = query.timeoutSeconds === undefined ? null : revisionOf(query.timeoutSeconds);
  const basics = { bookmarks: isTrue(query.allowWatchBookmarks), timeoutSeconds: seconds || null };
  if (send === undefined) {
    if (match !== "")
      throw invalidOptions(
        "resourceVersionMatch",
        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
      );
    const wanted = version === "" ? 0 : revisionOf(version);
    return {
      ...basics,
      initial: wanted === 0,
      endBookmark: false,
      revision: wanted === 0 ? cacheRevision : wanted,
    };
  }
  if (streaming === 400) throw new ApiError(400, "BadRequest", "unknown query parameter: sendInitialEvents");
  if (streaming === 422)
    throw invalidOptions(
      "sendInitialEvents",
      "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
    );
  if (match !== "NotOlderThan")
    throw invalidOptions(
      "resourceVersionMatch",
      "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    );
  const wanted = version === "" ? 0 : revisionOf(version);
  if (wanted > cacheRevision) throw tooLarge(wanted, cacheRevision);
  const initial = isTrue(send);
  return { ...basics, initial, endBookmark: initial, revision: cacheRevision };
}

const isTrue = (text: string | undefined): boolean => text === "true" || text === "1";

/** One open watch. */
export class WatchStream {
  readonly answer: Answer;
  readonly resource: Resource;
  readonly #store: Store;
  readonly #selection: Selection;
  readonly #plan: WatchPlan;
  #position: number;
  /** The initial state has been written. */
  #ready = false;
  #ended = false;
  #timers: NodeJS.Timeout[] = [];

  constructor(answer: Answer, resource: Resource, store: Store, selection: Selection, plan: WatchPlan) {
    this.answer = answer;
    this.resource = resource;
    this.#store = store;
    this.#selection = selection;
    this.#plan = plan;
    this.#position = plan.revision;
    answer.onOver(() => this.#stop());
  }

  /**
   * Sends headers and what is there; `pump` does the rest.
   *
   * @param bookmarkMs how often a bookmark is sent; 0: never by itself
   */
  async start(bookmarkMs: number): Promise<void> {
    this.answer.head(200);
    const { timeoutSeconds, bookmarks, initial, endBookmark, revision } = this.#plan;
    this.#misbehave();
    if (timeoutSeconds !== null)
      this.#timers.push(setTimeout(() => this.finish(), timeoutSeconds * 1000).unref());
    if (bookmarks && bookmarkMs > 0)
      this.#timers.push(setInterval(() => this.bookmark(), bookmarkMs).unref());
    if (this.#ended) this.#stop();
    if (initial) await this.#sendState(revision);
    this.#ready = true;
    if (endBookmark && bookmarks) this.bookmark(true);
  }

  async #sendState(revision: number): Promise<void> {
    let sent = 0;
    for (const stored of this.#store.at(this.resource, revision)) {
      if (!this.#selection.includes(stored)) continue;
      this.#event("ADDED", stored.text);
      if (++sent % EVENTS_PER_TURN === 0) {
        await this.answer.drained();
        await nextTurn();
      }
      if (this.#ended) return;
    }
  }

  /** Sends the changes up to a revision. */
  pump(upTo: number): void {
    if (!this.#ready || this.#ended || upTo <= this.#position) return;
    let changes: readonly Change[];
    try {
      changes = this.#store.since(this.#position, upTo);
    } catch (error) {
      this.fail(error as ApiError);
      return;
    }
    this.#position = upTo;
    for (const change of changes) {
      if (change.resource === this.resource.name) this.#tell(change);
      if (this.#ended) return;
    }
  }

  /** What a change is to someone who sees only what is selected: (1.2) a Service that gets the label has gone. */
  #tell({ type, now, before, revision }: Change): void {
    const was = before !== undefined && this.#selection.includes(before);
    const is = type !== "deleted" && this.#selection.includes(now);
    if (is) this.#event(was ? "MODIFIED" : "ADDED", now.text);
    else if (was) this.#event("DELETED", asOf(this.resource, before, revision));
  }

  /** Tells how far this watch has come. */
  bookmark(initialEventsEnd = false): void {
    if (!this.#plan.bookmarks || !this.#ready || this.#ended) return;
    const metadata = {
      resourceVersion: String(this.#position),
      creationTimestamp: null,
      ...(initialEventsEnd ? { annotations: { "k8s.io/initial-events-end": "true" } } : {}),
    };
    const { kind } = this.resource;
    const object = { kind, apiVersion: apiVersionOf(this.resource), metadata };
    this.#line(`{"type":"BOOKMARK","object":${JSON.stringify(object)}}\n`);
  }

  /** Ends well, after a last bookmark. */
  finish(): void {
    if (this.#ended) return;
    this.bookmark();
    this.#stop();
    this.answer.end();
  }

  /** Ends with an ERROR event. */
  fail(error: ApiError): void {
    if (this.#ended) return;
    this.#line(`{"type":"ERROR","object":${JSON.stringify(error.body)}}\n`);
    this.#stop();
    this.answer.end();
  }

  /** Puts any text on the stream. */
  raw(text: string): void {
    this.answer.write(text);
  }

  #event(type: "ADDED" | "MODIFIED" | "DELETED", object: string): void {
    this.#line(`{"type":"${type}","object":${object}}\n`);
    this.answer.record.events++;
    this.#misbehave();
  }

  #line(text: string): void {
    if (!this.#ended) this.answer.write(text);
  }

  #misbehave(): void {
    const { fault, record } = this.answer;
    if (fault === null || !("afterEvents" in fault || NEED_EVENTS.has(fault.kind))) return;
    const { afterEvents = 0 } = fault as { readonly afterEvents?: number };
    if (record.events !== afterEvents) return;
    if (fault.kind === "garbage") this.raw(`${fault.text ?? "{]\u0000no json"}\n`);
    if (fault.kind === "wrong-kind") this.raw(`${JSON.stringify({ type: "ADDED", object: POD })}\n`);
    if (fault.kind === "no-metadata") {
      const object = { kind: this.resource.kind, apiVersion: apiVersionOf(this.resource), spec: {} };
      this.raw(`${JSON.stringify({ type: "ADDED", object })}\n`);
    }
    if (fault.kind === "close") {
      this.#stop();
      this.answer.end();
    }
    if (fault.kind === "error-event") {
      const { code } = fault;
      this.fail(
        code === 410
          ? expired("too old resource version")
          : new ApiError(code, reasonOf(code), fault.message ?? "injected"),
      );
    }
  }

  #stop(): void {
    this.#ended = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers = [];
  }
}

const NEED_EVENTS: ReadonlySet<string> = new Set([
  "garbage",
  "wrong-kind",
  "no-metadata",
  "close",
  "error-event",
]);
const POD = {
  kind: "Pod",
  apiVersion: "v1",
  metadata: { name: "not-asked-for", namespace: "default", uid: "pod", resourceVersion: "1" },
};

/** The state before, as the event's revision has it. */
function asOf(resource: Resource, before: Stored, revision: number): string {
  const metadata = { ...before.object.metadata, resourceVersion: String(revision) };
  return new Stored(resource, before.key, revision, { ...before.object, metadata }).text;
}
