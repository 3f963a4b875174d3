// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MapName } from "../../../src/abi/maps.gen.js";
import { type AuditResult, Reconciler, type SyncResult } from "../../../src/dataplane/reconciler.js";
import type { Image } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import type { Logger } from "../../../src/util/log.js";
import { silentLogger } from "../../../src/util/log.js";
import { assertExactly, cellAt } from "../../property/dataplane/rules.js";
import { bigPort, imageOf, withPort } from "../../support/big-image.js";

const DUMPS = 13;
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

class Rig {
  readonly kernel: MemoryKernel;
  now = 0;
  reconciler: Reconciler;

  constructor(maxEntries: Readonly<Partial<Record<MapName, number>>> = {}) {
    const small = { backends4: 100, backends6: 100, slots4: 200, slots6: 200 };
    this.kernel = new MemoryKernel({ maxEntries: { ...small, ...maxEntries } });
    this.reconciler = this.agent();
  }

  agent(logger: Logger = silentLogger): Reconciler {
    return new Reconciler({ kernel: this.kernel, clock: { now: () => this.now }, logger });
  }

  async sync(image: Image): Promise<SyncResult> {
    const result = await this.reconciler.sync(image);
    assert.equal(result.failure, null);
    return result;
  }

  async delete(map: MapName, key: Uint8Array): Promise<void> {
    await this.kernel.apply([{ map, kind: "delete", count: 1, keys: key, values: new Uint8Array(0) }]);
  }

  async write(map: MapName, key: Uint8Array, value: Uint8Array): Promise<void> {
    await this.kernel.apply([{ map, kind: "update", count: 1, keys: key, values: value }]);
  }
}

test("sync() loads 10,000 Services with 10 endpoints each by 12 FFI calls, and changes one endpoint by 1", async () => {
  const kernel = new MemoryKernel();
  const reconciler = new Reconciler({ kernel });
  const image = imageOf(Array.from({ length: 10_000 }, (_, i) => bigPort(i, 10)));
  const load = await reconciler.sync(image);
  assert.equal(load.failure, null);
  assert.deepEqual(load.refused, []);
  // No cell was ever used, so that no slot was.
  assert.equal(load.ffiCalls, DUMPS - 2 + 1);
  // Per Service: a name, a frontend, its VIP; per endpoint: a cell, a slot, its address with and without the port.
  assert.equal(load.writes, 10_000 * (3 + 10 * 4));

  const changed = await reconciler.sync(
    withPort(image, bigPort(77, 10, { pods: [0, 1, 2, 3, 4, 5, 6, 7, 8, 50] })),
  );
  assert.equal(changed.ffiCalls, 1);
  // A cell, 10 slots, 2 addresses, 1 frontend; 2 addresses deleted, 1 cell let go.
  assert.equal(changed.writes, 17);
  assert.equal(changed.changedPorts, 1);

  const nothing = await reconciler.sync(
    withPort(image, bigPort(77, 10, { pods: [0, 1, 2, 3, 4, 5, 6, 7, 8, 50] })),
  );
  assert.equal(nothing.ffiCalls + nothing.writes, 0, "an equal port costs no call");

  const restarted = await new Reconciler({ kernel }).sync(
    withPort(image, bigPort(77, 10, { pods: [50, 8, 7, 6, 5, 4, 3, 2, 1, 0] })),
  );
  assert.equal(
    restarted.writes,
    0,
    "a restart with nothing changed writes nothing, whatever the order of the backends",
  );
  assert.equal(restarted.ffiCalls, DUMPS - 1, "of the other family no cell was ever used");
});

test("sync() keeps cell and generation of a backend that still serves but is in no choice (9.6, 9.7)", async () => {
  const rig = new Rig();
  await rig.sync(imageOf([bigPort(0, 3)]));
  const before = [1, 2, 3].map((cell) => cellAt(rig.kernel, 4, cell));
  await rig.sync(imageOf([bigPort(0, 3, { chosen: [0] })]));
  assert.deepEqual(
    [1, 2, 3].map((cell) => cellAt(rig.kernel, 4, cell)),
    before,
  );
  await rig.sync(imageOf([bigPort(0, 3, { chosen: [0, 1, 2] })]));
  assert.deepEqual(
    [1, 2, 3].map((cell) => cellAt(rig.kernel, 4, cell)),
    before,
  );
});

test("sync() gives equal choices of one service port one range of slots", async () => {
  const rig = new Rig({ slots4: 4 });
  const port = bigPort(0, 4);
  const [frontend] = port.frontends;
  assert.ok(frontend);
  const copy = { ...frontend, port: 81, internal: { ...frontend.internal, backends: [3, 2, 1, 0] } };
  const result = await rig.sync(imageOf([{ ...port, frontends: [frontend, copy] }]));
  assert.deepEqual(result.refused, []);
});

test("sync() does not use a cell again within the quarantine, then does, with a new generation and no counts", async () => {
  const rig = new Rig({ backends4: 4, slots4: 20 });
  await rig.sync(imageOf([bigPort(0, 3)]));
  await rig.write("backend_stats4", u32(2), new Uint8Array(24).fill(7));
  await rig.sync(imageOf([]));
  rig.now = 999;
  const early = await rig.sync(imageOf([bigPort(1, 3)]));
  assert.deepEqual(
    early.refused.map(({ code }) => code),
    ["E_MAP_FULL"],
  );
  assert.equal(early.retryAfterMs, 1);
  assert.equal(early.writes, 0);
  rig.now = 1000;
  const late = await rig.sync(imageOf([bigPort(1, 3)]));
  assert.deepEqual(late.refused, []);
  assert.equal(late.retryAfterMs, null);
  assert.deepEqual(
    [1, 2, 3].map((cell) => cellAt(rig.kernel, 4, cell).generation),
    [1, 1, 1],
  );
  assert.deepEqual(rig.kernel.get("backend_stats4", u32(2)), new Uint8Array(24));
});

const FULL: readonly { map: MapName; max: number; needed: number; available: number }[] = [
  { map: "services", max: 2, needed: 1, available: 0 },
  { map: "frontends4", max: 2, needed: 1, available: 0 },
  { map: "backends4", max: 8, needed: 3, available: 1 },
  { map: "slots4", max: 7, needed: 3, available: 1 },
  { map: "addresses4", max: 16, needed: 7, available: 2 },
];
for (const { map, max, needed, available } of FULL) {
  test(`sync() refuses the Service that does not fit into ${map}, whole, and says what is missing`, async () => {
    const rig = new Rig({ [map]: max });
    const logged: object[] = [];
    rig.reconciler = rig.agent({ ...silentLogger, error: (fields) => logged.push(fields) });
    const all = imageOf([bigPort(0, 3), bigPort(1, 3), bigPort(2, 3)]);
    const result = await rig.sync(all);
    assert.equal(result.refused.length, 1);
    const [refusal] = result.refused;
    assert.equal(refusal?.code, "E_MAP_FULL");
    assert.equal(refusal.key, "default/service-2:http/TCP");
    assert.equal(refusal.map, map);
    assert.equal(refusal.needed, needed);
    assert.equal(refusal.available, available);
    assert.match(refusal.message, new RegExp(`service-2.*needs ${needed} .*${map}.*${available}`));
    assertExactly(rig.kernel, imageOf([bigPort(0, 3), bigPort(1, 3)]));
    await rig.sync(all);
    assert.equal(logged.length, 1, "one log line, however often it is tried");
    rig.now += 2000;
    await rig.sync(imageOf([bigPort(0, 3), bigPort(2, 3)]));
    rig.now += 2000;
    const later = await rig.sync(imageOf([bigPort(0, 3), bigPort(2, 3)]));
    assert.deepEqual(later.refused, [], "it is written as soon as there is room");
    assertExactly(rig.kernel, imageOf([bigPort(0, 3), bigPort(2, 3)]));
  });
}

test("sync() uses room in a hash map that the same sync makes", async () => {
  const rig = new Rig({ frontends4: 2 });
  await rig.sync(imageOf([bigPort(0, 1), bigPort(1, 1)]));
  const result = await rig.sync(imageOf([bigPort(1, 1), bigPort(2, 1)]));
  assert.deepEqual(result.refused, []);
  assertExactly(rig.kernel, imageOf([bigPort(1, 1), bigPort(2, 1)]));
});

test("sync() refuses a frontend that belongs to a Service which cannot let it go", async () => {
  const rig = new Rig({ backends4: 4 });
  await rig.sync(imageOf([bigPort(0, 1)]));
  const thief = { ...bigPort(1, 1), frontends: bigPort(0, 1).frontends };
  const grown = { ...bigPort(0, 9), frontends: bigPort(5, 1).frontends };
  const result = await rig.sync(imageOf([thief, grown]));
  assert.deepEqual(result.refused.map(({ code, key }) => `${code} ${key}`).sort(), [
    "E_FRONTEND_TAKEN default/service-1:http/TCP",
    "E_MAP_FULL default/service-0:http/TCP",
  ]);
  assertExactly(rig.kernel, imageOf([bigPort(0, 1)]));
});

test("sync() carries on from what was applied when the kernel refuses a write for want of memory", async () => {
  const rig = new Rig();
  await rig.sync(imageOf([bigPort(0, 3)]));
  rig.kernel.refuseAfter(5, 12);
  const image = imageOf([bigPort(0, 2), bigPort(1, 3)]);
  const failed = await rig.reconciler.sync(image);
  assert.deepEqual(
    { ...failed.failure, message: "" },
    { code: "E_WRITE_REFUSED", map: "slots4", errno: "ENOMEM", message: "" },
  );
  assert.equal(failed.writes, 5);
  const again = await rig.sync(image);
  assert.equal(again.ffiCalls, 1, "without reading the kernel again");
  assertExactly(rig.kernel, image);
});

test("sync() reads the kernel again after a refusal that it cannot explain", async () => {
  const rig = new Rig();
  await rig.sync(imageOf([bigPort(0, 3)]));
  rig.kernel.refuseAfter(3, 7);
  const image = imageOf([bigPort(1, 3)]);
  assert.equal((await rig.reconciler.sync(image)).failure?.errno, "E2BIG");
  const again = await rig.sync(image);
  assert.equal(again.ffiCalls, DUMPS + 1);
  assertExactly(rig.kernel, image);
});

test("sync() reports a kernel that cannot be read and works when it can be", async () => {
  const rig = new Rig();
  const { kernel } = rig;
  const dump = kernel.dump.bind(kernel);
  kernel.dump = () => Promise.reject(new Error("no such file"));
  const failed = await rig.reconciler.sync(imageOf([bigPort(0, 1)]));
  assert.equal(failed.failure?.code, "E_KERNEL");
  assert.match(failed.failure.message, /no such file/);
  kernel.dump = dump;
  await rig.sync(imageOf([bigPort(0, 1)]));
  assertExactly(kernel, imageOf([bigPort(0, 1)]));
});

const IMAGE = imageOf([bigPort(0, 2), bigPort(1, 3), bigPort(2, 2, { family: 6 })]);

for (const map of ["services", "frontends4", "frontends6", "addresses4", "addresses6"] as const) {
  for (const how of ["audit", "restart"] as const) {
    test(`${how === "audit" ? "audit()" : "sync() after a restart"} heals whatever someone deletes from ${map}`, async () => {
      const rig = new Rig();
      await rig.sync(IMAGE);
      const cells = [1, 2, 3, 4, 5].map((cell) => cellAt(rig.kernel, 4, cell));
      for (const [key] of [...rig.kernel.entries(map)]) await rig.delete(map, key);
      if (how === "audit") {
        const { differences, repair } = await rig.reconciler.audit();
        assert.deepEqual([...differences.keys()], [map]);
        assert.equal(repair?.failure, null);
      } else await rig.agent().sync(IMAGE);
      assertExactly(rig.kernel, IMAGE);
      if (map === "services")
        assert.deepEqual(
          [1, 2, 3, 4, 5].map((cell) => cellAt(rig.kernel, 4, cell)),
          cells,
          "no backend lost its cell",
        );
    });
  }
}

for (const how of ["audit", "restart"] as const) {
  test(`${how === "audit" ? "audit()" : "sync() after a restart"} heals overwritten cells, slots and words`, async () => {
    const rig = new Rig();
    await rig.sync(IMAGE);
    await rig.write("backends4", u32(1), new Uint8Array(16));
    await rig.write("slots4", u32(3), u32(1));
    await rig.write("slots6", u32(0), u32(99_999));
    const [first] = [...rig.kernel.entries("frontends4")];
    assert.ok(first);
    await rig.write("frontends4", Uint8Array.of(11, 9, 9, 9, 0, 80, 6, 0), first[1]);
    await rig.write("addresses4", Uint8Array.of(10, 0, 0, 0, 0, 0, 0, 0), u32(0xffff));
    await rig.write("services", u32(7), [...rig.kernel.entries("services")][0]?.[1] as Uint8Array);
    const reconciler = how === "audit" ? rig.reconciler : rig.agent();
    if (how === "audit") assert.equal((await reconciler.audit()).repair?.failure, null);
    else assert.equal((await reconciler.sync(IMAGE)).failure, null);
    assertExactly(rig.kernel, IMAGE);
    assert.equal((await reconciler.audit()).differences.size, 0);
    if (how === "audit") {
      const generation = cellAt(rig.kernel, 4, 1).generation;
      assert.equal(generation, 0, "the overwritten cell is not used at once");
    }
  });
}

test("audit() never lets a generation that someone wiped out be used again", async () => {
  const rig = new Rig({ backends4: 4 });
  await rig.sync(imageOf([bigPort(0, 2)]));
  await rig.write("backends4", u32(1), new Uint8Array(16));
  await rig.reconciler.audit();
  rig.now += 1000;
  await rig.sync(imageOf([bigPort(0, 3)]));
  assertExactly(rig.kernel, imageOf([bigPort(0, 3)]));
  assert.equal(cellAt(rig.kernel, 4, 1).generation, 1);
});

test("audit() writes nothing when all is well", async () => {
  const rig = new Rig();
  await rig.sync(IMAGE);
  const writes = rig.kernel.stats.mapWrites;
  const { differences, repair, failure } = await rig.reconciler.audit();
  assert.deepEqual(
    { differences: differences.size, repair, failure },
    { differences: 0, repair: null, failure: null },
  );
  assert.equal(rig.kernel.stats.mapWrites, writes);
});

/**
 * `work` runs when the audit is about to read the n-th map, and ends before it is read. Returns the audit's result, and how
 * many maps it read in pieces, beside syncs, and how many whole, with nobody writing.
 */
async function auditWith(
  rig: Rig,
  n: number,
  work: () => Promise<unknown>,
): Promise<{ result: AuditResult; beside: number; whole: number }> {
  const { kernel } = rig;
  const counts = { beside: 0, whole: 0 };
  const [dump, dumpChunks] = [kernel.dump.bind(kernel), kernel.dumpChunks.bind(kernel)];
  kernel.dump = (...args) => {
    counts.whole += 1;
    return dump(...args);
  };
  kernel.dumpChunks = async function* (...args) {
    counts.beside += 1;
    if (counts.beside === n) await work();
    yield* dumpChunks(...args);
  };
  return { result: await rig.reconciler.audit(), ...counts };
}

const OTHERS = [
  imageOf([bigPort(0, 3), bigPort(1, 1), bigPort(3, 2)]),
  imageOf([bigPort(2, 4, { family: 6 }), bigPort(4, 2)]),
];

for (let n = 1; n <= DUMPS; n += 1) {
  test(`audit() lets syncs through before it reads map ${n}, and takes nothing that they write for a difference`, async () => {
    const rig = new Rig();
    await rig.sync(IMAGE);
    const { result, ...read } = await auditWith(rig, n, async () => {
      for (const image of OTHERS) await rig.sync(image);
    });
    assert.deepEqual([result.differences.size, result.repair, result.failure], [0, null, null]);
    assert.deepEqual(read, { beside: DUMPS, whole: 0 });
    assertExactly(rig.kernel, OTHERS[1] as Image);
  });
}

test("audit() with syncs beside it reads all once more when something differs, and repairs it", async () => {
  const rig = new Rig();
  const more = withPort(IMAGE, bigPort(3, 2));
  await rig.sync(IMAGE);
  const { result, whole } = await auditWith(rig, 1, async () => {
    await rig.sync(more);
    for (const [key] of [...rig.kernel.entries("frontends4")]) await rig.delete("frontends4", key);
  });
  assert.deepEqual(
    [[...result.differences], result.repair?.failure, whole],
    [[["frontends4", 3]], null, DUMPS],
  );
  assertExactly(rig.kernel, more);
});

test("audit() looks again when what is believed was given up meanwhile, and holds syncs up in the end", async () => {
  const rig = new Rig();
  await rig.sync(IMAGE);
  const EINVAL = 22;
  const { kernel, reconciler } = rig;
  let failures = 0;
  const fail = async (): Promise<void> => {
    failures += 1;
    kernel.refuseAfter(3, EINVAL);
    assert.equal((await reconciler.sync(OTHERS[failures % 2] as Image)).failure?.errno, "EINVAL");
    assert.equal((await reconciler.sync(OTHERS[failures % 2] as Image)).failure, null);
  };
  const dumpChunks = kernel.dumpChunks.bind(kernel);
  kernel.dumpChunks = async function* (...args) {
    await fail();
    yield* dumpChunks(...args);
  };
  const { differences, repair, failure } = await reconciler.audit();
  assert.deepEqual([differences.size, repair, failure, failures], [0, null, null, 3]);
  assertExactly(kernel, OTHERS[1] as Image);
});

test("audit() reports a kernel that cannot be read beside syncs, which read it again", async () => {
  const rig = new Rig();
  await rig.sync(IMAGE);
  const { result } = await auditWith(rig, 2, async () => {
    throw new Error("no more");
  });
  assert.deepEqual([result.failure?.code, result.failure?.message], ["E_KERNEL", "no more"]);
  await rig.sync(OTHERS[0] as Image);
  assertExactly(rig.kernel, OTHERS[0] as Image);
});

test("sync() finds a service port with a name longer than the map has room for again after a restart", async () => {
  const rig = new Rig();
  const long = (end: string) => ({
    ...bigPort(end === "a" ? 0 : 1, 1),
    name: "service",
    key: `default/service:a-port-name-of-quite-some-length-${end}/TCP`,
    portName: `a-port-name-of-quite-some-length-${end}`,
  });
  await rig.sync(imageOf([long("a"), long("b")]));
  assert.equal((await rig.agent().sync(imageOf([long("a"), long("b")]))).writes, 0);
});

test("sync() runs one at a time, in the order of the calls", async () => {
  const rig = new Rig();
  const results = await Promise.all([
    rig.reconciler.sync(imageOf([bigPort(0, 3)])),
    rig.reconciler.sync(imageOf([bigPort(1, 3)])),
    rig.reconciler.audit(),
    rig.reconciler.sync(imageOf([bigPort(2, 3)])),
  ]);
  assert.deepEqual(
    results.map(({ failure }) => failure),
    [null, null, null, null],
  );
  assertExactly(rig.kernel, imageOf([bigPort(2, 3)]));
});
