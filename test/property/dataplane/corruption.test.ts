// SPDX-License-Identifier: Apache-2.0
/** Somebody else writes our maps: it is always found, told entry by entry, and repaired without a window. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Comparison, compareKernel } from "../../../src/dataplane/compare.js";
import { readMirror } from "../../../src/dataplane/mirror.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { Image } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { atOnce } from "../../../src/util/slices.js";
import { corrupt, corruption, differingEntries, imageOf, SIZES, WRITTEN, world } from "./mishaps.js";
import { assertExactly, readSound } from "./rules.js";

async function compared(kernel: MemoryKernel, image: Image | null): Promise<Comparison> {
  return atOnce(compareKernel(await readMirror(kernel, {}), image));
}

function isExactly(kernel: MemoryKernel, image: Image): boolean {
  try {
    assertExactly(kernel, image);
    return true;
  } catch {
    return false;
  }
}

/** What each frontend that makes sense offers stays as it was while others are repaired, when it was right. */
function watch(kernel: MemoryKernel, after: ReadonlyMap<string, string>): { checks: number } {
  const counts = { checks: 0 };
  const right = [...readSound(kernel)].filter(([scope, set]) => after.get(scope) === set);
  kernel.afterWrite = (_, now) => {
    const held = readSound(now);
    for (const [scope, set] of right) {
      assert.equal(held.get(scope), set, `${scope} was right before the repair, and is while it lasts`);
      counts.checks += 1;
    }
  };
  return counts;
}

test("a comparison finds every corruption of the maps, and a sync repairs it while all other Services go on", async () => {
  const seen = { wrong: 0, checks: 0, kinds: new Set<string>(), maps: new Set<string>() };
  await fc.assert(
    fc.asyncProperty(world, fc.array(corruption, { minLength: 1, maxLength: 4 }), async (spec, mishaps) => {
      const image = imageOf(spec);
      const kernel = new MemoryKernel({ maxEntries: SIZES });
      await new Reconciler({ kernel, sliceMs: 1000 }).sync(image);
      const rightSets = readSound(kernel);
      assert.deepEqual((await compared(kernel, image)).differences, [], "what was written is as wanted");
      assert.deepEqual((await compared(kernel, null)).differences, [], "and fits together");
      for (const mishap of mishaps) await corrupt(kernel, mishap);

      const { differences, refused } = await compared(kernel, image);
      assert.deepEqual(refused, []);
      for (const { kind, map } of differences) {
        seen.kinds.add(kind);
        seen.maps.add(map);
      }
      if (!isExactly(kernel, image)) {
        seen.wrong += 1;
        assert.notDeepEqual(differences, [], "what is not as the image wants is found");
      }
      const counts = watch(kernel, rightSets);
      const result = await new Reconciler({ kernel, sliceMs: 1000 }).sync(image);
      kernel.afterWrite = null;
      seen.checks += counts.checks;
      assert.equal(result.failure, null);
      assert.equal(
        result.writes > 0,
        differences.length > 0,
        "found exactly when there is something to write",
      );
      assertExactly(kernel, image);
      assert.deepEqual((await compared(kernel, image)).differences, [], "nothing is found after the repair");
      assert.deepEqual((await compared(kernel, null)).differences, []);
    }),
    { numRuns: 250, includeErrorInReport: true, interruptAfterTimeLimit: 60_000 },
  );
  assert.ok(seen.wrong > 80, `${seen.wrong} times the maps were wrong`);
  assert.ok(seen.checks > 2_000, `${seen.checks} frontends were looked at during repairs`);
  assert.deepEqual([...seen.kinds].sort(), ["different", "extra", "leaked", "missing"]);
  assert.deepEqual(
    [...seen.maps].sort(),
    WRITTEN.filter((map) => !map.startsWith("slots")).sort(),
    "slots are told by the frontends that name them",
  );
});

test("an audit finds every byte that somebody else has changed, and leaves the maps exactly as the image wants", async () => {
  let found = 0;
  await fc.assert(
    fc.asyncProperty(world, corruption, async (spec, mishap) => {
      const image = imageOf(spec);
      const kernel = new MemoryKernel({ maxEntries: SIZES });
      const reconciler = new Reconciler({ kernel, sliceMs: 1000 });
      await reconciler.sync(image);
      const before = kernel.clone();
      await corrupt(kernel, mishap);
      const same = differingEntries(before, kernel).size === 0;
      const audit = await reconciler.audit();
      assert.equal(audit.failure, null);
      assert.equal(audit.differences.size > 0, !same, "found exactly when a byte is another");
      if (!same) found += 1;
      assertExactly(kernel, image);
      assert.equal((await reconciler.audit()).differences.size, 0, "once");
    }),
    { numRuns: 200, includeErrorInReport: true, interruptAfterTimeLimit: 60_000 },
  );
  assert.ok(found > 80, `${found} times something was found`);
});
