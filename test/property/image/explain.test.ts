// SPDX-License-Identifier: Apache-2.0
// What explain says is used is what a compile of the same snapshot uses, endpoint by endpoint and frontend by frontend.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compile, createCompiler, DEFAULT_PROXY_CONFIG, NO_HOST_FACTS } from "../../../src/image/compile.js";
import type { ExplainedFamily, ExplainedFrontend, ServiceExplanation } from "../../../src/image/explain.js";
import { explainService } from "../../../src/image/explain.js";
import type { FrontendImage, Image, ServicePortImage } from "../../../src/image/types.js";
import { whatIfs } from "../../../src/image/what-if.js";
import type { Endpoint, EndpointSlice, Service, Snapshot } from "../../../src/model/types.js";
import { formatAddressPort } from "../../../src/net/port.js";
import { endpoint, ip, service, slice, snapshot } from "../../fixtures/objects.js";

const condition = fc.constantFrom(
  { ready: true, serving: true, terminating: false },
  { ready: true, serving: true, terminating: false },
  { ready: false, serving: true, terminating: true },
  { ready: false, serving: true, terminating: false },
  { ready: false, serving: false, terminating: true },
  { ready: true, serving: false, terminating: true },
);
const hints = (...values: string[]): fc.Arbitrary<string[]> => fc.subarray(values);

const endpointIn = (six: boolean): fc.Arbitrary<Endpoint> =>
  fc
    .record({
      host: fc.integer({ min: 1, max: 4 }),
      condition,
      nodeName: fc.constantFrom("node-a", "node-b", null),
      zoneHints: hints("zone-1", "zone-2"),
      nodeHints: hints("node-a", "node-b"),
    })
    .map(({ host, condition: is, ...fields }) =>
      endpoint(six ? `fd00::${host}` : `10.0.0.${host}`, { ...is, ...fields }),
    );

const aSlice = (index: number): fc.Arbitrary<EndpointSlice> =>
  fc.boolean().chain((six) =>
    fc
      .tuple(fc.array(endpointIn(six), { maxLength: 5 }), fc.constantFrom(8080, 8080, 9090, 0))
      .map(([endpoints, port]) =>
        slice("web", endpoints, {
          name: `web-${index}`,
          family: six ? 6 : 4,
          ports: [
            { name: "http", protocol: "TCP", port },
            ...(index === 0 ? [{ name: "dns", protocol: "UDP", port: 53 } as const] : []),
          ],
        }),
      ),
  );

const web: fc.Arbitrary<Service> = fc
  .record({
    type: fc.constantFrom("ClusterIP" as const, "LoadBalancer" as const),
    clusterIPs: fc.subarray(["10.96.0.1", "fd00:96::1"].map(ip)),
    internalTrafficPolicyLocal: fc.boolean(),
    externalTrafficPolicyLocal: fc.boolean(),
    externalIPs: fc.subarray(["192.0.2.1", "2001:db8::1", "192.0.2.9"].map(ip)),
    loadBalancerIPs: fc.subarray(["192.0.2.2", "10.96.0.1"].map(ip)),
    loadBalancerSourceRanges: fc.subarray(["10.0.0.0/8"]),
    healthCheckNodePort: fc.constantFrom(0, 30_999),
    nodePort: fc.constantFrom(0, 30_080),
  })
  .map(({ nodePort, ...fields }) =>
    service("web", {
      ...fields,
      creationTimestamp: "2026-01-02T00:00:00Z",
      ports: [
        { name: "http", protocol: "TCP", port: 80, nodePort },
        { name: "dns", protocol: "UDP", port: 53, nodePort: 0 },
      ],
    }),
  );

/** An older Service, with which it may conflict. */
const SENIOR = service("senior", {
  clusterIPs: [ip("10.96.0.9")],
  externalIPs: [ip("192.0.2.9")],
  creationTimestamp: "2026-01-01T00:00:00Z",
  ports: [{ name: "http", protocol: "TCP", port: 80, nodePort: 30_080 }],
});

const snapshots: fc.Arbitrary<Snapshot> = fc
  .tuple(
    web,
    fc.array(fc.integer({ min: 0, max: 2 }), { maxLength: 3 }).chain((list) => fc.tuple(...list.map(aSlice))),
    fc.constantFrom("zone-1", ""),
    fc.boolean(),
    fc.constantFrom([], [ip("10.96.0.1")]),
  )
  .map(([one, slices, zone, contested, addresses]) =>
    snapshot(contested ? [one, SENIOR] : [one], slices, { name: "node-a", zone, addresses, podCIDRs: [] }),
  );

const CONFIGS = fc.constantFrom(DEFAULT_PROXY_CONFIG, {
  ...DEFAULT_PROXY_CONFIG,
  externalIPs: false,
  masqueradeAll: true,
});

function explained(of: Snapshot, config = DEFAULT_PROXY_CONFIG): [ServiceExplanation, Image] {
  const image = compile(of, config);
  const found = explainService("default/web", { snapshot: of, config, host: NO_HOST_FACTS, image });
  assert.ok(found !== null);
  return [found, image];
}

const sorted = (texts: Iterable<string>): string[] => Array.from(new Set(texts)).sort();

/** What the compile's frontends of one family offer, in any scope. */
function usedByCompile(port: ServicePortImage | undefined, family: number): string[] {
  const offers = (port?.frontends ?? []).filter(({ address }) => address.family === family);
  return sorted(
    offers
      .flatMap(({ internal, external }) => [...internal.backends, ...external.backends])
      .map((index) => port?.backends[index])
      .map((backend) => (backend === undefined ? "?" : formatAddressPort(backend.address, backend.port))),
  );
}

const text = ({ address, port }: { address: string; port: number }): string =>
  formatAddressPort(ip(address), port);

function usedByExplain({ endpoints }: ExplainedFamily): string[] {
  return sorted(endpoints.filter(({ used }) => used).map(text));
}

/** By the verdicts on one set: what a choice of that set must offer. */
function inSet({ endpoints }: ExplainedFamily, set: "cluster" | "local"): string[] {
  return sorted(
    endpoints.filter((one) => (set === "cluster" ? one.cluster : one.localSet)?.used === true).map(text),
  );
}

const frontendKey = (kind: string, address: string): string => `${kind} ${address}`;
const imageKey = ({ kind, address, port }: FrontendImage): string =>
  frontendKey(kind, kind === "NodePort" ? `*:${port}` : formatAddressPort(address, port));

test("what explain calls used is what a compile of the same snapshot uses, for 5,000 random snapshots", () => {
  const seen = { used: 0, unused: 0, duplicates: 0, leftOut: 0, fallback: 0, hinted: 0 };
  fc.assert(
    fc.property(snapshots, CONFIGS, (input, config) => {
      const [explanation, image] = explained(input, config);
      const ports = [...image.servicePorts.values()].filter(({ name }) => name === "web");
      for (const port of explanation.ports) {
        const compiled = image.servicePorts.get(port.key);
        const families = new Set(port.families.map(({ family }) => family));
        for (const { address } of compiled?.frontends ?? []) assert.ok(families.has(address.family));
        for (const family of port.families) {
          assert.deepEqual(usedByExplain(family), usedByCompile(compiled, family.family));
          for (const frontend of family.frontends) assertFrontend(family, frontend, compiled);
          for (const { used, duplicate } of family.endpoints) {
            seen.used += Number(used);
            seen.unused += Number(!used);
            seen.duplicates += Number(duplicate);
          }
          seen.fallback += Number(family.clusterFallback && usedByExplain(family).length > 0);
          seen.hinted += Number(family.topology !== "none");
          seen.leftOut += family.frontends.filter(({ leftOut }) => leftOut !== null).length;
        }
      }
      for (const { key } of ports) assert.ok(explanation.ports.some((port) => port.key === key));
      assert.equal(explanation.notServed === null, explanation.ports.length > 0);
    }),
    { numRuns: 5_000 },
  );
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 0, `nothing ${what} was seen`);
});

function assertFrontend(
  family: ExplainedFamily,
  frontend: ExplainedFrontend,
  compiled: ServicePortImage | undefined,
): void {
  const held = (compiled?.frontends ?? []).some(
    (other) =>
      other.address.family === family.family &&
      imageKey(other) === frontendKey(frontend.kind, frontend.address),
  );
  assert.equal(frontend.leftOut === null, held);
  if (frontend.leftOut !== null) assert.match(frontend.leftOut, /belongs to Service default\/senior/);
  for (const choice of [frontend.internal, frontend.external]) {
    assert.deepEqual(sorted(choice.backends), inSet(family, choice.set));
    // An empty offer says whether it is refused (7.1) or dropped (7.2, 7.3), and an offer names no rule of section 7.
    const section7 = choice.rules.filter((rule) => rule.startsWith("7."));
    const expected =
      choice.backends.length > 0
        ? []
        : choice.whenEmpty === "reject"
          ? ["7.1"]
          : [frontend.kind === "ClusterIP" ? "7.2" : "7.3"];
    assert.deepEqual(section7, expected);
  }
}

test("every endpoint entry of a slice that counts is told of once, and every other slice with its reason", () => {
  fc.assert(
    fc.property(snapshots, (input) => {
      const [explanation] = explained(input);
      const slices = input.slices.get("default/web") ?? [];
      for (const { families } of explanation.ports) {
        for (const { endpoints, skippedSlices } of families) {
          const skipped = new Set(skippedSlices.map((each) => each.slice));
          const told = slices.filter(({ name }) => !skipped.has(name));
          assert.ok(endpoints.length >= told.reduce((sum, each) => sum + each.endpoints.length, 0));
          for (const { cluster, localSet, duplicate, used } of endpoints) {
            assert.equal(duplicate, cluster === null && localSet === null);
            if (used) assert.ok(cluster?.used === true || localSet?.used === true);
            for (const reason of [cluster, localSet]) if (reason) assert.ok(reason.rules.length > 0);
          }
        }
      }
    }),
    { numRuns: 1_000 },
  );
});

test("what would change is what a compile of the changed snapshot says, and asking changes nothing", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(snapshots, (input) => {
      const before = JSON.stringify([...input.services, ...input.slices]);
      const compiler = createCompiler(DEFAULT_PROXY_CONFIG);
      for (const { code, changes } of whatIfs("default/web", input, compiler, NO_HOST_FACTS)) {
        for (const change of changes) {
          seen.add(code);
          assert.notDeepEqual(change.before, change.after);
          if (code === "all-gone") assert.equal(change.after, "reject");
        }
      }
      assert.equal(JSON.stringify([...input.services, ...input.slices]), before);
    }),
    { numRuns: 1_000 },
  );
  assert.deepEqual(Array.from(seen).sort(), [
    "all-gone",
    "all-terminating",
    "all-unready",
    "external-policy",
    "hints-complete",
    "hints-gone",
    "internal-policy",
    "local-gone",
  ]);
});
