// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Direction, NatFlag, NatState, NO_BACKEND } from "../../../src/abi/enums.gen.js";
import { FAMILY_CODECS, trafficCodec } from "../../../src/abi/layout.gen.js";
import type { MapName } from "../../../src/abi/maps.gen.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import {
  backendsView,
  type FlowRow,
  readFlows,
  readTables,
  serviceKey,
  servicesView,
} from "../../../src/dataplane/view.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { ip } from "../../property/dataplane/images.js";
import { bigPort, imageOf } from "../../support/big-image.js";

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const TIMEOUTS = {
  timeoutTcpOpening: 30,
  timeoutTcpEstablished: 1000,
  timeoutTcpHalfClosed: 100,
  timeoutTcpClosed: 5,
  timeoutUdpUnreplied: 20,
  timeoutUdpReplied: 120,
};

async function put(kernel: MemoryKernel, map: MapName, key: Uint8Array, value: Uint8Array): Promise<void> {
  await kernel.apply([{ map, kind: "update", count: 1, keys: key, values: value }]);
}

async function loaded(): Promise<MemoryKernel> {
  const kernel = new MemoryKernel({ maxEntries: { backends4: 50, backends6: 50, slots4: 50, slots6: 50 } });
  const six = bigPort(1, 2, { family: 6, chosen: [1] });
  const empty = { ...bigPort(2, 0), protocol: "UDP" as const, key: "default/service-2:http/UDP" };
  const result = await new Reconciler({ kernel }).sync(imageOf([bigPort(0, 3), six, empty]));
  assert.equal(result.failure, null);
  return kernel;
}

test("servicesView() joins names, frontends, slots and cells of both families", async () => {
  const rows = servicesView(await readTables(await loaded()));
  const told = rows.map(({ service, address, port, internal, external }) => ({
    key: serviceKey(service),
    at: `${address} ${port}`,
    internal: internal.backends.map((backend) => `${backend.address} ${backend.port}`),
    external: external.backends.length,
    whenEmpty: internal.whenEmpty,
    unreadable: internal.unreadable,
  }));
  assert.deepEqual(told, [
    {
      key: "default/service-0:http/TCP",
      at: "11.0.0.0 80",
      internal: ["10.0.0.0 8080", "10.0.0.1 8080", "10.0.0.2 8080"],
      external: 3,
      whenEmpty: "reject",
      unreadable: 0,
    },
    {
      key: "default/service-1:http/TCP",
      at: "fd0b::1 80",
      internal: ["fd0a::41 8080"],
      external: 1,
      whenEmpty: "reject",
      unreadable: 0,
    },
    {
      key: "default/service-2:http/UDP",
      at: "11.0.0.2 80",
      internal: [],
      external: 0,
      whenEmpty: "reject",
      unreadable: 0,
    },
  ]);
});

test("servicesView() says how many slots of a frontend name no live cell of its service", async () => {
  const kernel = await loaded();
  await put(kernel, "slots4", u32(1), u32(40));
  const [row] = servicesView(await readTables(kernel));
  assert.equal(row?.internal.unreadable, 1);
  assert.equal(row.internal.backends.length, 2);
});

test("servicesView() shows an index without a name by its number", async () => {
  const kernel = await loaded();
  await kernel.apply([
    { map: "services", kind: "delete", count: 1, keys: u32(0), values: new Uint8Array(0) },
  ]);
  assert.ok(servicesView(await readTables(kernel)).some(({ service }) => serviceKey(service) === "#0"));
});

test("backendsView() tells who is offered to new flows, and the counts of each cell", async () => {
  const kernel = await loaded();
  await put(
    kernel,
    "backend_stats6",
    u32(2),
    trafficCodec.encode({ flows: 3n, packets: 20n, bytes: 2n ** 40n }),
  );
  const rows = backendsView(await readTables(kernel)).filter(({ family }) => family === 6);
  assert.deepEqual(
    rows.map(({ address, cell, generation, chosen, traffic }) => ({
      address,
      cell,
      generation,
      chosen,
      traffic,
    })),
    [
      {
        address: "fd0a::40",
        cell: 1,
        generation: 0,
        chosen: false,
        traffic: { flows: 0n, packets: 0n, bytes: 0n },
      },
      {
        address: "fd0a::41",
        cell: 2,
        generation: 0,
        chosen: true,
        traffic: { flows: 3n, packets: 20n, bytes: 2n ** 40n },
      },
    ],
  );
});

test("servicesView() shows three protocols on one address and port as three Service ports (2.4)", async () => {
  const kernel = new MemoryKernel({ maxEntries: { backends4: 50, backends6: 50, slots4: 50, slots6: 50 } });
  const port = bigPort(0, 1);
  const ports = (["SCTP", "TCP", "UDP"] as const).map((protocol, i) => ({
    ...port,
    protocol,
    key: `default/service-0:http/${protocol}`,
    backends: port.backends.map((backend) => ({ ...backend, port: 5300 + i })),
  }));
  const result = await new Reconciler({ kernel }).sync(imageOf(ports));
  assert.deepEqual([result.failure, result.refused], [null, []]);

  const { keys, count } = await kernel.dump("frontends4");
  const { addrPort } = FAMILY_CODECS[4];
  const view = new DataView(keys.buffer, keys.byteOffset, keys.byteLength);
  const numbers = Array.from({ length: count }, (_, i) => {
    return addrPort.decodeFrom(view, i * addrPort.size).protocol;
  });
  assert.deepEqual(
    numbers.sort((a, b) => a - b),
    [6, 17, 132],
  );
  const rows = servicesView(await readTables(kernel));
  assert.deepEqual(
    rows.map(({ service, internal }) => [serviceKey(service), internal.backends.map(({ port: to }) => to)]),
    ports.map(({ key }, i) => [key, [5300 + i]]),
  );
});

interface Entry {
  readonly protocol?: number;
  readonly state: number;
  readonly age: number;
  readonly generation?: number;
  readonly flags?: number;
  readonly direction?: number;
  readonly sport?: number;
  readonly backend?: number;
}

const NOW = 5000;

async function withFlow(kernel: MemoryKernel, entry: Entry): Promise<void> {
  const { natKey, natValue } = FAMILY_CODECS[4];
  const {
    protocol = 6,
    state,
    age,
    generation = 0,
    flags = 0,
    direction = Direction.IN,
    sport = 1234,
    backend = 1,
  } = entry;
  const out = direction === Direction.OUT;
  const key = natKey.encode({
    src: ip("10.1.1.1").bytes,
    dst: ip(out ? "10.0.0.0" : "11.0.0.0").bytes,
    sport,
    dport: out ? 8080 : 80,
    protocol,
    direction,
  });
  const value = natValue.encode({
    addr: ip(out ? "192.168.0.1" : "10.0.0.0").bytes,
    port: out ? 61000 : 8080,
    peerPort: out ? 8080 : sport,
    check: 0,
    backend,
    generation,
    lastSeen: NOW - age,
    state,
    flags,
    service: 0,
  });
  await put(kernel, "nat4", key, value);
}

async function flowsOf(kernel: MemoryKernel): Promise<FlowRow[]> {
  return await readFlows(kernel, await readTables(kernel), { timeouts: TIMEOUTS, nowTicks: NOW });
}

const S = NatState;
const OPEN = S.SEEN_FORWARD | S.SEEN_REPLY | S.ESTABLISHED;
const LIVES: readonly (Entry & { readonly is: string })[] = [
  { state: S.SEEN_FORWARD, age: 29, is: "opening" },
  { state: S.SEEN_FORWARD, age: 30, is: "dead" },
  { state: OPEN, age: 999, is: "established" },
  { state: OPEN, age: 1000, is: "dead" },
  { state: OPEN | S.FIN_REPLY, age: 99, is: "closing" },
  { state: OPEN | S.FIN_FORWARD, age: 100, is: "dead" },
  { state: OPEN | S.FIN_FORWARD | S.FIN_REPLY, age: 4, is: "closed" },
  { state: OPEN | S.RST_REPLY, age: 4, is: "closed" },
  { state: S.SEEN_FORWARD | S.RST_FORWARD, age: 5, is: "dead" },
  { state: OPEN, age: -3, is: "established" },
  { protocol: 17, state: S.SEEN_FORWARD, age: 19, is: "opening" },
  { protocol: 17, state: S.SEEN_FORWARD, age: 20, is: "dead" },
  { protocol: 17, state: S.SEEN_FORWARD | S.SEEN_REPLY, age: 119, is: "established" },
  { protocol: 132, state: S.SEEN_FORWARD, age: 29, is: "opening" },
  { protocol: 132, state: S.SEEN_FORWARD, age: 30, is: "dead" },
  { protocol: 132, state: OPEN, age: 999, is: "established" },
  { protocol: 132, state: OPEN | S.RST_FORWARD, age: 4, is: "closed" },
  { protocol: 132, state: OPEN | S.RST_FORWARD, age: 5, is: "dead" },
];
const PROTOCOL_NAMES = new Map([
  [6, "TCP"],
  [17, "UDP"],
  [132, "SCTP"],
]);
for (const { is, ...entry } of LIVES) {
  test(`readFlows() calls ${PROTOCOL_NAMES.get(entry.protocol ?? 6)} state ${entry.state} of age ${entry.age} ${is}, as the programs do`, async () => {
    const kernel = await loaded();
    await withFlow(kernel, entry);
    const [flow] = await flowsOf(kernel);
    assert.equal(flow?.state, is);
    assert.equal(flow.protocol, PROTOCOL_NAMES.get(entry.protocol ?? 6));
    assert.equal(flow.live, is !== "dead");
  });
}

test("readFlows() shows one row for a flow: client, Service, backend, and what the backend sees", async () => {
  const kernel = await loaded();
  await withFlow(kernel, { state: OPEN, age: 10 });
  await withFlow(kernel, { state: OPEN, age: 10, direction: Direction.OUT, flags: NatFlag.NAT_MASQUERADE });
  await withFlow(kernel, { state: OPEN, age: 10, flags: NatFlag.NAT_REPLY, sport: 99 });
  const flows = await flowsOf(kernel);
  assert.equal(flows.length, 1);
  const [flow] = flows;
  assert.ok(flow?.service);
  assert.equal(serviceKey(flow.service), "default/service-0:http/TCP");
  assert.deepEqual(flow.client, { address: "10.1.1.1", port: 1234 });
  assert.deepEqual(flow.destination, { address: "11.0.0.0", port: 80 });
  assert.deepEqual(flow.backend, { address: "10.0.0.0", port: 8080 });
  assert.deepEqual(flow.masqueradedAs, { address: "192.168.0.1", port: 61000 });
  assert.deepEqual([flow.cell, flow.backendPresent, flow.idleSeconds, flow.direct], [1, true, 11, false]);
});

test("readFlows() tells a flow whose backend has gone, and one that has none", async () => {
  const kernel = await loaded();
  await withFlow(kernel, { state: OPEN, age: 1, generation: 7 });
  await withFlow(kernel, { state: OPEN, age: 2, sport: 5, backend: NO_BACKEND });
  const [gone, none] = await flowsOf(kernel);
  assert.deepEqual([gone?.backendPresent, gone?.cell], [false, 1]);
  assert.deepEqual([none?.backendPresent, none?.cell], [false, null]);
});
