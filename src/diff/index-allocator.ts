// SPDX-License-Identifier: Apache-2.0
/**
 * Hands out the indexes of a fixed array (backend cells, service indexes). An index that was published may still be in the
 * hands of a packet when it is let go, so it is quarantined until a time of the caller's choosing; one that was handed out
 * but never published can be given back at once.
 */
export type IndexUse = "used" | "past" | "virgin";

export interface IndexAllocatorOptions {
  /** Indexes lie in [first, capacity). */
  readonly capacity: number;
  readonly first?: number;
  /** Take indexes that were never used before ones that were: reuse comes as late as possible. */
  readonly preferVirgin?: boolean;
}

export class IndexAllocator {
  readonly capacity: number;
  readonly #first: number;
  readonly #preferVirgin: boolean;
  /** Every index from here on is virgin. */
  #fresh: number;
  readonly #free: Queue = new Queue();
  readonly #quarantined: Queue = new Queue();
  readonly #until: Queue = new Queue();

  constructor({ capacity, first = 0, preferVirgin = false }: IndexAllocatorOptions) {
    this.capacity = capacity;
    this.#first = first;
    this.#fresh = first;
    this.#preferVirgin = preferVirgin;
  }

  /**
   * An allocator for an array found in some state. `use` says what is known of each index: "used", "past" (free, but when
   * it was freed is not known: quarantined until `until`) or "virgin".
   */
  static restore(
    options: IndexAllocatorOptions,
    use: (index: number) => IndexUse,
    until: number,
  ): IndexAllocator {
    const allocator = new IndexAllocator(options);
    let fresh = options.capacity;
    while (fresh > allocator.#first && use(fresh - 1) === "virgin") fresh -= 1;
    allocator.#fresh = fresh;
    for (let index = allocator.#first; index < fresh; index += 1) {
      const found = use(index);
      if (found === "virgin") allocator.#free.push(index);
      else if (found === "past") allocator.quarantine(index, until);
    }
    return allocator;
  }

  /** Indexes that allocate() can return now. */
  get available(): number {
    return this.#free.length + this.capacity - this.#fresh;
  }

  get quarantined(): number {
    return this.#quarantined.length;
  }

  /** When the next quarantined index becomes available; null when there is none. */
  get nextRelease(): number | null {
    return this.#until.peek() ?? null;
  }

  /** Makes available what was quarantined until `now` or earlier. */
  settle(now: number): void {
    while ((this.#until.peek() ?? Number.POSITIVE_INFINITY) <= now) {
      this.#until.shift();
      this.#free.push(this.#quarantined.shift() as number);
    }
  }

  /** A free index, or null when there is none (or none yet: see nextRelease). */
  allocate(): number | null {
    const virginFirst = this.#preferVirgin && this.#fresh < this.capacity;
    const free = virginFirst ? undefined : this.#free.shift();
    if (free !== undefined) return free;
    if (this.#fresh >= this.capacity) return null;
    this.#fresh += 1;
    return this.#fresh - 1;
  }

  /** Takes back an index that no reader can have seen. */
  giveBack(index: number): void {
    this.#free.push(index);
  }

  /** Keeps an index from reuse until `until`; times never go back. An index outside of the array is ignored. */
  quarantine(index: number, until: number): void {
    if (index < this.#first || index >= this.capacity) return;
    this.#quarantined.push(index);
    this.#until.push(until);
  }
}

/** First in, first out, without moving what is in it. */
class Queue {
  #items: number[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(item: number): void {
    this.#items.push(item);
  }

  peek(): number | undefined {
    return this.#items[this.#head];
  }

  shift(): number | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#head += 1;
    if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }
}
