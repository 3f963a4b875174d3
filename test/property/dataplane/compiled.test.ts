// SPDX-License-Identifier: Apache-2.0
/** What the compiler makes of Services of every kind, written step by step: its images keep what the publish order builds on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import { createCompiler, DEFAULT_PROXY_CONFIG, NO_HOST_FACTS } from "../../../src/image/compile.js";
import type { Endpoint, EndpointSlice, Service, Snapshot } from "../../../src/model/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { cidr, endpoint, ip, NODE, service, slice, snapshot } from "../../fixtures/objects.js";
import { assertExactly, RuleWatcher } from "./rules.js";

const SERVICES = 3;
const SIZES = { backends4: 200, backends6: 200, slots4: 400, slots6: 400 };
const LOCAL = ["172.16.0.1", "172.16.0.2", "fd00:172::1"].map(ip);

const endpoints = fc.array(
  fc.record({
    pod: fc.integer({ min: 1, max: 4 }),
    here: fc.boolean(),
    state: fc.constantFrom<Partial<Endpoint>>(
      {},
      { ready: false, serving: true, terminating: true },
      { ready: false, serving: false, terminating: true },
      { ready: false, serving: false },
    ),
  }),
  { maxLength: 4 },
);

const object = fc.record({
  i: fc.integer({ min: 0, max: SERVICES - 1 }),
  gone: fc.boolean(),
  type: fc.constantFrom<Service["type"]>("ClusterIP", "NodePort", "LoadBalancer"),
  families: fc.constantFrom<readonly (4 | 6)[]>([4], [6], [4, 6]),
  affinity: fc.constantFrom(0, 60),
  externalLocal: fc.boolean(),
  internalLocal: fc.boolean(),
  externalIPs: fc.subarray(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
  ranges: fc.subarray(["10.0.0.0/8", "192.0.2.0/24", "fd00::/8", "0.0.0.0/0"]),
  endpoints,
});

const step = fc.record({
  objects: fc.array(object, { minLength: 1, maxLength: 3 }),
  local: fc.subarray(LOCAL),
  networks: fc.subarray(["10.96.0.0/16", "fd00:96::/112"]),
  restart: fc.boolean(),
});

type Spec = typeof object extends fc.Arbitrary<infer T> ? T : never;

function serviceOf({ i, type, families, ...spec }: Spec): Service {
  return service(`s${i}`, {
    type,
    clusterIPs: families.map((family) => ip(family === 4 ? `10.96.0.${i + 1}` : `fd00:96::${i + 1}`)),
    ports: [{ name: "", protocol: "TCP", port: 80, nodePort: type === "ClusterIP" ? 0 : 30_000 + i }],
    sessionAffinitySeconds: spec.affinity,
    externalTrafficPolicyLocal: spec.externalLocal && type !== "ClusterIP",
    internalTrafficPolicyLocal: spec.internalLocal,
    externalIPs: spec.externalIPs.map(ip),
    loadBalancerIPs: type === "LoadBalancer" ? [ip(`198.51.100.${i + 1}`), ip(`2001:db8:1::${i + 1}`)] : [],
    loadBalancerSourceRanges: spec.ranges,
  });
}

function slicesOf({ i, families, endpoints: pods }: Spec): EndpointSlice[] {
  return families.map((family) => {
    const each = pods.map(({ pod, here, state }) =>
      endpoint(family === 4 ? `10.244.1.${pod}` : `fd00:244::${pod}`, {
        ...state,
        nodeName: here ? NODE.name : "node-b",
      }),
    );
    return slice(`s${i}`, each, { name: `s${i}-${family}`, family });
  });
}

test("sync() publishes compiled Services of every kind and keeps the rules after every write", async () => {
  const counts = { checks: 0, setChecks: 0, admissionChecks: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 6 }), async (steps) => {
      const kernel = new MemoryKernel({ maxEntries: SIZES });
      const compiler = createCompiler(DEFAULT_PROXY_CONFIG);
      const watcher = new RuleWatcher(1000);
      const specs = new Map<number, Spec>();
      let now = 1000;
      const start = (): Reconciler => new Reconciler({ kernel, clock: { now: () => now }, sliceMs: 1000 });
      let reconciler = start();
      kernel.afterWrite = (write) => watcher.check(kernel, write, now);
      for (const { objects, local, networks, restart } of steps) {
        now += 500;
        for (const each of objects) {
          if (each.gone) specs.delete(each.i);
          else specs.set(each.i, each);
        }
        const all = [...specs.values()];
        const from: Snapshot = {
          ...snapshot(all.map(serviceOf), all.flatMap(slicesOf)),
          serviceCIDRs: networks.map(cidr),
        };
        const image = compiler.compile(from, { ...NO_HOST_FACTS, localAddresses: local });
        watcher.begin(kernel, image);
        if (restart) reconciler = start();
        const { failure, refused } = await reconciler.sync(image);
        assert.deepEqual([failure, refused], [null, []]);
        assertExactly(kernel, image);
        assert.equal((await start().sync(image)).writes, 0, "a start with nothing changed writes nothing");
      }
      for (const name of ["checks", "setChecks", "admissionChecks"] as const) counts[name] += watcher[name];
    }),
    { numRuns: 60, includeErrorInReport: true },
  );
  assert.ok(
    counts.checks > 1000 && counts.setChecks > 100 && counts.admissionChecks > 50,
    JSON.stringify(counts),
  );
});
