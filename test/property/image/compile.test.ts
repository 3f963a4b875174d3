// SPDX-License-Identifier: Apache-2.0
// Laws of compile: the order of the objects is nothing, the past is nothing, and what did not change is the same object.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import { claimKey } from "../../../src/image/claims.js";
import { compile, createCompiler, DEFAULT_PROXY_CONFIG, NO_HOST_FACTS } from "../../../src/image/compile.js";
import { describeImage } from "../../../src/image/describe.js";
import type { BackendImage, ChoiceImage, Image } from "../../../src/image/types.js";
import type {
  EndpointSlice,
  HostFacts,
  NodeInfo,
  ProxyConfig,
  ReservedAddress,
  Service,
} from "../../../src/model/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import type { Cidr } from "../../../src/net/cidr.js";
import type { Family } from "../../../src/net/ip.js";
import { VersionedMap } from "../../../src/util/versioned-map.js";
import { cidr, endpoint, ip, NODE, service, slice } from "../../fixtures/objects.js";
import { assertExactly } from "../dataplane/rules.js";

// Few names and few addresses, so that Services collide all the time.
const NAMES = ["a", "b", "c", "d"];
const V4 = ["10.96.0.1", "10.96.0.2", "10.96.0.3"].map(ip);
const V6 = ["fd00:96::1", "fd00:96::2"].map(ip);

const port = fc.record({
  name: fc.constantFrom("x", "y"),
  protocol: fc.constantFrom("TCP" as const, "UDP" as const, "SCTP" as const),
  port: fc.constantFrom(80, 81),
  nodePort: fc.constantFrom(0, 30_000),
});

// ClusterIPs of others, addresses of the node and of nobody.
const EXTERNAL = ["10.96.0.1", "10.96.0.2", "192.168.0.2", "198.51.100.1", "fd00:96::1", "2001:db8::1"].map(
  ip,
);
const external = fc.oneof({ weight: 2, arbitrary: fc.constant([]) }, fc.subarray(EXTERNAL, { maxLength: 3 }));

const serviceFields: fc.Arbitrary<Partial<Service>> = fc.record({
  clusterIPs: fc
    .tuple(fc.option(fc.constantFrom(...V4), { freq: 4 }), fc.option(fc.constantFrom(...V6), { freq: 1 }))
    .map((addresses) => addresses.filter((address) => address !== null)),
  ports: fc.array(port, { minLength: 1, maxLength: 3 }),
  creationTimestamp: fc.constantFrom("", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
  internalTrafficPolicyLocal: fc.boolean(),
  externalTrafficPolicyLocal: fc.boolean(),
  externalIPs: external,
  loadBalancerIPs: external,
  loadBalancerSourceRanges: fc.subarray(["10.0.0.0/8", "203.0.113.0/24", "fd00::/8"]),
  sessionAffinitySeconds: fc.constantFrom(0, 60),
});

const sliceOf = (name: string): fc.Arbitrary<EndpointSlice> =>
  fc
    .record({
      six: fc.boolean(),
      index: fc.integer({ min: 0, max: 2 }),
      hosts: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 4 }),
      port: fc.constantFrom(8080, 9090),
      ready: fc.boolean(),
      terminating: fc.boolean(),
      nodeName: fc.constantFrom("node-a", "node-b"),
    })
    .map(({ six, index, hosts, port: number, ready, terminating, nodeName }) =>
      slice(
        name,
        hosts.map((host) =>
          endpoint(six ? `fd00::${host}` : `10.0.0.${host}`, { ready, terminating, nodeName }),
        ),
        {
          name: `${name}-${six ? 6 : 4}-${index}`,
          family: six ? 6 : 4,
          ports: [
            { name: "x", protocol: "TCP", port: number },
            { name: "y", protocol: "UDP", port: number },
            { name: "y", protocol: "SCTP", port: number },
          ],
        },
      ),
    );

interface State {
  readonly services: ReadonlyMap<string, Service>;
  readonly slices: ReadonlyMap<string, readonly EndpointSlice[]>;
  readonly node: NodeInfo;
  readonly serviceCIDRs: readonly Cidr[];
  /** What is known of the host: no part of a Snapshot, but it changes like one. */
  readonly host: HostFacts;
}

const reserved: fc.Arbitrary<ReservedAddress> = fc.record({
  address: fc.constantFrom(null, ip("10.96.0.1"), ip("192.168.0.2"), ip("198.51.100.1")),
  port: fc.constantFrom(80, 81, 30_000),
  protocol: fc.constantFrom("TCP" as const, "UDP" as const),
  use: fc.constant("something"),
  refusesNodePorts: fc.boolean(),
});
const hosts: fc.Arbitrary<HostFacts> = fc.oneof(
  fc.constant(NO_HOST_FACTS),
  fc.record({
    localAddresses: fc.subarray(["192.168.0.2", "192.168.1.2", "198.51.100.1", "2001:db8::1"].map(ip)),
    reserved: fc.array(reserved, { maxLength: 2 }),
  }),
);
const CONFIGS: readonly ProxyConfig[] = [
  DEFAULT_PROXY_CONFIG,
  { ...DEFAULT_PROXY_CONFIG, localDetector: { 4: true, 6: false }, nodePortAddresses: "primary" },
  { ...DEFAULT_PROXY_CONFIG, masqueradeAll: true, nodePortAddresses: [cidr("192.168.0.0/24")] },
  { ...DEFAULT_PROXY_CONFIG, externalIPs: false },
];
const configs = fc.constantFrom(...CONFIGS);

/** One change of one object. */
type Change = (state: State) => State;

const change: fc.Arbitrary<Change> = fc.constantFrom(...NAMES).chain((name) => {
  const key = `default/${name}`;
  const put = serviceFields.map<Change>((fields) => (state) => ({
    ...state,
    services: new Map([...state.services, [key, service(name, fields)]]),
  }));
  const drop = fc.constant<Change>((state) => ({
    ...state,
    services: new Map([...state.services].filter(([other]) => other !== key)),
  }));
  const reslice = fc
    .uniqueArray(sliceOf(name), { maxLength: 3, selector: (one) => one.name })
    .map<Change>((list) => (state) => ({
      ...state,
      slices: new Map([...state.slices, [key, list]]),
    }));
  const copy = fc.constant<Change>((state) => {
    const present = state.services.get(key);
    return present === undefined
      ? state
      : { ...state, services: new Map([...state.services, [key, { ...present }]]) };
  });
  const node = fc
    .constantFrom(
      NODE,
      { ...NODE, addresses: [ip("192.168.0.2"), ip("2001:db8::1")] },
      { ...NODE, name: "node-b" },
      { ...NODE, addresses: [ip("10.96.0.1")] },
    )
    .map<Change>((next) => (state) => ({ ...state, node: next }));
  const host = hosts.map<Change>((next) => (state) => ({ ...state, host: next }));
  const networks = fc
    .subarray(["10.96.0.0/16", "10.97.0.0/16", "fd00:96::/112"].map(cidr))
    .map<Change>((next) => (state) => ({ ...state, serviceCIDRs: next }));
  return fc.oneof(
    { weight: 2, arbitrary: host },
    { weight: 1, arbitrary: networks },
    { weight: 6, arbitrary: put },
    { weight: 2, arbitrary: drop },
    { weight: 6, arbitrary: reslice },
    { weight: 1, arbitrary: copy },
    { weight: 1, arbitrary: node },
  );
});

const SMALL_MAPS = { backends4: 200, backends6: 200, slots4: 400, slots6: 400 };
const EMPTY: State = {
  services: new Map(),
  slices: new Map(),
  node: NODE,
  serviceCIDRs: [],
  host: NO_HOST_FACTS,
};
const changes = fc.array(change, { minLength: 1, maxLength: 14 });

const contents = (image: Image): unknown => [
  Array.from(image.servicePorts),
  { ...image, servicePorts: null },
];

/** With affinity the marks of the backends say the same as the choices (5.3). */
function assertSets(
  backends: readonly BackendImage[],
  choices: readonly ChoiceImage[],
  family: Family,
): void {
  for (const { set, backends: chosen } of choices) {
    const marked = [...backends.entries()].filter(
      ([, { address, clusterSet, localSet }]) =>
        address.family === family && (set === "cluster" ? clusterSet : localSet),
    );
    assert.deepEqual(
      marked.map(([index]) => index),
      [...chosen],
    );
  }
}

function assertSame(actual: Image, expected: Image): void {
  assert.deepEqual(describeImage(actual), describeImage(expected));
}

function shuffled<T>(items: readonly T[], keys: readonly number[]): T[] {
  const weight = (index: number): number =>
    ((keys[index % Math.max(1, keys.length)] ?? 0) * 31 + index * 17) % 101;
  return items
    .map((item, index) => ({ item, at: weight(index) }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

test("compile() does not depend on the order of Services and slices", () => {
  fc.assert(
    fc.property(
      changes,
      fc.array(fc.nat(100), { minLength: 1, maxLength: 8 }),
      configs,
      (list, keys, config) => {
        const state = list.reduce((before, one) => one(before), EMPTY);
        const other: State = {
          services: new Map(shuffled(Array.from(state.services), keys)),
          slices: new Map(
            shuffled(Array.from(state.slices), keys).map(([key, slices]) => [key, shuffled(slices, keys)]),
          ),
          node: state.node,
          serviceCIDRs: shuffled(state.serviceCIDRs, keys),
          host: { ...state.host, localAddresses: shuffled(state.host.localAddresses, keys) },
        };
        if (state.host === NO_HOST_FACTS) Object.assign(other, { host: NO_HOST_FACTS });
        assertSame(compile(other, config, other.host), compile(state, config, state.host));
      },
    ),
    { numRuns: 2000 },
  );
});

test("createCompiler() gives after any changes what a compile from nothing gives, and on the way back too", () => {
  fc.assert(
    fc.property(changes, configs, (list, config) => {
      const compiler = createCompiler(config);
      const states: State[] = [EMPTY];
      for (const one of list) states.push(one(states.at(-1) ?? EMPTY));
      for (const state of [...states, ...states.toReversed()])
        assertSame(compiler.compile(state, state.host), compile(state, config, state.host));
    }),
    { numRuns: 800 },
  );
});

/** The same states, their maps made one of the other: what differs between them is known. */
function versioned(states: readonly State[]): State[] {
  let services = VersionedMap.of<string, Service>();
  let slices = VersionedMap.of<string, readonly EndpointSlice[]>();
  return states.map((state) => {
    services = services.with(changesTo(services, state.services));
    slices = slices.with(changesTo(slices, state.slices));
    return { ...state, services, slices };
  });
}

function changesTo<V>(
  before: ReadonlyMap<string, V>,
  now: ReadonlyMap<string, V>,
): Map<string, V | undefined> {
  return new Map([...before.keys(), ...now.keys()].map((key) => [key, now.get(key)]));
}

test("createCompiler() told what differs gives what a compile from nothing gives, also when it skips states or goes back", () => {
  fc.assert(
    fc.property(changes, configs, fc.array(fc.nat(20), { maxLength: 20 }), (list, config, order) => {
      const states: State[] = [EMPTY];
      for (const one of list) states.push(one(states.at(-1) ?? EMPTY));
      const told = versioned(states);
      const compiler = createCompiler(config);
      for (const i of [...told.keys(), ...order.map((index) => index % told.length)]) {
        const state = told[i] as State;
        assertSame(compiler.compile(state, state.host), compile(states[i] as State, config, state.host));
      }
    }),
    { numRuns: 800 },
  );
});

test("createCompiler() keeps the identity of each service port that comes out equal", () => {
  fc.assert(
    fc.property(changes, change, (list, last) => {
      const compiler = createCompiler();
      const state = list.reduce((before, one) => one(before), EMPTY);
      const before = compiler.compile(state, state.host);
      const changed = last(state);
      const after = compiler.compile(changed, changed.host);
      for (const field of ["nodePortAddresses", "serviceNetworks"] as const) {
        const equal = JSON.stringify(before[field]) === JSON.stringify(after[field]);
        assert.equal(before[field] === after[field], equal, field);
      }
      assert.equal(before === after, JSON.stringify(contents(before)) === JSON.stringify(contents(after)));
      let unchanged = before.servicePorts.size === after.servicePorts.size;
      for (const [key, servicePort] of after.servicePorts) {
        const earlier = before.servicePorts.get(key);
        const equal = earlier !== undefined && JSON.stringify(earlier) === JSON.stringify(servicePort);
        assert.equal(earlier === servicePort, equal, key);
        unchanged &&= equal;
      }
      assert.equal(after.servicePorts === before.servicePorts, unchanged);
    }),
    { numRuns: 2000 },
  );
});

test("createCompiler() notes exactly the service ports that differ from those of its image before", () => {
  fc.assert(
    fc.property(changes, (list) => {
      const compiler = createCompiler();
      const state = list.reduce((before, one) => one(before), EMPTY);
      const images = [EMPTY, state, ...list.map((one) => one(state))].map((each) =>
        compiler.compile(each, each.host),
      );
      for (const [i, { servicePorts: now }] of images.entries()) {
        const { servicePorts: before } = images[Math.max(0, i - 1)] as Image;
        const different = [...new Set([...before.keys(), ...now.keys()])].filter(
          (key) => before.get(key) !== now.get(key),
        );
        assert.deepEqual([...(VersionedMap.changedKeys(before, now) ?? [])].sort(), different.sort());
      }
    }),
    { numRuns: 800 },
  );
});

test("Reconciler.sync() with what the compiler notes makes the maps what they should be", async () => {
  await fc.assert(
    fc.asyncProperty(changes, async (list) => {
      const kernel = new MemoryKernel({ maxEntries: SMALL_MAPS });
      let now = 0;
      const reconciler = new Reconciler({ kernel, clock: { now: () => now } });
      const compiler = createCompiler();
      const base = list.reduce((before, one) => one(before), EMPTY);
      for (const state of [base, ...list.map((one) => one(base)), EMPTY]) {
        now += 2000;
        const image = compiler.compile(state, state.host);
        const { failure, refused } = await reconciler.sync(image);
        assert.deepEqual([failure, refused], [null, []]);
        assertExactly(kernel, image);
      }
    }),
    { numRuns: 150 },
  );
});

test("compile() gives each address, port and protocol to one service port at most (2.22), and indexes that exist", () => {
  fc.assert(
    fc.property(changes, configs, (list, config) => {
      const state = list.reduce((before, one) => one(before), EMPTY);
      const image = compile(state, config, state.host);
      const owners = Array.from(image.servicePorts.values()).flatMap(({ frontends, protocol }) =>
        frontends.map((frontend) => claimKey(frontend, protocol)),
      );
      assert.equal(new Set(owners).size, owners.length);
      for (const { backends, frontends, sourceRanges, affinitySeconds } of image.servicePorts.values()) {
        assert.ok(frontends.length > 0);
        assert.equal(
          sourceRanges.length > 0,
          frontends.some(({ sourceRanged }) => sourceRanged),
        );
        for (const backend of backends) {
          assert.ok(backend.serving || !(backend.clusterSet || backend.localSet));
          assert.ok(affinitySeconds > 0 || !(backend.clusterSet || backend.localSet));
        }
        for (const { kind, address, internal, external, sourceRanged } of frontends) {
          if (sourceRanged) {
            assert.equal(kind, "LoadBalancer");
            assert.ok(sourceRanges.some(({ family }) => family === address.family));
          }
          assertSets(backends, affinitySeconds > 0 ? [internal, external] : [], address.family);
          for (const index of [...internal.backends, ...external.backends]) {
            assert.equal(backends[index]?.address.family, address.family);
          }
        }
      }
    }),
    { numRuns: 1000 },
  );
});
