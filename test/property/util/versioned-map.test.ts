// SPDX-License-Identifier: Apache-2.0
// Every version is the Map that it should be, however many others were made of it and of those before.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { VersionedMap } from "../../../src/util/versioned-map.js";

interface Value {
  readonly n: number;
}

const VALUES: readonly Value[] = [0, 1, 2].map((n) => Object.freeze({ n }));
const changes = fc.array(fc.tuple(fc.nat(5), fc.option(fc.constantFrom(...VALUES), { nil: undefined })), {
  maxLength: 4,
});
/** From which of the versions, counted from the newest, the next is made; and which is walked meanwhile. */
const step = fc.record({ changes, from: fc.nat(2), walked: fc.option(fc.nat(4), { nil: null }) });

test("VersionedMap is a Map in each version, and knows exactly what differs or that it does not know", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const versions = [{ map: VersionedMap.of<number, Value>(), model: new Map<number, Value>() }];
      const walks: { readonly walk: Iterator<[number, Value]>; readonly expected: Map<number, Value> }[] = [];
      for (const { changes: list, from, walked } of steps) {
        const base = versions.at(-1 - (from % versions.length)) as (typeof versions)[number];
        const watched = walked === null ? undefined : versions.at(-1 - (walked % versions.length));
        if (watched !== undefined) {
          const walk = watched.map.entries();
          const first = walk.next();
          const expected = new Map(watched.model);
          if (first.done !== true) expected.delete(first.value[0]);
          walks.push({ walk, expected });
        }
        const model = new Map(base.model);
        for (const [key, value] of list) {
          if (value === undefined) model.delete(key);
          else model.set(key, value);
        }
        versions.push({ map: base.map.with(new Map(list)), model });
      }
      for (const { walk, expected } of walks)
        assert.deepEqual(new Map({ [Symbol.iterator]: () => walk }), expected);
      for (const { map, model } of versions) {
        assert.deepEqual([new Map(map), map.size], [model, model.size]);
        for (let key = 0; key <= 5; key += 1) assert.equal(map.get(key), model.get(key));
        for (const other of versions) {
          const told = VersionedMap.changedKeys(map, other.map);
          if (told === null) continue;
          const keys = [0, 1, 2, 3, 4, 5].filter((key) => model.get(key) !== other.model.get(key));
          assert.deepEqual([...told].sort(), keys);
        }
      }
    }),
    { numRuns: 3000 },
  );
});
