// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { VersionedMap } from "../../../src/util/versioned-map.js";

interface Value {
  readonly n: number;
}

const value = (n: number): Value => Object.freeze({ n });

type Key = string;
type Changes = Readonly<Record<Key, Value | undefined>>;

const change = (map: VersionedMap<Key, Value>, changes: Changes): VersionedMap<Key, Value> =>
  map.with(new Map(Object.entries(changes)));

const texts = (map: ReadonlyMap<Key, Value>): string[] =>
  Array.from(map, ([key, { n }]) => `${key}${n}`).sort();

const many = (count: number): VersionedMap<Key, Value> =>
  VersionedMap.of(Array.from({ length: count }, (_, i) => [`k${i}`, value(i)] as const));

test("VersionedMap.with() gives a version with the changes, and leaves the one before as it was", () => {
  const first = VersionedMap.of([
    ["a", value(1)],
    ["b", value(2)],
  ]);
  const second = change(first, { a: value(3), b: undefined, c: value(4) });
  const third = change(second, { b: value(5) });
  assert.deepEqual(
    [texts(first), texts(second), texts(third)],
    [
      ["a1", "b2"],
      ["a3", "c4"],
      ["a3", "b5", "c4"],
    ],
  );
  assert.deepEqual([first.size, second.size, third.size], [2, 2, 3]);
  assert.deepEqual(
    [first.has("c"), second.has("c"), first.has("b"), second.has("b")],
    [false, true, true, false],
  );
  assert.deepEqual([first.get("a")?.n, second.get("b"), third.get("b")?.n], [1, undefined, 5]);
});

test("VersionedMap.with() gives the very version when nothing is different", () => {
  const a = value(1);
  const map = VersionedMap.of([["a", a]]);
  assert.equal(change(map, {}), map);
  assert.equal(change(map, { a, b: undefined }), map);
  assert.notEqual(change(map, { a: value(1) }), map, "values are compared by identity");
});

test("VersionedMap can be gone on with from a version that is not the newest", () => {
  const first = VersionedMap.of([["a", value(1)]]);
  const second = change(first, { a: value(2) });
  const branch = change(first, { b: value(3) });
  const again = change(first, { a: undefined });
  assert.deepEqual([first, second, branch, again].map(texts), [["a1"], ["a2"], ["a1", "b3"], []]);
  assert.equal(VersionedMap.changedKeys(first, branch), null);
  assert.deepEqual([...(VersionedMap.changedKeys(first, second) ?? [])], ["a"]);
});

test("VersionedMap is walked as it was when the walk began, whatever versions are made meanwhile", () => {
  const first = many(4);
  const seen: string[] = [];
  let last = first;
  for (const [key, { n }] of first) {
    seen.push(`${key}${n}`);
    last = change(last, { k3: value(30), [`new${n}`]: value(n), [`k${n}`]: undefined });
  }
  assert.deepEqual(seen.sort(), ["k00", "k11", "k22", "k33"]);
  assert.deepEqual(texts(first), seen);
  assert.deepEqual(texts(last), ["new00", "new11", "new22", "new33"]);
  const keys = ["k0", "k1", "k2", "k3", "new0", "new1", "new2", "new3"];
  assert.deepEqual([...(VersionedMap.changedKeys(first, last) ?? [])].sort(), keys);
});

test("VersionedMap.changedKeys() tells those of several versions at once, without what was taken back", () => {
  const first = many(3);
  const kept = first.get("k0") as Value;
  let last = first;
  for (const changes of [{ k0: value(7) }, { k1: undefined, k9: value(9) }, { k0: kept }, { k9: undefined }])
    last = change(last, changes);
  assert.deepEqual([...(VersionedMap.changedKeys(first, last) ?? [])], ["k1"]);
  assert.deepEqual(VersionedMap.changedKeys(last, last), new Set());
});

test("VersionedMap.changedKeys() says null of maps that are no versions of one another", () => {
  const first = many(1);
  const second = change(first, { k0: value(5) });
  assert.equal(VersionedMap.changedKeys(second, first), null, "the wrong way round");
  assert.equal(VersionedMap.changedKeys(many(1), second), null);
  assert.equal(VersionedMap.changedKeys(new Map([["k0", value(0)]]), second), null);
  assert.equal(VersionedMap.changedKeys(first, new Map()), null);
  const plain = new Map<Key, Value>();
  assert.deepEqual(VersionedMap.changedKeys(plain, plain), new Set());
});

test("VersionedMap lets a version that is kept hold no more than as many changes as there are entries", () => {
  const first = many(1500);
  const versions = [first];
  for (let i = 0; i < 3000; i += 1)
    versions.push(change(versions.at(-1) as typeof first, { [`k${i % 1500}`]: value(-i) }));
  const known = (i: number): boolean => VersionedMap.changedKeys(first, versions[i] as typeof first) !== null;
  assert.deepEqual([1, 1499, 1500, 1501, 3000].map(known), [true, true, true, false, false]);
  assert.deepEqual([first.get("k7")?.n, versions.at(-1)?.get("k7")?.n], [7, -1507]);
  assert.equal(texts(first).length, 1500);
});

test("VersionedMap answers as a Map does", () => {
  const map = change(many(3), { k1: undefined });
  const visited: string[] = [];
  map.forEach(({ n }, key, all) => {
    visited.push(`${key}${n} of ${all.size}`);
  });
  assert.deepEqual(visited, ["k00 of 2", "k22 of 2"]);
  assert.deepEqual(
    [[...map.keys()], [...map.values()].map(({ n }) => n)],
    [
      ["k0", "k2"],
      [0, 2],
    ],
  );
  assert.deepEqual([...map.entries()], [...map]);
});
