// SPDX-License-Identifier: Apache-2.0
/** One datagram or segment cut into fragments, each a packet of its own. */
import { buildIp, type Extension, type Packet, type Tcp, type Udp } from "../../support/packet.js";
import type { Host } from "./addresses.js";
import type { Lab } from "./lab.js";

/** Bytes of the transport's data in all fragments but the last: a multiple of 8. */
export const PIECE = 400;

export interface Cut {
  /** The datagram's, host byte order. IPv4 keeps the low 16 bits. */
  readonly id?: number;
  readonly size?: number;
  /** IPv4 options, in every fragment. */
  readonly options?: Uint8Array;
  /** IPv6 extension headers before the fragment header, in every fragment. */
  readonly before?: readonly Extension[];
}

/**
 * Data of `length` bytes in which every fragment looks as if it began with the ports `sport` and `dport`: whoever takes
 * them for a header finds a flow.
 */
export function likePorts(length: number, sport: number, dport: number): Uint8Array {
  const unit = [sport >> 8, sport & 0xff, dport >> 8, dport & 0xff, 0, 8, 0x12, 0x34];
  return Uint8Array.from({ length }, (_, i) => unit[i % 8] ?? 0);
}

/**
 * The fragments of a packet from one host to another, in their order. The transport's checksum is the whole packet's,
 * computed before it is cut.
 */
export function pieces(lab: Lab, src: Host, dst: Host, payload: Udp | Tcp, cut: Cut = {}): Packet[] {
  const size = cut.size ?? PIECE;
  const whole = buildIp(lab.packet(src, dst, payload)).subarray(lab.family === 4 ? 20 : 40);
  const protocol = payload.kind === "tcp" ? 6 : 17;
  const out: Packet[] = [];
  for (let at = 0; at < whole.length; at += size) {
    const part = whole.subarray(at, at + size);
    const piece = at === 0 ? head(payload, whole, part) : { kind: "raw" as const, protocol, data: part };
    out.push(lab.packet(src, dst, piece, place(lab, at / 8, at + size < whole.length, cut)));
  }
  return out;
}

/** Where a fragment belongs: `offset` in units of 8 bytes. */
export function place(lab: Lab, offset: number, more: boolean, cut: Cut = {}): Partial<Packet> {
  const id = cut.id ?? 0x1234;
  if (lab.family === 4) return { id: id & 0xffff, fragment: { offset, more }, options: cut.options ?? none };
  return { extensions: [...(cut.before ?? []), { kind: "fragment", offset, more, id }] };
}

/** The first fragment, with a header about all of the packet. */
function head(payload: Udp | Tcp, whole: Uint8Array, part: Uint8Array): Udp | Tcp {
  const sum = payload.kind === "tcp" ? 16 : 6;
  const checksum = ((whole[sum] ?? 0) << 8) | (whole[sum + 1] ?? 0);
  if (payload.kind === "udp") return { ...payload, data: part.subarray(8), length: whole.length, checksum };
  return { ...payload, data: part.subarray(20 + (payload.options?.length ?? 0)), checksum };
}

const none = new Uint8Array();
