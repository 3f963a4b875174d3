// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Counters, REASONS, Reason } from "../../../../src/abi/enums.gen.js";
import { serviceNameCodec, trafficCodec } from "../../../../src/abi/layout.gen.js";
import { MAP_NAMES } from "../../../../src/abi/maps.gen.js";
import { verdictOf } from "../../../../src/daemon/metrics/dataplane-metrics.js";
import type { ReadableMaps, ServiceTraffic } from "../../../../src/daemon/metrics/map-reader.js";
import { TopTraffic } from "../../../../src/daemon/metrics/top-traffic.js";
import type { NativeMapInfo } from "../../../../src/native/maps.js";
import { MemoryKernel } from "../../../../src/native/memory.js";
import { atOnce } from "../../../../src/util/slices.js";
import { type Rig, rig } from "./rig.js";

/** The kernel in memory, with what only the real one can say. */
class Kernel extends MemoryKernel implements ReadableMaps {
  broken = false;
  reads = 0;

  async usage(): Promise<readonly NativeMapInfo[]> {
    this.reads += 1;
    if (this.broken) throw new Error("EPERM");
    const used = (name: string): number | null =>
      name === "nat4" ? 17 : name.startsWith("slots") ? null : 0;
    return MAP_NAMES.map((name) => ({ ...this.info(name), id: 1, flags: 0, bytes: 4096, used: used(name) }));
  }

  async count(cell: number, packets: number, bytes: number, flows = 0): Promise<void> {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(cell);
    const values = trafficCodec.encode({
      flows: BigInt(flows),
      packets: BigInt(packets),
      bytes: BigInt(bytes),
    });
    await this.apply([{ map: "counters", kind: "update", count: 1, keys: key, values }]);
  }

  async name(index: number, name: string): Promise<void> {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(index);
    const values = serviceNameCodec.encode({ namespaceName: "ns", name, portName: "http", protocol: 6 });
    await this.apply([{ map: "services", kind: "update", count: 1, keys: key, values }]);
  }
}

function setUp(): Rig & { readonly kernel: Kernel } {
  const made = rig();
  const kernel = new Kernel();
  made.metrics.dataplane.setMaps(kernel);
  return { ...made, kernel };
}

const service = (name: string): string => `namespace="ns",service="${name}",port="http",protocol="TCP"`;
const OTHER = 'namespace="",service="other",port="",protocol=""';

describe("metrics of the kernel's maps", () => {
  it("show entries, capacity and memory of each map; of slots what the reconciler says", async () => {
    const { sample, lines, metrics } = setUp();
    assert.equal(await sample('portolan_map_entries{map="nat4"}'), 17);
    assert.equal(await sample('portolan_map_capacity_entries{map="nat4"}'), 524288);
    assert.equal(await sample('portolan_map_memory_bytes{map="nat4"}'), 4096);
    assert.equal(await sample('portolan_map_entries{map="slots4"}'), undefined, "nobody knows yet");
    metrics.dataplane.setSlots((family) => (family === 4 ? 12 : null));
    assert.equal(await sample('portolan_map_entries{map="slots4"}'), 12);
    assert.equal(await sample('portolan_map_entries{map="slots6"}'), undefined);
    assert.equal((await lines("portolan_map_capacity_entries{")).length, MAP_NAMES.length);
  });

  it("show every reason by the name that the command line prints, with its verdict", async () => {
    const { kernel, sample, lines } = setUp();
    await kernel.count(Reason.DROP_SOURCE_RANGE, 7, 700);
    await kernel.count(Reason.TRANSLATED, 9, 900);
    assert.equal(await sample('portolan_packets_total{verdict="dropped",reason="source_range"}'), 7);
    assert.equal(await sample('portolan_packet_bytes_total{verdict="dropped",reason="source_range"}'), 700);
    assert.equal(await sample('portolan_packets_total{verdict="translated",reason="translated"}'), 9);
    assert.equal((await lines("portolan_packets_total{")).length, REASONS.length);
  });

  it("take each reason's verdict from what its text says", () => {
    for (const reason of REASONS) {
      const said = /^(passed|dropped|rejected)/.exec(reason.text)?.[1];
      if (said !== undefined) assert.equal(verdictOf(reason), said, reason.name);
      else assert.match(verdictOf(reason), /^(translated|noted)$/, reason.name);
    }
  });

  it("show the traffic of the busiest service ports, and of the others together", async () => {
    const { kernel, timers, sample, lines } = setUp();
    for (const [index, name] of ["a", "b", "c", "d", "e"].entries()) {
      await kernel.name(index, name);
      await kernel.count(Counters.SERVICE_BASE + index, 10 * (index + 1), 1000 * (index + 1), index);
    }
    assert.equal((await lines("portolan_service_bytes_total{")).length, 4);
    assert.equal(await sample(`portolan_service_bytes_total{${service("e")}}`), 5000);
    assert.equal(await sample(`portolan_service_packets_total{${service("d")}}`), 40);
    assert.equal(await sample(`portolan_service_flows_total{${service("c")}}`), 2);
    assert.equal(await sample(`portolan_service_bytes_total{${OTHER}}`), 0);
    await kernel.count(Counters.SERVICE_BASE, 11, 1100);
    timers.advance(1_000);
    assert.equal(await sample(`portolan_service_bytes_total{${OTHER}}`), 100);
  });

  it("are read once for a scrape, and not again within a second, by however many scrapers", async () => {
    const { kernel, metrics, timers } = setUp();
    await Promise.all([metrics.registry.metrics(), metrics.registry.metrics()]);
    const calls = kernel.stats.ffiCalls;
    assert.equal(kernel.reads, 1);
    assert.ok(calls <= 2, `${calls} dumps beside usage()`);
    timers.advance(999);
    await metrics.registry.metrics();
    assert.equal(kernel.reads, 1);
    timers.advance(1);
    await metrics.registry.metrics();
    assert.equal(kernel.reads, 2);
  });

  it("are left out, counted and told when they cannot be read, and the scrape goes on", async () => {
    const { kernel, timers, metrics, lines, sample } = setUp();
    kernel.broken = true;
    assert.deepEqual(await lines("portolan_map_entries{"), []);
    assert.deepEqual(await lines("portolan_packets_total{"), []);
    assert.equal(await sample("portolan_healthy"), 1);
    timers.advance(1_000);
    await metrics.registry.metrics();
    assert.equal(await sample("portolan_map_read_failures_total"), 2);
    kernel.broken = false;
    timers.advance(1_000);
    assert.equal(await sample('portolan_map_entries{map="nat4"}'), 17);
  });

  it("are left out while the maps are not open", async () => {
    const { kernel, metrics, lines } = setUp();
    await metrics.registry.metrics();
    metrics.dataplane.setMaps(null);
    const before = kernel.reads;
    assert.deepEqual(await lines("portolan_map_entries{"), []);
    assert.equal(kernel.reads, before);
  });

  it("count FFI calls and map writes as the maps do", async () => {
    const { kernel, sample } = setUp();
    await kernel.count(0, 1, 1);
    await kernel.name(0, "a");
    assert.equal(await sample("portolan_map_writes_total"), 2);
    assert.ok(((await sample("portolan_ffi_calls_total")) ?? 0) >= 2);
  });
});

describe("TopTraffic", () => {
  const traffic = (name: string, bytes: number): ServiceTraffic => ({
    key: name,
    namespace: "ns",
    name,
    port: "",
    protocol: "TCP",
    traffic: { flows: 0n, packets: BigInt(bytes), bytes: BigInt(bytes) },
  });
  const all = (counts: Readonly<Record<string, number>>): readonly ServiceTraffic[] =>
    Object.entries(counts).map(([name, bytes]) => traffic(name, bytes));
  const names = (top: TopTraffic, counts: Readonly<Record<string, number>>): string =>
    atOnce(top.update(all(counts)))
      .top.map(({ service: { name } }) => name)
      .join("");

  const others = (top: TopTraffic, counts: Readonly<Record<string, number>>): number =>
    atOnce(top.update(all(counts))).other.bytes;

  it("changes places only for one that is well ahead", () => {
    const top = new TopTraffic(1);
    assert.equal(names(top, { a: 1000, b: 900 }), "a");
    assert.equal(names(top, { a: 1100, b: 1050 }), "a");
    assert.equal(names(top, { a: 1100, b: 9000 }), "b");
  });

  it("gives a place that has become free to the next", () => {
    const top = new TopTraffic(2);
    assert.equal(names(top, { a: 30, b: 20, c: 10 }), "ab");
    assert.equal(names(top, { b: 20, c: 10 }), "bc");
  });

  it("never lets the sum of the others shrink or jump, whoever changes places or goes", () => {
    const top = new TopTraffic(1);
    assert.equal(others(top, { a: 1e6, b: 10, c: 5_000 }), 0);
    assert.equal(others(top, { a: 1e6, b: 30, c: 5_000 }), 20);
    // b takes a's place; a's own history stays where it was counted.
    assert.equal(others(top, { a: 1e6, b: 1e9, c: 5_001 }), 21);
    assert.equal(others(top, { a: 1e6 + 4, b: 1e9, c: 5_001 }), 25);
    assert.equal(others(top, { b: 1e9 }), 25);
    // A recycled index begins anew.
    assert.equal(others(top, { b: 1e9, c: 3 }), 25);
    assert.equal(others(top, { b: 1e9, c: 2 }), 27);
  });
});
