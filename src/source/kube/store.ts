// SPDX-License-Identifier: Apache-2.0
/**
 * The objects of one resource, projected: the raw ones are never kept. An object whose projection came out equal keeps its
 * identity, and nobody hears of it (1.10). One that was made anew under its old name is a delete and an add.
 */
import type { Problem } from "../../model/types.js";
import type { Sliced } from "../../util/slices.js";
import type { RawObject } from "./raw.js";

export interface Projection<T> {
  /** Null: nothing that a proxy uses, or nothing that it can. */
  readonly value: T | null;
  readonly problems: readonly Problem[];
  /** When what the object says came to be, as its controller has it. Milliseconds since 1970; 0 when it does not say. */
  readonly triggeredAt: number;
}

/** How objects of a resource become values. */
export interface Codec<T> {
  project(raw: RawObject): Projection<T>;
  same(a: T, b: T): boolean;
  /** What cannot be used any more stays as it was (1.16: a Node). Else it is gone. */
  readonly keepsLast: boolean;
}

export interface Change<T> {
  readonly key: string;
  readonly before: T | null;
  readonly after: T | null;
  readonly triggeredAt: number;
}

interface Entry<T> {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly value: T | null;
  readonly triggeredAt: number;
}

const NO_PROBLEMS: readonly Problem[] = Object.freeze([]);
const OBJECTS_PER_STEP = 256;

export class ObjectStore<T> {
  readonly #codec: Codec<T>;
  readonly #onChange: (change: Change<T>) => void;
  readonly #onProblems: () => void;
  readonly #entries = new Map<string, Entry<T>>();
  readonly #problems = new Map<string, readonly Problem[]>();
  #problemList: readonly Problem[] | null = NO_PROBLEMS;

  /** `onChange` hears of every change in the order in which it is applied, `onProblems` of other problems. They must not throw. */
  constructor(codec: Codec<T>, onChange: (change: Change<T>) => void, onProblems: () => void) {
    this.#codec = codec;
    this.#onChange = onChange;
    this.#onProblems = onProblems;
  }

  /** Objects, also those of which nothing is used. */
  get size(): number {
    return this.#entries.size;
  }

  /** What is wrong with the objects as they are now. The same list as long as nothing changed. */
  get problems(): readonly Problem[] {
    this.#problemList ??= Object.freeze(Array.from(this.#problems.values()).flat());
    return this.#problemList;
  }

  put(raw: RawObject): void {
    const entry = this.#project(raw);
    if (entry !== null) this.#set(raw.key, entry);
  }

  remove(key: string): void {
    const before = this.#entries.get(key);
    if (before === undefined) return;
    this.#entries.delete(key);
    this.#setProblems(key, NO_PROBLEMS);
    if (before.value !== null) this.#tell(key, before.value, null, 0);
  }

  /** Begins to collect a list; nothing changes before it is committed. */
  replacement(): Replacement {
    const staged = new Map<string, Entry<T>>();
    return {
      put: (raw) => {
        const known = staged.get(raw.key) ?? this.#entries.get(raw.key);
        const entry = this.#project(raw, known) ?? known;
        if (entry !== undefined) staged.set(raw.key, entry);
      },
      remove: (key) => void staged.delete(key),
      clear: () => staged.clear(),
      size: () => staged.size,
      commit: () => this.#commit(staged),
    };
  }

  *#commit(staged: ReadonlyMap<string, Entry<T>>): Sliced<void> {
    let count = 0;
    for (const key of this.#entries.keys()) {
      if (++count % OBJECTS_PER_STEP === 0) yield;
      if (!staged.has(key)) this.remove(key);
    }
    for (const [key, entry] of staged) {
      if (++count % OBJECTS_PER_STEP === 0) yield;
      this.#set(key, entry);
    }
    for (const key of this.#problems.keys()) {
      if (!staged.has(key)) this.#setProblems(key, NO_PROBLEMS);
    }
  }

  /** Null: the very object that is there. */
  #project(raw: RawObject, known: Entry<T> | undefined = this.#entries.get(raw.key)): Entry<T> | null {
    const same = known !== undefined && known.uid === raw.uid;
    if (same && known.resourceVersion === raw.resourceVersion) return null;
    const { value, problems, triggeredAt } = this.#codec.project(raw);
    this.#setProblems(raw.key, problems);
    const { uid, resourceVersion } = raw;
    if (!same) return { uid, resourceVersion, value, triggeredAt };
    if (value === null && this.#codec.keepsLast) return { ...known, resourceVersion };
    const unchanged = value !== null && known.value !== null && this.#codec.same(known.value, value);
    return unchanged ? { ...known, resourceVersion } : { uid, resourceVersion, value, triggeredAt };
  }

  #set(key: string, entry: Entry<T>): void {
    const before = this.#entries.get(key);
    if (before === entry) return;
    this.#entries.set(key, entry);
    const old = before?.value ?? null;
    if (old === entry.value) return;
    if (old !== null && entry.value !== null && before?.uid !== entry.uid) {
      this.#tell(key, old, null, 0);
      this.#tell(key, null, entry.value, entry.triggeredAt);
    } else this.#tell(key, old, entry.value, entry.triggeredAt);
  }

  #tell(key: string, before: T | null, after: T | null, triggeredAt: number): void {
    this.#onChange({ key, before, after, triggeredAt });
  }

  #setProblems(key: string, problems: readonly Problem[]): void {
    if (problems.length === 0) {
      if (!this.#problems.delete(key)) return;
    } else this.#problems.set(key, problems);
    this.#problemList = null;
    this.#onProblems();
  }
}

/** A whole list on its way in. */
export interface Replacement {
  put(raw: RawObject): void;
  remove(key: string): void;
  /** Begins again. */
  clear(): void;
  size(): number;
  /** Puts it in the place of what there was. To be run to its end, with or without pauses. */
  commit(): Sliced<void>;
}
