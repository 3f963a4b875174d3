// SPDX-License-Identifier: Apache-2.0
/** Somebody else writes our maps: it is always found, told entry by entry, and repaired without a window. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MAPS, type MapName } from "../../../src/abi/maps.gen.js";
import { type Comparison, compareKernel } from "../../../src/dataplane/compare.js";
import { readMirror } from "../../../src/dataplane/mirror.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { Image } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { atOnce } from "../../../src/util/slices.js";
import { WRITTEN_MAPS } from "../../support/corrupt-maps.js";
import { ImageBuilder, type NodeSpec, nodeSpec, PORTS, type PortSpec, portSpec } from "./images.js";
import { assertExactly, readSound } from "./rules.js";

/** Every map that a reconciler writes; what it writes into `backend_stats` is a zero before the programs count. */
const WRITTEN = WRITTEN_MAPS.filter((map) => map !== "interfaces");

const SIZES = { backends4: 400, backends6: 400, slots4: 900, slots6: 900 };

interface Corruption {
  readonly map: MapName;
  readonly kind: "delete" | "alter" | "add";
  /** Which of the entries that are there. */
  readonly entry: number;
  /** Which byte of its value, and what is added to it. */
  readonly byte: number;
  readonly change: number;
}

const corruption: fc.Arbitrary<Corruption> = fc.record({
  map: fc.constantFrom(...WRITTEN),
  kind: fc.constantFrom("delete" as const, "alter" as const, "add" as const),
  entry: fc.nat(1000),
  byte: fc.nat(1000),
  change: fc.integer({ min: 1, max: 255 }),
});

interface World {
  readonly ports: readonly (readonly [port: number, spec: PortSpec])[];
  readonly node: NodeSpec;
}

const world: fc.Arbitrary<World> = fc.record({
  ports: fc.array(fc.tuple(fc.integer({ min: 0, max: PORTS - 1 }), portSpec), { minLength: 1, maxLength: 6 }),
  node: nodeSpec,
});

function imageOf({ ports, node }: World): Image {
  const builder = new ImageBuilder();
  for (const [port, spec] of ports) builder.set(port, spec);
  builder.setNode(node);
  const image = builder.build();
  // A compile leaves out service ports without a frontend of their own.
  const servicePorts = new Map([...image.servicePorts].filter(([, { frontends }]) => frontends.length > 0));
  return { ...image, servicePorts };
}

const isArray = (map: MapName): boolean => MAPS[map].type === "array";

/** Does it; false: there is nothing that could be changed in this way. */
async function corrupt(
  kernel: MemoryKernel,
  { map, kind, entry, byte, change }: Corruption,
): Promise<boolean> {
  const there = [...kernel.entries(map)];
  const chosen = there[entry % Math.max(1, there.length)];
  if (chosen === undefined) return false;
  const [key, value] = chosen;
  if (kind === "delete" && isArray(map)) value.fill(0);
  else if (kind === "delete") {
    await kernel.apply([{ map, kind, count: 1, keys: key, values: new Uint8Array() }]);
    return true;
  } else value[byte % value.length] = ((value[byte % value.length] as number) + change) & 255;
  // A key of somebody's own: like one of ours, and another. The first four bytes of a prefix are its length.
  if (kind === "add") key[key.length - 1 - (byte % (key.length - 4 || 1))] = change;
  if (kind === "add" && isArray(map)) return false;
  await kernel.apply([{ map, kind: "update", count: 1, keys: key, values: value }]);
  return true;
}

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
      const same = WRITTEN.every((map) => sameEntries([...before.entries(map)], [...kernel.entries(map)]));
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

function sameEntries(
  a: readonly (readonly [Uint8Array, Uint8Array])[],
  b: readonly (readonly [Uint8Array, Uint8Array])[],
): boolean {
  const text = (entries: typeof a): string =>
    entries
      .map(([key, value]) => `${Buffer.from(key).toString("hex")} ${Buffer.from(value).toString("hex")}`)
      .sort()
      .join("\n");
  return text(a) === text(b);
}
