// SPDX-License-Identifier: Apache-2.0
/**
 * Collects the writes of one transaction in any order and hands them over in the publish order: a list of steps, each a run
 * of writes to one map. Keys and values are packed as they come, so a transaction of any size is one buffer per step.
 */
import { Buffer } from "node:buffer";
import type { MapName } from "../abi/maps.gen.js";
import type { MapWrite, OpKind } from "../native/kernel.js";

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
  #room = 0;

  constructor(step: Step) {
    this.step = step;
  }

  /** Adds an entry; texts hold one byte per character. */
  add(key: string, value = ""): void {
    const index = this.#grow();
    this.#keys.write(key, index * this.step.keySize, this.step.keySize, "latin1");
    this.#values.write(value, index * this.step.valueSize, this.step.valueSize, "latin1");
  }

  /** Adds an entry whose key is a u32 in host byte order; returns its value bytes to write into. */
  addIndex(key: number): { readonly bytes: Buffer; readonly offset: number } {
    const index = this.#grow();
    this.#keys.writeUInt32LE(key, index * 4);
    return { bytes: this.#values, offset: index * this.step.valueSize };
  }

  /** The same with a u32 value. */
  addNumber(key: number, value: number): void {
    const { bytes, offset } = this.addIndex(key);
    bytes.writeUInt32LE(value, offset);
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
