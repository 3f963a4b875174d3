// SPDX-License-Identifier: Apache-2.0
/**
 * Whether a measurement took the path that it is named after: by our counters or by those of the kernel's rules, and by what
 * the server has got. Conntrack's entries would be no proof: a closed connection's is gone when one looks.
 */
import { readFile } from "node:fs/promises";
import { Counters, Reason } from "../../../src/abi/enums.gen.js";
import { trafficCodec } from "../../../src/abi/layout.gen.js";
import { requirePins } from "../../../src/dataplane/pins.js";
import type { Node } from "../../../src/demo/world/index.js";
import { NativeLibrary } from "../../../src/native/lib.js";
import type { NativeMaps } from "../../../src/native/maps.js";
import type { Family } from "../../../src/net/ip.js";
import type { Kind, Load } from "./load.js";

/** A flow or two of another kind are no other path. */
const NEARLY_ALL = 0.99;

/** Packets by reason (bpf/include/reasons.h), added up over the CPUs. */
export type Tally = (reason: Reason) => number;

/** The counters of a node's pinned maps. */
export class CounterReader {
  readonly #maps: NativeMaps;

  constructor(bpfRoot: string) {
    this.#maps = new NativeLibrary().openPins(requirePins(bpfRoot));
  }

  async read(): Promise<Tally> {
    const { values } = await this.#maps.dump("counters", Counters.SERVICE_BASE);
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    return (reason) => Number(trafficCodec.decodeFrom(view, reason * trafficCodec.size).packets);
  }

  close(): Promise<void> {
    return this.#maps.close();
  }
}

/** Null: they say that the measurement took its path. Else what they say instead. */
export type CounterProof = (kind: Kind, load: Load, tally: Tally) => string | null;

/** The difference of two readings. */
export function since(before: Tally, after: Tally): Tally {
  return (reason) => after(reason) - before(reason);
}

/** Packets that a measurement of this kind makes at the least, both ways. */
function packetsOf(kind: Kind, { count, connections }: Load): number {
  // Of a stream only that there are many: how many bytes a packet has, segmentation offload decides.
  if (kind === "tcp-stream") return 100;
  // Of a connection: SYN/ACK, ACK, request, answer, and the end.
  return kind === "tcp-crr" ? 5 * connections : 2 * count;
}

/** Each flow and its packets were translated by tc, and no socket was sent elsewhere. */
export const byTc: CounterProof = (kind, load, tally) => {
  const [flows, packets] = [tally(Reason.FLOW_NEW), tally(Reason.TRANSLATED)];
  const sockets = tally(Reason.SOCKET_TRANSLATED);
  if (flows < NEARLY_ALL * load.connections)
    return `${flows} of ${load.connections} flows were translated by tc`;
  const wanted = packetsOf(kind, load);
  if (packets < NEARLY_ALL * wanted) return `${packets} of at least ${wanted} packets were translated by tc`;
  return sockets > 0 ? `${sockets} sockets were sent to a backend` : null;
};

/** Each flow, and its packets both ways, went past the stack. */
export const byShortcut: CounterProof = (kind, load, tally) => {
  const [flows, packets] = [tally(Reason.SHORTCUT_FLOW), tally(Reason.SHORTCUT)];
  if (flows < NEARLY_ALL * load.connections) return `${flows} of ${load.connections} flows took the shortcut`;
  const wanted = packetsOf(kind, load);
  return packets < NEARLY_ALL * wanted ? `${packets} of at least ${wanted} packets took the shortcut` : null;
};

/** Each socket was sent to a backend, and no packet was translated. */
export const bySockets: CounterProof = (_kind, load, tally) => {
  const sockets = tally(Reason.SOCKET_TRANSLATED);
  const packets = tally(Reason.FLOW_NEW) + tally(Reason.TRANSLATED);
  if (sockets < load.connections) return `${sockets} of ${load.connections} sockets were sent to a backend`;
  return packets > 0 ? `${packets} packets were translated by tc` : null;
};

/** Nothing was translated: the server itself was asked for. */
export const byNeither: CounterProof = (_kind, _load, tally) => {
  const translated = tally(Reason.SOCKET_TRANSLATED) + tally(Reason.FLOW_NEW) + tally(Reason.TRANSLATED);
  return translated > 0 ? `${translated} sockets or packets were translated` : null;
};

/** Each flow was opened by XDP, and its packets were sent on from there, both ways. */
export const byXdp: CounterProof = (kind, load, tally) => {
  const [flows, packets] = [tally(Reason.FLOW_NEW), tally(Reason.XDP_SENT)];
  if (flows < NEARLY_ALL * load.connections) return `${flows} of ${load.connections} flows are known`;
  const wanted = packetsOf(kind, load);
  return packets < NEARLY_ALL * wanted
    ? `${packets} of at least ${wanted} packets were sent on by XDP`
    : null;
};

/** Forgets all flows of a node, so that each measurement finds the same. */
export async function forgetFlows(node: Node): Promise<void> {
  await node.exec(["conntrack", "-F"]);
}

/** A rule of iptables: its chain, and what it does; and whether it meets each packet of a flow or the flow once (nat tables). */
export interface CountingRule {
  readonly table: "nat" | "filter";
  readonly chain: string;
  readonly target: string;
}

/** How many packets have met this rule of a node. @throws when there is no such rule, or more than one */
export async function packetsAt(
  node: Node,
  tool: string,
  { table, chain, target }: CountingRule,
): Promise<number> {
  const { stdout } = await node.exec([tool, "-t", table, "-L", chain, "-v", "-x", "-n"]);
  const found = stdout.split("\n").flatMap((line) => {
    const [packets = "", , name] = line.trim().split(/\s+/);
    return name === target ? [Number(packets)] : [];
  });
  const [packets] = found;
  if (packets === undefined || found.length > 1)
    throw new Error(
      `${node.name}: ${found.length} rules of chain ${chain} have the target ${target}, not one`,
    );
  return packets;
}

/** Null: the rule met each of the flows (nat), or each of the packets. */
export function byRule(
  kind: Kind,
  load: Load,
  packets: number,
  { table, chain, target }: CountingRule,
): string | null {
  const [wanted, what] =
    table === "nat" ? [load.connections, "flows"] : [packetsOf(kind, load), "or more packets"];
  if (packets >= NEARLY_ALL * wanted) return null;
  return `${packets} of ${wanted} ${what} met ${target} of the ${table} table's chain ${chain}`;
}

/** What a server's host has got, since it was made. */
export interface Received {
  readonly connections: number;
  readonly segments: number;
  readonly datagrams: number;
}

/** Of the host of this process. */
export async function receivedBy(pid: number, family: Family): Promise<Received> {
  const [both = "", six = ""] = await Promise.all(
    ["snmp", "snmp6"].map((name) => readFile(`/proc/${pid}/net/${name}`, "utf8")),
  );
  // TCP's are those of both families.
  const tcp = figuresOf(both, "Tcp:");
  const datagrams6 = Number(/^Udp6InDatagrams\s+(\d+)$/m.exec(six)?.[1]);
  return {
    connections: tcp("PassiveOpens"),
    segments: tcp("InSegs"),
    datagrams: family === 4 ? figuresOf(both, "Udp:")("InDatagrams") : datagrams6,
  };
}

/** /proc/net/snmp: a line of names and a line of figures for each protocol. */
function figuresOf(text: string, protocol: string): (name: string) => number {
  const [names = [], figures = []] = text
    .split("\n")
    .filter((line) => line.startsWith(protocol))
    .map((line) => line.split(" "));
  return (name) => Number(figures[names.indexOf(name)]);
}

/** Null: the server that is meant has got them. */
export function byServer(kind: Kind, load: Load, before: Received, after: Received): string | null {
  if (kind === "udp-rr") {
    const datagrams = after.datagrams - before.datagrams;
    return datagrams >= load.count ? null : `${datagrams} of ${load.count} datagrams came to the server`;
  }
  const connections = after.connections - before.connections;
  if (!(connections >= load.connections))
    return `${connections} of ${load.connections} connections came to the server`;
  const segments = after.segments - before.segments;
  return segments >= load.count ? null : `${segments} segments for ${load.count} requests came to the server`;
}
