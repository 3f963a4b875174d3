// SPDX-License-Identifier: Apache-2.0
/**
 * Listens to the kernel programs: says so in the map `listener`, again and again, and takes what they write out of the ring
 * buffer. One process at a time can: a ring has one reader. Nothing here holds up the event loop or the kernel.
 */
import { Reason } from "../abi/enums.gen.js";
import {
  type FlowEvent,
  flowEventCodec,
  type Listener,
  listenerCodec,
  trafficCodec,
} from "../abi/layout.gen.js";
import type { NativeMaps } from "../native/maps.js";
import type { Ring } from "../native/ring.js";
import { AppError } from "../util/errors.js";
import { sleep, type Timers } from "../util/timers.js";

export type EventStreamErrorCode = "E_NO_EVENTS" | "E_MONITOR_RUNNING";

export interface EventStreamOptions {
  readonly maps: NativeMaps;
  readonly timers: Timers;
  /** Throws when these are no longer the maps that the programs write to. */
  readonly assertPinned: () => void;
  /** Bits of enum ptl_tell. */
  readonly kinds: number;
  /** Of translated packets one in so many is told. */
  readonly sample: number;
}

/** What has been told since the batch before. */
export interface EventBatch {
  readonly events: readonly FlowEvent[];
  /** Events that found the ring full. */
  readonly lost: number;
  /** For a while nobody was taken to listen, since this process did not run: nobody knows what happened then. */
  readonly gap: boolean;
}

/** Milliseconds between two looks at the ring. 1 MiB lasts for 370,000 events a second. */
const POLL_MS = 25;
/** Milliseconds between two words that somebody still listens, and for how long each is good. */
const RENEW_MS = 500;
const GOOD_FOR_MS = 10_000;
/** How long a newcomer looks whether the one before it is still alive: it would have renewed its word by then. */
const ALIVE_MS = 3000;

const NOTHING_LOST = { lost: 0, gap: false } as const;
const ONLY_KEY = new Uint8Array(4);
const monotonicNs = (): bigint => process.hrtime.bigint();

export class EventStream {
  readonly #maps: NativeMaps;
  readonly #timers: Timers;
  readonly #assertPinned: () => void;
  readonly #wanted: Pick<Listener, "kinds" | "sample" | "pid">;
  readonly #ring: Ring;
  #lost: number;
  #renewAt = 0;

  private constructor(
    { maps, timers, kinds, sample, assertPinned }: EventStreamOptions,
    ring: Ring,
    lost: number,
  ) {
    this.#assertPinned = assertPinned;
    this.#maps = maps;
    this.#timers = timers;
    this.#wanted = { kinds, sample, pid: process.pid };
    this.#ring = ring;
    this.#lost = lost;
  }

  /**
   * Begins to listen. What an earlier listener has left in the ring is thrown away. Waits three seconds when there is one.
   *
   * @throws AppError E_NO_EVENTS (an agent without events made these maps), E_MONITOR_RUNNING (naming the process); NativeError
   */
  static async open(options: EventStreamOptions, signal: AbortSignal): Promise<EventStream> {
    const { maps } = options;
    if (!maps.names.includes("events") || !maps.names.includes("listener")) {
      throw new AppError<EventStreamErrorCode>("E_NO_EVENTS", "the agent of these maps tells no events", {
        hint: "An older portolan made them. Start the agent of this version: it adds what is missing, and no flow is lost.",
      });
    }
    await waitForTurn(options, signal);
    const ring = maps.openRing("events", flowEventCodec.size);
    ring.skip();
    const stream = new EventStream(options, ring, await readLost(maps));
    await stream.#renew();
    return stream;
  }

  /**
   * What is told, as it comes; a batch is never without events or losses.
   *
   * @throws what the signal was aborted with; AppError E_MONITOR_RUNNING when another has begun to listen; what
   * `assertPinned` throws; NativeError
   */
  async *batches(signal: AbortSignal): AsyncGenerator<EventBatch> {
    for (;;) {
      const { events, more } = this.#take();
      const due = this.#timers.now() >= this.#renewAt;
      const { lost, gap } = due ? await this.#renewOwn() : NOTHING_LOST;
      if (events.length > 0 || lost > 0 || gap) yield { events, lost, gap };
      await sleep(this.#timers, more ? 0 : POLL_MS, signal);
    }
  }

  /** Listens no more, and returns what was told until then. Idempotent. */
  async close(): Promise<EventBatch> {
    const current = await readListener(this.#maps);
    const ours = current?.pid === process.pid;
    if (ours) await this.#write(0, 0n);
    const events: FlowEvent[] = [];
    for (let more = true; more; ) {
      const taken = this.#take();
      events.push(...taken.events);
      more = taken.more && ours;
    }
    const lost = await this.#newlyLost();
    this.#ring.close();
    return { events, lost, gap: false };
  }

  /** What is in the ring, a batch of it; `more`: there may be others. */
  #take(): { readonly events: readonly FlowEvent[]; readonly more: boolean } {
    const { count, bytes, more } = this.#ring.drain();
    const { size } = flowEventCodec;
    return { events: Array.from({ length: count }, (_, i) => flowEventCodec.decode(bytes, i * size)), more };
  }

  /** Two that began at the same moment find each other out here: the later one stays. */
  async #renewOwn(): Promise<Pick<EventBatch, "lost" | "gap">> {
    this.#assertPinned();
    const current = await readListener(this.#maps);
    if (current !== null && current.pid !== process.pid) throw alreadyRunning(current.pid);
    await this.#renew();
    return { lost: await this.#newlyLost(), gap: current?.kinds === 0 };
  }

  async #renew(): Promise<void> {
    this.#renewAt = this.#timers.now() + RENEW_MS;
    await this.#write(this.#wanted.kinds, monotonicNs() + BigInt(GOOD_FOR_MS) * 1_000_000n);
  }

  async #write(kinds: number, until: bigint): Promise<void> {
    const values = listenerCodec.encode({ ...this.#wanted, kinds, until });
    await this.#maps.apply([{ map: "listener", kind: "update", count: 1, keys: ONLY_KEY, values }]);
  }

  async #newlyLost(): Promise<number> {
    const lost = await readLost(this.#maps);
    const fresh = lost - this.#lost;
    this.#lost = lost;
    return Math.max(0, fresh);
  }
}

/** Returns when nobody else listens: at once, or when the one before turns out to be dead. */
async function waitForTurn({ maps, timers }: EventStreamOptions, signal: AbortSignal): Promise<void> {
  const before = await readListener(maps);
  if (before === null || !isFresh(before)) return;
  await sleep(timers, ALIVE_MS, signal);
  const after = await readListener(maps);
  if (after === null || !isFresh(after) || after.until === before.until) return;
  throw alreadyRunning(after.pid);
}

const isFresh = ({ kinds, until }: Listener): boolean => kinds !== 0 && until > monotonicNs();

function alreadyRunning(pid: number): AppError<EventStreamErrorCode> {
  return new AppError("E_MONITOR_RUNNING", `another portolan monitor is listening here: process ${pid}`, {
    fields: { pid },
    hint: "Events have one reader. End that one (Ctrl-C), or look at what it prints. In a container its number is another.",
  });
}

async function readListener(maps: NativeMaps): Promise<Listener | null> {
  const [value] = await maps.lookUp("listener", ONLY_KEY);
  return value ? listenerCodec.decode(value) : null;
}

/** Events lost since the maps were made. */
async function readLost(maps: NativeMaps): Promise<number> {
  const { values } = await maps.dump("counters", Reason.EVENT_LOST + 1);
  return Number(trafficCodec.decode(values, Reason.EVENT_LOST * trafficCodec.size).packets);
}
