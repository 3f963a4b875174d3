// SPDX-License-Identifier: Apache-2.0
/**
 * Hands out contiguous ranges of a fixed array of slots. What is taken (in use or quarantined) is the truth; what is free
 * is derived from it. The common cases are quick: a range of the same size that was freed, or the space behind the last
 * one; only when both fail are neighbouring free ranges merged, from the taken set.
 */
export interface SlotRange {
  readonly base: number;
  readonly count: number;
}

export class RangeAllocator {
  readonly capacity: number;
  /** Count by base of every range that must not be handed out. */
  readonly #taken: Map<number, number> = new Map();
  /** Bases of free ranges below #top, by their size. */
  #free: Map<number, number[]> = new Map();
  /** Nothing is taken or listed as free from here on. */
  #top = 0;
  /** The free ranges are the gaps between taken ones: merging again would change nothing. */
  #merged = true;
  #quarantine: { readonly range: SlotRange; readonly until: number }[] = [];

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** An allocator where exactly `used` (disjoint) is in use and `past` (disjoint from it) is quarantined until `until`. */
  static restore(
    capacity: number,
    used: Iterable<SlotRange>,
    past: Iterable<SlotRange>,
    until: number,
  ): RangeAllocator {
    const allocator = new RangeAllocator(capacity);
    for (const { base, count } of used) allocator.#taken.set(base, count);
    for (const range of past) {
      allocator.#taken.set(range.base, range.count);
      allocator.quarantine(range, until);
    }
    allocator.#merge();
    return allocator;
  }

  /** Slots in no taken range: how many, not whether they are contiguous. */
  get available(): number {
    let taken = 0;
    for (const count of this.#taken.values()) taken += count;
    return this.capacity - taken;
  }

  get quarantined(): number {
    return this.#quarantine.length;
  }

  /** When the next quarantined range becomes available; null when there is none. */
  get nextRelease(): number | null {
    return this.#quarantine[0]?.until ?? null;
  }

  /** Every range in use or quarantined, in no order. */
  *taken(): IterableIterator<SlotRange> {
    for (const [base, count] of this.#taken) yield { base, count };
  }

  /** Makes available what was quarantined until `now` or earlier. */
  settle(now: number): void {
    let settled = 0;
    for (const { range, until } of this.#quarantine) {
      if (until > now) break;
      this.giveBack(range);
      settled += 1;
    }
    if (settled > 0) this.#quarantine = this.#quarantine.slice(settled);
  }

  /** `count` (at least 1) contiguous slots, or null when there are none (or none yet: see nextRelease). */
  allocate(count: number): SlotRange | null {
    const base = this.#quick(count) ?? this.#thorough(count);
    if (base === undefined) return null;
    this.#taken.set(base, count);
    return { base, count };
  }

  /** Takes back a range that no reader can have seen. */
  giveBack({ base, count }: SlotRange): void {
    this.#taken.delete(base);
    this.#addFree(base, count);
    this.#merged = false;
  }

  /** Keeps a range that was in use from being reused until `until`; times never go back. */
  quarantine(range: SlotRange, until: number): void {
    this.#quarantine.push({ range, until });
  }

  #quick(count: number): number | undefined {
    const exact = this.#free.get(count)?.pop();
    if (exact !== undefined || this.#top + count > this.capacity) return exact;
    this.#top += count;
    return this.#top - count;
  }

  #thorough(count: number): number | undefined {
    if (!this.#merged) {
      this.#merge();
      const base = this.#quick(count);
      if (base !== undefined) return base;
    }
    let best = Number.POSITIVE_INFINITY;
    for (const [size, bases] of this.#free) if (size > count && size < best && bases.length > 0) best = size;
    const base = this.#free.get(best)?.pop();
    if (base !== undefined) this.#addFree(base + count, best - count);
    return base;
  }

  #addFree(base: number, count: number): void {
    const bases = this.#free.get(count);
    if (bases) bases.push(base);
    else this.#free.set(count, [base]);
  }

  #merge(): void {
    this.#free = new Map();
    let end = 0;
    for (const [base, count] of [...this.#taken].sort(([a], [b]) => a - b)) {
      if (base > end) this.#addFree(end, base - end);
      end = base + count;
    }
    this.#top = end;
    this.#merged = true;
  }
}
