// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RangeAllocator, type SlotRange } from "../../../src/diff/range-allocator.js";

const CAPACITY = 40;

const action = fc.oneof(
  fc.record({ do: fc.constant("allocate" as const), size: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ do: fc.constantFrom("quarantine" as const, "giveBack" as const), size: fc.nat() }),
  fc.record({ do: fc.constant("wait" as const), size: fc.integer({ min: 0, max: 1500 }) }),
);

/** The slow and obvious way: which slots must not be handed out. */
class Model {
  readonly used: SlotRange[] = [];
  readonly quarantined: { readonly range: SlotRange; readonly until: number }[] = [];
  now = 0;

  longestFree(): number {
    const taken = new Array<boolean>(CAPACITY).fill(false);
    const held = this.quarantined.filter(({ until }) => until > this.now).map(({ range }) => range);
    for (const { base, count } of [...this.used, ...held]) taken.fill(true, base, base + count);
    let longest = 0;
    let run = 0;
    for (const each of taken) {
      run = each ? 0 : run + 1;
      longest = Math.max(longest, run);
    }
    return longest;
  }

  overlaps({ base, count }: SlotRange): boolean {
    const held = this.quarantined.filter(({ until }) => until > this.now).map(({ range }) => range);
    return [...this.used, ...held].some(
      (other) => base < other.base + other.count && other.base < base + count,
    );
  }
}

test("RangeAllocator never hands out a slot that is in use or quarantined, and fails only when no gap is large enough", () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const allocator = new RangeAllocator(CAPACITY);
      const model = new Model();
      for (const { do: what, size } of actions) {
        if (what === "wait") {
          model.now += size;
          allocator.settle(model.now);
        } else if (what === "allocate") {
          const range = allocator.allocate(size);
          assert.equal(
            range !== null,
            model.longestFree() >= size,
            `${size} slots, ${model.longestFree()} in a row`,
          );
          if (range === null) continue;
          assert.equal(range.count, size);
          assert.ok(range.base >= 0 && range.base + size <= CAPACITY && !model.overlaps(range));
          model.used.push(range);
        } else {
          const [range] = model.used.splice(size % Math.max(1, model.used.length), 1);
          if (!range) continue;
          if (what === "giveBack") allocator.giveBack(range);
          else {
            allocator.quarantine(range, model.now + 1000);
            model.quarantined.push({ range, until: model.now + 1000 });
          }
        }
      }
    }),
    { numRuns: 2000, includeErrorInReport: true },
  );
});

test("RangeAllocator.restore() has free exactly what is neither used nor past", () => {
  const allocator = RangeAllocator.restore(10, [{ base: 2, count: 3 }], [{ base: 7, count: 2 }], 100);
  assert.equal(allocator.available, 5);
  assert.deepEqual(allocator.allocate(2), { base: 5, count: 2 });
  assert.deepEqual(allocator.allocate(2), { base: 0, count: 2 });
  assert.equal(allocator.allocate(2), null);
  allocator.settle(100);
  assert.deepEqual(allocator.allocate(3), { base: 7, count: 3 });
});
