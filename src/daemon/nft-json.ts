// SPDX-License-Identifier: Apache-2.0
/** What `nft -j` prints, as unknown values: nothing is taken for granted about another program's output. */

/** The member of an object; undefined where there is none, or no object. */
export function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

/** The entries of `nft -j list …`; null when the text is no such output. */
export function parseNftList(text: string): readonly unknown[] | null {
  try {
    const list = field(JSON.parse(text), "nftables");
    return Array.isArray(list) ? list : null;
  } catch {
    return null;
  }
}
