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

/** Keys that are made one after the other, while they are packed. */
export type NatKeys = Iterable<NatKey> & { readonly length: number };

/** Entries read at a time. */
const CHUNK = 65_536;

/**
 * Entries of a piece of a map, as the kernel's bytes: an entry is decoded when it is asked for, since 65,536 of them that are
 * decoded are ten times as large.
 */
export class NatPiece implements Iterable<NatEntry> {
  readonly family: Family;
  readonly #keys: DataView;
  readonly #values: DataView;
  readonly #indexes: readonly number[];

  constructor(family: Family, keys: DataView, values: DataView, indexes: readonly number[]) {
    this.family = family;
    this.#keys = keys;
    this.#values = values;
    this.#indexes = indexes;
  }

  get length(): number {
    return this.#indexes.length;
  }

  *[Symbol.iterator](): Generator<NatEntry> {
    for (const index of this.#indexes) yield this.#entry(index);
  }

  filter(isWanted: (entry: NatEntry, i: number) => boolean): NatPiece {
    const wanted = this.#indexes.filter((index, i) => isWanted(this.#entry(index), i));
    return new NatPiece(this.family, this.#keys, this.#values, wanted);
  }

  /** `size` keys of each entry. */
  keys(size: number, of: (entry: NatEntry) => readonly NatKey[]): NatKeys {
    const entries = this;
    return {
      length: this.length * size,
      *[Symbol.iterator]() {
        for (const entry of entries) yield* of(entry);
      },
    };
  }

  #entry(index: number): NatEntry {
    const { natKey, natValue } = FAMILY_CODECS[this.family];
    const key = natKey.decodeFrom(this.#keys, index * natKey.size);
    return { family: this.family, key, value: natValue.decodeFrom(this.#values, index * natValue.size) };
  }
}

/** All entries of a family, a piece at a time; locks, which stand for no flow, are left out. One FFI call a piece. */
export async function* natPieces(kernel: KernelReads, family: Family): AsyncGenerator<NatPiece> {
  const { natKey } = FAMILY_CODECS[family];
  const padAt = natKey.offsets.pad as number;
  for await (const { count, keys, values } of kernel.dumpChunks(`nat${family}`, CHUNK)) {
    const view = viewOf(keys);
    const indexes: number[] = [];
    for (let i = 0; i < count; i += 1)
      if (view.getUint16(i * natKey.size + padAt, true) === 0) indexes.push(i);
    yield new NatPiece(family, view, viewOf(values), indexes);
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

/** The values of these keys, as the kernel's bytes; null where there is none. One FFI call. */
export async function lookUpNat(
  kernel: KernelLookups,
  family: Family,
  keys: NatKeys,
): Promise<readonly (Uint8Array | null)[]> {
  return keys.length === 0 ? [] : kernel.lookUp(`nat${family}`, packNatKeys(family, keys));
}

/** The entry that a look-up of this key has found. */
export function foundEntry(
  family: Family,
  key: NatKey,
  value: Uint8Array | null | undefined,
): NatEntry | null {
  return value ? { family, key, value: FAMILY_CODECS[family].natValue.decode(value) } : null;
}

export function packNatKeys(family: Family, keys: NatKeys): Uint8Array {
  const { natKey } = FAMILY_CODECS[family];
  const packed = new Uint8Array(keys.length * natKey.size);
  const view = viewOf(packed);
  let at = 0;
  for (const key of keys) {
    natKey.encodeInto(view, at, key);
    at += natKey.size;
  }
  return packed;
}
