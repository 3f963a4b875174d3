// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { Image } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { cidr, ImageBuilder, ip, nodeSpec, PORTS, portSpec } from "./images.js";
import { assertExactly } from "./rules.js";

// Together with cell 0, which is never used, exactly what fullImage() needs.
const RANGES = 32;
const SIZES = {
  backends4: 65,
  slots4: 64,
  source_ranges4: RANGES,
  backends6: 65,
  slots6: 64,
  source_ranges6: RANGES,
};
const EMPTY: Image = { servicePorts: new Map(), problems: [], nodePortAddresses: [], serviceNetworks: [] };

const specs = fc.array(fc.option(portSpec, { nil: null }), { minLength: PORTS, maxLength: PORTS });

function agent(kernel: MemoryKernel, now: number): Reconciler {
  return new Reconciler({ kernel, clock: { now: () => now }, sliceMs: 1000 });
}

/** One Service with 64 backends and 32 ranges: it fits only when no cell, no slot and no range has leaked. */
function fullImage(): Image {
  const backends = [4, 6].flatMap((family) =>
    Array.from({ length: 64 }, (_, i) => ({
      address: ip(family === 4 ? `10.1.0.${i + 1}` : `fd01::${i + 1}`),
      port: 80,
      local: false,
      serving: true,
      clusterSet: false,
      localSet: false,
    })),
  );
  const choice = (first: number) => ({
    backends: Array.from({ length: 64 }, (_, i) => first + i),
    whenEmpty: "reject" as const,
    set: "cluster" as const,
  });
  const frontend = (address: string, first: number) => ({
    kind: "ClusterIP" as const,
    address: ip(address),
    port: 1,
    internal: choice(first),
    external: choice(first),
    masquerade: "never" as const,
    sourceRanged: true,
  });
  const port = {
    key: "x/full:/TCP",
    namespace: "x",
    name: "full",
    portName: "",
    protocol: "TCP" as const,
    backends,
    frontends: [frontend("10.96.9.9", 0), frontend("fd00:96::99", 64)],
    affinitySeconds: 0,
    sourceRanges: [4, 6].flatMap((family) =>
      Array.from({ length: RANGES }, (_, i) =>
        cidr(family === 4 ? `10.7.${i}.0/24` : `fd07:0:0:${i.toString(16)}::/64`),
      ),
    ),
  };
  return { ...EMPTY, servicePorts: new Map([[port.key, port]]) };
}

async function dieAfter(from: MemoryKernel, image: Image, writes: number): Promise<MemoryKernel> {
  const kernel = from.clone();
  kernel.crashAfter(writes);
  await agent(kernel, 5000).sync(image);
  return kernel.clone();
}

/** What was let go just before the death is not known, so a start may have to wait for room. */
async function assertRepaired(kernel: MemoryKernel, image: Image): Promise<void> {
  let now = 10_000;
  const reconciler = new Reconciler({ kernel, clock: { now: () => now }, sliceMs: 1000 });
  let repair = await reconciler.sync(image);
  for (let waits = 0; repair.retryAfterMs !== null && waits < 3; waits += 1) {
    now += repair.retryAfterMs;
    repair = await reconciler.sync(image);
  }
  assert.equal(repair.failure, null);
  assert.deepEqual(repair.refused, []);
  assertExactly(kernel, image);
  const again = await agent(kernel, 20_000).sync(image);
  assert.equal(again.writes, 0, "the start after the repair writes nothing");
}

async function assertNothingLeaked(kernel: MemoryKernel): Promise<void> {
  let now = 30_000;
  const reconciler = new Reconciler({ kernel, clock: { now: () => now }, sliceMs: 1000 });
  await reconciler.sync(EMPTY);
  now += 1000;
  const result = await reconciler.sync(fullImage());
  assert.deepEqual(result.refused, [], "every cell, slot and range is free");
  assertExactly(kernel, fullImage());
}

test("sync() repairs what an agent left that died after any number of writes, and leaks nothing", async () => {
  let deaths = 0;
  await fc.assert(
    fc.asyncProperty(specs, specs, nodeSpec, nodeSpec, async (before, after, nodeBefore, nodeAfter) => {
      const builder = new ImageBuilder();
      builder.setNode(nodeBefore);
      for (const [port, spec] of before.entries()) builder.set(port, spec);
      const kernel = new MemoryKernel({ maxEntries: SIZES });
      const first = await agent(kernel, 0).sync(builder.build());
      for (const [port, spec] of after.entries()) builder.set(port, spec);
      builder.setNode(nodeAfter);
      const image = builder.build();
      const whole = kernel.clone();
      const { writes, refused } = await agent(whole, 5000).sync(image);
      // Old and new sets side by side must fit: another test is about when they do not.
      fc.pre(first.refused.length + refused.length === 0);
      for (let written = 0; written < writes; written += 1 + Math.floor(writes / 12)) {
        const survivor = await dieAfter(kernel, image, written);
        await assertRepaired(survivor, image);
        await assertNothingLeaked(survivor);
        deaths += 1;
      }
    }),
    { numRuns: 60, includeErrorInReport: true, endOnFailure: true },
  );
  assert.ok(deaths >= 500, `${deaths} deaths`);
});
