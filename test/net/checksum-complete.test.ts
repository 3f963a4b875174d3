// SPDX-License-Identifier: Apache-2.0
/*
 * Packets that a tunnel hands over as CHECKSUM_COMPLETE: the kernel keeps the sum over the whole packet beside it, and a
 * rewrite must keep that sum right, too. IPv6 has no header checksum that would cancel a new address out, and
 * bpf_l4_csum_replace gets this wrong unless it is told.
 *
 * Node 3 has no agent and routes Services through the vxlan to node 1, whose overlay ingress hook translates them. The
 * backend is a program on node 1 itself: a packet that is forwarded loses the sum, and nobody would notice.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { agentOf } from "../support/host-agent.js";
import { endpointSlice, service } from "../support/manifests.js";

const PORTS = [
  { name: "web", port: 80, targetPort: 8080 },
  { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" as const },
];

describe("packets with CHECKSUM_COMPLETE from a tunnel", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      world: { nodes: 3, vxlanUdpChecksum: true },
      agentNodes: [1, 2],
      pods: [
        { node: 1, name: "near", labels: { near: "yes" } },
        { node: 3, name: "stranger" },
      ],
      manifests: (world: World) => {
        const { ip4, ip6 } = world.node(1).address;
        return {
          "all.yaml": [
            service("near", ["10.96.0.1", "fd00:10:96::1"], PORTS, { near: "yes" }),
            service("host", ["10.96.0.2", "fd00:10:96::2"], [{ name: "web", port: 80 }]),
            ...[ip4, ip6].map((ip) => endpointSlice("host", [ip], [{ name: "web", port: 8080 }])),
            world.pod("near").manifest(),
          ],
        };
      },
      prepare: async (world) => {
        const third = world.node(3);
        await third.ip([
          "route add 10.96.0.0/16 via 10.244.1.0 dev flannel.1 onlink",
          "route add fd00:10:96::/112 via fd00:10:244:1:: dev flannel.1 onlink",
        ]);
        // Full outer sums, so that the receiver adds up the whole packet; and no offload that would say "already checked".
        for (const node of [third, world.node(1)]) {
          await node.exec([
            "ethtool",
            "-K",
            "eth0",
            "tx-checksumming",
            "off",
            "generic-receive-offload",
            "off",
          ]);
        }
        await (await agentOf(world.node(1))).serve("tcp", 8080);
        await world.pod("stranger").exec(["ethtool", "-K", "eth0", "tx-checksumming", "off"]);
      },
    });
  });
  after(() => cluster?.close());

  for (const family of [4, 6]) {
    it(`the sum beside an IPv${family} packet is that of the packet before and after the rewrite`, async () => {
      const node = await cluster.at(cluster.world.node(1));
      const stranger = await cluster.at("stranger");
      const dst = family === 4 ? "10.96.0.1" : "fd00:10:96::1";
      const length = family === 4 ? 40 : 60; // a SYN without options
      for (const where of ["before", "after"] as const) {
        await node.tcx(`sum-${where}`, {
          dev: "flannel.1",
          hook: "ingress",
          where,
          verdict: -1,
          sum: length,
        });
      }
      for (let sport = 50_000; sport < 50_010; sport++) {
        await stranger.rawTcp({ dst, port: 80, sport, flags: "S", seq: sport * 77_777 });
      }
      for (const where of ["before", "after"]) {
        const sums = await eventually(`ten SYNs ${where} the rewrite`, async () => {
          const seen = await node.tcxSums(`sum-${where}`);
          return seen.right + seen.wrong >= 10 ? seen : undefined;
        });
        assert.equal(sums.wrong, 0, `${where} the rewrite: ${JSON.stringify(sums)}`);
        await node.close(`sum-${where}`);
      }
    });

    it(`content sent over IPv${family} is whole, and no host counts a wrong checksum`, async () => {
      const node = await cluster.at(cluster.world.node(1));
      const stranger = await cluster.at("stranger");
      const counter = `complete-${family}`;
      await node.tcx(counter, {
        dev: "flannel.1",
        hook: "ingress",
        where: "before",
        verdict: -1,
        complete: true,
      });
      for (const n of [1, 2]) {
        const dst = family === 4 ? `10.96.0.${n}` : `fd00:10:96::${n}`;
        for (const dir of ["up", "down"] as const) {
          const result = await stranger.bulk({ dst, port: 80, timeout: 10_000 }, dir, 4 << 20, 5);
          assert.equal(result.ok, true, JSON.stringify({ dst, result }));
          assert.equal(result.received, result.sent);
        }
      }
      for (const payload of [0, 333, 1300]) {
        const dst = family === 4 ? "10.96.0.1" : "fd00:10:96::1";
        const answer = await stranger.connect({ dst, port: 53, proto: "udp", payload });
        assert.equal(answer.who, "near", JSON.stringify({ dst, payload, answer }));
      }
      assert.ok(
        (await node.tcxCount(counter)) > 100,
        "hardly a packet was CHECKSUM_COMPLETE: this proves nothing",
      );
      for (const host of cluster.world.hosts()) {
        const counters = await (await cluster.at(host)).counters();
        for (const name of ["Tcp.InCsumErrors", "Udp.InCsumErrors", "Udp6InCsumErrors"]) {
          assert.equal(counters[name] ?? 0, 0, `${host.name} ${name}`);
        }
      }
    });
  }
});
