// SPDX-License-Identifier: Apache-2.0
/**
 * Entries of `nat`. Each flow has a pair, one entry for each direction, of which the one that leads to the backend is the
 * leading one; and a second pair where the client's address is changed, too.
 */
import { viewOf } from "../../abi/codec.js";
import { Direction, NatFlag } from "../../abi/enums.gen.js";
import { FAMILY_CODECS, type NatKey4, type NatValue4 } from "../../abi/layout.gen.js";
import type { KernelLookups, KernelReads } from "../../native/kernel.js";
import type { Family } from "../../net/ip.js";

export type NatReads = KernelReads & KernelLookups;
export type NatKey = NatKey4;

export interface NatEntry {
  readonly family: Family;
  readonly key: NatKey;
  readonly value: NatValue4;
}

/** Entries read at a time. */
const CHUNK = 65_536;

/** All entries of a family, a piece at a time; locks, which stand for no flow, are left out. One FFI call a piece. */
export async function* natPieces(kernel: KernelReads, family: Family): AsyncGenerator<readonly NatEntry[]> {
  const { natKey, natValue } = FAMILY_CODECS[family];
  const padAt = natKey.offsets.pad as number;
  const map = `nat${family}` as const;
  for await (const { count, keys, values } of kernel.dumpChunks(map, CHUNK)) {
    const [keyView, valueView] = [viewOf(keys), viewOf(values)];
    const piece: NatEntry[] = [];
    for (let i = 0; i < count; i += 1) {
      const at = i * natKey.size;
      if (keyView.getUint16(at + padAt, true) !== 0) continue;
      const key = natKey.decodeFrom(keyView, at);
      piece.push({ family, key, value: natValue.decodeFrom(valueView, i * natValue.size) });
    }
    yield piece;
  }
}

/** Whether it stands for a flow: the half that leads to the backend. */
export function isLeading({ direction }: NatKey, { flags }: NatValue4): boolean {
  if (flags & (NatFlag.NAT_REPLY | NatFlag.NAT_MASQUERADE)) return false;
  return direction === Direction.IN || (flags & NatFlag.NAT_DIRECT) !== 0;
}

/** The key of the entry for the other direction: nat_opposite_key() in bpf/lib/nat.bpf.h. */
export function oppositeKey({ key, value }: Pick<NatEntry, "key" | "value">): NatKey {
  const { protocol } = key;
  return key.direction === Direction.IN
    ? {
        src: value.addr,
        sport: value.port,
        dst: key.src,
        dport: value.peerPort,
        protocol,
        direction: Direction.OUT,
      }
    : {
        src: key.dst,
        sport: value.peerPort,
        dst: value.addr,
        dport: value.port,
        protocol,
        direction: Direction.IN,
      };
}

/** What egress sees of a leading entry's packets, once ingress has rewritten them: there the client's address is changed. */
export function masqueradeKey({ key, value }: Pick<NatEntry, "key" | "value">): NatKey {
  if (key.direction === Direction.OUT) return key;
  return {
    src: key.src,
    sport: value.peerPort,
    dst: value.addr,
    dport: value.port,
    protocol: key.protocol,
    direction: Direction.OUT,
  };
}

/** The entries with these keys; null where there is none. One FFI call. */
export async function lookUpNat(
  kernel: KernelLookups,
  family: Family,
  keys: readonly NatKey[],
): Promise<readonly (NatEntry | null)[]> {
  const { natValue } = FAMILY_CODECS[family];
  if (keys.length === 0) return [];
  const found = await kernel.lookUp(`nat${family}`, packNatKeys(family, keys));
  return found.map((bytes, i) => {
    return bytes === null ? null : { family, key: keys[i] as NatKey, value: natValue.decode(bytes) };
  });
}

export function packNatKeys(family: Family, keys: readonly NatKey[]): Uint8Array {
  const { natKey } = FAMILY_CODECS[family];
  const packed = new Uint8Array(keys.length * natKey.size);
  const view = viewOf(packed);
  for (const [i, key] of keys.entries()) natKey.encodeInto(view, i * natKey.size, key);
  return packed;
}
