// SPDX-License-Identifier: Apache-2.0
/**
 * Which way the live program sends a packet on from an ingress hook. The twin follows every packet through the stack: a flow's
 * translation is the same by both ways, and which one it takes is in its entries (decision 0022).
 */
import { Direction, NatFlag, Option, TraceMap, TraceOp } from "../abi/enums.gen.js";
import { FAMILY_CODECS, type TraceRecord } from "../abi/layout.gen.js";
import type { KernelLookups } from "../native/kernel.js";
import type { Family } from "../net/ip.js";
import type { Ground, Hooked } from "./ground.js";
import { type PacketView, protocolNumberOf } from "./packet.js";

/** `either`: the flow begins with this packet, and its way is decided then, by the routes of that moment. */
export type Forwarding = "shortcut" | "stack" | "either";

/** For people; of the stack's way there is nothing to say. */
export const FORWARDING_TEXT: Readonly<Record<Exclude<Forwarding, "stack">, string>> = {
  shortcut:
    "past the stack: the flow takes the shortcut, translated and sent on from this hook; below is the stack's way, with the same translation",
  either:
    "decided when the flow begins: past the stack where both ways allow it (shortcut_flow), otherwise as below",
};

/** What an ingress hook was asked and has noted. */
export interface IngressRun {
  readonly before: PacketView;
  readonly records: readonly TraceRecord[];
  /** It began a flow. */
  readonly fresh: boolean;
  /** It has translated the packet. */
  readonly translated: boolean;
}

const wayOf = (value: Uint8Array, family: Family): Forwarding =>
  FAMILY_CODECS[family].natValue.decode(value).flags & NatFlag.NAT_SHORTCUT ? "shortcut" : "stack";

/**
 * The way of a packet that an ingress hook lets pass; null: it is of no flow of ours. The reply of a shortcut's flow meets no
 * egress hook: the live program finds its entry (direction OUT) at ingress, and so does this.
 *
 * @throws NativeError
 */
export async function forwardingOf(
  { before, records, fresh, translated }: IngressRun,
  { role, shortcut }: Hooked,
  { config }: Ground,
  kernel: KernelLookups,
): Promise<Forwarding | null> {
  const known = (config.options & Option.SHORTCUT) !== 0;
  const { family } = before;
  if (fresh) return known && role === "pod" && shortcut ? "either" : "stack";
  if (translated) {
    const entry = records.find(
      ({ op, map, found }) => op === TraceOp.TRACE_LOOK_UP && map === TraceMap.MAP_NAT && found !== 0,
    );
    return entry === undefined ? "stack" : wayOf(entry.value, family);
  }
  if (!known) return null;
  const key = {
    src: before.source.address.bytes,
    dst: before.destination.address.bytes,
    sport: before.source.port,
    dport: before.destination.port,
    protocol: protocolNumberOf(before.protocol, family),
    direction: Direction.OUT,
    pad: 0,
  };
  const [reply] = await kernel.lookUp(`nat${family}`, FAMILY_CODECS[family].natKey.encode(key));
  return reply !== undefined && reply !== null && wayOf(reply, family) === "shortcut" ? "shortcut" : null;
}
