// SPDX-License-Identifier: Apache-2.0
/** What a run of the twin has noted, as steps: each access to a map with its key and value in words. */
import {
  AddressClass,
  BackendFlag,
  BackendState,
  Counters,
  Direction,
  Empty,
  FrontendFlag,
  InterfaceFlag,
  NatFlag,
  NatState,
  NO_BACKEND,
  NO_SERVICE,
  REASONS,
  TICK_SHIFT,
  TraceMap,
  TraceOp,
} from "../abi/enums.gen.js";
import { decodeChoice } from "../abi/hash.js";
import {
  affinityCodec,
  FAMILY_CODECS,
  fragmentCodec,
  frontendCodec,
  interfaceCodec,
  type TraceRecord,
} from "../abi/layout.gen.js";
import { type Family, ipFromBytes } from "../net/ip.js";
import { formatAddressPort, protocolOfNumber } from "../net/port.js";
import type { Names } from "./names.js";

export type StepKind = "look-up" | "update" | "delete" | "count";

/** One access to a map. */
export interface Step {
  readonly kind: StepKind;
  readonly map: string;
  readonly key: string;
  /** Null: the map has no such key; of "delete" and "count": there is no value. */
  readonly value: string | null;
  /** False: a look-up found nothing, or a write did not succeed. */
  readonly found: boolean;
  /** Of "count": the reason that is counted; null when it is a service port's or a backend's traffic. */
  readonly reason: string | null;
}

const KINDS: Readonly<Record<number, StepKind>> = {
  [TraceOp.TRACE_LOOK_UP]: "look-up",
  [TraceOp.TRACE_UPDATE]: "update",
  [TraceOp.TRACE_DELETE]: "delete",
  [TraceOp.TRACE_TALLY]: "count",
};

/** How the key and the value of a map read. */
interface Reader {
  readonly map: string;
  readonly key: (key: Uint8Array, names: Names, family: Family) => string;
  readonly value: (value: Uint8Array, names: Names, family: Family) => string;
}

const u32 = (bytes: Uint8Array, at = 0): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
const address = (bytes: Uint8Array): string => ipFromBytes(bytes).text;
const peer = (bytes: Uint8Array, port: number): string => formatAddressPort(ipFromBytes(bytes), port);
const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);
const protocolText = (number: number): string => protocolOfNumber(number) ?? `protocol ${number}`;

/** The names of the bits that are set, in lower case and without their common beginning. */
function bits(value: number, of: Readonly<Record<string, number>>, beginning: string): string[] {
  return Object.entries(of)
    .filter(([name, bit]) => name.startsWith(beginning) && value & bit)
    .map(([name]) => name.slice(beginning.length).toLowerCase().replaceAll("_", "-"));
}

const listed = (words: readonly string[]): string => (words.length === 0 ? "none" : words.join(", "));

const ADDRESS_KEY: Reader["key"] = (key, _names, family) => {
  const { addr, port, protocol } = FAMILY_CODECS[family].addrPort.decode(key);
  const where = isZero(addr) && port !== 0 ? "any node address" : address(addr);
  if (port === 0 && protocol === 0) return where;
  return `${isZero(addr) ? `${where}, port ${port}` : peer(addr, port)} ${protocolText(protocol)}`;
};

const frontendValue: Reader["value"] = (value, names) => {
  const { internal, external, service, affinitySeconds, flags } = frontendCodec.decode(value);
  const offer = (word: bigint): string => {
    const { count, base } = decodeChoice(word);
    if (count > 0) return `${count} backend${count === 1 ? "" : "s"} (slots ${base} to ${base + count - 1})`;
    return base === Empty.DROP ? "none: drop" : "none: reject";
  };
  const inside = offer(internal);
  const outside = offer(external);
  return [
    names.service(service),
    inside === outside ? `offers ${inside}` : `inside ${inside}, outside ${outside}`,
    ...(affinitySeconds > 0 ? [`session affinity ${affinitySeconds} s`] : []),
    ...bits(flags, FrontendFlag, "FRONTEND_"),
  ].join("; ");
};

const backendValue: Reader["value"] = (value, names, family) => {
  const { addr, port, state, flags, generation, service } = FAMILY_CODECS[family].backend.decode(value);
  const stateName =
    state === BackendState.BACKEND_LIVE ? "live" : state === BackendState.BACKEND_FREE ? "free" : "draining";
  const where = flags & BackendFlag.BACKEND_LOCAL ? "on this node" : "on another node";
  return `${peer(addr, port)}, ${stateName}, ${where}, generation ${generation}, of ${names.service(service)}`;
};

const natKey: Reader["key"] = (key, _names, family) => {
  const { src, dst, sport, dport, protocol, direction } = FAMILY_CODECS[family].natKey.decode(key);
  const side = direction === Direction.IN ? "in" : "out";
  return `${side} ${protocolText(protocol)} ${peer(src, sport)} > ${peer(dst, dport)}`;
};

const natValue: Reader["value"] = (value, names, family) => {
  const entry = FAMILY_CODECS[family].natValue.decode(value);
  const { addr, port, peerPort, backend, generation, lastSeen, state, flags, service } = entry;
  const now = Number(process.hrtime.bigint() >> BigInt(TICK_SHIFT)) | 0;
  const idle = Math.max(0, Math.round((((now - lastSeen) | 0) * 2 ** TICK_SHIFT) / 1e9));
  return [
    `${peer(addr, port)}, other port ${peerPort}`,
    listed(bits(flags, NatFlag, "NAT_")),
    listed([
      ...bits(state, NatState, "SEEN_").map((name) => `seen ${name}`),
      ...bits(state, NatState, "FIN_"),
      ...bits(state, NatState, "RST_").map((name) => `rst ${name}`),
      ...(state & NatState.ESTABLISHED ? ["established"] : []),
    ]),
    backend === NO_BACKEND ? "no backend" : `backend cell ${backend} generation ${generation}`,
    service === NO_SERVICE ? "no Service" : names.service(service),
    `idle ${idle} s`,
  ].join("; ");
};

const READERS: Readonly<Record<number, Reader>> = {
  [TraceMap.MAP_FRONTENDS]: { map: "frontends", key: ADDRESS_KEY, value: frontendValue },
  [TraceMap.MAP_ADDRESSES]: {
    map: "addresses",
    key: ADDRESS_KEY,
    value: (value) => listed(bits(u32(value), AddressClass, "CLASS_")),
  },
  [TraceMap.MAP_SLOTS]: {
    map: "slots",
    key: (key) => String(u32(key)),
    value: (value) => `cell ${u32(value)}`,
  },
  [TraceMap.MAP_BACKENDS]: { map: "backends", key: (key) => `cell ${u32(key)}`, value: backendValue },
  [TraceMap.MAP_NAT]: { map: "nat", key: natKey, value: natValue },
  [TraceMap.MAP_FRAGMENTS]: {
    map: "fragments",
    key: (key, _names, family) => {
      const { src, dst, id } = FAMILY_CODECS[family].fragmentKey.decode(key);
      return `${address(src)} > ${address(dst)}, id ${id}`;
    },
    value: (value) => {
      const { sport, dport } = fragmentCodec.decode(value);
      return `ports ${sport} > ${dport}`;
    },
  },
  [TraceMap.MAP_AFFINITY]: {
    map: "affinity",
    key: (key, names, family) => {
      const { client, service } = FAMILY_CODECS[family].affinityKey.decode(key);
      return `${address(client)} to ${names.service(service)}`;
    },
    value: (value) => {
      const { backend, generation, lastNew } = affinityCodec.decode(value);
      const ago = Number((process.hrtime.bigint() - lastNew) / 1_000_000_000n);
      return `backend cell ${backend} generation ${generation}, last new connection ${Math.max(0, ago)} s ago`;
    },
  },
  [TraceMap.MAP_SOURCE_RANGES]: {
    map: "source_ranges",
    key: (key, names, family) => {
      const { addr, service } = FAMILY_CODECS[family].sourceRange.decode(key);
      return `${address(addr)} to ${names.service(service)}`;
    },
    value: () => "allowed",
  },
  [TraceMap.MAP_SERVICE_NETS]: {
    map: "service_nets",
    key: (key, _names, family) => address(FAMILY_CODECS[family].network.decode(key).addr),
    value: () => "Services get their addresses from there",
  },
  [TraceMap.MAP_INTERFACES]: {
    map: "interfaces",
    key: (key, names) => names.interface(u32(key)),
    value: (value, _names, family) => {
      const { masquerade4, masquerade6, flags } = interfaceCodec.decode(value);
      const own = family === 4 ? masquerade4 : masquerade6;
      const pods = flags & InterfaceFlag.INTERFACE_LOCAL_PODS ? ", brings local pods' packets" : "";
      return `${isZero(own) ? "no address to masquerade with" : `masquerades with ${address(own)}`}${pods}`;
    },
  },
  [TraceMap.MAP_COUNTERS]: {
    map: "counters",
    key: (key, names) => {
      const index = u32(key);
      return REASONS[index]?.name ?? names.service(index - Counters.SERVICE_BASE);
    },
    value: () => "",
  },
  [TraceMap.MAP_BACKEND_STATS]: { map: "backend_stats", key: (key) => `cell ${u32(key)}`, value: () => "" },
};

/** Maps that are one for both families. */
const SHARED: readonly number[] = [TraceMap.MAP_INTERFACES, TraceMap.MAP_COUNTERS];

/** A record in words. */
export function stepOf(record: TraceRecord, names: Names, family: Family): Step {
  const kind = KINDS[record.op] ?? "look-up";
  const reader = READERS[record.map];
  if (reader === undefined)
    throw new RangeError(`the twin noted map ${record.map}, which this program does not know`);
  const found = record.found !== 0;
  return {
    kind,
    map: SHARED.includes(record.map) ? reader.map : `${reader.map}${family}`,
    key: reader.key(record.key, names, family),
    value:
      kind === "update" || (kind === "look-up" && found) ? reader.value(record.value, names, family) : null,
    found,
    reason: reasonOf(record)?.name ?? null,
  };
}

/** The reason that a record counts; null when it counts none. */
export function reasonOf(record: TraceRecord): (typeof REASONS)[number] | null {
  if (record.op !== TraceOp.TRACE_TALLY || record.map !== TraceMap.MAP_COUNTERS) return null;
  return REASONS[u32(record.key)] ?? null;
}
