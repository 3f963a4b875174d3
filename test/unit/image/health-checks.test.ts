// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { compile } from "../../../src/image/compile.js";
import { healthCheckFamilies, healthCheckProblem, healthChecks } from "../../../src/image/health-checks.js";
import type { Endpoint, Service } from "../../../src/model/types.js";
import { endpoint, ip, NODE, service, slice, snapshot } from "../../fixtures/objects.js";

const PORTS = [
  { name: "a", protocol: "TCP", port: 80, nodePort: 0 },
  { name: "b", protocol: "TCP", port: 81, nodePort: 0 },
] as const;
const balanced = (fields: Partial<Service> = {}): Service =>
  service("m", {
    namespace: "ns1",
    type: "LoadBalancer",
    externalTrafficPolicyLocal: true,
    healthCheckNodePort: 30_000,
    loadBalancerIPs: [ip("1.2.3.4")],
    ports: PORTS,
    ...fields,
  });
const here = (address: string, fields: Partial<Endpoint> = {}): Endpoint =>
  endpoint(address, { nodeName: NODE.name, ...fields });
const slicePorts = [
  { name: "a", protocol: "TCP", port: 80 },
  { name: "b", protocol: "TCP", port: 81 },
] as const;
const ofM = { namespace: "ns1", ports: slicePorts };

test("healthChecks() counts distinct addresses of local Ready endpoints over all ports (6.23, M01)", () => {
  const endpoints = [
    here("10.0.1.1"),
    here("10.0.1.2"),
    here("10.0.1.3", { ready: false, serving: true, terminating: true }),
    endpoint("10.0.1.4"),
    endpoint("10.0.1.5", { nodeName: null }),
  ];
  assert.deepEqual(healthChecks(snapshot([balanced()], [slice("m", endpoints, ofM)])), [
    { namespace: "ns1", name: "m", port: 30_000, localEndpoints: { 4: 2, 6: null } },
  ]);
});

test("healthChecks() counts an address once that only some ports of the Service have (6.23)", () => {
  const [portA, portB] = slicePorts;
  const slices = [
    slice("m", [here("10.0.1.1"), here("10.0.1.2")], { ...ofM, name: "m-a", ports: [portA] }),
    slice("m", [here("10.0.1.2"), here("10.0.1.3")], { ...ofM, name: "m-b", ports: [portB] }),
  ];
  assert.equal(healthChecks(snapshot([balanced()], slices))[0]?.localEndpoints[4], 3);
});

test("healthChecks() counts each family by itself (6.25, M08)", () => {
  const both = balanced({ clusterIPs: [ip("172.30.0.41"), ip("fd00:172:30::41")] });
  const four = slice("m", [here("10.0.1.1")], { ...ofM, name: "m-4" });
  const six = slice("m", [here("fd00::1"), here("fd00::2")], { ...ofM, name: "m-6" });
  const [check] = healthChecks(snapshot([both], [four]));
  assert.deepEqual(check?.localEndpoints, { 4: 1, 6: 0 });
  assert.deepEqual(healthChecks(snapshot([both], [four, six]))[0]?.localEndpoints, { 4: 1, 6: 2 });
});

test("healthCheckFamilies() are those in which the Service has a ClusterIP", () => {
  const onlySix = balanced({ clusterIPs: [ip("fd00:172:30::41")] });
  const [check] = healthChecks(snapshot([onlySix]));
  assert.ok(check);
  assert.deepEqual(healthCheckFamilies(check), [6]);
});

for (const [what, fields] of [
  ["of another type", { type: "NodePort" }],
  ["with externalTrafficPolicy Cluster (M03)", { externalTrafficPolicyLocal: false }],
  ["without a ClusterIP, which is not served at all (2.1)", { clusterIPs: [] }],
] as const satisfies readonly (readonly [string, Partial<Service>])[]) {
  test(`healthChecks() has nothing of a Service ${what} (2.18)`, () => {
    const one = balanced(fields);
    assert.deepEqual(healthChecks(snapshot([one])), []);
    assert.equal(healthCheckProblem({ ...one, healthCheckNodePort: 0 }), null);
  });
}

test("healthCheckProblem() names a Service that has no port where it needs one (2.18)", () => {
  const without = balanced({ healthCheckNodePort: 0 });
  assert.deepEqual(healthChecks(snapshot([without])), []);
  const problem = healthCheckProblem(without);
  assert.equal(problem?.severity, "error");
  assert.equal(problem?.object, "Service ns1/m");
  assert.equal(problem?.field, "spec.healthCheckNodePort");
  assert.equal(healthCheckProblem(balanced()), null);
});

test("compile() reports a Service that has no health check port where it needs one (2.18), and serves it", () => {
  const { problems, servicePorts } = compile(snapshot([balanced({ healthCheckNodePort: 0 })]));
  assert.deepEqual(
    problems.map(({ severity, object, field }) => [severity, object, field]),
    [["error", "Service ns1/m", "spec.healthCheckNodePort"]],
  );
  assert.equal(servicePorts.size, 2);
  assert.deepEqual(compile(snapshot([balanced()])).problems, []);
});
