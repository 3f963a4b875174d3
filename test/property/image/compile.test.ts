// SPDX-License-Identifier: Apache-2.0
// Laws of compile: the order of the objects is nothing, the past is nothing, and what did not change is the same object.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import { changedKeys } from "../../../src/image/changes.js";
import { compile, createCompiler } from "../../../src/image/compile.js";
import { describeImage, imageLines } from "../../../src/image/describe.js";
import type { Image } from "../../../src/image/types.js";
import type { EndpointSlice, NodeInfo, Service, Snapshot } from "../../../src/model/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import type { Cidr } from "../../../src/net/cidr.js";
import { endpoint, ip, NODE, service, slice } from "../../fixtures/objects.js";
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

const serviceFields: fc.Arbitrary<Partial<Service>> = fc.record({
  clusterIPs: fc
    .tuple(fc.option(fc.constantFrom(...V4), { freq: 4 }), fc.option(fc.constantFrom(...V6), { freq: 1 }))
    .map((addresses) => addresses.filter((address) => address !== null)),
  ports: fc.array(port, { minLength: 1, maxLength: 3 }),
  creationTimestamp: fc.constantFrom("", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
  internalTrafficPolicyLocal: fc.boolean(),
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
}

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
    .constantFrom(NODE, { ...NODE, name: "node-b" }, { ...NODE, addresses: [ip("10.96.0.1")] })
    .map<Change>((next) => (state) => ({ ...state, node: next }));
  return fc.oneof(
    { weight: 6, arbitrary: put },
    { weight: 2, arbitrary: drop },
    { weight: 6, arbitrary: reslice },
    { weight: 1, arbitrary: copy },
    { weight: 1, arbitrary: node },
  );
});

const SMALL_MAPS = { backends4: 200, backends6: 200, slots4: 400, slots6: 400 };
const EMPTY: State = { services: new Map(), slices: new Map(), node: NODE, serviceCIDRs: [] };
const changes = fc.array(change, { minLength: 1, maxLength: 14 });

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
    fc.property(changes, fc.array(fc.nat(100), { minLength: 1, maxLength: 8 }), (list, keys) => {
      const state = list.reduce((before, one) => one(before), EMPTY);
      const other: Snapshot = {
        services: new Map(shuffled(Array.from(state.services), keys)),
        slices: new Map(
          shuffled(Array.from(state.slices), keys).map(([key, slices]) => [key, shuffled(slices, keys)]),
        ),
        node: state.node,
        serviceCIDRs: shuffled(state.serviceCIDRs, keys),
      };
      assertSame(compile(other), compile(state));
    }),
    { numRuns: 1500 },
  );
});

test("createCompiler() gives after any changes what a compile from nothing gives, and on the way back too", () => {
  fc.assert(
    fc.property(changes, (list) => {
      const compiler = createCompiler();
      const states: State[] = [EMPTY];
      for (const one of list) states.push(one(states.at(-1) ?? EMPTY));
      for (const state of [...states, ...states.toReversed()])
        assertSame(compiler.compile(state), compile(state));
    }),
    { numRuns: 800 },
  );
});

test("createCompiler() keeps the identity of each service port that comes out equal", () => {
  fc.assert(
    fc.property(changes, change, (list, last) => {
      const compiler = createCompiler();
      const state = list.reduce((before, one) => one(before), EMPTY);
      const before = compiler.compile(state);
      const after = compiler.compile(last(state));
      let unchanged = before.servicePorts.size === after.servicePorts.size;
      for (const [key, servicePort] of after.servicePorts) {
        const earlier = before.servicePorts.get(key);
        const equal = earlier !== undefined && JSON.stringify(earlier) === JSON.stringify(servicePort);
        assert.equal(earlier === servicePort, equal, key);
        unchanged &&= equal;
      }
      assert.equal(after.servicePorts === before.servicePorts, unchanged);
    }),
    { numRuns: 1500 },
  );
});

test("createCompiler() notes exactly the service ports that differ from those of its image before", () => {
  fc.assert(
    fc.property(changes, (list) => {
      const compiler = createCompiler();
      const state = list.reduce((before, one) => one(before), EMPTY);
      const images = [EMPTY, state, ...list.map((one) => one(state))].map((each) => compiler.compile(each));
      for (const [i, { servicePorts: now }] of images.entries()) {
        const { servicePorts: before } = images[Math.max(0, i - 1)] as Image;
        const different = [...new Set([...before.keys(), ...now.keys()])].filter(
          (key) => before.get(key) !== now.get(key),
        );
        assert.deepEqual([...(changedKeys(before, now) ?? [])].sort(), different.sort());
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
        const image = compiler.compile(state);
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
    fc.property(changes, (list) => {
      const image = compile(list.reduce((before, one) => one(before), EMPTY));
      const owners = imageLines(image).flatMap((line) =>
        / ClusterIP /.test(line) ? (line.split(" ")[0] ?? "") : [],
      );
      assert.equal(new Set(owners).size, owners.length);
      for (const { backends, frontends } of image.servicePorts.values()) {
        assert.ok(frontends.length > 0);
        for (const { address, internal, external } of frontends) {
          for (const index of [...internal.backends, ...external.backends]) {
            assert.equal(backends[index]?.address.family, address.family);
          }
        }
      }
    }),
    { numRuns: 1000 },
  );
});
