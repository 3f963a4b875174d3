// SPDX-License-Identifier: Apache-2.0
/** The translated flows, one row for each. */
import { Direction, NatFlag, NO_BACKEND } from "../../abi/enums.gen.js";
import { FAMILIES, type Family, type Protocol } from "../../net/ip.js";
import { type BackendStateName, backendStateName } from "./backends.js";
import { ageOf, type FlowState, type FlowTimeoutTicks, monotonicTicks } from "./flow-state.js";
import { type Peer, peerOf, protocolName, type ServiceId } from "./names.js";
import {
  foundEntry,
  isLeading,
  lookUpNat,
  masqueradeKey,
  type NatEntry,
  type NatReads,
  natPieces,
} from "./nat-entries.js";
import type { Tables } from "./tables.js";

export interface FlowRow {
  readonly service: ServiceId | null;
  readonly family: Family;
  readonly protocol: Protocol | "";
  readonly client: Peer;
  /** What the client asked for. */
  readonly destination: Peer;
  /** Where its packets go. */
  readonly backend: Peer;
  /** The backend's cell and generation; null for a flow that has none. */
  readonly cell: number | null;
  readonly generation: number;
  /** The cell still holds the backend that the flow began with. */
  readonly backendPresent: boolean;
  /** "gone": it has left every slice, or the flow has none. */
  readonly backendState: BackendStateName | "gone";
  readonly state: FlowState;
  /** False: counts as absent everywhere, and may be taken over. */
  readonly live: boolean;
  /** Seconds since the last packet, to about a second. */
  readonly idleSeconds: number;
  /** The client's address as the backend sees it, where it was changed; a port of 0 has yet to be chosen. */
  readonly masqueradedAs: Peer | null;
  /** A client that uses a backend's own address, beside a flow by a Service. */
  readonly direct: boolean;
}

export interface FlowOptions {
  /** What the programs were loaded with: an entry lives as long as they think it does. */
  readonly timeouts: FlowTimeoutTicks;
  /** CLOCK_MONOTONIC in ticks of 2^30 ns; default: now. */
  readonly nowTicks?: number;
}

/** The entries of `nat` that lead a flow to its backend. */
export interface FlowEntries {
  readonly entry: NatEntry;
  /** The one that changes the client's address on the way to the backend; null: none does. */
  readonly masquerade: NatEntry | null;
}

export interface FoundFlow extends FlowEntries {
  readonly row: FlowRow;
}

/**
 * Every flow in `nat4` and `nat6`, as they come: what is held is a piece of a map, whatever their number. Two FFI calls a
 * piece: a dump, and a look-up of who is masqueraded.
 */
export async function* findFlows(
  kernel: NatReads,
  tables: Tables,
  options: FlowOptions,
): AsyncGenerator<FoundFlow> {
  for (const family of FAMILIES) {
    for await (const piece of natPieces(kernel, family)) {
      const leading = piece.filter(({ key, value }) => isLeading(key, value));
      const keys = leading.keys(1, (entry) => [masqueradeKey(entry)]);
      const masquerades = await lookUpNat(kernel, family, keys);
      let i = 0;
      for (const entry of leading) {
        const found = foundEntry(family, masqueradeKey(entry), masquerades[i++]);
        const masquerade = found !== null && found.value.flags & NatFlag.NAT_MASQUERADE ? found : null;
        yield { row: flowRow(tables, family, entry, masquerade, options), entry, masquerade };
      }
    }
  }
}

/** All of them at once, the busiest moments last: sorted by idle time. For no more than some thousands. */
export async function readFlows(kernel: NatReads, tables: Tables, options: FlowOptions): Promise<FlowRow[]> {
  const rows: FlowRow[] = [];
  for await (const { row } of findFlows(kernel, tables, options)) rows.push(row);
  return rows.sort((a, b) => a.idleSeconds - b.idleSeconds);
}

function flowRow(
  tables: Tables,
  family: Family,
  { key, value }: NatEntry,
  masquerade: NatEntry | null,
  { timeouts, nowTicks = monotonicTicks() }: FlowOptions,
): FlowRow {
  const { state, live, idleSeconds } = ageOf(key.protocol, value, timeouts, nowTicks);
  const cell = tables.families[family].cells.get(value.backend);
  const held = cell?.generation === value.generation ? cell : undefined;
  const inward = key.direction === Direction.IN;
  return {
    service: tables.services.get(value.service) ?? null,
    family,
    protocol: protocolName(key.protocol),
    client: peerOf(key.src, key.sport),
    destination: peerOf(key.dst, key.dport),
    backend: inward ? peerOf(value.addr, value.port) : peerOf(key.dst, key.dport),
    cell: value.backend === NO_BACKEND ? null : value.backend,
    generation: value.generation,
    backendPresent: held !== undefined,
    backendState: held === undefined ? "gone" : backendStateName(held.state),
    state,
    live,
    idleSeconds,
    masqueradedAs: masquerade === null ? null : peerOf(masquerade.value.addr, masquerade.value.port),
    direct: (value.flags & NatFlag.NAT_DIRECT) !== 0,
  };
}
