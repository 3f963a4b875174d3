// SPDX-License-Identifier: Apache-2.0
/** A trace as JSON: what `portolan trace -o json` prints, described in docs/cli.md. */
import type { Endpoint, PacketView } from "./packet.js";
import type { Leg, Outcome, TraceResult } from "./trace.js";

const endpoint = ({ address, port }: Endpoint): object => ({ address: address.text, port });

const packet = ({ family, protocol, source, destination, flags, ttl, length, icmp }: PacketView): object => ({
  family,
  protocol,
  source: endpoint(source),
  destination: endpoint(destination),
  flags,
  ttl,
  length,
  icmp,
});

const outcome = (of: Outcome): object => ({ ...of, packet: packet(of.packet) });

const leg = (of: Leg): object =>
  of.kind === "ingress" || of.kind === "egress"
    ? { ...of, before: packet(of.before), after: packet(of.after) }
    : of;

/** Plain values only. */
export function traceJson(result: TraceResult): object {
  return {
    packet: packet(result.packet),
    from: result.from,
    legs: result.legs.map(leg),
    outcome: outcome(result.outcome),
    reply: result.reply === null ? null : outcome(result.reply),
  };
}
