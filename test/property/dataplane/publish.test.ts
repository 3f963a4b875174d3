// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { MapName } from "../../../src/abi/maps.gen.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { ServicePortImage } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { ImageBuilder, type NodeSpec, nodeSpec, PORTS, type PortSpec, portSpec } from "./images.js";
import { assertExactly, RuleWatcher } from "./rules.js";

type Step = {
  readonly changes: readonly (readonly [port: number, spec: PortSpec | null])[];
  /** Null: as it was. */
  readonly node: NodeSpec | null;
  readonly advance: number;
  readonly mishap:
    | { readonly kind: "none" | "restart" | "audit" }
    | { readonly kind: "crash" | "refusal"; readonly after: number };
};

const step: fc.Arbitrary<Step> = fc.record({
  changes: fc.array(
    fc.tuple(
      fc.integer({ min: 0, max: PORTS - 1 }),
      fc.oneof({ weight: 4, arbitrary: portSpec }, fc.constant(null)),
    ),
    { maxLength: 4 },
  ),
  node: fc.option(nodeSpec, { freq: 2 }),
  advance: fc.constantFrom(0, 1, 400, 999, 1000, 3000),
  mishap: fc.oneof(
    {
      weight: 4,
      arbitrary: fc.constantFrom(
        { kind: "none" as const },
        { kind: "restart" as const },
        { kind: "audit" as const },
      ),
    },
    fc.record({
      kind: fc.constantFrom("crash" as const, "refusal" as const),
      after: fc.integer({ min: 0, max: 60 }),
    }),
  ),
});

const SIZES = { backends4: 400, backends6: 400, slots4: 900, slots6: 900 };
const ENOMEM = 12;

/** One agent after another on one kernel, watched at every write. */
class Play {
  readonly kernel: MemoryKernel;
  readonly watcher = new RuleWatcher(1000);
  readonly builder = new ImageBuilder();
  now = 10_000;
  reconciler: Reconciler;

  constructor(maxEntries: Readonly<Partial<Record<MapName, number>>>) {
    this.kernel = new MemoryKernel({ maxEntries });
    this.reconciler = this.start();
    this.kernel.afterWrite = (write, kernel) => this.watcher.check(kernel, write, this.now);
  }

  start(): Reconciler {
    return new Reconciler({ kernel: this.kernel, clock: { now: () => this.now }, sliceMs: 1000 });
  }

  async run({ changes, node, advance, mishap }: Step): Promise<void> {
    this.now += advance;
    for (const [port, spec] of changes) this.builder.set(port, spec);
    if (node) this.builder.setNode(node);
    const image = this.builder.build();
    this.watcher.begin(this.kernel, image);
    if (mishap.kind === "restart") this.reconciler = this.start();
    if (mishap.kind === "crash") this.kernel.crashAfter(mishap.after);
    if (mishap.kind === "refusal") this.kernel.refuseAfter(mishap.after, ENOMEM);
    const result = await this.reconciler.sync(image);
    if (result.failure) await this.afterMishap(mishap.kind);
    this.kernel.crashAfter(Number.POSITIVE_INFINITY);
    this.kernel.refuseAfter(Number.POSITIVE_INFINITY, ENOMEM);
    assert.deepEqual(result.refused, []);
    assertExactly(this.kernel, image);
    if (mishap.kind !== "audit") return;
    const audit = await this.reconciler.audit();
    assert.equal(audit.differences.size, 0, "audit() finds what sync() wrote as it should be");
  }

  async afterMishap(kind: string): Promise<void> {
    this.kernel.crashAfter(Number.POSITIVE_INFINITY);
    if (kind === "crash") this.reconciler = this.start();
    const again = await this.reconciler.sync(this.builder.build());
    assert.equal(again.failure, null, "the sync after a failure succeeds");
    assert.deepEqual(again.refused, []);
  }
}

test("sync() keeps every reader on the old or the new set after every write, whatever happens in between", async () => {
  const counts = { checks: 0, setChecks: 0, admissionChecks: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const play = new Play(SIZES);
      for (const each of steps) await play.run(each);
      for (const name of ["checks", "setChecks", "admissionChecks"] as const)
        counts[name] += play.watcher[name];
      const calls = play.kernel.stats.ffiCalls;
      const restarted = await play.start().sync(play.builder.build());
      assert.equal(restarted.writes, 0, "a restart with nothing changed writes nothing");
      assert.equal(play.kernel.stats.ffiCalls - calls, 13, "and only reads");
    }),
    { numRuns: 60, includeErrorInReport: true, interruptAfterTimeLimit: 60_000 },
  );
  assert.ok(counts.checks > 5_000, `${counts.checks} prefixes were checked`);
  assert.ok(counts.setChecks > 500, `${counts.setChecks} times a cell was about to change its sets`);
  assert.ok(
    counts.admissionChecks > 500,
    `${counts.admissionChecks} times a client's admission was to change`,
  );
});

const TIGHT = {
  services: 5,
  source_ranges4: 4,
  source_ranges6: 4,
  service_nets4: 1,
  frontends4: 6,
  frontends6: 6,
  backends4: 20,
  backends6: 20,
  slots4: 24,
  slots6: 24,
  addresses4: 26,
  addresses6: 26,
};

test("sync() leaves a Service that does not fit exactly as it was, and writes all others whole", async () => {
  let refusals = 0;
  let retries = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const play = new Play(TIGHT);
      const applied = new Map<string, ServicePortImage>();
      for (const { changes, node, advance } of steps) {
        play.now += advance;
        for (const [port, spec] of changes) play.builder.set(port, spec);
        if (node) play.builder.setNode(node);
        const image = play.builder.build();
        play.watcher.begin(play.kernel, image, true);
        const result = await play.reconciler.sync(image);
        assert.equal(result.failure, null);
        const refused = new Set(result.refused.map(({ key }) => key));
        for (const key of applied.keys()) if (!image.servicePorts.has(key)) applied.delete(key);
        for (const [key, port] of image.servicePorts) if (!refused.has(key)) applied.set(key, port);
        const nodePortAddresses = image.nodePortAddresses.filter(
          ({ text }) => !refused.has(`NodePort address ${text}`),
        );
        const serviceNetworks = image.serviceNetworks.filter(
          ({ text }) => !refused.has(`Service network ${text}`),
        );
        assertExactly(play.kernel, { ...image, servicePorts: applied, nodePortAddresses, serviceNetworks });
        refusals += refused.size;
        if (result.retryAfterMs === null) continue;
        assert.ok(result.retryAfterMs > 0 && result.retryAfterMs <= 1000);
        retries += 1;
      }
    }),
    { numRuns: 100, includeErrorInReport: true, interruptAfterTimeLimit: 60_000 },
  );
  assert.ok(refusals > 100, `${refusals} refusals`);
  assert.ok(retries > 20, `${retries} times there was something to wait for`);
});
