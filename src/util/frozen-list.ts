// SPDX-License-Identifier: Apache-2.0

const NOTHING: readonly never[] = Object.freeze([]);

/**
 * A frozen copy that is no larger than what is in it: a list made by push() or flatMap() has room for sixteen more, which
 * a hundred thousand lists that are kept cannot have. Empty ones are one list.
 */
export function frozenList<T>(list: readonly T[]): readonly T[] {
  return list.length === 0 ? NOTHING : Object.freeze(list.slice());
}
