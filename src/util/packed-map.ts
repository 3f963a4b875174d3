// SPDX-License-Identifier: Apache-2.0
/**
 * A Map from texts of one length, with a byte in each character, to numbers other than 0; for very many of them. It keeps
 * bytes and numbers in typed arrays: a fourth of a Map's memory, nothing that a garbage collection would have to look at,
 * and a key is looked up without a text of it. It is made of many small tables, since one that grows moves all that is in it:
 * a large one would hold up the event loop.
 */

/** A million entries in 64 tables are 16,000 each, moved in a millisecond. */
const TABLE_BITS = 6;
const TABLES = 1 << TABLE_BITS;
/** Power of two. */
const FIRST_PLACES = 16;
/** Of four places at most three are taken. */
const FULLEST = 0.75;
const WORD_BYTES = 4;

export interface PackedTable {
  /** A key's words one after the other, by place. */
  readonly keys: Uint32Array;
  /** By place; 0: nobody is here. Whoever found its place taken is in the next one that was not. */
  readonly values: Float64Array;
}

interface Table extends PackedTable {
  keys: Uint32Array;
  values: Float64Array;
  used: number;
}

export class PackedMap {
  readonly #words: number;
  readonly #tables: readonly Table[];
  /** The key that is looked up. */
  readonly #key: Uint32Array;
  /** Where it is, or would be. */
  #table: Table;
  #place = 0;
  #size = 0;

  /** `keyBytes`: length of every key, a multiple of 4. */
  constructor(keyBytes: number) {
    if (keyBytes % WORD_BYTES !== 0) throw new RangeError(`a key of ${keyBytes} bytes is no whole words`);
    this.#words = keyBytes / WORD_BYTES;
    this.#key = new Uint32Array(this.#words);
    this.#tables = Array.from({ length: TABLES }, () => tableOf(FIRST_PLACES, this.#words));
    this.#table = this.#tables[0] as Table;
  }

  get size(): number {
    return this.#size;
  }

  /** 0 when there is none. `length`: the characters from there on count as \0. */
  get(key: string, length: number = key.length): number {
    this.seek(key, length);
    return this.held;
  }

  /** 0 deletes. */
  set(key: string, value: number, length: number = key.length): void {
    this.seek(key, length);
    this.put(value);
  }

  /** Goes to a key, for `held` and put(), until something else is looked up. `length` as with get(). */
  seek(key: string, length: number = key.length): void {
    this.#found(this.#read(key, length));
  }

  /** The same for a key whose words begin at `words[at]`; those from `count` on are 0. */
  seekWords(words: Uint32Array, at: number, count: number = this.#words): void {
    const key = this.#key;
    let hash = 0;
    for (let word = 0; word < key.length; word += 1) {
      const value = word < count ? (words[at + word] as number) : 0;
      key[word] = value;
      hash = mixed(hash ^ value);
    }
    this.#found(hash);
  }

  /** Of the key that was sought; 0 when there is none. */
  get held(): number {
    return this.#table.values[this.#place] as number;
  }

  /** The words of the key that was sought: to be read at once. */
  get key(): Uint32Array {
    return this.#key;
  }

  /** Of the key that was sought. 0 deletes. */
  put(value: number): void {
    const table = this.#table;
    const place = this.#place;
    const held = table.values[place] !== 0;
    if (value === 0) {
      if (held) this.#remove(table, place);
      return;
    }
    table.values[place] = value;
    if (held) return;
    const words = this.#words;
    for (let word = 0; word < words; word += 1) table.keys[place * words + word] = this.#key[word] as number;
    table.used += 1;
    this.#size += 1;
    if (table.used <= table.values.length * FULLEST) return;
    this.#grow(table);
    this.#found(this.#hash(this.#key, 0));
  }

  /** All of it as it lies in memory: a key's words from `place * (words of a key)` on, where its value is not 0. */
  tables(): readonly PackedTable[] {
    return this.#tables;
  }

  /** In no particular order. Entries may be changed or deleted meanwhile; what was deleted may still be told. */
  *[Symbol.iterator](): IterableIterator<[string, number]> {
    for (const table of this.#tables) {
      const { keys, values } = table;
      const bytes = Buffer.from(keys.buffer);
      const size = this.#words * WORD_BYTES;
      const found: [string, number][] = [];
      for (let place = 0; place < values.length; place += 1) {
        const value = values[place] as number;
        if (value !== 0) found.push([bytes.toString("latin1", place * size, (place + 1) * size), value]);
      }
      yield* found;
    }
  }

  /** Into #key. Returns a hash of it. */
  #read(key: string, length: number): number {
    const words = this.#key;
    let hash = 0;
    for (let word = 0; word < words.length; word += 1) {
      let value = 0;
      const first = word * WORD_BYTES;
      for (let i = Math.min(length, first + WORD_BYTES) - 1; i >= first; i -= 1)
        value = (value << 8) | key.charCodeAt(i);
      words[word] = value;
      hash = mixed(hash ^ value);
    }
    return hash;
  }

  /** Where #key is, whose hash this is. */
  #found(hash: number): void {
    const table = this.#tables[hash & (TABLES - 1)] as Table;
    this.#table = table;
    this.#place = this.#find(table, hash);
  }

  /** The place of #key, or the free one that it would get. */
  #find({ keys, values }: Table, hash: number): number {
    const words = this.#words;
    const key = this.#key;
    const last = values.length - 1;
    let place = homeOf(hash, last);
    while (values[place] !== 0) {
      const at = place * words;
      let same = 0;
      while (same < words && keys[at + same] === key[same]) same += 1;
      if (same === words) break;
      place = (place + 1) & last;
    }
    return place;
  }

  /** Of the key at this word. */
  #hash(keys: Uint32Array, at: number): number {
    let hash = 0;
    for (let word = 0; word < this.#words; word += 1) hash = mixed(hash ^ (keys[at + word] as number));
    return hash;
  }

  /** Nobody may be looked for behind a free place in vain: those behind move up. */
  #remove(table: Table, place: number): void {
    const { keys, values } = table;
    const words = this.#words;
    const last = values.length - 1;
    let free = place;
    for (let next = (free + 1) & last; values[next] !== 0; next = (next + 1) & last) {
      const home = homeOf(this.#hash(keys, next * words), last);
      // It may lie anywhere from its home on: is the free place on the way from there to where it is?
      if (((next - home) & last) < ((next - free) & last)) continue;
      keys.copyWithin(free * words, next * words, (next + 1) * words);
      values[free] = values[next] as number;
      free = next;
    }
    values[free] = 0;
    table.used -= 1;
    this.#size -= 1;
  }

  #grow(table: Table): void {
    const words = this.#words;
    const { keys, values } = table;
    const larger = tableOf(values.length * 2, words);
    const last = larger.values.length - 1;
    for (let from = 0; from < values.length; from += 1) {
      if (values[from] === 0) continue;
      let place = homeOf(this.#hash(keys, from * words), last);
      while (larger.values[place] !== 0) place = (place + 1) & last;
      larger.values[place] = values[from] as number;
      for (let word = 0; word < words; word += 1)
        larger.keys[place * words + word] = keys[from * words + word] as number;
    }
    table.keys = larger.keys;
    table.values = larger.values;
  }
}

function tableOf(places: number, words: number): Table {
  return { keys: new Uint32Array(places * words), values: new Float64Array(places), used: 0 };
}

/** The bits of the hash that the choice of a table has left over. `last`: the last place of the table. */
function homeOf(hash: number, last: number): number {
  return (hash >>> TABLE_BITS) & last;
}

/** Every bit of the word has a say in every bit of the result. */
function mixed(word: number): number {
  let hash = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
