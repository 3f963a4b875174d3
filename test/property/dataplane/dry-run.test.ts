// SPDX-License-Identifier: Apache-2.0
// What a dry run shows is what a sync of the same maps writes, entry by entry; and the maps themselves are not touched.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MAP_NAMES } from "../../../src/abi/maps.gen.js";
import { copyMaps, dryRun } from "../../../src/dataplane/dry-run.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import { SERVICE_MAPS } from "../../../src/dataplane/service-maps.js";
import { imageDifference } from "../../../src/image/difference.js";
import type { Image } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { bigPort, imageOf } from "../../support/big-image.js";

const SIZES = { backends4: 60, backends6: 60, slots4: 200, slots6: 200 };

const port = fc
  .record({
    index: fc.integer({ min: 0, max: 4 }),
    backends: fc.integer({ min: 0, max: 5 }),
    six: fc.boolean(),
  })
  .map(({ index, backends, six }) => bigPort(index, backends, { family: six ? 6 : 4 }));
const image: fc.Arbitrary<Image> = fc
  .uniqueArray(port, { selector: ({ key }) => key, maxLength: 4 })
  .map((ports) => imageOf(ports));

function contents(kernel: MemoryKernel): unknown {
  return MAP_NAMES.map((map) => [
    map,
    Array.from(kernel.entries(map), ([key, value]) =>
      [key, value].map((bytes) => Buffer.from(bytes).toString("hex")),
    ).sort(),
  ]);
}

test("the transaction that a dry run shows, applied to the maps, leaves them as a sync does; without it they are untouched", async () => {
  let transactions = 0;
  await fc.assert(
    fc.asyncProperty(image, image, async (before, after) => {
      const kernel = new MemoryKernel({ maxEntries: SIZES });
      await new Reconciler({ kernel }).sync(before);
      const untouched = contents(kernel);
      const copy = await copyMaps(kernel);
      assert.deepEqual(contents(copy), untouched);
      const run = await dryRun(copy, after);
      assert.deepEqual(contents(kernel), untouched);
      assert.deepEqual(run.result.refused, []);

      const mirror = kernel.clone();
      for (const writes of run.transactions) {
        transactions += 1;
        const { failure } = await mirror.apply(writes);
        assert.equal(failure, null);
      }
      assert.deepEqual(contents(mirror), contents(copy));
      await new Reconciler({ kernel, quarantineMs: 0 }).sync(after);
      assert.deepEqual(contents(kernel), contents(copy));

      const { servicePorts } = imageDifference(run.before, run.after);
      const again = await dryRun(await copyMaps(kernel), after);
      assert.deepEqual(
        [again.transactions, imageDifference(again.before, again.after).servicePorts],
        [[], []],
      );
      if (servicePorts.length > 0) assert.ok(run.transactions.length > 0);
    }),
    { numRuns: 60 },
  );
  assert.ok(transactions > 0);
  assert.equal(SERVICE_MAPS.length, 13);
});
