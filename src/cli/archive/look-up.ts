// SPDX-License-Identifier: Apache-2.0
import type { MapSpec } from "../../abi/maps.gen.js";
import type { MapDump } from "../../native/kernel.js";

/** An LPM trie's keys begin with a u32: how many of the bits behind it count. */
const PREFIX_BYTES = 4;

const textOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");

/**
 * What the kernel answers to look-ups, from a dump of the map: a copy of each key's value, or null. Of an LPM trie it is the
 * value of the longest prefix that holds the key.
 */
export async function findKeys(
  { type, keySize, valueSize }: MapSpec,
  wanted: Uint8Array,
  dumps: AsyncIterable<MapDump>,
): Promise<readonly (Uint8Array | null)[]> {
  const keys = Array.from({ length: wanted.length / keySize }, (_, i) =>
    wanted.subarray(i * keySize, (i + 1) * keySize),
  );
  const found: (Uint8Array | null)[] = keys.map(() => null);
  const longest = keys.map(() => -1);
  const isTrie = type === "lpm_trie";
  const byKey = new Map<string, number[]>();
  for (const [i, key] of keys.entries()) byKey.set(textOf(key), [...(byKey.get(textOf(key)) ?? []), i]);
  for await (const dump of dumps) {
    for (let at = 0; at < dump.count; at++) {
      const key = dump.keys.subarray(at * keySize, (at + 1) * keySize);
      const value = (): Uint8Array => dump.values.slice(at * valueSize, (at + 1) * valueSize);
      if (!isTrie) {
        for (const i of byKey.get(textOf(key)) ?? []) found[i] = value();
        continue;
      }
      for (const [i, each] of keys.entries()) {
        const bits = prefixLength(key);
        if (bits <= (longest[i] as number) || !isWithin(each, key, bits)) continue;
        longest[i] = bits;
        found[i] = value();
      }
    }
  }
  return found;
}

const prefixLength = (key: Uint8Array): number =>
  new DataView(key.buffer, key.byteOffset, PREFIX_BYTES).getUint32(0, true);

function isWithin(key: Uint8Array, prefix: Uint8Array, bits: number): boolean {
  if (prefixLength(key) < bits) return false;
  for (let bit = 0; bit < bits; bit += 8) {
    const at = PREFIX_BYTES + bit / 8;
    const mask = bits - bit >= 8 ? 0xff : (0xff << (8 - (bits - bit))) & 0xff;
    if ((((key[at] as number) ^ (prefix[at] as number)) & mask) !== 0) return false;
  }
  return true;
}
