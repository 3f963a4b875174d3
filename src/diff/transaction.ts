// SPDX-License-Identifier: Apache-2.0
/**
 * Collects the writes of one transaction in any order and hands them over in the publish order: a list of steps, each a run
 * of writes to one map. Keys and values are packed as they come, so a transaction of any size is one buffer per step.
 */
import { Buffer } from "node:buffer";
import { wordsOf } from "../abi/codec.js";
import type { MapName } from "../abi/maps.gen.js";
import type { MapWrite, OpKind } from "../native/kernel.js";

const WORD_BYTES = 4;

export interface Step<Name extends string = string> {
  readonly name: Name;
  readonly map: MapName;
  readonly kind: OpKind;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; 0 for a step of deletes. */
  readonly valueSize: number;
}

export class Transaction<Name extends string> {
  readonly #runs: Map<Name, Run>;

  /** `steps` in the order in which they must reach the kernel. */
  constructor(steps: readonly Step<Name>[]) {
    this.#runs = new Map(steps.map((step) => [step.name, new Run(step)]));
  }

  run(name: Name): Run {
    const run = this.#runs.get(name);
    if (!run) throw new RangeError(`no step "${name}" in this transaction`);
    return run;
  }

  /** Entries in all steps. */
  get size(): number {
    let size = 0;
    for (const run of this.#runs.values()) size += run.count;
    return size;
  }

  /** The steps that have entries, in order. */
  writes(): MapWrite[] {
    return [...this.#runs.values()].filter((run) => run.count > 0).map((run) => run.toWrite());
  }
}

/** A growing, packed run of entries for one map. Every byte of a new entry is zero until it is written. */
export class Run {
  readonly step: Step;
  count = 0;
  #keys: Buffer = Buffer.alloc(0);
  #values: Buffer = Buffer.alloc(0);
  /** The same bytes: Buffer.alloc() gives memory that begins with a word. */
  #keyWords: Uint32Array = new Uint32Array(0);
  #valueWords: Uint32Array = new Uint32Array(0);
  #room = 0;

  constructor(step: Step) {
    this.step = step;
  }

  /** Adds an entry; texts hold one byte per character. */
  add(key: string, value = ""): void {
    const index = this.#grow();
    const { keySize, valueSize } = this.step;
    this.#keys.write(key, index * keySize, keySize, "latin1");
    if (valueSize > 0) this.#values.write(value, index * valueSize, valueSize, "latin1");
  }

  /** Adds an entry whose key's words begin at `words[at]`, with a u32 value: of a step of deletes none. */
  addWords(words: Uint32Array, at: number, value = 0): void {
    const index = this.#grow();
    const count = this.step.keySize / WORD_BYTES;
    const keys = this.#keyWords;
    for (let word = 0; word < count; word += 1) keys[index * count + word] = words[at + word] as number;
    if (this.step.valueSize > 0) this.#valueWords[index] = value;
  }

  /** Adds an entry whose key is a u32 in host byte order; returns its value bytes to write into. */
  addIndex(key: number): { readonly bytes: Buffer; readonly offset: number } {
    const index = this.#grow();
    this.#keyWords[index] = key;
    return { bytes: this.#values, offset: index * this.step.valueSize };
  }

  /** The same with a u32 value. */
  addNumber(key: number, value: number): void {
    const index = this.#grow();
    this.#keyWords[index] = key;
    this.#valueWords[index] = value;
  }

  toWrite(): MapWrite {
    const { map, kind, keySize, valueSize } = this.step;
    return {
      map,
      kind,
      count: this.count,
      keys: this.#keys.subarray(0, this.count * keySize),
      values: this.#values.subarray(0, this.count * valueSize),
    };
  }

  #grow(): number {
    if (this.count === this.#room) {
      this.#room = Math.max(16, this.#room * 2);
      this.#keys = resized(this.#keys, this.#room * this.step.keySize);
      this.#values = resized(this.#values, this.#room * this.step.valueSize);
      this.#keyWords = wordsOf(this.#keys);
      this.#valueWords = wordsOf(this.#values);
    }
    this.count += 1;
    return this.count - 1;
  }
}

function resized(old: Buffer, size: number): Buffer {
  const buffer = Buffer.alloc(size);
  old.copy(buffer);
  return buffer;
}
