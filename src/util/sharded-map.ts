// SPDX-License-Identifier: Apache-2.0
/**
 * A Map for very many texts. A Map that grows moves all that is in it at once: beyond some 100,000 entries that holds up the
 * event loop for tens of milliseconds. Many small Maps never do.
 */

/** Power of two. A million entries are 4,000 each, moved in well under a millisecond. */
const SHARDS = 256;

export class ShardedMap<V> {
  readonly #shards: readonly Map<string, V>[] = Array.from({ length: SHARDS }, () => new Map());
  readonly #at: number;

  /** `at`: index of a character (of every key) that, with the one before it, differs from key to key. */
  constructor(at: number) {
    this.#at = at;
  }

  /** Entries in all of it. */
  get size(): number {
    let size = 0;
    for (const shard of this.#shards) size += shard.size;
    return size;
  }

  get(key: string): V | undefined {
    return this.#shardOf(key).get(key);
  }

  set(key: string, value: V): void {
    this.#shardOf(key).set(key, value);
  }

  delete(key: string): boolean {
    return this.#shardOf(key).delete(key);
  }

  /** In no particular order. As with a Map, entries may be changed or deleted meanwhile. */
  *[Symbol.iterator](): IterableIterator<[string, V]> {
    for (const shard of this.#shards) yield* shard;
  }

  #shardOf(key: string): Map<string, V> {
    // Pods of a node often differ in the last byte only, nodes in the one before.
    const hash = key.charCodeAt(this.#at) + key.charCodeAt(this.#at - 1) * 31;
    return this.#shards[hash & (SHARDS - 1)] as Map<string, V>;
  }
}
