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

interface Table {
  /** A key's words one after the other, by place. */
  keys: Uint32Array;
  /** By place; 0: nobody is here. Whoever found its place taken is in the next one that was not. */
  values: Float64Array;
  used: number;
}

export class PackedMap {
  readonly #words: number;
  readonly #tables: readonly Table[];
  /** The key that is looked up. */
  readonly #key: Uint32Array;
  #size = 0;

  /** `keyBytes`: length of every key, a multiple of 4. */
  constructor(keyBytes: number) {
    if (keyBytes % WORD_BYTES !== 0) throw new RangeError(`a key of ${keyBytes} bytes is no whole words`);
    this.#words = keyBytes / WORD_BYTES;
    this.#key = new Uint32Array(this.#words);
    this.#tables = Array.from({ length: TABLES }, () => tableOf(FIRST_PLACES, this.#words));
  }

  get size(): number {
    return this.#size;
  }

  /** 0 when there is none. `length`: the characters from there on count as \0. */
  get(key: string, length: number = key.length): number {
    const hash = this.#read(key, length);
    const table = this.#tableOf(hash);
    return table.values[this.#find(table, hash)] as number;
  }

  /** 0 deletes. */
  set(key: string, value: number, length: number = key.length): void {
    const hash = this.#read(key, length);
    const table = this.#tableOf(hash);
    const place = this.#find(table, hash);
    const held = table.values[place] !== 0;
    if (value === 0) {
      if (held) this.#remove(table, place);
      return;
    }
    table.values[place] = value;
    if (held) return;
    table.keys.set(this.#key, place * this.#words);
    table.used += 1;
    this.#size += 1;
    if (table.used > table.values.length * FULLEST) this.#grow(table);
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

  #tableOf(hash: number): Table {
    return this.#tables[hash & (TABLES - 1)] as Table;
  }

  /** The place of #key, or the free one that it would get. */
  #find({ keys, values }: Table, hash: number): number {
    const words = this.#words;
    const last = values.length - 1;
    let place = homeOf(hash, last);
    while (values[place] !== 0) {
      const at = place * words;
      let same = 0;
      while (same < words && keys[at + same] === this.#key[same]) same += 1;
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
