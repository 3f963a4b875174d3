// SPDX-License-Identifier: Apache-2.0
/**
 * UDP flows that kube-proxy has begun and the kernel's conntrack goes on translating. Our programs see packets first and would
 * choose a backend for each of them; so before they are attached for the first time, each such flow gets an entry in `nat` that
 * changes nothing, and it stays where it is until it ends. (TCP needs none: a packet in the middle of a connection that has no
 * entry passes.)
 *
 * Every flow with a translated destination is taken, whether or not it is known to be a Service's: at that time no Service has
 * been read yet, and for any other the entry says what would happen anyway. With the first image those that are no Service's
 * go again.
 *
 * What is nobody's care any more once kube-proxy is gone is ours: a flow whose backend does not serve any more moves at once
 * (9.2, 9.3), and one that conntrack has forgotten, which nothing would translate any more, starts anew.
 */
import { readdirSync } from "node:fs";
import { Direction, NatFlag, NatState, NO_BACKEND, NO_SERVICE, TICK_SHIFT } from "../abi/enums.gen.js";
import { FAMILY_CODECS } from "../abi/layout.gen.js";
import type { Image } from "../image/types.js";
import {
  type TrackedFlow,
  type TrackedFlows,
  type TrackedResult,
  TrackedStatus,
  type TransportAddress,
} from "../native/conntrack.js";
import type { KernelLookups, KernelMaps } from "../native/kernel.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";
import { errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import { systemTimers, type Timers } from "../util/timers.js";
import { DEFAULT_TIMEOUTS } from "./kernel-config.js";

/** What is asked of the kernel's conntrack. */
export interface Tracker {
  trackedFlows(protocol: number, status: number, most: number): Promise<TrackedFlows>;
  deleteTracked(flows: readonly TrackedFlow[]): Promise<TrackedResult>;
  sealNat(family: Family, keys: Uint8Array, values: Uint8Array, count: number): void;
}

export interface TakeoverDependencies {
  readonly maps: KernelMaps & KernelLookups;
  readonly tracker: Tracker;
  readonly log: Logger;
  /** Conntrack entries of one family have been deleted, or it was tried: for metrics. Must not throw. */
  readonly onDeleted?: (family: Family, entries: number, milliseconds: number) => void;
  readonly timers?: Timers;
  /** Nanoseconds of CLOCK_MONOTONIC, by which entries are dated. */
  readonly nowNs?: () => bigint;
}

/** How often conntrack is asked whether it still knows the flows that were left to it, as long as there are any. */
export const WATCH_MS = 10_000;

/** Of 84 bytes each: the memory of a dump stays below 6 MB. */
export const MOST_FLOWS = 65_536;

const UDP = protocolNumber("UDP");

/** Whether no program of ours has been attached from these pins, by this life or an earlier one. */
export function neverAttached(pins: string): boolean {
  try {
    return readdirSync(`${pins}/links`).length === 0;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return true;
    throw error;
  }
}

/** A flow that passes as it is. */
interface Kept {
  readonly flow: TrackedFlow;
  /** A frontend had it in the image before. */
  known: boolean;
}

export class Takeover {
  readonly #maps: KernelMaps & KernelLookups;
  readonly #tracker: Tracker;
  readonly #log: Logger;
  readonly #onDeleted: (family: Family, entries: number, milliseconds: number) => void;
  readonly #timers: Timers;
  readonly #nowNs: () => bigint;
  readonly #kept = new Map<string, Kept>();
  readonly #lane: Lane<void> = new Lane(() => this.#work());
  #image: Image | null = null;
  /** The image that the flows were last compared with. */
  #compared: Image | null = null;
  #watchDue = false;
  #cancelTimer: (() => void) | null = null;
  #stopped = false;

  constructor({ maps, tracker, log, onDeleted, timers, nowNs }: TakeoverDependencies) {
    this.#maps = maps;
    this.#tracker = tracker;
    this.#log = log;
    this.#onDeleted = onDeleted ?? (() => {});
    this.#timers = timers ?? systemTimers;
    this.#nowNs = nowNs ?? process.hrtime.bigint;
  }

  /** Flows that are left to the kernel's conntrack. */
  get size(): number {
    return this.#kept.size;
  }

  /**
   * To be called before programs are attached. Never rejects: without ctnetlink in the kernel, UDP flows choose anew.
   *
   * @param first no program of ours is at work here yet: flows are left alone from now on. Otherwise an earlier life has done so,
   *   and those that it left alone are looked up.
   */
  async begin(first: boolean): Promise<void> {
    try {
      const { flows, total } = await this.#tracker.trackedFlows(UDP, TrackedStatus.DST_NAT, MOST_FLOWS);
      if (total > flows.length)
        this.#log.warn({ flows: total, kept: flows.length }, "too many UDP flows to leave them all alone");
      for (const family of FAMILIES) {
        // A quarter of the map: flows that begin from now on need room, too.
        let room = Math.floor(this.#maps.info(`nat${family}`).maxEntries / 4);
        for (const chunk of chunks(flows.filter((flow) => flow.family === family)))
          room -= await this.#adopt(family, chunk, first ? room : 0);
      }
    } catch (error) {
      const fields = { code: "conntrack_unread", reason: errorMessage(error) };
      this.#log.warn(fields, "UDP flows of kube-proxy are not known, they choose a backend anew");
    }
    if (this.#kept.size === 0) return;
    this.#log.info({ flows: this.#kept.size }, "UDP flows that the kernel translates are left alone");
    this.#watchLater();
  }

  /** The kernel holds this image now. Never rejects. */
  async committed(image: Image): Promise<void> {
    this.#image = image;
    await this.#request();
  }

  /** Starts nothing more; resolves when what is under way is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTimer?.();
    await this.#lane.idle();
  }

  async #request(): Promise<void> {
    if (this.#stopped || this.#kept.size === 0) return;
    try {
      await this.#lane.request();
    } catch (error) {
      this.#log.warn({ reason: errorMessage(error) }, "cannot look after UDP flows of kube-proxy");
    }
  }

  #watchLater(): void {
    if (this.#stopped || this.#kept.size === 0) return;
    this.#cancelTimer = this.#timers.after(WATCH_MS, () => {
      this.#watchDue = true;
      void this.#request().then(() => this.#watchLater());
    });
  }

  /** At most `room` new entries; returns how many. */
  async #adopt(family: Family, flows: readonly TrackedFlow[], room: number): Promise<number> {
    const entries = flows.flatMap((flow) => passEntries(flow, this.#nowNs()));
    const found = await this.#maps.lookUp(`nat${family}`, concatKeys(entries));
    const missing: PassEntry[] = [];
    for (const [i, entry] of entries.entries()) {
      const value = found[i] ?? null;
      if (value === null && missing.length < room) missing.push(entry);
      else if (value === null || !isPass(family, entry, value)) continue;
      if (entry.leading) this.#kept.set(flowText(entry.flow), { flow: entry.flow, known: false });
    }
    if (missing.length === 0) return 0;
    const keys = concatKeys(missing);
    const values = Buffer.concat(missing.map(({ value }) => value));
    this.#tracker.sealNat(family, keys, values, missing.length);
    const { failure } = await this.#maps.apply([
      { map: `nat${family}`, kind: "update", count: missing.length, keys, values },
    ]);
    if (failure !== null)
      this.#log.warn({ map: failure.map, errno: failure.errno }, "UDP flows cannot be left alone");
    return missing.length;
  }

  async #work(): Promise<void> {
    if (this.#watchDue) {
      this.#watchDue = false;
      await this.#dropForgotten();
    }
    const image = this.#image;
    if (image === null || image === this.#compared || this.#kept.size === 0) return;
    this.#compared = image;
    await this.#dropRemoved(image);
  }

  /** What conntrack does not know any more nobody translates: the next packet chooses a backend. */
  async #dropForgotten(): Promise<void> {
    const { flows, total } = await this.#tracker.trackedFlows(UDP, TrackedStatus.DST_NAT, MOST_FLOWS);
    if (total > flows.length) return; // it cannot be said what is missing
    const there = new Set(flows.map(flowText));
    const gone = [...this.#kept].filter(([text]) => !there.has(text)).map(([, { flow }]) => flow);
    if (gone.length > 0) await this.#release(gone);
  }

  /** 9.3: flows of frontends whose backend does not serve any more; and, quietly, those that are no Service's. */
  async #dropRemoved(image: Image): Promise<void> {
    const allowed = allowedBackends(image);
    const moved: TrackedFlow[] = [];
    const foreign: TrackedFlow[] = [];
    for (const kept of this.#kept.values()) {
      const { service, backend } = kept.flow;
      const serving = allowed.of(service);
      if (serving === null) (kept.known ? moved : foreign).push(kept.flow);
      else if (!serving.has(text(backend))) moved.push(kept.flow);
      else kept.known = true;
    }
    if (foreign.length > 0) await this.#release(foreign);
    if (moved.length === 0) return;
    await this.#release(moved);
    // Its replies' tuple may be wanted for a new flow from the same port.
    for (const family of FAMILIES)
      await this.#deleteTracked(
        family,
        moved.filter((flow) => flow.family === family),
      );
    this.#log.info({ flows: moved.length }, "UDP flows of kube-proxy leave removed backends");
  }

  async #deleteTracked(family: Family, flows: readonly TrackedFlow[]): Promise<void> {
    if (flows.length === 0) return;
    const begin = this.#timers.now();
    const { done, failed, errno } = await this.#tracker.deleteTracked(flows);
    this.#onDeleted(family, done, this.#timers.now() - begin);
    if (failed > 0) this.#log.warn({ flows: failed, errno }, "conntrack keeps flows of removed backends");
  }

  /** Takes away the entries that let a flow pass, unless it has chosen a backend of ours meanwhile. */
  async #release(flows: readonly TrackedFlow[]): Promise<void> {
    for (const family of FAMILIES)
      for (const chunk of chunks(flows.filter((flow) => flow.family === family)))
        await this.#releaseSome(family, chunk);
  }

  async #releaseSome(family: Family, flows: readonly TrackedFlow[]): Promise<void> {
    const entries = flows.flatMap((flow) => passEntries(flow, this.#nowNs()));
    const found = await this.#maps.lookUp(`nat${family}`, concatKeys(entries));
    const ours = entries.filter((entry, i) => {
      const value = found[i] ?? null;
      return value !== null && isPass(family, entry, value);
    });
    const keys = concatKeys(ours);
    const values = new Uint8Array(0);
    await this.#maps.apply([{ map: `nat${family}`, kind: "delete", count: ours.length, keys, values }]);
    for (const flow of flows) this.#kept.delete(flowText(flow));
  }
}

/** Some milliseconds of work each. */
const CHUNK = 256;

function* chunks(flows: readonly TrackedFlow[]): Generator<readonly TrackedFlow[]> {
  for (let i = 0; i < flows.length; i += CHUNK) yield flows.slice(i, i + CHUNK);
}

interface PassEntry {
  readonly flow: TrackedFlow;
  /** The client's own packets: there is one for each flow. */
  readonly leading: boolean;
  readonly key: Uint8Array;
  /** `check` is still to be filled in. */
  readonly value: Uint8Array;
}

/**
 * The entries that let a flow pass both ways: client to Service and back, as the hooks see them before and after the kernel's
 * translation. Behind a masquerade the backend's answers come to a port of the node, which may be a NodePort's number: so those
 * get an entry, too. They end when conntrack would forget the flow.
 */
export function passEntries(flow: TrackedFlow, nowNs: bigint): PassEntry[] {
  const { client, service, backend, seenAs } = flow;
  const masqueraded = text(client) !== text(seenAs);
  return [
    passEntry(flow, true, Direction.IN, client, service, 0, nowNs),
    passEntry(flow, false, Direction.OUT, service, client, NatFlag.NAT_REPLY, nowNs),
    ...(masqueraded
      ? [
          passEntry(flow, false, Direction.IN, backend, seenAs, NatFlag.NAT_REPLY, nowNs),
          passEntry(flow, false, Direction.OUT, seenAs, backend, 0, nowNs),
        ]
      : []),
  ];
}

function passEntry(
  flow: TrackedFlow,
  leading: boolean,
  direction: Direction,
  from: TransportAddress,
  to: TransportAddress,
  reply: number,
  nowNs: bigint,
): PassEntry {
  const { natKey, natValue } = FAMILY_CODECS[flow.family];
  const isIn = direction === Direction.IN;
  const [kept, other] = isIn ? [to, from] : [from, to];
  const replied = (flow.status & TrackedStatus.SEEN_REPLY) !== 0;
  const limit = replied ? DEFAULT_TIMEOUTS.udpReplied : DEFAULT_TIMEOUTS.udpUnreplied;
  const silentNs = BigInt(Math.max(0, limit - flow.secondsLeft)) * 1_000_000_000n;
  return {
    flow,
    leading,
    key: natKey.encode({
      src: from.address.bytes,
      dst: to.address.bytes,
      sport: from.port,
      dport: to.port,
      protocol: flow.protocol,
      direction,
    }),
    value: natValue.encode({
      addr: kept.address.bytes,
      port: kept.port,
      peerPort: other.port,
      check: 0,
      backend: NO_BACKEND,
      generation: 0,
      lastSeen: Number(((nowNs - silentNs) >> BigInt(TICK_SHIFT)) & 0xffffffffn),
      state: NatState.SEEN_FORWARD | (replied ? NatState.SEEN_REPLY : 0),
      flags: NatFlag.NAT_DIRECT | reply,
      service: NO_SERVICE,
    }),
  };
}

/** Whether a value of the map says what the entry says: pass as it is. */
function isPass(family: Family, { value: wanted }: PassEntry, value: Uint8Array): boolean {
  const { natValue } = FAMILY_CODECS[family];
  const [a, b] = [natValue.decode(wanted), natValue.decode(value)];
  return (
    (b.flags & NatFlag.NAT_DIRECT) !== 0 &&
    a.port === b.port &&
    a.peerPort === b.peerPort &&
    Buffer.compare(a.addr, b.addr) === 0
  );
}

/** The serving UDP backends of each frontend of an image; of a NodePort, whatever the address (9.3). */
function allowedBackends(image: Image): { of(service: TransportAddress): ReadonlySet<string> | null } {
  const byFrontend = new Map<string, ReadonlySet<string>>();
  const byNodePort = new Map<string, ReadonlySet<string>>();
  for (const port of image.servicePorts.values()) {
    if (port.protocol !== "UDP") continue;
    const serving = new Set(port.backends.filter((backend) => backend.serving).map(text));
    for (const frontend of port.frontends) {
      if (frontend.kind === "NodePort")
        byNodePort.set(`${frontend.address.family} ${frontend.port}`, serving);
      else byFrontend.set(text(frontend), serving);
    }
  }
  return {
    of: (service) =>
      byFrontend.get(text(service)) ?? byNodePort.get(`${service.address.family} ${service.port}`) ?? null,
  };
}

const text = ({ address, port }: TransportAddress): string => `${address.text} ${port}`;

const flowText = ({ client, service }: TrackedFlow): string => `${text(client)} ${text(service)}`;

const concatKeys = (entries: readonly PassEntry[]): Buffer => Buffer.concat(entries.map(({ key }) => key));
