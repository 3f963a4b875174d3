// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { PackedMap } from "../../../src/util/packed-map.js";

/** Eight bytes of which a few differ, the highest among them. */
const keyOf = (i: number): string =>
  String.fromCharCode(10, 255, i & 255, (i >> 8) & 255, (i * 7) & 255, 0, 6, 0);

test("PackedMap does what a Map does, while it grows and shrinks", () => {
  const packed = new PackedMap(8);
  const map = new Map<string, number>();
  // 20,000 keys, set and deleted in an order of which each run is the same.
  let random = 1;
  for (let i = 0; i < 120_000; i += 1) {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    const key = keyOf((random >>> 8) % 20_000);
    const shrinking = i % 40_000 > 25_000;
    if (random % 8 < (shrinking ? 6 : 2)) {
      packed.set(key, 0);
      map.delete(key);
    } else {
      packed.set(key, 2 ** 49 + i);
      map.set(key, 2 ** 49 + i);
    }
    assert.equal(packed.get(key), map.get(key) ?? 0);
  }
  assert.equal(packed.size, map.size);
  assert.ok(map.size > 1000);
  for (let i = 0; i < 20_000; i += 1) assert.equal(packed.get(keyOf(i)), map.get(keyOf(i)) ?? 0);
  assert.deepEqual(new Map([...packed].sort()), new Map([...map].sort()));
});

test("PackedMap finds a key by its beginning and zeros, without a text of it", () => {
  const map = new PackedMap(20);
  const address = `${"\xfd\0".repeat(8)}\0\0\0\0`;
  const key = `${address.slice(0, 16)}\x1f\x90\x06\0`;
  map.set(key, 1);
  map.set(key, 2, 16);
  assert.equal(map.get(address), 2);
  assert.equal(map.get(key), 1);
  assert.equal(map.get(key, 16), 2);
  assert.deepEqual([...map].sort(), [
    [address, 2],
    [key, 1],
  ]);
  map.set(address, 0);
  assert.equal(map.get(key, 16), 0);
  assert.equal(map.size, 1);
});

test("PackedMap may be emptied while it is walked through", () => {
  const map = new PackedMap(8);
  for (let i = 0; i < 5000; i += 1) map.set(keyOf(i), i + 1);
  for (const [key] of map) map.set(key, 0);
  assert.equal(map.size, 0);
  assert.deepEqual([...map], []);
});

test("PackedMap takes keys of whole words", () => {
  assert.throws(() => new PackedMap(7), /7 bytes/);
});
