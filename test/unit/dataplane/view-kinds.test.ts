// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { trafficCodec } from "../../../src/abi/layout.gen.js";
import {
  backendsView,
  readNodePortAddresses,
  readTables,
  readTraffic,
  servicesView,
} from "../../../src/dataplane/view.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { cell, put, SERVICES_IN_MAPS } from "../../support/services-in-maps.js";

const SIZES = { backends4: 50, backends6: 50, slots4: 50, slots6: 50 };

async function loaded(): Promise<MemoryKernel> {
  const kernel = new MemoryKernel({ maxEntries: SIZES });
  const { failure } = await kernel.apply(SERVICES_IN_MAPS);
  assert.equal(failure, null);
  return kernel;
}

test("servicesView() tells the kinds apart, and what each scope of senders meets", async () => {
  const rows = servicesView(await readTables(await loaded()));
  const told = rows.map(({ service, kind, address, port, masquerade, internal, external, ...row }) => {
    const scope = ({ backends, set, whenEmpty }: typeof internal): string =>
      `${set}: ${backends.map((each) => each.address).join() || whenEmpty}`;
    const rules = { masquerade, affinity: row.affinitySeconds, from: row.sourceRanges };
    return [service.name, kind, `${address} ${port}`, scope(internal), scope(external), rules];
  });
  const [CLUSTER, LOCAL] = ["cluster: 10.1.0.1,10.2.0.1", "local: 10.1.0.1"];
  const web = { masquerade: "never", affinity: 600, from: null };
  assert.deepEqual(told, [
    // Of a family without ranges and the flag: nobody may (6.16).
    [
      "dns",
      "NodePort",
      ":: 30053",
      "local: reject",
      "local: drop",
      { masquerade: "always", affinity: 0, from: [] },
    ],
    ["web", "ClusterIP", "10.96.0.1 80", CLUSTER, CLUSTER, { ...web, masquerade: "outsiders" }],
    [
      "web",
      "External",
      "203.0.113.7 80",
      CLUSTER,
      LOCAL,
      { ...web, from: ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.9/32"] },
    ],
    ["web", "NodePort", "0.0.0.0 30080", CLUSTER, LOCAL, web],
  ]);
  assert.ok(rows.every(({ internal, external }) => internal.unreadable + external.unreadable === 0));
});

test("servicesView() counts a draining backend in a frontend's slots as unreadable: no new flow may go there", async () => {
  const kernel = await loaded();
  const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
  await kernel.apply([put("slots4", u32(2), u32(3))]);
  const web = servicesView(await readTables(kernel)).find(({ kind }) => kind === "ClusterIP");
  assert.deepEqual(
    [web?.internal.backends.map(({ address }) => address), web?.internal.unreadable],
    [["10.1.0.1"], 1],
  );
});

test("backendsView() shows draining backends (9.3) and sets, and no free cell", async () => {
  const rows = backendsView(await readTables(await loaded())).filter(({ family }) => family === 4);
  assert.deepEqual(
    rows.map(({ address, local, state, sets, chosen }) => [address, local, state, sets, chosen]),
    [
      ["10.1.0.1", true, "live", ["cluster", "local"], true],
      ["10.2.0.1", false, "live", ["cluster"], true],
      ["10.2.0.2", false, "draining", [], false],
    ],
  );
});

test("a backend is known by its cell, and has the counts of that, wherever it lies in a map that is read in pieces", async () => {
  const kernel = new MemoryKernel({ maxEntries: { ...SIZES, backends4: 70_000 } });
  const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
  const places = [1, 2047, 2048, 10_239, 69_999];
  for (const at of places) {
    const counts = trafficCodec.encode({ flows: BigInt(at), packets: 2n, bytes: 3n });
    const writes = [cell(at, "10.1.0.1", 80, { generation: 7 }), put("backend_stats4", u32(at), counts)];
    assert.equal((await kernel.apply(writes)).failure, null);
  }
  const rows = backendsView(await readTables(kernel));
  assert.deepEqual(
    rows.map(({ cell: at, traffic }) => [at, Number(traffic.flows)]),
    places.map((at) => [at, at]),
  );
  const { backends } = await readTraffic(Object.assign(kernel, { names: [] }), () => 0);
  assert.deepEqual(
    Array.from(backends, ([key, { cell: at, generation, traffic }]) => [
      key,
      at,
      generation,
      Number(traffic.flows),
    ]),
    places.map((at) => [`4:${at}`, at, 7, at]),
  );
});

test("readNodePortAddresses() gives the addresses of class NODE, of both families (6.1)", async () => {
  assert.deepEqual(await readNodePortAddresses(await loaded()), ["192.168.7.1", "fd07::1"]);
  assert.deepEqual(await readNodePortAddresses(new MemoryKernel({ maxEntries: SIZES })), []);
});
