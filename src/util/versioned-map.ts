// SPDX-License-Identifier: Apache-2.0
/**
 * A map of which every version can be kept, and stays as it is: a new one costs what it differs in, not what it holds. The
 * newest version has the table; each older one says only what it has otherwise than the one after it, and nothing keeps it
 * but who reads it. So reading the newest is reading a Map, and what changed between two versions need not be looked for.
 */

/** What several versions share, one after the other. */
interface Table<K, V> {
  readonly entries: Map<K, V>;
  /** Iterations under way: they must find it as it is. */
  walks: number;
  /** Entries changed since it was made. */
  changes: number;
}

/** The version after this one, and what this one has otherwise: undefined where it has nothing. */
interface Next<K, V extends object> {
  readonly version: VersionedMap<K, V>;
  readonly otherwise: ReadonlyMap<K, V | undefined>;
}

/** A table may take as many changes as it has entries, or this many; the next version copies it and knows no older ones. */
const MOST_CHANGES = 1024;

export class VersionedMap<K, V extends object> implements ReadonlyMap<K, V> {
  readonly size: number;
  /** Null: what this version holds is to be had by way of the next one. */
  #table: Table<K, V> | null;
  /** Null: this is the newest, or the one after it knows nothing of it. */
  #next: Next<K, V> | null = null;

  private constructor(table: Table<K, V>) {
    this.#table = table;
    this.size = table.entries.size;
  }

  /** A first version. Values are compared by identity. */
  static of<K, V extends object>(entries: Iterable<readonly [K, V]> = []): VersionedMap<K, V> {
    return new VersionedMap(tableOf(new Map(entries)));
  }

  /** The next version, with these values (undefined: none). This very version when nothing is different. */
  with(changes: ReadonlyMap<K, V | undefined>): VersionedMap<K, V> {
    // As many as the next version would not know this one by anyway.
    if (this.size === 0 && changes.size > MOST_CHANGES) return new VersionedMap(tableOf(definedOf(changes)));
    const otherwise = new Map<K, V | undefined>();
    for (const [key, value] of changes) {
      const held = this.get(key);
      if (held !== value) otherwise.set(key, held);
    }
    if (otherwise.size === 0) return this;
    const { table, follows } = this.#tableForNext(otherwise.size);
    for (const key of otherwise.keys()) {
      const value = changes.get(key);
      if (value === undefined) table.entries.delete(key);
      else table.entries.set(key, value);
    }
    if (follows) table.changes += otherwise.size;
    const version = new VersionedMap(table);
    if (follows) this.#next = { version, otherwise };
    return version;
  }

  /**
   * The keys whose values differ between two maps; null when that is not known, and has to be looked for. It is known when
   * `now` was made of `since` by any number of with(), within as many changes as it has entries.
   */
  static changedKeys<K, V extends object>(
    since: ReadonlyMap<K, V>,
    now: ReadonlyMap<K, V>,
  ): ReadonlySet<K> | null {
    if (since === now) return new Set();
    if (!(since instanceof VersionedMap)) return null;
    /** What `since` has: of several versions that have a key otherwise, the first says it. */
    const before = new Map<K, V | undefined>();
    let next = (since as VersionedMap<K, V>).#next;
    for (; next !== null; next = next.version.#next) {
      for (const [key, held] of next.otherwise) if (!before.has(key)) before.set(key, held);
      if (next.version !== now) continue;
      const keys = new Set<K>();
      for (const [key, held] of before) if (now.get(key) !== held) keys.add(key);
      return keys;
    }
    return null;
  }

  get(key: K): V | undefined {
    let version: VersionedMap<K, V> = this;
    while (version.#table === null) {
      const { otherwise, version: after } = version.#next as Next<K, V>;
      const held = otherwise.get(key);
      if (held !== undefined || otherwise.has(key)) return held;
      version = after;
    }
    return version.#table.entries.get(key);
  }

  has(key: K): boolean {
    return this.get(key) !== undefined;
  }

  /** In no particular order. A version that is not the newest any more copies itself first. */
  *entries(): Generator<[K, V], undefined> {
    const table = this.#table;
    if (table === null) {
      yield* this.#copy();
      return;
    }
    table.walks += 1;
    try {
      yield* table.entries;
    } finally {
      table.walks -= 1;
    }
  }

  [Symbol.iterator](): Generator<[K, V], undefined> {
    return this.entries();
  }

  *keys(): Generator<K, undefined> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): Generator<V, undefined> {
    for (const [, value] of this.entries()) yield value;
  }

  forEach(visit: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this.entries()) visit(value, key, this);
  }

  /** What the next version goes on with: this one's table, unless somebody walks it, or it is not this one's any more. */
  #tableForNext(changes: number): { readonly table: Table<K, V>; readonly follows: boolean } {
    const table = this.#table;
    if (table === null || this.#next !== null) return { table: tableOf(this.#copy()), follows: false };
    // Or a version that is kept for ever would keep all that ever changed.
    if (table.changes + changes > Math.max(MOST_CHANGES, this.size))
      return { table: tableOf(new Map(table.entries)), follows: false };
    if (table.walks > 0) {
      const copy = { ...tableOf(new Map(table.entries)), changes: table.changes };
      return { table: copy, follows: true };
    }
    this.#table = null;
    return { table, follows: true };
  }

  #copy(): Map<K, V> {
    if (this.#table !== null) return new Map(this.#table.entries);
    const versions: Next<K, V>[] = [];
    let version: VersionedMap<K, V> = this;
    while (version.#table === null) {
      const next = version.#next as Next<K, V>;
      versions.push(next);
      version = next.version;
    }
    const copy = new Map(version.#table.entries);
    for (const { otherwise } of versions.reverse()) {
      for (const [key, value] of otherwise) {
        if (value === undefined) copy.delete(key);
        else copy.set(key, value);
      }
    }
    return copy;
  }
}

function definedOf<K, V>(changes: ReadonlyMap<K, V | undefined>): Map<K, V> {
  const entries = new Map<K, V>();
  for (const [key, value] of changes) if (value !== undefined) entries.set(key, value);
  return entries;
}

const tableOf = <K, V>(entries: Map<K, V>): Table<K, V> => ({ entries, walks: 0, changes: 0 });
