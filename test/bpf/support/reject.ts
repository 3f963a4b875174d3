// SPDX-License-Identifier: Apache-2.0
/** The answer that a REJECT is expected to be. */
import { buildFrame, icmpError, type Packet } from "../../support/packet.js";
import type { ReasonName } from "./lab.js";

/** What is quoted of a transport header. */
const QUOTED = { tcp: 20, udp: 8, sctp: 20, icmp: 8, raw: 0 } as const;

/**
 * ICMP or ICMPv6 port unreachable from the address that was asked, back to the asker over the same wire: it quotes the
 * network header with its options or extension headers and the start of the transport header.
 */
export function rejectOf(packet: Packet): Packet {
  const frame = buildFrame({ ...packet, trailer: new Uint8Array() });
  const transport = buildTransportLength(packet);
  const quote = frame.length - 14 - transport + QUOTED[packet.payload.kind];
  return {
    src: packet.dst,
    dst: packet.src,
    eth: { src: "02:00:00:00:00:02", dst: "02:00:00:00:00:01" },
    id: 0,
    dontFragment: false,
    flowLabel: 0,
    ttl: 64,
    payload: icmpError("port-unreachable", packet, { quote }),
  };
}

/** What is expected of a packet that is rejected and counted under these reasons. */
export function rejected(
  packet: Packet,
  ...reasons: readonly ReasonName[]
): { readonly verdict: "redirect"; readonly packet: Packet; readonly reasons: readonly ReasonName[] } {
  return { verdict: "redirect", packet: rejectOf(packet), reasons };
}

/** Bytes from the transport header to the end of the packet. */
function buildTransportLength(packet: Packet): number {
  const bare = buildFrame({
    ...packet,
    options: new Uint8Array(),
    extensions: [],
    trailer: new Uint8Array(),
  });
  return bare.length - 14 - (packet.src.includes(":") ? 40 : 20);
}
