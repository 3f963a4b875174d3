// SPDX-License-Identifier: Apache-2.0
/** A scrape of the real kernel's maps: right, with few calls, and without holding up the event loop when maps are full. */
import assert from "node:assert/strict";
import { performance } from "node:perf_hooks";
import { after, before, test } from "node:test";
import { Counters, Reason } from "../../src/abi/enums.gen.js";
import { serviceNameCodec, trafficCodec } from "../../src/abi/layout.gen.js";
import { MAP_NAMES, MAPS, type MapName } from "../../src/abi/maps.gen.js";
import { HealthState } from "../../src/daemon/health/health-state.js";
import { AgentMetrics } from "../../src/daemon/metrics/agent-metrics.js";
import type { MapWrite } from "../../src/native/kernel.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { LoadedObject } from "../../src/native/object.js";
import { silentLogger } from "../../src/util/log.js";
import { isolated } from "../native/support/isolate.js";
import { leastOf } from "../support/awake.js";
import { longestTurn } from "../support/turns.js";

const SERVICES = 10_000;
const FLOWS = 400_000;
/** usage(), the names, the counters. */
const CALLS = 3;
/** What the agent's own syncs would hardly notice. The best of several: a busy machine makes turns long, too. */
const LONGEST_TURN_MS = 100;

function packed(map: MapName, keys: readonly number[], values: (key: number) => Uint8Array): MapWrite {
  const { keySize, valueSize } = MAPS[map];
  const write = {
    map,
    kind: "update" as const,
    count: keys.length,
    keys: new Uint8Array(keys.length * keySize),
    values: new Uint8Array(keys.length * valueSize),
  };
  const view = new DataView(write.keys.buffer);
  for (const [i, key] of keys.entries()) {
    view.setUint32(i * keySize, key, true);
    write.values.set(values(key), i * valueSize);
  }
  return write;
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

isolated(import.meta.url, () => {
  const library = new NativeLibrary();
  let kernel: LoadedObject;
  let metrics: AgentMetrics;

  before(async () => {
    kernel = await library.open({ pins: "" });
    metrics = new AgentMetrics({ health: new HealthState(), log: silentLogger, version: "0.0.0" });
    metrics.dataplane.setMaps(kernel);
  });
  after(() => kernel.close());

  test("a scrape shows what the kernel's maps hold, with three calls", async () => {
    const traffic = trafficCodec.encode({ flows: 1n, packets: 2n, bytes: 1n << 40n });
    const name = (index: number): Uint8Array =>
      serviceNameCodec.encode({ namespaceName: "ns", name: `s${index}`, portName: "", protocol: 17 });
    const { failure } = await kernel.apply([
      packed("services", [0, 7], name),
      packed("counters", [Reason.DROP_MAP_FULL, Counters.SERVICE_BASE + 7], () => traffic),
    ]);
    assert.equal(failure, null);
    const before = kernel.stats.ffiCalls;
    const text = await metrics.registry.metrics();
    assert.equal(kernel.stats.ffiCalls - before, CALLS);
    // Written to one CPU's cell or to all of them: the dump says which, and the metric says the same.
    const { values } = await kernel.dump("counters", Reason.DROP_MAP_FULL + 1);
    const { packets } = trafficCodec.decode(values, Reason.DROP_MAP_FULL * trafficCodec.size);
    assert.ok(packets >= 2n);
    assert.match(
      text,
      new RegExp(
        `^portolan_packets_total\\{verdict="dropped",reason="nat_insert_failed"\\} ${packets}$`,
        "m",
      ),
    );
    assert.match(
      text,
      /^portolan_service_packets_total\{namespace="ns",service="s7",port="",protocol="UDP"\} [1-9]/m,
    );
    assert.match(text, /^portolan_map_entries\{map="services"\} 2$/m);
    assert.match(text, /^portolan_map_capacity_entries\{map="nat4"\} 524288$/m);
    const sized = text.match(/^portolan_map_memory_bytes\{map="\w+"\} [1-9]\d*$/gm) ?? [];
    assert.ok(sized.length > 0 && sized.length <= MAP_NAMES.length);
  });

  test("a scrape of full maps leaves the event loop free", async (t) => {
    const name = (index: number): Uint8Array =>
      serviceNameCodec.encode({ namespaceName: "ns", name: `s${index}`, portName: "", protocol: 6 });
    const zero = new Uint8Array(MAPS.nat4.valueSize);
    const { failure } = await kernel.apply([
      packed("services", range(SERVICES), name),
      packed("nat4", range(FLOWS), () => zero),
    ]);
    assert.equal(failure, null);
    let text = "";
    const turns = await leastOf(LONGEST_TURN_MS, async () => {
      const fresh = new AgentMetrics({ health: new HealthState(), log: silentLogger, version: "0.0.0" });
      fresh.dataplane.setMaps(kernel);
      const started = performance.now();
      const longest = await longestTurn(async () => {
        text = await fresh.registry.metrics();
      });
      const ms = Math.round(performance.now() - started);
      t.diagnostic(`scrape ${ms} ms, longest turn ${Math.round(longest)} ms, ${text.length} bytes`);
      return longest;
    });
    const longest = Math.min(...turns);
    const used = Number(/^portolan_map_entries\{map="nat4"\} (\d+)$/m.exec(text)?.[1]);
    assert.ok(used > FLOWS / 2 && used <= FLOWS, `${used} flows`);
    assert.ok(longest < LONGEST_TURN_MS, `the event loop stood still for ${longest} ms`);
  });
});
