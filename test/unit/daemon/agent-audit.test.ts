// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Registry } from "prom-client";
import type { MapName } from "../../../src/abi/maps.gen.js";
import { AgentAudit, type AuditedParts } from "../../../src/daemon/agent-audit.js";
import { MapPins } from "../../../src/daemon/map-pins.js";
import { AuditMetrics } from "../../../src/daemon/metrics/audit-metrics.js";
import type { AuditResult } from "../../../src/dataplane/reconciler.js";
import { silentLogger } from "../../../src/util/log.js";

function setUp() {
  const registry = new Registry();
  const entries: string[] = [];
  const sync = { entriesRepaired: (map: MapName, count: number) => void entries.push(`${map} ${count}`) };
  const audit = new AgentAudit(silentLogger, { audit: new AuditMetrics(registry), sync });
  const state = {
    services: { differences: new Map(), repair: null, failure: null } as AuditResult,
    asked: 0,
    onLook: () => {},
    onSockets: () => {},
    onPins: () => {},
  };
  const parts: AuditedParts = {
    pins: { ensure: async () => state.onPins() },
    follower: { look: async () => state.onLook() },
    sockets: { ensure: async () => state.onSockets() },
    services: { audit: async () => state.services },
    others: [
      async () => {
        state.asked += 1;
      },
    ],
  };
  return { audit, parts, state, entries, registry };
}

const CLEAN = { entries: {}, interfaces: 0, sockets: 0, pins: 0, failures: [] };

test("AgentAudit tells what all its parts have found, counts it by kind, and tells it once", async () => {
  const { audit, parts, state, entries, registry } = setUp();
  assert.deepEqual(await audit.request(), CLEAN, "nobody to ask yet");
  audit.setParts(parts);
  state.services = { ...state.services, differences: new Map([["slots4", 3]]) };
  state.onLook = () => audit.interfacesFound({ entries: 2, programs: 1 });
  state.onSockets = () => audit.socketsFound(8);
  state.onPins = () => audit.pinsFound(4);
  const found = { entries: { slots4: 3, interfaces: 2 }, interfaces: 1, sockets: 8, pins: 4, failures: [] };
  assert.deepEqual(await audit.request(), found);
  assert.deepEqual(entries, ["interfaces 2"], "those of the service maps are counted with their sync");
  const text = await registry.metrics();
  for (const line of ['kind="interface"} 1', 'kind="socket"} 8', 'kind="pin"} 4'])
    assert.ok(text.includes(`portolan_audit_repaired_attachments_total{${line}`), line);
  state.services = { ...state.services, differences: new Map() };
  state.onLook = state.onSockets = state.onPins = () => {};
  assert.deepEqual(await audit.request(), CLEAN);
  assert.equal(state.asked, 2);
});

test("AgentAudit says what could not be looked at", async () => {
  const { audit, parts, state } = setUp();
  audit.setParts(parts);
  state.services = {
    ...state.services,
    failure: { code: "E_KERNEL", map: null, errno: null, message: "no maps" },
  };
  state.onLook = () => audit.looked(new Error("no links"));
  assert.deepEqual((await audit.request()).failures, ["no maps", "no links"]);
});

test("MapPins makes those pins again that are gone, another map's, or no map's, and says so once", async () => {
  const pinned = new Map<string, number | Error>([
    ["/p/nat4", 1],
    ["/p/nat6", 99],
    ["/p/services", new Error("The pin is not a map")],
  ]);
  const made: string[] = [];
  const found: number[] = [];
  const library = {
    pinnedMap: (path: string): number | null => {
      const there = pinned.get(path) ?? null;
      if (there instanceof Error) throw there;
      return there;
    },
    pinMap: (id: number, path: string): void => {
      made.push(`${id} ${path}`);
      pinned.set(path, id);
    },
  };
  const infos = (["nat4", "nat6", "services", "slots4"] as const).map((name, i) => ({ name, id: i + 1 }));
  const object = { infos: () => infos as never };
  const pins = new MapPins({
    library,
    object,
    pins: "/p",
    log: silentLogger,
    onFound: (count) => found.push(count),
  });
  await pins.ensure();
  await pins.ensure();
  assert.deepEqual(made, ["2 /p/nat6", "3 /p/services", "4 /p/slots4"]);
  assert.deepEqual(found, [3]);
});
