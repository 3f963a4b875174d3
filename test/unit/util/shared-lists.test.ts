// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { SharedLists } from "../../../src/util/shared-lists.js";

test("SharedLists gives equal lists as one frozen list, and others as others", () => {
  const lists = new SharedLists<{ readonly name: string; readonly port: number }>(
    ({ name, port }) => `${name}/${port}`,
  );
  const first = lists.of([{ name: "http", port: 80 }]);
  assert.equal(lists.of([{ name: "http", port: 80 }]), first);
  assert.ok(Object.isFrozen(first), "whoever gets it cannot change it for the others");
  assert.notEqual(lists.of([{ name: "http", port: 81 }]), first);
  assert.deepEqual(
    lists.of([
      { name: "a", port: 1 },
      { name: "b", port: 2 },
    ]),
    [
      { name: "a", port: 1 },
      { name: "b", port: 2 },
    ],
  );
  assert.deepEqual(lists.of([]), []);
});

test("SharedLists forgets rather than grow without an end, and gives the right lists all the same", () => {
  const lists = new SharedLists<number>(String);
  for (let i = 0; i < 3000; i += 1) assert.deepEqual(lists.of([i, i + 1]), [i, i + 1]);
  assert.deepEqual(lists.of([0, 1]), [0, 1]);
});
