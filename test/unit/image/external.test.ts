// SPDX-License-Identifier: Apache-2.0
// NodePorts, external and load-balancer addresses as compile() gives them, conflicts, and what is refused on this host.
import assert from "node:assert/strict";
import { test } from "node:test";
import { compile, createCompiler, DEFAULT_PROXY_CONFIG, NO_HOST_FACTS } from "../../../src/image/compile.js";
import { describeImage, imageLines } from "../../../src/image/describe.js";
import type { Image, ServicePortImage } from "../../../src/image/types.js";
import type { HostFacts, ProxyConfig, ReservedAddress, Service } from "../../../src/model/types.js";
import { cidr, endpoint, ip, NODE, service, slice, snapshot } from "../../fixtures/objects.js";

const DETECTING: ProxyConfig = { ...DEFAULT_PROXY_CONFIG, localDetector: { 4: true, 6: true } };
const HERE = { ...NODE, addresses: [ip("192.168.0.2"), ip("2001:db8::1")] };

function exposed(name: string, fields: Partial<Service> = {}): Service {
  return service(name, {
    type: "LoadBalancer",
    clusterIPs: [ip("10.96.0.1"), ip("fd00:96::1")],
    ports: [{ name: "", protocol: "TCP", port: 80, nodePort: 30080 }],
    externalIPs: [ip("192.0.2.1"), ip("2001:db8:1::1")],
    loadBalancerIPs: [ip("198.51.100.1"), ip("2001:db8:2::1")],
    ...fields,
  });
}

function portOf(image: Image, key = "default/web:/TCP"): ServicePortImage {
  const port = image.servicePorts.get(key);
  assert.ok(port !== undefined, key);
  return port;
}

const kinds = (port: ServicePortImage): string[] =>
  port.frontends.map(({ kind, address, port: number }) => `${kind} ${address.text} ${number}`);

const messages = (image: Image): string[] =>
  image.problems.map(
    ({ severity, object, field, message }) => `${severity}: ${object}: ${field}: ${message}`,
  );

const LOCAL = endpoint("10.0.0.1", { nodeName: "node-a" });
const REMOTE = endpoint("10.0.0.2");

test("compile() gives each kind of frontend in each family with a ClusterIP, and none in another (2.3, 2.9, 2.10, 2.15)", () => {
  assert.deepEqual(kinds(portOf(compile(snapshot([exposed("web")])))), [
    "ClusterIP 10.96.0.1 80",
    "LoadBalancer 198.51.100.1 80",
    "ExternalIP 192.0.2.1 80",
    "NodePort 0.0.0.0 30080",
    "ClusterIP fd00:96::1 80",
    "LoadBalancer 2001:db8:2::1 80",
    "ExternalIP 2001:db8:1::1 80",
    "NodePort :: 30080",
  ]);
  const four = exposed("web", { clusterIPs: [ip("10.96.0.1")] });
  assert.ok(portOf(compile(snapshot([four]))).frontends.every(({ address }) => address.family === 4));
});

test("compile() offers outsiders the local set and everybody inside the cluster set with policy Local (4.11, 4.12, 4.13)", () => {
  const slices = [slice("web", [LOCAL, REMOTE])];
  const port = portOf(
    compile(snapshot([exposed("web", { externalTrafficPolicyLocal: true })], slices), DETECTING),
  );
  for (const { kind, address, internal, external, masquerade } of port.frontends) {
    if (address.family === 6) continue;
    const outside = kind === "ClusterIP" ? [0, 1] : [0];
    assert.deepEqual([internal.backends, external.backends], [[0, 1], outside], kind);
    assert.deepEqual([internal.set, external.set], ["cluster", kind === "ClusterIP" ? "cluster" : "local"]);
    assert.equal(masquerade, kind === "ClusterIP" ? "outsiders" : "never", "(8.2, 8.5)");
  }
});

const EMPTY: readonly [string, Partial<Service>, readonly (typeof LOCAL)[], string, string][] = [
  ["nobody anywhere (7.1)", { externalTrafficPolicyLocal: true }, [], "reject reject", "reject"],
  ["nobody here, policy Local (7.3)", { externalTrafficPolicyLocal: true }, [REMOTE], "1 drop", "1"],
  ["nobody here, policy Cluster", {}, [REMOTE], "1 1", "1"],
  [
    "nobody here, both policies Local (7.2, 7.3)",
    { externalTrafficPolicyLocal: true, internalTrafficPolicyLocal: true },
    [REMOTE],
    "1 drop",
    "drop",
  ],
  [
    "only what never serves (3.2)",
    { externalTrafficPolicyLocal: true },
    [endpoint("10.0.0.3", { ready: false })],
    "reject reject",
    "reject",
  ],
];
for (const [title, fields, endpoints, nodePort, clusterIP] of EMPTY) {
  test(`compile() with ${title} says what is met at a NodePort and at the ClusterIP`, () => {
    const port = portOf(compile(snapshot([exposed("web", fields)], [slice("web", endpoints)])));
    const text = ({ backends, whenEmpty }: { backends: readonly number[]; whenEmpty: string }): string =>
      backends.length === 0 ? whenEmpty : String(backends.length);
    const [cluster] = port.frontends;
    const node = port.frontends.find(({ kind, address }) => kind === "NodePort" && address.family === 4);
    assert.ok(cluster !== undefined && node !== undefined);
    assert.equal(`${text(node.internal)} ${text(node.external)}`, nodePort);
    assert.equal(text(cluster.internal), clusterIP);
  });
}

test("compile() masquerades as configured: ClusterIPs for outsiders, everything, or nothing (8.2, 8.4, 8.8)", () => {
  const of = (config: ProxyConfig): string[] =>
    portOf(compile(snapshot([exposed("web")]), config)).frontends.flatMap(({ kind, address, masquerade }) =>
      kind === "ClusterIP" || kind === "NodePort" ? `${kind} ${address.family} ${masquerade}` : [],
    );
  const nodePorts = ["NodePort 4 always", "NodePort 6 always"];
  const clusterIPs = (four: string, six: string): string[] => [`ClusterIP 4 ${four}`, `ClusterIP 6 ${six}`];
  assert.deepEqual(of(DEFAULT_PROXY_CONFIG).sort(), [...clusterIPs("never", "never"), ...nodePorts]);
  const half = { ...DEFAULT_PROXY_CONFIG, localDetector: { 4: true, 6: false } };
  assert.deepEqual(of(half).sort(), [...clusterIPs("outsiders", "never"), ...nodePorts]);
  const all = { ...DETECTING, masqueradeAll: true };
  assert.deepEqual(of(all).sort(), [...clusterIPs("always", "always"), ...nodePorts]);
});

test("compile() without external IPs serves none, and their policy is none either (2.16, 2.23)", () => {
  const web = exposed("web", { type: "ClusterIP", externalTrafficPolicyLocal: true, loadBalancerIPs: [] });
  const port = portOf(compile(snapshot([web]), { ...DEFAULT_PROXY_CONFIG, externalIPs: false }));
  assert.ok(port.frontends.every(({ kind }) => kind !== "ExternalIP"));
  assert.ok(port.frontends.every(({ external }) => external.set === "cluster"));
});

test("compile() guards load-balancer addresses alone, in families with a range (2.13, 6.9, 6.15, 6.19)", () => {
  const web = exposed("web", { loadBalancerSourceRanges: ["203.0.113.0/25", "192.168.0.0/24"] });
  const port = portOf(compile(snapshot([web], [], HERE)));
  assert.deepEqual(
    port.frontends
      .filter(({ sourceRanged }) => sourceRanged)
      .map(({ kind, address }) => `${kind} ${address.text}`),
    ["LoadBalancer 198.51.100.1"],
  );
  const texts = ({ sourceRanges }: ServicePortImage): string[] => sourceRanges.map(({ text }) => text);
  assert.deepEqual(texts(port), ["192.168.0.0/24", "198.51.100.1/32", "203.0.113.0/25"], "(6.17)");
  const elsewhere = { ...HERE, addresses: [ip("192.168.1.2"), ip("192.168.0.3")] };
  assert.deepEqual(
    texts(portOf(compile(snapshot([web], [], elsewhere)))),
    ["192.168.0.0/24", "203.0.113.0/25"],
    "the node's IP is its first",
  );
  const none = exposed("web", { loadBalancerSourceRanges: ["203.0.113.0/25"], loadBalancerIPs: [] });
  assert.deepEqual(texts(portOf(compile(snapshot([none])))), []);
});

test("compile() takes an address that is both externalIP and load balancer's for the latter, ranges and all", () => {
  const web = exposed("web", {
    externalIPs: [ip("198.51.100.1"), ip("10.96.0.1")],
    loadBalancerSourceRanges: ["203.0.113.0/25"],
  });
  const port = portOf(compile(snapshot([web])));
  assert.deepEqual(kinds(port).slice(0, 3), [
    "ClusterIP 10.96.0.1 80",
    "LoadBalancer 198.51.100.1 80",
    "NodePort 0.0.0.0 30080",
  ]);
});

test("compile() marks the members of both sets, only with session affinity (5.3, 5.4)", () => {
  const dying = endpoint("10.0.0.3", { nodeName: "node-a", ready: false, terminating: true });
  const slices = [slice("web", [REMOTE, dying, endpoint("10.0.0.4", { ready: false, serving: false })])];
  const marks = (seconds: number): string[] =>
    portOf(
      compile(
        snapshot(
          [exposed("web", { sessionAffinitySeconds: seconds, externalTrafficPolicyLocal: true })],
          slices,
        ),
      ),
    ).backends.map(
      ({ address, serving, clusterSet, localSet }) => `${address.text} ${serving} ${clusterSet} ${localSet}`,
    );
  assert.deepEqual(marks(60), [
    "10.0.0.2 true true false",
    "10.0.0.3 true false true",
    "10.0.0.4 false false false",
  ]);
  assert.deepEqual(marks(0), [
    "10.0.0.2 true false false",
    "10.0.0.3 true false false",
    "10.0.0.4 false false false",
  ]);
});

const OLD = "2026-01-01T00:00:00Z";
const CONTESTED: readonly [string, Partial<Service>, Partial<Service>, string, string][] = [
  [
    "an externalIP and a load balancer's address (2.22)",
    { externalIPs: [ip("192.0.2.1")] },
    { loadBalancerIPs: [ip("192.0.2.1")] },
    "status.loadBalancer.ingress",
    "192.0.2.1:80/TCP",
  ],
  [
    "a ClusterIP and an externalIP",
    {},
    { externalIPs: [ip("10.96.0.1")] },
    "spec.externalIPs",
    "10.96.0.1:80/TCP",
  ],
  [
    "an externalIP and a ClusterIP",
    { clusterIPs: [ip("10.96.0.9")], externalIPs: [ip("10.96.0.2")] },
    {},
    "spec.clusterIPs",
    "10.96.0.2:80/TCP",
  ],
  [
    "two NodePorts",
    { ports: [{ name: "", protocol: "TCP", port: 80, nodePort: 30080 }] },
    { ports: [{ name: "", protocol: "TCP", port: 81, nodePort: 30080 }] },
    "spec.ports[0].nodePort",
    "IPv4 NodePort 30080/TCP",
  ],
];
for (const [title, older, younger, field, claim] of CONTESTED) {
  test(`compile() gives ${title} to the older Service and names both (section 16)`, () => {
    const a = service("young", { clusterIPs: [ip("10.96.0.2")], ...younger });
    const b = service("old", { creationTimestamp: OLD, ...older });
    for (const order of [
      [a, b],
      [b, a],
    ]) {
      const image = compile(snapshot(order));
      assert.deepEqual(messages(image), [
        `warning: Service default/young: ${field}: ${claim} belongs to Service default/old (test.yaml:1), which is older or first by name; this frontend is left out`,
      ]);
      const claims = imageLines(image).map((line) => line.split(" ", 1)[0]);
      assert.equal(new Set(claims).size, claims.length);
    }
  });
}

test("compile() sees no conflict between a NodePort and an externalIP on a node's address (6.7), nor between protocols", () => {
  const a = exposed("a", { clusterIPs: [ip("10.96.0.1")] });
  const b = service("b", {
    clusterIPs: [ip("10.96.0.2")],
    externalIPs: [ip("192.168.0.2")],
    ports: [{ name: "", protocol: "TCP", port: 30080, nodePort: 0 }],
  });
  const c = service("c", {
    clusterIPs: [ip("10.96.0.3")],
    ports: [{ name: "", protocol: "UDP", port: 80, nodePort: 30080 }],
  });
  const image = compile(snapshot([a, b, c], [], HERE));
  assert.deepEqual(image.problems, []);
});

test("compile() leaves out a NodePort that an earlier port of the Service has, and keeps the port", () => {
  const ports = [
    { name: "a", protocol: "TCP" as const, port: 80, nodePort: 30080 },
    { name: "b", protocol: "TCP" as const, port: 81, nodePort: 30080 },
  ];
  const image = compile(snapshot([service("web", { ports })]));
  assert.deepEqual(kinds(portOf(image, "default/web:b/TCP")), ["ClusterIP 10.96.0.1 81"]);
  assert.deepEqual(messages(image), [
    "warning: Service default/web: spec.ports[1].nodePort: NodePort 30080/TCP is an earlier port's already and is left out",
  ]);
});

function facts(...reserved: ReservedAddress[]): HostFacts {
  return { localAddresses: HERE.addresses, reserved };
}
const SSH: ReservedAddress = { address: null, port: 80, protocol: "TCP", use: "a listening socket" };
const API: ReservedAddress = {
  address: ip("192.168.0.2"),
  port: 30080,
  protocol: "TCP",
  use: "the API server",
  refusesNodePorts: true,
};

test("compile() refuses a frontend that would capture an address in use here, and that one only", () => {
  const web = exposed("web", { externalIPs: [ip("192.168.0.2"), ip("192.0.2.9")] });
  const image = compile(snapshot([web], [], HERE), DEFAULT_PROXY_CONFIG, facts(SSH));
  assert.deepEqual(messages(image), [
    "error: Service default/web: spec.externalIPs: 192.168.0.2:80/TCP would capture this node's traffic to a listening socket; this frontend is left out",
  ]);
  assert.ok(kinds(portOf(image)).includes("ExternalIP 192.0.2.9 80"));
  const other = { ...SSH, protocol: "UDP" as const };
  assert.deepEqual(compile(snapshot([web], [], HERE), DEFAULT_PROXY_CONFIG, facts(other)).problems, []);
});

test("compile() refuses a NodePort on the way to the API server, and lets one shadow a listener (6.10)", () => {
  const web = exposed("web", { clusterIPs: [ip("10.96.0.1")] });
  const refused = compile(snapshot([web], [], HERE), DEFAULT_PROXY_CONFIG, facts(API));
  assert.deepEqual(messages(refused), [
    "error: Service default/web: spec.ports[0].nodePort: IPv4 NodePort 30080/TCP would capture this node's traffic to the API server; this frontend is left out",
  ]);
  const listener = { ...API, refusesNodePorts: false };
  assert.deepEqual(compile(snapshot([web], [], HERE), DEFAULT_PROXY_CONFIG, facts(listener)).problems, []);
  const away = { ...API, address: ip("192.0.2.200") };
  assert.deepEqual(compile(snapshot([web], [], HERE), DEFAULT_PROXY_CONFIG, facts(away)).problems, []);
});

test("compile() never refuses a ClusterIP: the API server may be behind one", () => {
  const reserved = { ...API, address: ip("10.96.0.1"), port: 80 };
  assert.deepEqual(
    compile(snapshot([exposed("web")], [], HERE), DEFAULT_PROXY_CONFIG, facts(reserved)).problems,
    [],
  );
});

test("compile() gives what a refused frontend would have claimed to the next Service", () => {
  const a = service("a", {
    creationTimestamp: OLD,
    clusterIPs: [ip("10.96.0.8")],
    externalIPs: [ip("10.96.0.1")],
  });
  const image = compile(
    snapshot([a, service("kubernetes")], [], HERE),
    DEFAULT_PROXY_CONFIG,
    facts({ ...SSH, address: ip("10.96.0.1") }),
  );
  assert.deepEqual(kinds(portOf(image, "default/kubernetes:/TCP")), ["ClusterIP 10.96.0.1 80"]);
});

test("compile() takes the Node's addresses for the host's where nothing is known of the host (6.1)", () => {
  const texts = (config: ProxyConfig, host = NO_HOST_FACTS): string[] =>
    compile(snapshot([], [], HERE), config, host).nodePortAddresses.map(({ text }) => text);
  assert.deepEqual(texts(DEFAULT_PROXY_CONFIG), ["192.168.0.2", "2001:db8::1"]);
  const more = { localAddresses: [ip("192.168.1.2"), ...HERE.addresses], reserved: [] };
  assert.deepEqual(texts(DEFAULT_PROXY_CONFIG, more), ["192.168.0.2", "192.168.1.2", "2001:db8::1"]);
  assert.deepEqual(texts({ ...DEFAULT_PROXY_CONFIG, nodePortAddresses: "primary" }, more), [
    "192.168.0.2",
    "2001:db8::1",
  ]);
});

test("compile() warns of NodePort addresses that this host does not have, once somebody needs them (6.3)", () => {
  const config = { ...DEFAULT_PROXY_CONFIG, nodePortAddresses: [cidr("10.9.0.0/16")] };
  assert.deepEqual(compile(snapshot([], [], HERE), config).problems, []);
  assert.deepEqual(messages(compile(snapshot([exposed("web")], [], HERE), config)), [
    "warning: Node node-a: --nodeport-addresses: no IPv4 address of this host is in 10.9.0.0/16; NodePorts are not served there",
  ]);
});

test("compile() lists the service networks once each, sorted (1.6, 6.13)", () => {
  const serviceCIDRs = ["fd00:96::/112", "10.96.0.0/16", "10.97.0.0/16", "10.96.0.0/16"].map(cidr);
  const image = compile({ ...snapshot([]), serviceCIDRs });
  assert.deepEqual(
    image.serviceNetworks.map(({ text }) => text),
    ["10.96.0.0/16", "10.97.0.0/16", "fd00:96::/112"],
  );
});

test("createCompiler() settles what the host's change concerns and keeps the identity of everything else", () => {
  const compiler = createCompiler();
  const input = snapshot(
    [
      exposed("web", { externalIPs: [ip("192.168.0.2")] }),
      service("plain", {
        clusterIPs: [ip("10.96.0.7")],
      }),
    ],
    [],
    HERE,
  );
  const first = compiler.compile(input, facts());
  assert.equal(compiler.compile(input, facts()), first, "equal facts are the same image");
  const second = compiler.compile(input, facts(SSH));
  assert.notEqual(portOf(second), portOf(first));
  assert.equal(portOf(second, "default/plain:/TCP"), portOf(first, "default/plain:/TCP"));
  assert.equal(second.nodePortAddresses, first.nodePortAddresses);
  assert.deepEqual(describeImage(second), describeImage(compile(input, DEFAULT_PROXY_CONFIG, facts(SSH))));
  const back = compiler.compile(input, facts());
  assert.deepEqual(describeImage(back), describeImage(first));
});

test("createCompiler() takes up another address or service network without touching service ports", () => {
  const compiler = createCompiler();
  const input = snapshot([exposed("web")], [], HERE);
  const first = compiler.compile(input, facts());
  const more = { localAddresses: [...HERE.addresses, ip("192.168.1.2")], reserved: [] };
  const second = compiler.compile(input, more);
  assert.equal(second.servicePorts, first.servicePorts);
  assert.equal(second.nodePortAddresses.length, 3);
  const third = compiler.compile({ ...input, serviceCIDRs: [cidr("10.96.0.0/16")] }, more);
  assert.equal(third.servicePorts, first.servicePorts);
  assert.equal(third.nodePortAddresses, second.nodePortAddresses);
  assert.equal(third.serviceNetworks.length, 1);
  assert.equal(compiler.compile({ ...input, serviceCIDRs: [cidr("10.96.0.0/16")] }, more), third);
});

test("createCompiler() keeps a port whose contested frontend its Service gives up: the maps hold the same", () => {
  const compiler = createCompiler();
  const owner = service("owner", {
    creationTimestamp: OLD,
    clusterIPs: [ip("10.96.0.9")],
    externalIPs: [ip("192.0.2.1")],
  });
  const first = compiler.compile(snapshot([owner, service("web", { externalIPs: [ip("192.0.2.1")] })]));
  assert.equal(first.problems.length, 1);
  const second = compiler.compile(snapshot([owner, service("web")]));
  assert.equal(portOf(second), portOf(first));
  assert.deepEqual(second.problems, []);
});
