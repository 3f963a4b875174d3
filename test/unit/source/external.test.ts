// SPDX-License-Identifier: Apache-2.0
// The fields of Services, Nodes and ServiceCIDRs that traffic from outside depends on.
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import type { Problem, Service } from "../../../src/model/types.js";
import { Assembler } from "../../../src/source/assemble.js";
import { readManifests } from "../../../src/source/file/read-manifests.js";
import type { SourceObject } from "../../../src/source/objects.js";
import { projectObject } from "../../../src/source/project/object.js";
import { inSlices } from "../../../src/util/slices.js";
import { cidr, ORIGIN } from "../../fixtures/objects.js";

function project(value: object): { object: SourceObject | null; problems: readonly Problem[] } {
  return projectObject(value, ORIGIN);
}

function serviceOf(spec: object, status: object = {}): { service: Service; problems: string[] } {
  const { object, problems } = project({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web" },
    spec: { clusterIP: "10.96.0.1", ports: [{ port: 80, nodePort: 30080 }], ...spec },
    status,
  });
  assert.equal(object?.kind, "Service", JSON.stringify(problems));
  return {
    service: (object as Extract<SourceObject, { kind: "Service" }>).service,
    problems: texts(problems),
  };
}

const texts = (problems: readonly Problem[]): string[] =>
  problems.map(({ severity, object, field, message }) => `${severity}: ${object}: ${field}: ${message}`);
const addresses = (list: readonly { readonly text: string }[]): string[] => list.map(({ text }) => text);

test("a Service keeps what can be read of its externalIPs: blank ones are silent, others are warned of (2.9)", () => {
  const { service, problems } = serviceOf({
    externalIPs: ["", " ", "not-an-ip", "192.168.099.011", "2001:DB8::9", "127.0.0.1", "192.168.99.11"],
  });
  assert.deepEqual(addresses(service.externalIPs), ["192.168.99.11", "2001:db8::9"]);
  assert.deepEqual(problems, [
    'warning: Service default/web: spec.externalIPs[2]: "not-an-ip" is no IP address and is left out',
    "warning: Service default/web: spec.externalIPs[5]: 127.0.0.1 is loopback and is left out",
  ]);
});

test("a Service's load-balancer addresses are those of ipMode VIP or none, never a host name's (2.10, 2.11)", () => {
  const { service, problems } = serviceOf(
    { type: "LoadBalancer", loadBalancerIP: "9.9.9.9", loadBalancerClass: "a/b" },
    {
      loadBalancer: {
        ingress: [
          { ip: "1.2.3.4" },
          { ip: "1.2.3.5", ipMode: "VIP" },
          { ip: "1.2.3.6", ipMode: "Proxy" },
          { hostname: "lb.example.com" },
          { ip: "2001:db8::4" },
          { ip: "0.0.0.0" },
          { ip: "169.254.1.1" },
        ],
      },
    },
  );
  assert.deepEqual(addresses(service.loadBalancerIPs), ["1.2.3.4", "1.2.3.5", "2001:db8::4", "169.254.1.1"]);
  assert.deepEqual(problems, [
    "warning: Service default/web: status.loadBalancer.ingress[5].ip: 0.0.0.0 is unspecified and is left out",
  ]);
});

test("a Service's source ranges are trimmed and canonical (2.12), and an annotation is none (2.14)", () => {
  const { service } = serviceOf({
    loadBalancerSourceRanges: ["192.168.0.9/24", " 203.0.113.0/25 ", "fd00::/8"],
  });
  assert.deepEqual(service.loadBalancerSourceRanges, ["192.168.0.0/24", "203.0.113.0/25", "fd00::/8"]);
});

test("a Service with a range that cannot be read is refused whole: without it more senders would get in", () => {
  const { object, problems } = project({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web" },
    spec: { clusterIP: "10.96.0.1", ports: [{ port: 80 }], loadBalancerSourceRanges: ["10.0.0.0"] },
  });
  assert.equal(object, null);
  assert.match(texts(problems).join(), /^error: Service default\/web: spec\.loadBalancerSourceRanges\[0\]: /);
});

test("a Service's externalTrafficPolicy counts where there is traffic from outside (2.16), and its ports are read (2.15, 2.18, 2.21)", () => {
  const policy = (spec: object): boolean =>
    serviceOf({ externalTrafficPolicy: "Local", ...spec }).service.externalTrafficPolicyLocal;
  assert.equal(policy({ type: "LoadBalancer" }), true);
  assert.equal(policy({ type: "NodePort" }), true);
  assert.equal(policy({ type: "ClusterIP" }), false);
  assert.equal(policy({ type: "ClusterIP", externalIPs: ["192.0.2.1"] }), true);
  const { service } = serviceOf({
    healthCheckNodePort: 32080,
    sessionAffinity: "ClientIP",
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
  });
  assert.deepEqual([service.ports[0]?.nodePort, service.healthCheckNodePort], [30080, 32080]);
  assert.equal(service.sessionAffinitySeconds, 60);
  assert.equal(serviceOf({ sessionAffinity: "ClientIP" }).service.sessionAffinitySeconds, 10_800);
});

const network = (name: string, cidrs: unknown, version = "v1"): object => ({
  apiVersion: `networking.k8s.io/${version}`,
  kind: "ServiceCIDR",
  metadata: { name },
  spec: { cidrs },
});

async function assembled(...values: object[]): Promise<{ cidrs: string[]; problems: string[] }> {
  const stdin = Readable.from([JSON.stringify({ apiVersion: "v1", kind: "List", items: values })]);
  const { snapshot, problems } = await readManifests(["-"], {
    nodeName: "node-a",
    serviceCIDRs: [cidr("10.96.0.0/16")],
    stdin,
  });
  return { cidrs: addresses(snapshot.serviceCIDRs), problems: texts(problems) };
}

test("ServiceCIDR objects of both versions and --service-cidr make one union (1.6)", async () => {
  const { cidrs, problems } = await assembled(
    network("a", ["fd00:96::/112", "10.96.0.1/16"]),
    network("b", ["10.97.0.0/16"], "v1beta1"),
  );
  assert.deepEqual(cidrs, ["10.96.0.0/16", "10.97.0.0/16", "fd00:96::/112"]);
  assert.deepEqual(problems, []);
});

test("a ServiceCIDR loses a range that cannot be read and keeps the others", async () => {
  const { cidrs, problems } = await assembled(network("a", ["10.98.0.0", "10.99.0.0/16"]));
  assert.deepEqual(cidrs, ["10.96.0.0/16", "10.99.0.0/16"]);
  assert.deepEqual(problems, [
    'warning: ServiceCIDR a: spec.cidrs[0]: must be an address range such as 10.0.0.0/8, not "10.98.0.0", and is left out',
  ]);
});

test("a Node's podCIDRs are read, or its podCIDR where there is no list (8.3)", () => {
  const podRanges = (spec: object): [string[], string[]] => {
    const { object, problems } = project({ apiVersion: "v1", kind: "Node", metadata: { name: "n" }, spec });
    assert.equal(object?.kind, "Node");
    const { node } = object as Extract<SourceObject, { kind: "Node" }>;
    return [addresses(node.podCIDRs), texts(problems)];
  };
  assert.deepEqual(podRanges({ podCIDR: "10.1.0.0/24", podCIDRs: ["10.1.0.0/24", "fd00:1::/64"] }), [
    ["10.1.0.0/24", "fd00:1::/64"],
    [],
  ]);
  assert.deepEqual(podRanges({ podCIDR: "10.1.0.0/24" }), [["10.1.0.0/24"], []]);
  assert.deepEqual(podRanges({}), [[], []]);
  assert.deepEqual(podRanges({ podCIDRs: ["x", "fd00:1::/64"] })[0], ["fd00:1::/64"]);
  assert.match(
    podRanges({ podCIDR: "10.2.0.0/24", podCIDRs: ["10.1.0.0/24"] })[1].join(),
    /podCIDR: is not the first/,
  );
});

test("Assembler keeps the identity of the node and the service networks that are as before", async () => {
  const assembler = new Assembler("n");
  const objects = (podCIDR: string): SourceObject[] =>
    [
      { apiVersion: "v1", kind: "Node", metadata: { name: "n" }, spec: { podCIDR } },
      network("a", ["10.97.0.0/16"]),
    ].flatMap((value) => project(value).object ?? []);
  const { snapshot: first } = await inSlices(assembler.assemble(objects("10.1.0.0/24")));
  const { snapshot: second } = await inSlices(assembler.assemble(objects("10.1.0.0/24")));
  const { snapshot: third } = await inSlices(assembler.assemble(objects("10.2.0.0/24")));
  assert.equal(second.node, first.node);
  assert.equal(second.serviceCIDRs, first.serviceCIDRs);
  assert.notEqual(third.node, first.node);
});
