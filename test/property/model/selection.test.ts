// SPDX-License-Identifier: Apache-2.0
// Selection against section 4 of the rules, written down a second time, naively and from the text of the rules alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { PortEndpoint } from "../../../src/model/endpoints.js";
import { endpointsOfPort, inSliceOrder } from "../../../src/model/endpoints.js";
import {
  externalChoice,
  internalChoice,
  selectEndpoints,
  shortCircuitChoice,
} from "../../../src/model/selection.js";
import { trafficPolicy } from "../../../src/model/traffic-policy.js";
import type { Endpoint, EndpointSlice, NodeInfo, Service } from "../../../src/model/types.js";
import { ip, ORIGIN, service } from "../../fixtures/objects.js";

const ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"].map(ip);
const NODES = ["node-a", "node-b", ""];
const ZONES = ["z1", "z2", ""];

// Real-life conditions are common, so that sets are often empty or all of one kind.
const condition = fc.constantFrom(
  [true, true, false],
  [true, true, false],
  [false, true, true],
  [false, true, false],
  [false, false, true],
  [false, false, false],
  [true, false, true],
);
const hints = (values: readonly string[]): fc.Arbitrary<readonly string[]> =>
  fc.oneof(fc.constant([]), fc.uniqueArray(fc.constantFrom(...values), { minLength: 1, maxLength: 2 }));

const endpoint: fc.Arbitrary<Endpoint> = fc
  .tuple(
    fc.constantFrom(...ADDRESSES),
    condition,
    fc.constantFrom("node-a", "node-b", null),
    hints(["node-a", "node-b"]),
    hints(["z1", "z2", ""]),
    fc.boolean(),
  )
  .map(([address, [ready, serving, terminating], nodeName, nodeHints, zoneHints, hinted]) => ({
    address,
    ready: ready === true,
    serving: serving === true,
    terminating: terminating === true,
    nodeName,
    nodeHints: hinted ? nodeHints : [],
    zoneHints: hinted ? zoneHints : [],
  }));

const slices: fc.Arbitrary<readonly EndpointSlice[]> = fc
  .array(fc.tuple(fc.array(endpoint, { maxLength: 4 }), fc.constantFrom(8080, 8080, 9090, 0)), {
    maxLength: 3,
  })
  .map((lists) =>
    lists.map(([endpoints, port], index) => ({
      namespace: "default",
      name: `s-${index}`,
      serviceName: "web",
      family: 4 as const,
      ports: [{ name: "p", protocol: "TCP" as const, port }],
      endpoints,
      origin: ORIGIN,
    })),
  );

interface Case {
  readonly slices: readonly EndpointSlice[];
  readonly node: NodeInfo;
  readonly service: Service;
  readonly nodePort: number;
}

const cases: fc.Arbitrary<Case> = fc
  .tuple(
    slices,
    fc.constantFrom(...NODES),
    fc.constantFrom(...ZONES),
    fc.boolean(),
    fc.boolean(),
    fc.constantFrom("none", "nodePort", "externalIP", "loadBalancer", "otherFamily"),
  )
  .map(([list, name, zone, internal, external, exposed]) => ({
    slices: list,
    node: { name, zone, addresses: [], podCIDRs: [] },
    nodePort: exposed === "nodePort" ? 30_000 : 0,
    service: service("web", {
      internalTrafficPolicyLocal: internal,
      externalTrafficPolicyLocal: external,
      externalIPs:
        exposed === "externalIP" ? [ip("192.0.2.1")] : exposed === "otherFamily" ? [ip("2001:db8::1")] : [],
      loadBalancerIPs: exposed === "loadBalancer" ? [ip("192.0.2.2")] : [],
    }),
  }));

/** What the rules say, as sets of "address:port" per kind of traffic, "reject" or "drop". */
interface Verdicts {
  readonly clusterIP: string;
  readonly outside: string;
  readonly shortCircuit: string;
  /** Something of the port can be reached from outside. */
  readonly exposed: boolean;
}

interface E extends Endpoint {
  readonly key: string;
}

/** 3.4, as a table that is filled from the first slice to the last. */
function setE({ slices: list }: Case): E[] {
  const table: Record<string, E> = {};
  for (const slice of list) {
    for (const { name, port } of slice.ports) {
      for (const e of slice.endpoints) {
        if (name !== "p" || port === 0) continue;
        const key = `${e.address.text}:${port}`;
        if (!(key in table) || !e.terminating) table[key] = { ...e, key };
      }
    }
  }
  return Object.values(table);
}

function rules(input: Case): Verdicts {
  const { node, service: svc } = input;
  const N = node.name;
  const Z = node.zone;
  const all = setE(input);
  const exposed =
    input.nodePort > 0 ||
    [...svc.externalIPs, ...svc.loadBalancerIPs].filter((a) => a.family === 4).length > 0;
  const usesCluster = !svc.internalTrafficPolicyLocal || exposed; // 4.1
  const usesLocal = svc.internalTrafficPolicyLocal || (svc.externalTrafficPolicyLocal && exposed); // 4.2
  const Ready = all.filter((e) => e.ready); // 3.2
  const fallback = all.filter((e) => !e.ready && e.serving && e.terminating); // 3.2

  let mode = "none"; // 4.3 a, d
  if (Ready.length > 0) {
    const someNode = Ready.filter((e) => e.nodeHints.indexOf(N) >= 0).length > 0;
    const someZone = Z !== "" && Ready.filter((e) => e.zoneHints.indexOf(Z) >= 0).length > 0; // 4.4
    if (Ready.filter((e) => e.nodeHints.length === 0).length === 0 && someNode) mode = "SameNode";
    else if (Ready.filter((e) => e.zoneHints.length === 0).length === 0 && someZone) mode = "SameZone";
  }
  let ClusterSet: E[] = [];
  if (usesCluster) {
    if (mode === "SameNode") ClusterSet = Ready.filter((e) => e.nodeHints.indexOf(N) >= 0);
    else if (mode === "SameZone") ClusterSet = Ready.filter((e) => e.zoneHints.indexOf(Z) >= 0);
    else ClusterSet = Ready; // 4.5
    if (ClusterSet.length === 0) ClusterSet = fallback; // 4.6
  }
  let LocalSet: E[] = [];
  if (usesLocal) {
    LocalSet = Ready.filter((e) => e.nodeName === N);
    if (LocalSet.length === 0) LocalSet = fallback.filter((e) => e.nodeName === N); // 4.7
  }
  const hasAny = ClusterSet.length > 0 || (usesLocal && Ready.length + fallback.length > 0); // 4.9
  const show = (set: E[]): string =>
    set.length > 0
      ? set
          .map((e) => e.key)
          .sort()
          .join(" ")
      : hasAny
        ? "drop"
        : "reject"; // 7.1 to 7.3
  return {
    clusterIP: show(svc.internalTrafficPolicyLocal ? LocalSet : ClusterSet), // 4.10
    outside: show(svc.externalTrafficPolicyLocal ? LocalSet : ClusterSet), // 4.11, 4.12
    shortCircuit: show(ClusterSet), // 4.12
    exposed,
  };
}

function ours(input: Case): Omit<Verdicts, "exposed"> {
  const port = { name: "p", protocol: "TCP", port: 80, nodePort: input.nodePort } as const;
  const policy = trafficPolicy(input.service, port, 4);
  const endpoints = endpointsOfPort(inSliceOrder(input.slices), 4, "p", "TCP", input.node.name);
  const selection = selectEndpoints(endpoints, policy, input.node);
  const show = (choice: { endpoints: readonly PortEndpoint[]; whenEmpty: string }): string =>
    choice.endpoints.length === 0
      ? choice.whenEmpty
      : choice.endpoints
          .map((e) => `${e.address.text}:${e.port}`)
          .sort()
          .join(" ");
  return {
    clusterIP: show(internalChoice(selection, policy)),
    outside: show(externalChoice(selection, policy)),
    shortCircuit: show(shortCircuitChoice(selection)),
  };
}

test("selection is what section 4 says, for 25,000 random Services", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(cases, (input) => {
      const { exposed, ...expected } = rules(input);
      const actual = ours(input);
      assert.equal(actual.clusterIP, expected.clusterIP);
      // The other two matter only where something can be reached from outside; otherwise their sets are not made.
      if (exposed) assert.deepEqual(actual, expected);
      for (const verdict of Object.values(actual))
        seen.add(/^(reject|drop)$/.test(verdict) ? verdict : "set");
    }),
    { numRuns: 25_000 },
  );
  assert.deepEqual(Array.from(seen).sort(), ["drop", "reject", "set"]);
});
