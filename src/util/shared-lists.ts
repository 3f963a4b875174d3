// SPDX-License-Identifier: Apache-2.0
import { frozenList } from "./frozen-list.js";

/** What is forgotten is only held twice for a while. */
const MOST = 1024;

/** A few lists that stand in a hundred thousand objects: one of each. */
export class SharedLists<T> {
  readonly #keyOf: (item: T) => string;
  readonly #known = new Map<string, readonly T[]>();

  /** `keyOf`: items of one key are the same; no key has a \0. */
  constructor(keyOf: (item: T) => string) {
    this.#keyOf = keyOf;
  }

  /** A frozen list of these items: the one of before, if there was one. */
  of(items: readonly T[]): readonly T[] {
    const key = items.map(this.#keyOf).join("\0");
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size >= MOST) this.#known.clear();
    const list = frozenList(items);
    this.#known.set(key, list);
    return list;
  }
}
