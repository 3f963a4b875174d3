// SPDX-License-Identifier: Apache-2.0
/* ICMP errors that belong to translated flows, and those that must not be (PACKET_PATH_FINDINGS 1b, 10k). */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { endpointSlice, service } from "../support/manifests.js";

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
    const end = performance.now() + 20_000;
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
