// SPDX-License-Identifier: Apache-2.0
/**
 * Events about this node and its Services (13.3), as kube-proxy posts them. They are for people: one that cannot be posted
 * is forgotten, and however often something happens, the API server hears of it seldom.
 */
import type { ApiRequest } from "../source/kube/transport.js";
import { errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { sleep, systemTimers, type Timers } from "../util/timers.js";

/** What an event is about. */
export interface Regarding {
  readonly kind: "Node" | "Service";
  readonly name: string;
  /** "" for a Node. */
  readonly namespace: string;
  /** "" when it is not known; kube-proxy's events about its Node have none. */
  readonly uid: string;
}

export const aboutNode = (name: string): Regarding => ({ kind: "Node", name, namespace: "", uid: "" });

export interface AgentEvent {
  readonly regarding: Regarding;
  readonly type: "Normal" | "Warning";
  /** Why, in one word for programs. */
  readonly reason: string;
  /** What was being done. */
  readonly action: string;
  /** For people. */
  readonly note: string;
}

export interface EventRecorderOptions {
  readonly nodeName: string;
  /** One request to the API server; null: there is none, and nothing is posted. */
  readonly send: ((request: ApiRequest, signal: AbortSignal) => Promise<unknown>) | null;
  readonly log: Logger;
  readonly timers?: Timers;
}

/** So many at once, and then one in this time: as client-go's limit for one source, but a little more patient. */
const BURST = 25;
const REFILL_MS = 60_000;
/** The same event again within this time is not posted. */
const REPEAT_MS = 5 * 60_000;
const MOST_WAITING = 64;
const MOST_NOTE_BYTES = 1024;
const LONGEST_NAME = 200;

const ATTEMPTS = 5;
const FIRST_RETRY_MS = 1_000;
const REQUEST_MS = 10_000;
/** Answers after which the same request would fail again. */
const FINAL: readonly string[] = ["forbidden", "not_found", "refused", "unauthorized"];

const CONTROLLER = "kube-proxy";

export class EventRecorder {
  readonly #options: EventRecorderOptions;
  readonly #timers: Timers;
  readonly #abort = new AbortController();
  readonly #waiting: object[] = [];
  /** When an event was posted last, by what it says. */
  readonly #posted = new Map<string, number>();
  #tokens = BURST;
  #refilledAt: number;
  #sending: Promise<void> | null = null;
  #count = 0;

  constructor(options: EventRecorderOptions) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#refilledAt = this.#timers.now();
  }

  /** Posts it some time soon, or never. Does not throw. */
  post(event: AgentEvent): void {
    const { log, send } = this.#options;
    const { regarding, type, reason, note } = event;
    if (send === null || this.#abort.signal.aborted) return;
    if (!this.#admit(event)) {
      log.debug({ reason, about: `${regarding.kind} ${regarding.name}`, type, note }, "event held back");
      return;
    }
    this.#waiting.push(this.#body(event));
    if (this.#waiting.length > MOST_WAITING) this.#waiting.shift();
    this.#sending ??= this.#sendAll(send).finally(() => {
      this.#sending = null;
    });
  }

  /** Resolves when everything was posted or given up, or after this time. */
  async flush(milliseconds: number): Promise<void> {
    if (this.#sending === null) return;
    let cancel = (): void => {};
    const late = new Promise<void>((resolve) => {
      cancel = this.#timers.after(milliseconds, resolve);
    });
    await Promise.race([this.#sending, late]);
    cancel();
  }

  /** Posts nothing more. */
  async close(): Promise<void> {
    this.#abort.abort(new Error("events have ended"));
    await this.#sending;
  }

  #admit({ regarding, reason, note }: AgentEvent): boolean {
    const now = this.#timers.now();
    for (const [key, at] of this.#posted) if (now - at >= REPEAT_MS) this.#posted.delete(key);
    const key = [regarding.kind, regarding.namespace, regarding.name, reason, note].join("\0");
    if (this.#posted.has(key)) return false;
    const refilled = Math.floor((now - this.#refilledAt) / REFILL_MS);
    this.#tokens = Math.min(BURST, this.#tokens + refilled);
    this.#refilledAt += refilled * REFILL_MS;
    if (this.#tokens === 0) return false;
    this.#tokens -= 1;
    this.#posted.set(key, now);
    return true;
  }

  #body({ regarding, type, reason, action, note }: AgentEvent): object {
    const { nodeName } = this.#options;
    const epoch = this.#timers.epoch();
    this.#count += 1;
    const { kind, name, namespace, uid } = regarding;
    const unique = `${Math.trunc(epoch).toString(16)}${this.#count.toString(16).padStart(4, "0")}`;
    return {
      apiVersion: "events.k8s.io/v1",
      kind: "Event",
      metadata: { name: `${name.slice(0, LONGEST_NAME)}.${unique}`, namespace: namespace || "default" },
      // MicroTime: the server takes no fewer digits.
      eventTime: new Date(epoch).toISOString().replace("Z", "000Z"),
      reportingController: CONTROLLER,
      reportingInstance: `${CONTROLLER}-${nodeName}`.slice(0, 128),
      type,
      reason,
      action,
      note: cut(note),
      regarding: {
        apiVersion: "v1",
        kind,
        name,
        ...(namespace === "" ? {} : { namespace }),
        ...(uid === "" ? {} : { uid }),
      },
    };
  }

  async #sendAll(send: NonNullable<EventRecorderOptions["send"]>): Promise<void> {
    for (let body = this.#waiting.shift(); body !== undefined; body = this.#waiting.shift()) {
      try {
        await this.#send(body, send);
      } catch (error) {
        const { reason } = body as { reason?: string };
        this.#options.log.debug({ reason: errorMessage(error), event: reason }, "event not posted");
      }
    }
  }

  async #send(body: object, send: NonNullable<EventRecorderOptions["send"]>): Promise<void> {
    const { namespace } = (body as { metadata: { namespace: string } }).metadata;
    const request: ApiRequest = {
      method: "POST",
      path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events`,
      body,
      headersMs: REQUEST_MS,
      idleMs: REQUEST_MS,
      totalMs: REQUEST_MS,
    };
    const { signal } = this.#abort;
    for (let attempt = 1; ; attempt += 1) {
      try {
        await send(request, signal);
        return;
      } catch (error) {
        const { code = "" } = error as { code?: string };
        if (signal.aborted || attempt === ATTEMPTS || FINAL.includes(code)) throw error;
        await sleep(this.#timers, FIRST_RETRY_MS * 2 ** (attempt - 1), signal);
      }
    }
  }
}

/** At most what the API takes, and no half character. */
function cut(note: string): string {
  if (Buffer.byteLength(note) <= MOST_NOTE_BYTES) return note;
  const bytes = Buffer.from(note).subarray(0, MOST_NOTE_BYTES - 3);
  return `${bytes.toString("utf8").replace(/\uFFFD+$/, "")}…`;
}
