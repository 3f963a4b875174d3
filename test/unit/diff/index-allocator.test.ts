// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { IndexAllocator, type IndexUse } from "../../../src/diff/index-allocator.js";

const take = (allocator: IndexAllocator, count: number): (number | null)[] =>
  Array.from({ length: count }, () => allocator.allocate());

test("IndexAllocator hands out every index once and then none", () => {
  const allocator = new IndexAllocator({ capacity: 4, first: 1 });
  assert.equal(allocator.available, 3);
  assert.deepEqual(take(allocator, 4), [1, 2, 3, null]);
});

test("IndexAllocator keeps an index that was let go until its time, to the millisecond", () => {
  const allocator = new IndexAllocator({ capacity: 2 });
  take(allocator, 2);
  allocator.quarantine(1, 1000);
  allocator.settle(999);
  assert.equal(allocator.allocate(), null);
  assert.equal(allocator.nextRelease, 1000);
  allocator.settle(1000);
  assert.equal(allocator.allocate(), 1);
  assert.equal(allocator.nextRelease, null);
});

test("IndexAllocator hands out at once what was given back unpublished", () => {
  const allocator = new IndexAllocator({ capacity: 1 });
  allocator.giveBack(allocator.allocate() ?? -1);
  assert.equal(allocator.allocate(), 0);
});

test("IndexAllocator reuses as late as possible when told to prefer virgin indexes", () => {
  const allocator = new IndexAllocator({ capacity: 4, preferVirgin: true });
  take(allocator, 2);
  allocator.quarantine(0, 0);
  allocator.settle(0);
  assert.deepEqual(take(allocator, 3), [2, 3, 0]);
});

test("IndexAllocator.restore() quarantines what was used at an unknown time and nothing else", () => {
  const uses: IndexUse[] = ["used", "past", "virgin", "used", "virgin"];
  const allocator = IndexAllocator.restore({ capacity: 5 }, (index) => uses[index] as IndexUse, 500);
  assert.deepEqual(take(allocator, 3), [2, 4, null]);
  allocator.settle(500);
  assert.deepEqual(take(allocator, 2), [1, null]);
});

test("IndexAllocator ignores an index outside of the array", () => {
  const allocator = new IndexAllocator({ capacity: 1, first: 0 });
  allocator.quarantine(7, 0);
  allocator.settle(1);
  assert.equal(allocator.available, 1);
});
