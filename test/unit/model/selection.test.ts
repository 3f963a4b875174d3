// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PortEndpoint } from "../../../src/model/endpoints.js";
import { endpointsOfPort, inSliceOrder } from "../../../src/model/endpoints.js";
import {
  clusterSet,
  externalChoice,
  internalChoice,
  localSet,
  selectEndpoints,
  shortCircuitChoice,
} from "../../../src/model/selection.js";
import { countHints, modeOf } from "../../../src/model/topology.js";
import type { TrafficPolicy } from "../../../src/model/traffic-policy.js";
import { trafficPolicy } from "../../../src/model/traffic-policy.js";
import type { ServicePortSpec } from "../../../src/model/types.js";
import { endpoint, ip, NODE, portEndpoint as pe, service, slice } from "../../fixtures/objects.js";

const names = (endpoints: readonly PortEndpoint[]): string[] =>
  endpoints.map((e) => `${e.address.text}:${e.port}`);
const at = (...last: number[]): string[] => last.map((n) => `10.0.0.${n}:8080`);
const PORT: ServicePortSpec = { name: "", protocol: "TCP", port: 80, nodePort: 0 };
const ALL: TrafficPolicy = {
  internalLocal: false,
  externalLocal: false,
  usesCluster: true,
  usesLocal: false,
};
const LOCAL: TrafficPolicy = {
  internalLocal: true,
  externalLocal: true,
  usesCluster: false,
  usesLocal: true,
};

const of = (
  slices: Parameters<typeof endpointsOfPort>[0],
  name = "",
  protocol: "TCP" | "UDP" = "TCP",
): readonly PortEndpoint[] => endpointsOfPort(inSliceOrder(slices), 4, name, protocol, "node-a");

test("endpointsOfPort() takes the slice's number of the same name and protocol (2.6, 2.4)", () => {
  const ports = [
    { name: "dns", protocol: "UDP", port: 5353 },
    { name: "dns", protocol: "TCP", port: 5354 },
    { name: "web", protocol: "TCP", port: 8080 },
  ] as const;
  const one = slice("a", [endpoint("10.0.0.1")], { ports });
  const two = slice("a", [endpoint("10.0.0.2")], {
    name: "a-2",
    ports: [{ name: "dns", protocol: "UDP", port: 53 }],
  });
  assert.deepEqual(names(of([one, two], "dns", "UDP")), ["10.0.0.1:5353", "10.0.0.2:53"]);
  assert.deepEqual(names(of([one, two], "dns")), ["10.0.0.1:5354"]);
  assert.deepEqual(of([one, two], ""), []);
});

test("endpointsOfPort() leaves out ports without a number (2.7) and slices of the other family (1.14)", () => {
  const zero = slice("a", [endpoint("10.0.0.1")], { ports: [{ name: "", protocol: "TCP", port: 0 }] });
  const six = slice("a", [endpoint("fd00::1")], { name: "a-6" });
  assert.deepEqual(of([zero, six]), []);
  assert.deepEqual(names(endpointsOfPort([six], 6, "", "TCP", "node-a")), ["fd00::1:8080"]);
});

test("endpointsOfPort() calls local what names this node, and nothing without a node name (3.3)", () => {
  const one = slice("a", [
    endpoint("10.0.0.1", { nodeName: "node-a" }),
    endpoint("10.0.0.2", { nodeName: "node-b" }),
    endpoint("10.0.0.3", { nodeName: null }),
  ]);
  assert.deepEqual(
    of([one]).map((e) => e.local),
    [true, false, false],
  );
  assert.deepEqual(
    endpointsOfPort([one], 4, "", "TCP", "").map((e) => e.local),
    [false, false, false],
  );
});

test("endpointsOfPort() lets a non-terminating duplicate override, whatever the order (3.4)", () => {
  const dying = endpoint("10.0.0.1", { ready: false, terminating: true });
  const living = endpoint("10.0.0.1", { nodeName: "node-a" });
  for (const [first, second] of [
    [dying, living],
    [living, dying],
  ] as const) {
    const both = [slice("a", [first]), slice("a", [second], { name: "a-2" })];
    for (const slices of [both, both.toReversed(), [slice("a", [first, second])]]) {
      assert.deepEqual(
        of(slices).map((e) => [e.ready, e.local]),
        [[true, true]],
      );
    }
  }
});

test("endpointsOfPort() keeps the first of two terminating duplicates, by slice name (3.4)", () => {
  const one = slice("a", [endpoint("10.0.0.1", { terminating: true, nodeName: "node-a" })], { name: "a-1" });
  const two = slice("a", [endpoint("10.0.0.1", { terminating: true, nodeName: "node-b" })], { name: "a-2" });
  assert.deepEqual(
    of([one, two]).map((e) => e.local),
    [true],
  );
  assert.deepEqual(
    of([two, one]).map((e) => e.local),
    [true],
  );
});

test("endpointsOfPort() keeps one address at two numbers apart (3.4)", () => {
  const one = slice("a", [endpoint("10.0.0.1")]);
  const two = slice("a", [endpoint("10.0.0.1")], {
    name: "a-2",
    ports: [{ name: "", protocol: "TCP", port: 9090 }],
  });
  assert.deepEqual(names(of([one, two])), ["10.0.0.1:8080", "10.0.0.1:9090"]);
});

test("endpointsOfPort() decides duplicates the same way in long lists and short ones (3.4)", () => {
  const many = Array.from({ length: 40 }, (_, i) =>
    endpoint(`10.0.1.${i % 20}`, { terminating: i < 10 || i >= 30 }),
  );
  assert.deepEqual(
    of([slice("a", many)]).map((e) => e.terminating),
    Array(20).fill(false),
  );
});

test("trafficPolicy() needs the cluster set unless only local ClusterIP traffic exists (4.1)", () => {
  const internal = service("a", { internalTrafficPolicyLocal: true });
  assert.equal(trafficPolicy(service("a"), PORT, 4).usesCluster, true);
  assert.equal(trafficPolicy(internal, PORT, 4).usesCluster, false);
  assert.equal(trafficPolicy(internal, { ...PORT, nodePort: 30000 }, 4).usesCluster, true);
  assert.equal(trafficPolicy({ ...internal, externalIPs: [ip("192.0.2.1")] }, PORT, 4).usesCluster, true);
  assert.equal(trafficPolicy({ ...internal, loadBalancerIPs: [ip("192.0.2.1")] }, PORT, 4).usesCluster, true);
  assert.equal(trafficPolicy({ ...internal, loadBalancerIPs: [ip("fd00::1")] }, PORT, 4).usesCluster, false);
});

test("trafficPolicy() needs the local set for a local policy that something is subject to (4.2)", () => {
  const external = service("a", { externalTrafficPolicyLocal: true });
  assert.equal(trafficPolicy(service("a"), PORT, 4).usesLocal, false);
  assert.equal(trafficPolicy(service("a", { internalTrafficPolicyLocal: true }), PORT, 4).usesLocal, true);
  assert.equal(trafficPolicy(external, PORT, 4).usesLocal, false);
  assert.equal(trafficPolicy(external, { ...PORT, nodePort: 30000 }, 4).usesLocal, true);
  assert.equal(trafficPolicy({ ...external, externalIPs: [ip("fd00::9")] }, PORT, 4).usesLocal, false);
});

test("clusterSet() is the Ready endpoints; serving alone is never used (3.2, 4.5)", () => {
  const all = [
    pe("10.0.0.1"),
    pe("10.0.0.2", "S"),
    pe("10.0.0.3", "ST"),
    pe("10.0.0.4", "T"),
    pe("10.0.0.5", "NR"),
  ];
  assert.deepEqual(names(clusterSet(all, NODE)), at(1));
  assert.deepEqual(names(clusterSet(all.slice(1), NODE)), at(3));
  assert.deepEqual(clusterSet([all[1], all[3], all[4]] as PortEndpoint[], NODE), []);
});

test("clusterSet() counts an endpoint as ready that terminates but says ready (3.2)", () => {
  assert.deepEqual(
    names(clusterSet([pe("10.0.0.1", "R", { terminating: true, serving: false })], NODE)),
    at(1),
  );
});

test("clusterSet() falls back to terminating endpoints anywhere, ignoring hints (4.6)", () => {
  const all = [
    pe("10.0.0.1", "ST", { zoneHints: ["zone-2"] }),
    pe("10.0.0.2", "ST", { zoneHints: ["zone-1"] }),
  ];
  assert.deepEqual(names(clusterSet(all, NODE)), at(1, 2));
});

test("modeOf() prefers this node, then this zone (4.3 b, c)", () => {
  const both = [
    pe("10.0.0.1", "R", { nodeHints: ["node-a"], zoneHints: ["zone-1"] }),
    pe("10.0.0.2", "R", { nodeHints: ["node-b"], zoneHints: ["zone-1"] }),
    pe("10.0.0.3", "R", { nodeHints: ["node-c"], zoneHints: ["zone-2"] }),
  ];
  assert.equal(modeOf(countHints(both, NODE)), "node");
  assert.deepEqual(names(clusterSet(both, NODE)), at(1));
  const elsewhere = { ...NODE, name: "node-x" };
  assert.equal(modeOf(countHints(both, elsewhere)), "zone");
  assert.deepEqual(names(clusterSet(both, elsewhere)), at(1, 2));
});

test("modeOf() ignores hints as a whole when one Ready endpoint has none (4.3 d, 4.16)", () => {
  const all = [pe("10.0.0.1", "R", { zoneHints: ["zone-1"] }), pe("10.0.0.2")];
  assert.equal(modeOf(countHints(all, NODE)), "none");
  assert.deepEqual(names(clusterSet(all, NODE)), at(1, 2));
});

test("modeOf() looks at Ready endpoints only (4.3, 4.3 a)", () => {
  const unready = pe("10.0.0.2", "ST");
  assert.equal(modeOf(countHints([], NODE)), "none");
  assert.deepEqual(names(clusterSet([pe("10.0.0.1", "R", { zoneHints: ["zone-1"] }), unready], NODE)), at(1));
});

test("modeOf() never matches an empty zone, nor leaves a zone without endpoints (4.4)", () => {
  const hinted = [pe("10.0.0.1", "R", { zoneHints: [""] }), pe("10.0.0.2", "R", { zoneHints: ["zone-2"] })];
  assert.equal(modeOf(countHints(hinted, { ...NODE, zone: "" })), "none");
  assert.equal(modeOf(countHints(hinted, NODE)), "none");
  assert.deepEqual(names(clusterSet(hinted, NODE)), at(1, 2));
});

test("localSet() is not filtered by hints, and falls back by itself (4.7)", () => {
  const hinted = pe("10.0.0.1", "R", { local: true, zoneHints: ["zone-9"] });
  assert.deepEqual(names(localSet([hinted, pe("10.0.0.2", "ST", { local: true }), pe("10.0.0.3")])), at(1));
  assert.deepEqual(names(localSet([pe("10.0.0.2", "ST", { local: true }), pe("10.0.0.3")])), at(2));
  assert.deepEqual(localSet([pe("10.0.0.2", "S", { local: true }), pe("10.0.0.3")]), []);
});

test("selectEndpoints() falls back in each set by itself (4.8)", () => {
  const all = [pe("10.0.0.1", "ST", { local: true }), pe("10.0.0.2")];
  const selection = selectEndpoints(all, { ...ALL, externalLocal: true, usesLocal: true }, NODE);
  assert.deepEqual([names(selection.cluster), names(selection.local)], [at(2), at(1)]);
});

test("selectEndpoints() says whether there is anything anywhere (4.9)", () => {
  const remote = [pe("10.0.0.1", "ST")];
  assert.equal(selectEndpoints(remote, LOCAL, NODE).hasAny, true);
  assert.equal(selectEndpoints([pe("10.0.0.1", "S")], LOCAL, NODE).hasAny, false);
  assert.equal(selectEndpoints([], ALL, NODE).hasAny, false);
});

test("internalChoice() rejects when there is nothing, drops when there is nothing local (7.1, 7.2)", () => {
  const remote = selectEndpoints([pe("10.0.0.1")], LOCAL, NODE);
  assert.deepEqual(internalChoice(remote, LOCAL), {
    endpoints: [],
    whenEmpty: "drop",
    rules: ["4.10", "7.2"],
  });
  for (const policy of [LOCAL, ALL]) {
    assert.deepEqual(internalChoice(selectEndpoints([], policy, NODE), policy), {
      endpoints: [],
      whenEmpty: "reject",
      rules: ["7.1"],
    });
  }
});

test("externalChoice() and shortCircuitChoice() differ when the external policy is local (4.11, 4.12, 7.3)", () => {
  const policy = { ...ALL, externalLocal: true, usesLocal: true };
  const selection = selectEndpoints([pe("10.0.0.1")], policy, NODE);
  assert.deepEqual(externalChoice(selection, policy), {
    endpoints: [],
    whenEmpty: "drop",
    rules: ["4.12", "7.3"],
  });
  assert.deepEqual(names(shortCircuitChoice(selection).endpoints), at(1));
  assert.deepEqual(names(externalChoice(selection, ALL).endpoints), at(1));
});

test("internal and external policies do not touch each other's traffic (4.13)", () => {
  const policy = { internalLocal: true, externalLocal: false, usesCluster: true, usesLocal: true };
  const selection = selectEndpoints([pe("10.0.0.1"), pe("10.0.0.2", "R", { local: true })], policy, NODE);
  assert.deepEqual(names(internalChoice(selection, policy).endpoints), at(2));
  assert.deepEqual(names(externalChoice(selection, policy).endpoints), at(1, 2));
});
