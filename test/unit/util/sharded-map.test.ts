// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { ShardedMap } from "../../../src/util/sharded-map.js";

test("ShardedMap does what a Map does, whatever the keys look like", () => {
  const sharded = new ShardedMap<number>(2);
  const map = new Map<string, number>();
  // 997 keys, each set about three times and deleted about once; some shorter than the place of the hash.
  for (let i = 0; i < 4000; i += 1) {
    const key = `${String.fromCharCode((i * 7) % 256)}${(i * 31) % 997}`;
    if (i % 4 === 3) assert.equal(sharded.delete(key), map.delete(key));
    else {
      sharded.set(key, i);
      map.set(key, i);
    }
    assert.equal(sharded.get(key), map.get(key));
  }
  assert.equal(sharded.size, map.size);
  assert.deepEqual(new Map([...sharded].sort()), new Map([...map].sort()));
});

test("ShardedMap may be emptied while it is walked through", () => {
  const map = new ShardedMap<number>(1);
  for (let i = 0; i < 100; i += 1) map.set(`key ${i}`, i);
  for (const [key] of map) map.delete(key);
  assert.equal(map.size, 0);
});
