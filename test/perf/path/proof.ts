// SPDX-License-Identifier: Apache-2.0
/** Whether a measurement took the path that it is named after: by our counters, or by the kernel's connection tracking. */
import { Counters, Reason } from "../../../src/abi/enums.gen.js";
import { trafficCodec } from "../../../src/abi/layout.gen.js";
import { requirePins } from "../../../src/dataplane/pins.js";
import type { Node } from "../../../src/demo/world/index.js";
import { NativeLibrary } from "../../../src/native/lib.js";
import type { NativeMaps } from "../../../src/native/maps.js";
import type { Family } from "../../../src/net/ip.js";
import type { Kind, Load } from "./load.js";

/** A flow or two of another kind, or an entry that expired, are no other path. */
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

/** Null: the counters say that the measurement took its path. Else what they say instead. */
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

/** A flow as the kernel tracks it. */
export interface TrackedFlow {
  readonly to: string;
  readonly port: number;
  /** Who answers. */
  readonly by: string;
}

/** Forgets all flows of a node, so that each measurement finds the same. */
export async function forgetFlows(node: Node): Promise<void> {
  await node.exec(["conntrack", "-F"]);
}

export async function trackedFlows(node: Node, family: Family, kind: Kind): Promise<TrackedFlow[]> {
  const protocol = kind === "udp-rr" ? "udp" : "tcp";
  const { stdout } = await node.exec(["conntrack", "-L", "-f", `ipv${family}`, "-p", protocol]);
  return stdout.split("\n").flatMap((line) => {
    const [, to = "", by = ""] = [...line.matchAll(/\b(?:src|dst)=(\S+)/g)].map((match) => match[1]);
    const [, port = ""] = [...line.matchAll(/\b(?:sport|dport)=(\d+)/g)].map((match) => match[1]);
    return by === "" ? [] : [{ to, port: Number(port), by }];
  });
}

/** Null: the kernel tracked each of the flows with this destination, and answers came from this server. */
export function byConntrack(load: Load, flows: readonly TrackedFlow[], wanted: TrackedFlow): string | null {
  const found = flows.filter(
    ({ to, port, by }) => to === wanted.to && port === wanted.port && by === wanted.by,
  ).length;
  if (found >= NEARLY_ALL * load.connections) return null;
  return `${found} of ${load.connections} flows to ${wanted.to} port ${wanted.port} were tracked as answered by ${wanted.by}`;
}
