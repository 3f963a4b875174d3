// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test } from "node:test";
import { HostView } from "../../../src/daemon/host-view.js";
import { ServiceSync } from "../../../src/daemon/service-sync.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { ProxyConfig, Service, Snapshot } from "../../../src/model/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { parseIp } from "../../../src/net/ip.js";
import type { Logger } from "../../../src/util/log.js";

type Fields = Readonly<Record<string, unknown>>;

function service(name: string, ip: string, created = ""): Service {
  const address = parseIp(ip);
  assert.ok(address);
  return {
    namespace: "default",
    name,
    uid: name,
    labels: {},
    creationTimestamp: created,
    type: "ClusterIP",
    clusterIPs: [address],
    selector: null,
    ports: [{ name: "", protocol: "TCP", port: 80, nodePort: 0 }],
    sessionAffinitySeconds: 0,
    externalTrafficPolicyLocal: false,
    internalTrafficPolicyLocal: false,
    externalIPs: [],
    loadBalancerIPs: [],
    loadBalancerSourceRanges: [],
    healthCheckNodePort: 0,
    origin: { file: "test.yaml", line: 1 },
  };
}

function snapshot(...services: readonly Service[]): Snapshot {
  return {
    services: new Map(services.map((each) => [`${each.namespace}/${each.name}`, each])),
    slices: new Map(),
    node: { name: "n1", zone: "", addresses: [], podCIDRs: [] },
    serviceCIDRs: [],
  };
}

const PROXY: ProxyConfig = {
  masqueradeAll: false,
  localDetector: { 4: false, 6: false },
  nodePortAddresses: [],
  externalIPs: true,
};

function setUp(kernel = new MemoryKernel(), host = new HostView(async () => [])) {
  const said: { readonly message: string; readonly fields: Fields }[] = [];
  const events = new EventEmitter();
  const say = (fields: Fields, message: string): void => {
    said.push({ message, fields });
    events.emit(message);
  };
  const log: Logger = { debug: say, info: say, warn: say, error: say };
  const sync = new ServiceSync({
    reconciler: new Reconciler({ kernel, logger: log }),
    log,
    proxy: PROXY,
    host,
    onReady: () => say({}, "ready"),
  });
  return { kernel, said, events, sync, messages: () => said.map(({ message }) => message) };
}

test("ServiceSync writes nothing before a first snapshot, and says ready once, after the first transaction", async () => {
  const { kernel, events, sync, messages } = setUp();
  await sync.audit();
  assert.equal(kernel.stats.ffiCalls, 0);
  const ready = once(events, "ready");
  sync.publish(snapshot(service("a", "10.96.0.1")));
  await ready;
  assert.equal(kernel.size("frontends4"), 1);
  const synced = once(events, "synced");
  sync.publish(snapshot(service("a", "10.96.0.1"), service("b", "10.96.0.2")));
  await synced;
  await sync.stop();
  assert.deepEqual(messages(), ["synced", "ready", "synced"]);
});

test("ServiceSync skips snapshots that were replaced while it was at work", async () => {
  const { kernel, events, sync, messages } = setUp();
  const all = Array.from({ length: 20 }, (_, i) => service(`s${i}`, `10.96.0.${i + 1}`));
  for (let i = 1; i <= all.length; i++) sync.publish(snapshot(...all.slice(0, i)));
  while (kernel.size("frontends4") < all.length) await once(events, "synced");
  await sync.stop();
  assert.equal(messages().filter((message) => message === "synced").length, 2, "the first, and the last");
});

test("ServiceSync tries again after the kernel refused a write, and is ready only then", async () => {
  const { kernel, events, sync, messages } = setUp();
  kernel.refuseAfter(1, 12);
  const ready = once(events, "ready");
  sync.publish(snapshot(service("a", "10.96.0.1")));
  await ready;
  await sync.stop();
  assert.deepEqual(messages(), ["cannot write the service maps", "synced", "ready"]);
  assert.equal(kernel.size("frontends4"), 1);
});

test("ServiceSync.audit() repairs what somebody has changed, and says so", async () => {
  const { kernel, events, sync, said } = setUp();
  const ready = once(events, "ready");
  sync.publish(snapshot(service("a", "10.96.0.1")));
  await ready;
  const { keys } = await kernel.dump("frontends4");
  await kernel.apply([{ map: "frontends4", kind: "delete", count: 1, keys, values: new Uint8Array() }]);
  await sync.audit();
  await sync.stop();
  assert.equal(kernel.size("frontends4"), 1);
  assert.equal(said.at(-1)?.message, "synced");
  assert.equal(said.at(-1)?.fields.writes, 1);
});

test("ServiceSync logs a conflict between Services once, as long as it lasts, and again when it comes back", async () => {
  const { events, sync, said } = setUp();
  const alone = snapshot(service("a", "10.96.0.1", "2020-01-01T00:00:00Z"));
  const both = snapshot(
    service("a", "10.96.0.1", "2020-01-01T00:00:00Z"),
    service("b", "10.96.0.1", "2021-01-01T00:00:00Z"),
  );
  for (const each of [both, both, alone, both]) {
    const synced = once(events, "synced");
    sync.publish(each);
    await synced;
  }
  await sync.stop();
  const problems = said.filter(({ message }) => message === "service problem");
  assert.equal(problems.length, 2);
  assert.equal(problems[0]?.fields.object, "Service default/b");
});

test("ServiceSync starts nothing after stop()", async () => {
  const { kernel, sync } = setUp();
  await sync.stop();
  sync.publish(snapshot(service("a", "10.96.0.1")));
  await sync.stop();
  assert.equal(kernel.stats.ffiCalls, 0);
});

test("ServiceSync takes nothing away after a restart until the manifests have been whole once, and warns as long", async () => {
  const before = setUp();
  const [a, b] = [service("a", "10.96.0.1"), service("b", "10.96.0.2")];
  const ready = once(before.events, "ready");
  before.sync.publish(snapshot(a, b));
  await ready;
  await before.sync.stop();

  const { kernel, events, said, sync } = setUp(before.kernel);
  const publish = async (lacking: readonly string[], ...services: readonly Service[]): Promise<void> => {
    const synced = once(events, "synced");
    sync.publish(snapshot(...services), lacking);
    await synced;
  };
  const warnings = (): readonly Fields[] =>
    said.filter(({ message }) => message.startsWith("manifests are incomplete")).map(({ fields }) => fields);
  await publish(["b.yaml"], a);
  assert.equal(kernel.size("frontends4"), 2);
  assert.deepEqual(warnings(), [{ code: "held_back", files: ["b.yaml"], servicePorts: 1, backends: 0 }]);
  await sync.audit();
  assert.equal(warnings().length, 2, "again with the audit");
  assert.equal(kernel.size("frontends4"), 2);
  await publish([], a);
  assert.equal(kernel.size("frontends4"), 1, "really gone");
  await sync.audit();
  assert.equal(warnings().length, 2);
  await publish(["a.yaml"]);
  assert.equal(kernel.size("frontends4"), 0, "a source that has been whole knows what is gone");
  await sync.stop();
});

test("ServiceSync tries again when it cannot read what it is to hold back", async () => {
  const { kernel, events, sync, messages } = setUp();
  const dump = kernel.dump.bind(kernel);
  kernel.dump = () => {
    kernel.dump = dump;
    return Promise.reject(new Error("no memory"));
  };
  const ready = once(events, "ready");
  sync.publish(snapshot(service("a", "10.96.0.1")), ["b.yaml"]);
  await ready;
  await sync.stop();
  assert.deepEqual(messages(), ["cannot sync", "synced", "ready"]);
});
