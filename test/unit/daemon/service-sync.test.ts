// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test } from "node:test";
import { AddressClass } from "../../../src/abi/enums.gen.js";
import { HealthState } from "../../../src/daemon/health/health-state.js";
import { HostView } from "../../../src/daemon/host-view.js";
import type { SyncWatcher } from "../../../src/daemon/metrics/sync-watch.js";
import { ServiceSync, type ServiceSyncDependencies } from "../../../src/daemon/service-sync.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { Problem, ProxyConfig, ReservedAddress, Service, Snapshot } from "../../../src/model/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { type IpAddress, parseIp } from "../../../src/net/ip.js";
import { type Clock, systemClock } from "../../../src/util/clock.js";
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

/** A host whose addresses are known. */
function hostWith(...addresses: readonly IpAddress[]): HostView {
  const host = new HostView(async () => []);
  host.setLocalAddresses(addresses);
  return host;
}

const IDLE_WATCHER: SyncWatcher = {
  queued() {},
  started() {},
  applied() {},
  failed() {},
  audited() {},
  heldBack() {},
};

type Callbacks = Pick<ServiceSyncDependencies, "onCommitted" | "onProblems" | "watcher">;

function setUp(
  kernel = new MemoryKernel(),
  host = hostWith(),
  clock: Clock = systemClock,
  callbacks: Callbacks = {},
) {
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
    clock,
    ...callbacks,
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

test("ServiceSync.stop() ends an audit at the piece that it is at, and reports nothing of it", async () => {
  const audited: unknown[] = [];
  const watcher = { audited: (result: unknown) => void audited.push(result) };
  const { kernel, events, sync, messages } = setUp(undefined, undefined, undefined, {
    watcher: { ...IDLE_WATCHER, ...watcher },
  });
  const ready = once(events, "ready");
  sync.publish(snapshot(service("a", "10.96.0.1")));
  await ready;
  const dumpChunks = kernel.dumpChunks.bind(kernel);
  let stopped = Promise.resolve();
  let maps = 0;
  kernel.dumpChunks = async function* (...args) {
    maps += 1;
    if (maps === 2) stopped = sync.stop();
    yield* dumpChunks(...args);
  };
  assert.equal(await sync.audit(), null);
  await stopped;
  assert.deepEqual([maps, audited, messages()], [2, [], ["synced", "ready"]]);
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

function address(text: string): IpAddress {
  const found = parseIp(text);
  assert.ok(found, text);
  return found;
}

const NODE_PORT: Service = {
  ...service("np", "10.96.0.7"),
  type: "NodePort",
  ports: [{ name: "", protocol: "TCP", port: 80, nodePort: 30080 }],
};

/** IPv4 addresses on which NodePorts are served, as the map has them. */
function nodePortAddresses(kernel: MemoryKernel): readonly string[] {
  return [...kernel.entries("addresses4")]
    .filter(([, value]) => ((value[0] ?? 0) & AddressClass.CLASS_NODE) !== 0)
    .map(([key]) => key.subarray(0, 4).join("."));
}

test("ServiceSync serves NodePorts on addresses that come later, without a new snapshot (6.1)", async () => {
  const host = hostWith(address("192.0.2.1"));
  const { kernel, events, sync } = setUp(new MemoryKernel(), host);
  const first = once(events, "synced");
  sync.publish(snapshot(NODE_PORT));
  await first;
  assert.deepEqual(nodePortAddresses(kernel), ["192.0.2.1"]);
  assert.equal(host.setLocalAddresses([address("192.0.2.1")]), false, "nothing new");
  assert.equal(host.setLocalAddresses([address("192.0.2.9"), address("192.0.2.1")]), true);
  const second = once(events, "synced");
  sync.hostChanged();
  await second;
  assert.deepEqual([...nodePortAddresses(kernel)].sort(), ["192.0.2.1", "192.0.2.9"]);
  await sync.stop();
});

test("ServiceSync writes nothing before the host's addresses are known, lest NodePorts be taken off them", async () => {
  const before = setUp(undefined, hostWith(address("192.0.2.1")));
  const first = once(before.events, "synced");
  before.sync.publish(snapshot(NODE_PORT));
  await first;
  await before.sync.stop();
  const host = new HostView(async () => []);
  const { kernel, events, sync, messages } = setUp(before.kernel, host);
  const writes = kernel.stats.mapWrites;
  sync.publish(snapshot(NODE_PORT));
  await sync.audit();
  const synced = once(events, "synced");
  assert.deepEqual(messages(), []);
  assert.equal(host.setLocalAddresses([address("192.0.2.1")]), true);
  sync.hostChanged();
  await synced;
  assert.equal(kernel.stats.mapWrites, writes, "nothing has changed while no agent ran");
  await sync.stop();
});

test("ServiceSync.hostChanged() before the first snapshot does nothing", async () => {
  const { kernel, sync } = setUp();
  sync.hostChanged();
  await sync.stop();
  assert.equal(kernel.stats.ffiCalls, 0);
});

test("ServiceSync.audit() takes a frontend back that would capture a program's clients, and gives it back", async () => {
  let reserved: readonly ReservedAddress[] = [];
  const host = new HostView(async () => reserved);
  host.setLocalAddresses([address("192.0.2.1")]);
  const { kernel, events, sync } = setUp(new MemoryKernel(), host);
  const external = { ...service("a", "10.96.0.1"), externalIPs: [address("192.0.2.1")] };
  const first = once(events, "synced");
  sync.publish(snapshot(external));
  await first;
  assert.equal(kernel.size("frontends4"), 2);
  reserved = [{ address: address("192.0.2.1"), port: 80, protocol: "TCP", use: "a listening socket" }];
  const second = once(events, "service problem");
  await sync.audit();
  await second;
  while (kernel.size("frontends4") !== 1) await once(events, "synced");
  reserved = [];
  await sync.audit();
  while (kernel.size("frontends4") !== 2) await once(events, "synced");
  await sync.stop();
});

test("ServiceSync.hostChanged() compiles with the host as it is now, though no Service has changed", async () => {
  let reserved: readonly ReservedAddress[] = [];
  const host = new HostView(async () => reserved);
  host.setLocalAddresses([]);
  const { kernel, events, sync } = setUp(new MemoryKernel(), host);
  const synced = once(events, "synced");
  sync.publish(snapshot({ ...service("a", "10.96.0.1"), externalIPs: [address("192.0.2.1")] }));
  await synced;
  assert.equal(kernel.size("frontends4"), 2);
  // The API server's name leads there now.
  reserved = [{ address: address("192.0.2.1"), port: 80, protocol: "TCP", use: "the API server" }];
  const again = once(events, "synced");
  sync.hostChanged();
  await again;
  assert.equal(
    kernel.size("frontends4"),
    1,
    "the frontend would capture the agent's own way to the API server",
  );
  await sync.stop();
});

test("ServiceSync tells its watcher of each step: a change that cannot be written for a minute is not healthy (6.24, 10.2)", async () => {
  const kernel = new MemoryKernel();
  const clock = { time: 0, now: () => clock.time };
  const health = new HealthState({
    timers: { now: clock.now, epoch: () => 0, after: () => () => {} },
  });
  const steps: string[] = [];
  const watcher: SyncWatcher = {
    queued: () => {
      health.queued();
      steps.push("queued");
    },
    started: () => health.started(),
    applied: (_image, { full }) => {
      health.applied();
      steps.push(full ? "applied in full" : "applied");
    },
    failed: (code, message) => {
      health.failed(message);
      steps.push(code);
    },
    audited: () => void steps.push("audited"),
    heldBack: () => {},
  };
  const { events, sync } = setUp(kernel, undefined, clock, { watcher });
  const first = once(events, "synced");
  sync.publish(snapshot(service("a", "10.96.0.1")));
  await first;
  assert.equal(health.healthy, true);
  const apply = kernel.apply.bind(kernel);
  kernel.apply = (writes) => {
    kernel.refuseAfter(0, 12);
    return apply(writes);
  };
  const REFUSED = "cannot write the service maps";
  sync.publish(snapshot(service("b", "10.96.0.2")));
  await once(events, REFUSED);
  await once(events, REFUSED); // the first one has been dealt with
  assert.equal(health.healthy, true, "it has just begun to fail");
  clock.time = 60_001;
  assert.equal(health.healthy, false);
  kernel.apply = apply;
  await once(events, "synced");
  assert.equal(health.healthy, true);
  sync.publish(snapshot(service("a", "10.96.0.1")));
  await once(events, "synced");
  await sync.audit();
  await sync.stop();
  const told = steps.filter((step, i) => step !== steps[i - 1]);
  const expected = [
    "queued",
    "applied in full",
    "queued",
    "E_WRITE_REFUSED",
    "applied in full",
    "queued",
    "applied",
    "audited",
  ];
  assert.deepEqual(told, expected);
});

test("ServiceSync tells what it has committed with the snapshot behind it, and problems when they change", async () => {
  const committed: string[] = [];
  const told: (readonly Problem[])[] = [];
  const { events, sync } = setUp(undefined, undefined, undefined, {
    onCommitted: (image, { services }) => committed.push(`${image.servicePorts.size} of ${services.size}`),
    onProblems: (problems) => told.push(problems),
  });
  const publish = async (...services: readonly Service[]): Promise<void> => {
    const synced = once(events, "synced");
    sync.publish(snapshot(...services));
    await synced;
  };
  const [a, b] = [service("a", "10.96.0.1", "2020"), service("b", "10.96.0.1", "2021")];
  await publish(a);
  await publish(a, b);
  await publish(a, b, service("c", "10.96.0.3"));
  await publish(a);
  await sync.stop();
  assert.deepEqual(
    told.map(({ length }) => length),
    [0, 1, 0],
    "the first time, also without any",
  );
  assert.equal(committed.length, 4);
  assert.deepEqual([committed[0], committed[3]], ["1 of 1", "1 of 1"]);
});
