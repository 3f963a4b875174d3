// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Flavour, World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import type { Target } from "../support/host-agent.js";
import { endpointSlice, service } from "../support/manifests.js";

const PORTS = [
  { name: "web", port: 80, targetPort: 8080 },
  { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" as const },
];

/** A dual-stack Service with number n, selecting pods by `set`. */
function dual(name: string, n: number, set: string): object {
  return service(name, [`10.96.0.${n}`, `fd00:10:96::${n}`], PORTS, { [set]: "yes" });
}

/** A Service whose endpoint is a program on the node itself (a pod on the host's network): 10.96.0.6 is node 1's. */
function hostService(world: World, index: number): object[] {
  const { ip4, ip6 } = world.node(index).address;
  const n = 5 + index;
  return [
    service(`host-${index}`, [`10.96.0.${n}`, `fd00:10:96::${n}`], [{ name: "web", port: 80 }]),
    ...[ip4, ip6].map((ip) => endpointSlice(`host-${index}`, [ip], [{ name: "web", port: 8080 }])),
  ];
}

/** The four ways to a Service: TCP and UDP, IPv4 and IPv6. */
function ways(n: number): (Target & { proto: "tcp" | "udp" })[] {
  return [`10.96.0.${n}`, `fd00:10:96::${n}`].flatMap((dst) => [
    { dst, port: 80, proto: "tcp" as const },
    { dst, port: 53, proto: "udp" as const },
  ]);
}

function manifests(world: World): Record<string, readonly object[]> {
  return {
    "services.yaml": [
      dual("local", 1, "local"),
      dual("remote", 2, "remote"),
      dual("self", 3, "self"),
      dual("all", 4, "all"),
      dual("none", 5, "none"),
      ...[1, 2].flatMap((index) => hostService(world, index)),
    ],
    "pods.yaml": world.nodes.flatMap((node) => node.pods.map((pod) => pod.manifest())),
  };
}

const CASES: readonly { title: string; flavour: Flavour; attach: string }[] = [
  { title: "on a bridge with vxlan", flavour: "bridge", attach: "auto" },
  { title: "on routed veths", flavour: "routed", attach: "auto" },
  // What kernels before 6.6 have.
  { title: "on a bridge with vxlan, attached by clsact", flavour: "bridge", attach: "clsact" },
];

for (const { title, flavour, attach } of CASES) {
  describe(`ClusterIP of pods ${title}`, () => {
    let cluster: Cluster;
    before(async () => {
      cluster = await Cluster.start({
        world: { flavour },
        pods: [
          { node: 1, name: "client", labels: { self: "yes" } },
          { node: 1, name: "near", labels: { local: "yes", all: "yes" } },
          { node: 1, name: "near-2", labels: { all: "yes" } },
          { node: 2, name: "far", labels: { remote: "yes", all: "yes" } },
        ],
        manifests,
        agentArgs: ["--attach", attach],
      });
    });
    after(() => cluster?.close());

    for (const [n, name, place] of [
      [1, "near", "on the same node"],
      [2, "far", "on the other node"],
    ] as const) {
      it(`a Service answers from a pod ${place}, which sees the client's address, and the client the VIP`, async () => {
        const client = cluster.pod("client");
        const agent = await cluster.at(client);
        for (const way of ways(n)) {
          const answer = await agent.connect(way);
          const label = JSON.stringify({ way, answer });
          assert.equal(answer.who, name, label);
          assert.equal(answer.seen, way.dst.includes(":") ? client.ip6 : client.ip4, label);
          assert.equal(answer.seenPort, answer.localPort, label);
          if (way.proto === "udp")
            assert.deepEqual([answer.from, answer.fromPort], [way.dst, way.port], label);
        }
      });

      it(`a long exchange with a pod ${place} stays with it, over one connection`, async () => {
        const agent = await cluster.at("client");
        for (const way of ways(n)) {
          const opened = await agent.open("long", { ...way, connected: true });
          assert.equal(opened.ok, true, JSON.stringify({ way, opened }));
          for (let i = 0; i < 20; i++) {
            const answer = await agent.ask("long");
            assert.equal(answer.who, name, JSON.stringify({ way, i, answer }));
          }
          await agent.close("long");
        }
      });
    }

    it("a pod reaches itself through its Service (hairpin), and sees an address that is not its own (8.7)", async () => {
      const client = cluster.pod("client");
      const agent = await cluster.at(client);
      for (const way of ways(3)) {
        const answer = await agent.connect(way);
        const label = JSON.stringify({ way, answer });
        assert.equal(answer.who, "client", label);
        assert.notEqual(answer.seen, way.dst.includes(":") ? client.ip6 : client.ip4, label);
        assert.notEqual(answer.seen, way.dst, label);
        if (way.proto === "udp") assert.deepEqual([answer.from, answer.fromPort], [way.dst, way.port], label);
      }
    });

    it("a pod reaches itself through its Service again and again, also from one port", async () => {
      const agent = await cluster.at("client");
      for (const way of ways(3)) {
        for (let i = 0; i < 10; i++) {
          const answer = await agent.connect({
            ...way,
            sport: 40_000 + (way.proto === "tcp" ? i : 0),
            rst: true,
          });
          assert.equal(answer.who, "client", JSON.stringify({ way, i, answer }));
        }
      }
    });

    it("every endpoint of a Service gets its part of the connections (4.14)", async () => {
      const agent = await cluster.at("client");
      for (const way of ways(4)) {
        const result = await agent.loadCount(way, { threads: 4, count: 120 });
        const label = JSON.stringify({ way, result });
        assert.equal(result.good, 120, label);
        assert.deepEqual(Object.keys(result.who).sort(), ["far", "near", "near-2"], label);
        // Of 120 fair throws among three, fewer than 15 for one happens once in ten million.
        for (const tally of Object.values(result.who)) assert.ok(tally.count >= 15, label);
      }
    });

    it("a Service without endpoints refuses at once, TCP and UDP, IPv4 and IPv6 (7.1, 7.4)", async () => {
      const agent = await cluster.at("client");
      for (const way of ways(5)) {
        for (let i = 0; i < 3; i++) {
          const answer = await agent.connect({ ...way, connected: true });
          const label = JSON.stringify({ way, i, answer });
          assert.deepEqual([answer.ok, answer.errno], [false, "ECONNREFUSED"], label);
          assert.ok(answer.us < 900_000, `only the second SYN was refused: ${label}`);
        }
      }
    });

    it("a port that no Service has on a ClusterIP is refused, and the address goes on serving (6.13)", async () => {
      const agent = await cluster.at("client");
      for (const way of ways(1)) {
        const answer = await agent.connect({ ...way, port: 4444, connected: true });
        assert.deepEqual([answer.ok, answer.errno], [false, "ECONNREFUSED"], JSON.stringify({ way, answer }));
        assert.equal((await agent.connect(way)).who, "near");
      }
    });

    it("TCP reaches programs on the nodes themselves, this one and the other", async () => {
      const agent = await cluster.at("client");
      for (const index of [1, 2]) {
        await (await cluster.at(cluster.world.node(index))).serve("tcp", 8080);
        for (const dst of [`10.96.0.${5 + index}`, `fd00:10:96::${5 + index}`]) {
          for (let i = 0; i < 3; i++) {
            const answer = await agent.connect({ dst, port: 80 });
            assert.equal(answer.who, `n${index}`, JSON.stringify({ dst, answer }));
          }
        }
      }
    });

    it("the outside client, which is routed to the node, reaches pods of both nodes through a ClusterIP (4.10)", async () => {
      const outside = await cluster.at(cluster.world.client);
      for (const [n, name] of [
        [1, "near"],
        [2, "far"],
      ] as const) {
        for (const way of ways(n)) {
          const answer = await outside.connect(way);
          assert.equal(answer.who, name, JSON.stringify({ way, answer }));
        }
      }
    });

    it("a program on the node itself is refused at once: its sockets are not served yet", async () => {
      const node = await cluster.at(cluster.world.node(1));
      for (const way of ways(1)) {
        const answer = await node.connect({ ...way, connected: true });
        const label = JSON.stringify({ way, answer });
        assert.deepEqual([answer.ok, answer.errno], [false, "ECONNREFUSED"], label);
        assert.ok(answer.us < 900_000, label);
      }
    });

    it("the pods' own addresses and the outside work as before", async () => {
      const agent = await cluster.at("client");
      const far = cluster.pod("far");
      for (const dst of [far.ip4, far.ip6]) {
        assert.equal((await agent.connect({ dst, port: 8080 })).who, "far");
        assert.equal((await agent.connect({ dst, port: 5353, proto: "udp" })).who, "far");
      }
      const outside = await cluster.at(cluster.world.client);
      await outside.serve("tcp", 8080);
      const { ip4, ip6 } = cluster.world.clientAddress;
      for (const dst of [ip4, ip6]) {
        assert.equal((await agent.connect({ dst, port: 8080 })).who, "outside");
        assert.equal(
          (await outside.connect({ dst: dst.includes(":") ? far.ip6 : far.ip4, port: 8080 })).who,
          "far",
        );
      }
    });

    it("nothing of all this was a martian, had a wrong checksum or was an error to an agent", async () => {
      assert.deepEqual(cluster.errors(), []);
      for (const host of cluster.world.hosts()) {
        const counters = await (await cluster.at(host)).counters();
        for (const name of [
          "IpExt.InCsumErrors",
          "Tcp.InCsumErrors",
          "Udp.InCsumErrors",
          "Udp6InCsumErrors",
          "Icmp.InCsumErrors",
          "Icmp6InCsumErrors",
          "TcpExt.IPReversePathFilter",
        ]) {
          assert.equal(counters[name] ?? 0, 0, `${host.name} ${name}`);
        }
      }
    });
  });
}
