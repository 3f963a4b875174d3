// SPDX-License-Identifier: Apache-2.0
/** Entries of `nat` that have lost what they belong to. They harm nobody, and end by themselves; many of them are a sign. */
import { Direction, NatFlag } from "../../abi/enums.gen.js";
import { FAMILIES, type Family, type Protocol } from "../../net/ip.js";
import { ageOf, type FlowState, monotonicTicks } from "./flow-state.js";
import type { FlowOptions } from "./flows.js";
import { type Peer, peerOf, protocolName, type ServiceId } from "./names.js";
import {
  isLeading,
  lookUpNat,
  type NatEntry,
  type NatPiece,
  type NatReads,
  natPieces,
  oppositeKey,
} from "./nat-entries.js";
import type { Tables } from "./tables.js";

/**
 * "no-opposite": its packets' replies would not be translated. "backend-gone": its backend has left every slice.
 * "service-gone": so has its Service port.
 */
export type OrphanReason = "no-opposite" | "backend-gone" | "service-gone";

export interface OrphanRow {
  readonly reasons: readonly OrphanReason[];
  readonly service: ServiceId | null;
  readonly family: Family;
  readonly protocol: Protocol | "";
  /** Which packets it rewrites: at ingress their destination, at egress their source. */
  readonly direction: "in" | "out";
  readonly source: Peer;
  readonly destination: Peer;
  /** What is written into them. */
  readonly rewrittenTo: Peer;
  readonly state: FlowState;
  readonly live: boolean;
  readonly idleSeconds: number;
}

/** Every such entry, as they come. Three FFI calls a piece of a map at most. */
export async function* findOrphans(
  kernel: NatReads,
  tables: Tables,
  options: FlowOptions,
): AsyncGenerator<OrphanRow> {
  for (const family of FAMILIES) {
    for await (const piece of natPieces(kernel, family)) {
      const halves = await withoutOpposite(kernel, piece);
      let i = 0;
      for (const entry of piece) {
        const reasons = [...(halves.has(i++) ? (["no-opposite"] as const) : []), ...goneOf(tables, entry)];
        if (reasons.length > 0) yield orphanRow(tables, entry, reasons, options);
      }
    }
  }
}

/**
 * Which of a piece's entries have no opposite. A pair is written one entry after the other, and read likewise: what seems to
 * be half a pair is looked at again.
 */
async function withoutOpposite(kernel: NatReads, piece: NatPiece): Promise<ReadonlySet<number>> {
  const { family } = piece;
  const found = await lookUpNat(
    kernel,
    family,
    piece.keys(1, (entry) => [oppositeKey(entry)]),
  );
  const places: number[] = [];
  const suspects = piece.filter(({ value }, i) => {
    // The egress hook has yet to choose: so far there is nothing to reply to.
    const isHalf = found[i] === null && (value.flags & NatFlag.NAT_PENDING) === 0;
    if (isHalf) places.push(i);
    return isHalf;
  });
  const again = await lookUpNat(
    kernel,
    family,
    suspects.keys(2, (entry) => [entry.key, oppositeKey(entry)]),
  );
  return new Set(places.filter((_, i) => again[2 * i] !== null && again[2 * i + 1] === null));
}

function goneOf(tables: Tables, { family, key, value }: NatEntry): OrphanReason[] {
  if (!isLeading(key, value) || value.flags & NatFlag.NAT_DIRECT) return [];
  const cell = tables.families[family].cells.get(value.backend);
  return [
    ...(cell?.generation === value.generation ? [] : (["backend-gone"] as const)),
    ...(tables.services.has(value.service) ? [] : (["service-gone"] as const)),
  ];
}

function orphanRow(
  tables: Tables,
  { family, key, value }: NatEntry,
  reasons: readonly OrphanReason[],
  { timeouts, nowTicks = monotonicTicks() }: FlowOptions,
): OrphanRow {
  return {
    reasons,
    service: tables.services.get(value.service) ?? null,
    family,
    protocol: protocolName(key.protocol),
    direction: key.direction === Direction.IN ? "in" : "out",
    source: peerOf(key.src, key.sport),
    destination: peerOf(key.dst, key.dport),
    rewrittenTo: peerOf(value.addr, value.port),
    ...ageOf(key.protocol, value, timeouts, nowTicks),
  };
}
