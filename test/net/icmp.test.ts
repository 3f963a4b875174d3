// SPDX-License-Identifier: Apache-2.0
/* ICMP errors that belong to translated flows, and those that must not be. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Host, World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { anyService, endpointSlice, service, slicesOf } from "../support/manifests.js";

const SERVICE_PORTS = [
  { name: "web", port: 80 },
  { name: "dns", port: 53, protocol: "UDP" as const },
  { name: "closed", port: 99, protocol: "UDP" as const },
];
const SLICE_PORTS = [
  { name: "web", port: 8080 },
  { name: "dns", port: 5353, protocol: "UDP" as const },
  { name: "closed", port: 9999, protocol: "UDP" as const },
];
const POD_NAMES = { near: 1, far: 2, moving: 3 } as const;

/** A Service of each pod; "moving" has the pod `at`. */
function objects(world: World, at: "near" | "near-2"): object[] {
  const slices = (name: string, pod: string): object[] => {
    const { ip4, ip6 } = world.pod(pod);
    return [endpointSlice(name, [ip4], SLICE_PORTS), endpointSlice(name, [ip6], SLICE_PORTS)];
  };
  return Object.entries(POD_NAMES).flatMap(([name, n]) => [
    service(name, [`10.96.0.${n}`, `fd00:10:96::${n}`], SERVICE_PORTS),
    ...slices(name, name === "moving" ? at : name),
  ]);
}

const PODS = [
  { node: 1, name: "client" },
  // Has sent nothing large: what it tells about its segment size in a SYN does not know the path MTU yet.
  { node: 1, name: "reader" },
  { node: 1, name: "near" },
  { node: 1, name: "near-2" },
  { node: 2, name: "far" },
];

/** Both addresses of a Service. */
function vips(n: number): string[] {
  return [`10.96.0.${n}`, `fd00:10:96::${n}`];
}

describe("ICMP redirects on a bridge", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      pods: PODS,
      manifests: (world) => ({ "all.yaml": objects(world, "near") }),
      prepare: async (world) => {
        await world
          .node(1)
          .sysctl({ "net/ipv4/conf/all/send_redirects": 1, "net/ipv4/conf/cni0/send_redirects": 1 });
        for (const pod of world.node(1).pods) {
          await pod.sysctl({
            "net/ipv4/conf/all/accept_redirects": 1,
            "net/ipv4/conf/eth0/accept_redirects": 1,
            "net/ipv6/conf/eth0/accept_redirects": 1,
          });
        }
      },
    });
  });
  after(() => cluster?.close());

  it("a redirect never makes a pod send a VIP's packets elsewhere", async () => {
    const client = await cluster.at("client");
    const node = await cluster.at(cluster.world.node(1));
    await client.sniff("redirects", { proto: "icmp" });
    // The kernel sends redirects in the middle of a flow and limits their rate, so it gets time and many packets.
    const end = performance.now() + 120_000;
    const sent = async (): Promise<boolean> => {
      const counters = await node.counters();
      return (counters["Icmp.OutRedirects"] ?? 0) > 0 && (counters.Icmp6OutRedirects ?? 0) > 0;
    };
    for (const [i, dst] of vips(3).entries()) {
      await client.open(`flow-${i}`, { dst, port: 80 });
      assert.equal((await client.bulk({ dst, port: 80 }, "up", 4 << 20)).ok, true);
    }
    while (!(await sent()) && performance.now() < end) {
      for (const i of [0, 1]) assert.equal((await client.ask(`flow-${i}`)).who, "near");
    }
    const counters = await node.counters();
    assert.ok(
      (counters["Icmp.OutRedirects"] ?? 0) > 0,
      "the node sent no IPv4 redirect: this proves nothing",
    );
    assert.ok((counters.Icmp6OutRedirects ?? 0) > 0, "the node sent no IPv6 redirect: this proves nothing");
    // Their inner packet is one of our flows: the egress hook drops them (translated, they would poison the route).
    const redirects = (await client.sniffed("redirects")).filter(
      (packet) =>
        !packet.out &&
        ((packet.proto === 1 && packet.type === 5) || (packet.proto === 58 && packet.type === 137)),
    );
    assert.deepEqual(redirects, []);
    for (const dst of vips(3)) {
      const { stdout } = await cluster.pod("client").exec(["ip", "route", "get", dst]);
      assert.doesNotMatch(stdout, /redirected/, stdout);
    }
  });

  it("when the VIP moves to another pod, new connections find it at once", async () => {
    const client = await cluster.at("client");
    await cluster.apply("all.yaml", objects(cluster.world, "near-2"));
    for (const dst of vips(3)) {
      for (let i = 0; i < 5; i++) {
        assert.equal((await client.connect({ dst, port: 80 })).who, "near-2");
        assert.equal((await client.connect({ dst, port: 53, proto: "udp" })).who, "near-2");
      }
    }
  });
});

describe("ICMP errors of translated flows", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      // Pods that know nothing of the vxlan's smaller MTU: the node must tell them.
      world: { podMtu: 1500, overlayMtu: 1450 },
      pods: PODS,
      manifests: (world) => ({ "all.yaml": objects(world, "near") }),
    });
  });
  after(() => cluster?.close());

  for (const name of ["near", "far"] as const) {
    it(`a closed UDP port of a ${name} backend is ECONNREFUSED at the socket that is connected to the VIP`, async () => {
      const client = await cluster.at("client");
      for (const dst of vips(POD_NAMES[name])) {
        const answer = await client.connect({ dst, port: 99, proto: "udp", connected: true });
        assert.deepEqual(
          [answer.stage, answer.errno],
          ["receive", "ECONNREFUSED"],
          JSON.stringify({ dst, answer }),
        );
      }
    });
  }

  it("a TCP client learns the path MTU to the VIP, and its upload completes", async () => {
    const client = await cluster.at("client");
    for (const dst of vips(POD_NAMES.far)) {
      const result = await client.bulk({ dst, port: 80, timeout: 10_000 }, "up", 4 << 20, 3);
      const label = JSON.stringify({ dst, result });
      assert.equal(result.ok, true, label);
      assert.equal(result.received, result.sent, label);
      assert.equal(result.pmtu, 1450, label);
      const { stdout } = await cluster.pod("client").exec(["ip", "route", "get", dst]);
      assert.match(stdout, /mtu 1450/, `the route to the VIP itself must know it: ${stdout}`);
    }
  });

  it("the backend learns the path MTU to the client, and the download completes", async () => {
    const reader = await cluster.at("reader");
    for (const dst of vips(POD_NAMES.far)) {
      const result = await reader.bulk({ dst, port: 80, timeout: 10_000 }, "down", 4 << 20, 4);
      const label = JSON.stringify({ dst, result });
      assert.equal(result.ok, true, label);
      assert.equal(result.received, result.sent, label);
    }
    const { ip4, ip6 } = cluster.pod("reader");
    for (const dst of [ip4, ip6]) {
      const { stdout } = await cluster.pod("far").exec(["ip", "route", "get", dst]);
      assert.match(stdout, /mtu 1450/, stdout);
    }
  });

  it("a UDP socket that must not fragment hears of the path MTU to the VIP", async () => {
    const client = await cluster.at("client");
    for (const dst of vips(POD_NAMES.far)) {
      await client.open("df", { dst, port: 53, proto: "udp", connected: true, df: true });
      // Forget what TCP learnt: this socket shall learn it by itself.
      await cluster.pod("client").exec(["ip", "route", "flush", "cache"]);
      await cluster.pod("client").exec(["ip", "-6", "route", "flush", "cache"]);
      await client.ask("df", { payload: 1440, timeout: 500 });
      const socket = await eventually("the socket's path MTU", async () => {
        const state = await client.socket("df");
        return state.mtu === 1450 ? state : undefined;
      });
      assert.equal(socket.mtu, 1450);
      const answer = await client.ask("df", { payload: 1350 });
      assert.equal(answer.who, "far", JSON.stringify({ dst, answer }));
      await client.close("df");
    }
  });
});

/** Where the way to a pod is narrower than every link that the client can see. */
const NARROW = 1_400;
/** And where the way back is. */
const NARROW_BACK = 1_350;

const NODE_PORT_SERVICES = {
  "near-cluster": { n: 11, pod: "near", policy: "Cluster" },
  "near-local": { n: 12, pod: "near", policy: "Local" },
  "far-cluster": { n: 13, pod: "far", policy: "Cluster" },
} as const;
type NodePortService = keyof typeof NODE_PORT_SERVICES;

function nodePortObjects(world: World): object[] {
  return Object.entries(NODE_PORT_SERVICES).flatMap(([name, { n, pod, policy }]) => {
    const { ip4, ip6, node } = world.pod(pod);
    return [
      anyService(name, vips(n), [{ name: "web", port: 80, nodePort: 30_000 + n }], {
        externalTrafficPolicy: policy,
      }),
      ...slicesOf(name, [{ ip4, ip6, nodeName: node.name }], [{ name: "web", port: 8080 }]),
    ];
  });
}

/** Routes of the nodes to their own pods, and of node 1 back to the client, with a smaller MTU. */
async function narrowRoutes(world: World): Promise<void> {
  for (const name of ["near", "far"]) {
    const { ip4, ip6, node } = world.pod(name);
    await node.ip([
      `route add ${ip4}/32 dev cni0 mtu ${NARROW}`,
      `route add ${ip6}/128 dev cni0 mtu ${NARROW}`,
    ]);
  }
  await world
    .node(1)
    .ip([
      `route add 192.168.60.0/24 via 192.168.50.254 mtu ${NARROW_BACK}`,
      `route add fd00:60::/64 via fd00:50::fe mtu ${NARROW_BACK}`,
    ]);
}

const UPLOADS: readonly {
  readonly from: "outside" | "client";
  readonly to: NodePortService;
  readonly by: "NodePort" | "ClusterIP";
  readonly masqueraded: boolean;
}[] = [
  { from: "outside", to: "near-cluster", by: "NodePort", masqueraded: true },
  { from: "outside", to: "near-local", by: "NodePort", masqueraded: false },
  { from: "outside", to: "far-cluster", by: "NodePort", masqueraded: true },
  { from: "outside", to: "near-cluster", by: "ClusterIP", masqueraded: true },
  { from: "outside", to: "far-cluster", by: "ClusterIP", masqueraded: true },
  { from: "client", to: "near-cluster", by: "ClusterIP", masqueraded: false },
  { from: "client", to: "far-cluster", by: "ClusterIP", masqueraded: false },
  { from: "client", to: "far-cluster", by: "NodePort", masqueraded: true },
];

describe("path MTU discovery where the narrow link is behind the Service", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      // flannel's rules would masquerade too, before our hook sees the packet.
      world: { podMtu: 1500, overlayMtu: 1450, flannelRules: false },
      pods: PODS,
      manifests: (world) => ({ "all.yaml": nodePortObjects(world) }),
      agentArgs: ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"],
      prepare: narrowRoutes,
    });
  });
  after(() => cluster?.close());

  const hostOf = (name: string): Host => (name === "outside" ? cluster.world.client : cluster.pod(name));

  /** Both addresses that lead to a Service, and the port. */
  function targets(name: NodePortService, by: "NodePort" | "ClusterIP"): { dst: string; port: number }[] {
    const { n } = NODE_PORT_SERVICES[name];
    const { ip4, ip6 } = cluster.world.node(1).address;
    if (by === "ClusterIP") return vips(n).map((dst) => ({ dst, port: 80 }));
    return [ip4, ip6].map((dst) => ({ dst, port: 30_000 + n }));
  }

  async function forget(host: Host): Promise<void> {
    await host.exec(["ip", "route", "flush", "cache"]);
    await host.exec(["ip", "-6", "route", "flush", "cache"]);
  }

  for (const { from, to, by, masqueraded } of UPLOADS) {
    const how = masqueraded ? "masqueraded" : "not masqueraded";
    it(`${from} learns it on the way to ${to} by its ${by}, ${how}, and the upload completes`, async () => {
      const host = hostOf(from);
      const agent = await cluster.at(host);
      const own = from === "outside" ? cluster.world.clientAddress : cluster.pod(from);
      await forget(host);
      for (const target of targets(to, by)) {
        const { seen } = await agent.connect(target);
        assert.equal([own.ip4, own.ip6].includes(seen as string), !masqueraded, `${target.dst}: ${seen}`);
        const result = await agent.bulk({ ...target, timeout: 10_000 }, "up", 2 << 20, 5);
        const label = JSON.stringify({ target, result });
        assert.equal(result.ok, true, label);
        assert.equal(result.received, result.sent, label);
        assert.equal(result.pmtu, NARROW, label);
        const { stdout } = await host.exec(["ip", "route", "get", target.dst]);
        assert.match(stdout, new RegExp(`mtu ${NARROW}\\b`), stdout);
      }
    });
  }

  for (const to of ["near-cluster", "near-local"] as const) {
    it(`the pod of ${to} learns it on the way back to the client outside, and the download completes`, async () => {
      const { client } = cluster.world;
      const agent = await cluster.at(client);
      const pod = cluster.pod(NODE_PORT_SERVICES[to].pod);
      // The client must offer whole segments, so it must not know the way's MTU; nor the pod from the other test.
      await forget(client);
      await forget(pod);
      for (const target of targets(to, "NodePort")) {
        const { seen } = await agent.connect(target);
        const result = await agent.bulk({ ...target, timeout: 10_000 }, "down", 2 << 20, 6);
        const label = JSON.stringify({ target, result });
        assert.equal(result.ok, true, label);
        assert.equal(result.received, result.sent, label);
        const { stdout } = await pod.exec(["ip", "route", "get", seen as string]);
        assert.match(stdout, new RegExp(`mtu ${NARROW_BACK}\\b`), stdout);
      }
    });
  }

  it("the errors were translated, and none was an error to an agent", async () => {
    const reasons = await cluster.reasons(cluster.world.node(1));
    assert.ok((reasons.get("icmp_translated") ?? 0) >= 10, JSON.stringify([...reasons]));
    assert.deepEqual(cluster.errors(), []);
  });
});
