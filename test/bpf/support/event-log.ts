// SPDX-License-Identifier: Apache-2.0
/** A listener of one bench: what the programs tell it, in the words of the packet tests. */
import { Reason, Tell } from "../../../src/abi/enums.gen.js";
import { type FlowEvent, flowEventCodec, listenerCodec, trafficCodec } from "../../../src/abi/layout.gen.js";
import type { Ring } from "../../../src/native/ring.js";
import { hostName } from "./addresses.js";
import { type Bench, type Lab, type ReasonName, u32 } from "./lab.js";

/** All kinds. */
export const EVERYTHING: number = Object.values(Tell).reduce((bits, bit) => bits | bit, 0);

const SECOND = 1_000_000_000n;
const PROTOCOLS: Readonly<Record<number, string>> = {
  1: "icmp",
  6: "tcp",
  17: "udp",
  58: "icmp",
  132: "sctp",
};

export interface ListenOptions {
  /** Bits of enum ptl_tell. */
  readonly kinds?: number;
  readonly sample?: number;
  readonly seconds?: number;
}

export class EventLog {
  readonly #bench: Bench;
  readonly #ring: Ring;

  constructor(bench: Bench) {
    this.#bench = bench;
    this.#ring = bench.kernel.openRing("events", flowEventCodec.size);
  }

  /** Listens from now on, for `seconds` (negative: it has ended already), to these kinds. What was told before is gone. */
  async listen({ kinds = EVERYTHING, sample = 1, seconds = 60 }: ListenOptions): Promise<void> {
    const until = process.hrtime.bigint() + BigInt(seconds) * SECOND;
    const value = listenerCodec.encode({ until, kinds, sample, pid: process.pid });
    await this.#bench.kernel.apply([
      { map: "listener", kind: "update", count: 1, keys: u32(0), values: value },
    ]);
    this.#ring.skip();
  }

  /** The kinds that the programs take to be listened for. */
  async kinds(): Promise<number> {
    const [value] = await this.#bench.kernel.lookUp("listener", u32(0));
    return value ? listenerCodec.decode(value).kinds : 0;
  }

  /** What has been told since the last time, as the record has it. */
  records(): FlowEvent[] {
    const { count, bytes } = this.#ring.drain();
    return Array.from({ length: count }, (_, i) => flowEventCodec.decode(bytes, i * flowEventCodec.size));
  }

  /** The same in a line each: `new FLOW_NEW in tcp client:40000 > vip:80 => backend:8080`. */
  lines(): string[] {
    return this.records().map(eventLine);
  }

  /** Events that found no room, so far. */
  async lost(): Promise<number> {
    const { values } = await this.#bench.kernel.dump("counters", Reason.COUNT);
    return Number(trafficCodec.decode(values, Reason.EVENT_LOST * trafficCodec.size).packets);
  }

  close(): void {
    this.#ring.close();
  }
}

const nameIn = (values: Readonly<Record<string, number>>, value: number): string =>
  Object.keys(values).find((key) => values[key] === value) ?? `${value}`;

function eventLine(event: FlowEvent): string {
  const at = (address: Uint8Array, port: number): string =>
    `${hostName(event.family === 4 ? address.subarray(0, 4) : address)}:${port}`;
  const kind = nameIn(Tell, event.kind).toLowerCase();
  const reason: ReasonName | string = nameIn(Reason, event.reason);
  const way = event.direction === 0 ? "in" : "out";
  const to = event.port === 0 ? "" : ` => ${at(event.addr, event.port)}`;
  const tuple = `${at(event.src, event.sport)} > ${at(event.dst, event.dport)}${to}`;
  return `${kind} ${reason} ${way} ${PROTOCOLS[event.protocol] ?? event.protocol} ${tuple}`;
}

/** What a Service's new flows met instead of a backend. */
export async function serviceDrops(lab: Lab, index: number): Promise<number> {
  const [value] = await lab.kernel.lookUp("service_drops", u32(index));
  return value ? Number(new DataView(value.buffer, value.byteOffset, 8).getBigUint64(0, true)) : 0;
}
