// SPDX-License-Identifier: Apache-2.0
/** Audits beside syncs: what syncs write is never taken for somebody else's work, and somebody else's work is always found. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MAPS } from "../../../src/abi/maps.gen.js";
import { type AuditResult, Reconciler, type SyncResult } from "../../../src/dataplane/reconciler.js";
import type { Image } from "../../../src/image/types.js";
import type { KernelMaps, MapDump } from "../../../src/native/kernel.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { nextTurn } from "../../../src/util/slices.js";
import { bigPort, imageOf } from "../../support/big-image.js";
import { ImageBuilder, PORTS, type PortSpec, portSpec } from "./images.js";
import { corrupt, corruption, differingEntries, entryId, world } from "./mishaps.js";
import { assertExactly } from "./rules.js";

const SIZES = { backends4: 100, backends6: 100, slots4: 200, slots6: 200 };
/** Entries to a piece here, so that a small map is read in several. */
const PIECE = 8;
/** Of a piece in truth: it is read while the event loop waits. */
const MOST_BYTES = 256 * 1024;

/** When a sync begins, in turns of the event loop, and for how many the kernel has its writes before it is told so. */
interface Timing {
  readonly at: number;
  readonly lag: number;
}

/** What is kept of a piece must be a copy: it is gone when the next one is asked for. */
async function* overwritten(pieces: AsyncIterable<MapDump>): AsyncGenerator<MapDump> {
  for await (const piece of pieces) {
    yield piece;
    piece.keys.fill(0xee);
    piece.values.fill(0xee);
  }
}

/** A kernel that takes its time, and a reconciler that pauses wherever it may. */
class Stage {
  readonly kernel = new MemoryKernel({ maxEntries: SIZES });
  readonly reconciler: Reconciler;
  lag = 0;
  /** Times that a map was read whole, with nobody writing. */
  wholes = 0;
  /** Entries that syncs wrote until all was read whole. */
  readonly written = new Set<string>();

  constructor() {
    const { kernel } = this;
    const slow: KernelMaps = {
      stats: kernel.stats,
      info: (map) => kernel.info(map),
      dump: (map, limit) => {
        this.wholes += 1;
        kernel.afterWrite = null;
        return kernel.dump(map, limit);
      },
      dumpChunks: (map, chunk, _limit, _first, reuse) => {
        assert.ok(chunk * (MAPS[map].keySize + MAPS[map].valueSize) <= MOST_BYTES, `${chunk} of ${map}`);
        assert.equal(reuse, true);
        return overwritten(kernel.dumpChunks(map, PIECE));
      },
      apply: async (writes) => {
        const result = await kernel.apply(writes);
        for (let turn = 0; turn < this.lag; turn += 1) await nextTurn();
        return result;
      },
    };
    this.reconciler = new Reconciler({ kernel: slow, clock: { now: () => 0 }, quarantineMs: 0, sliceMs: 0 });
  }

  async begin(image: Image): Promise<void> {
    assert.equal((await this.reconciler.sync(image)).failure, null);
    this.wholes = 0;
  }

  /** An audit, and beside it syncs. `during`: how many of them began before it had ended. */
  async audit(syncs: readonly (Timing & { readonly image: Image })[]): Promise<{
    readonly audit: AuditResult;
    readonly results: readonly SyncResult[];
    readonly during: number;
  }> {
    const { kernel } = this;
    kernel.afterWrite = ({ map, key }) => this.written.add(entryId(map, key));
    let ended = false;
    const audit = this.reconciler.audit().finally(() => {
      ended = true;
      kernel.afterWrite = null;
    });
    const results: Promise<SyncResult>[] = [];
    let during = 0;
    let turn = 0;
    for (const { at, lag, image } of syncs) {
      for (; turn < at && !ended; turn += 1) await nextTurn();
      this.lag = lag;
      during += Number(!ended);
      results.push(this.reconciler.sync(image));
    }
    return { audit: await audit, results: await Promise.all(results), during };
  }
}

const BEFORE = imageOf([bigPort(0, 20), bigPort(1, 3), bigPort(2, 20, { family: 6 })]);
const AFTER = imageOf([bigPort(0, 19), bigPort(2, 18, { family: 6 }), bigPort(3, 20)]);

for (const lag of [0, 1, 5])
  test(`audit() takes a sync at any of its turns for what it is, when the kernel answers ${lag} turns later`, async () => {
    let boundaries = 0;
    for (let at = 0; ; at += 1) {
      const stage = new Stage();
      await stage.begin(BEFORE);
      const { audit, during } = await stage.audit([{ at, lag, image: AFTER }]);
      assert.deepEqual([audit.differences.size, audit.repair, audit.failure], [0, null, null], `turn ${at}`);
      assert.equal(stage.wholes, 0, "nothing was read with syncs waiting");
      assertExactly(stage.kernel, AFTER);
      if (during === 0) break;
      boundaries += 1;
    }
    assert.ok(boundaries > 80, `${boundaries} turns`);
  });

interface Change extends Timing {
  readonly port: number;
  readonly spec: PortSpec | null;
}

const change: fc.Arbitrary<Change> = fc.record({
  at: fc.integer({ min: 0, max: 100 }),
  lag: fc.constantFrom(0, 0, 1, 2, 7),
  port: fc.integer({ min: 0, max: PORTS - 1 }),
  spec: fc.oneof({ weight: 4, arbitrary: portSpec }, fc.constant(null)),
});

test("audit() finds whatever somebody else has changed while syncs go on, and nothing that they write", async () => {
  const seen = { during: 0, found: 0, clean: 0 };
  const changes = fc.array(change, { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(world, changes, fc.option(corruption), async ({ ports, node }, all, mishap) => {
      const builder = new ImageBuilder();
      for (const [port, spec] of ports) builder.set(port, spec);
      builder.setNode(node);
      const stage = new Stage();
      const { kernel, reconciler } = stage;
      await stage.begin(builder.build());
      const before = kernel.clone();
      if (mishap !== null) await corrupt(kernel, mishap);
      const foreign = differingEntries(before, kernel);
      const syncs = all
        .toSorted((a, b) => a.at - b.at)
        .map(({ at, lag, port, spec }) => {
          builder.set(port, spec);
          return { at, lag, image: builder.build() };
        });
      const { audit, results, during } = await stage.audit(syncs);
      assert.equal(audit.failure, null);
      seen.during += during;
      // A key of somebody else's may be in a sync's way: it is read anew then, and repaired with what the sync writes.
      const refused = results.some(({ failure }) => failure !== null);
      const untouched = [...foreign].some((id) => !stage.written.has(id));
      if (foreign.size === 0) {
        assert.deepEqual([audit.differences.size, audit.repair, stage.wholes, refused], [0, null, 0, false]);
        seen.clean += 1;
      } else if (untouched && !refused) {
        assert.ok(audit.differences.size > 0, `${[...foreign]} is found`);
        seen.found += 1;
      }
      const last = syncs.at(-1)?.image as Image;
      if (refused) assert.equal((await reconciler.sync(last)).failure, null);
      assertExactly(kernel, last);
      assert.equal((await reconciler.audit()).differences.size, 0, "once");
    }),
    { numRuns: 200, includeErrorInReport: true, interruptAfterTimeLimit: 60_000 },
  );
  assert.ok(seen.during > 300, `${seen.during} syncs beside audits`);
  assert.ok(seen.found > 50, `${seen.found} times something was found`);
  assert.ok(seen.clean > 50, `${seen.clean} times there was nothing`);
});
