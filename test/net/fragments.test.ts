// SPDX-License-Identifier: Apache-2.0
/*
 * UDP datagrams larger than the path, through a VIP: the hooks see fragments, which the nodes' conntrack may or may not
 * have put together and cut again on the way. What arrives, and what comes back, is the same byte for byte.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Reason } from "../../src/abi/enums.gen.js";
import type { Node, World, WorldOptions } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { service } from "../support/manifests.js";

const PORTS = [{ name: "dns", port: 53, targetPort: 5353, protocol: "UDP" as const }];
const TARGETS = [
  { name: "near", n: 1, place: "a pod on the same node" },
  { name: "far", n: 2, place: "a pod on the other node" },
  { name: "client", n: 3, place: "the client itself (hairpin)" },
] as const;
const SIZES = [4000, 60_000];

const WORLDS: readonly { title: string; world: WorldOptions }[] = [
  { title: "on a bridge with vxlan and br_netfilter", world: {} },
  { title: "on a bridge with vxlan, without br_netfilter", world: { bridgeNetfilter: false } },
  { title: "on routed veths", world: { flavour: "routed" } },
  {
    title: "on a bridge with vxlan, whose outer checksums make inner packets CHECKSUM_COMPLETE",
    world: { vxlanUdpChecksum: true },
  },
];

const vips = (n: number): readonly string[] => [`10.96.0.${n}`, `fd00:10:96::${n}`];

function manifests(world: World): Record<string, readonly object[]> {
  return {
    "all.yaml": [
      ...TARGETS.map(({ name, n }) => service(`svc-${name}`, vips(n), PORTS, { [name]: "yes" })),
      service("none", vips(4), PORTS, { none: "yes" }),
      ...world.nodes.flatMap((node) => node.pods.map((pod) => pod.manifest())),
    ],
  };
}

/** The entries of a map, as the command line shows them. */
async function dump<T>(cluster: Cluster, node: Node, map: string): Promise<T[]> {
  const { code, stdout, stderr } = await cluster.cli(node, ["maps", "dump", map, "-o", "json"]);
  assert.equal(code, 0, stderr);
  const lines = stdout.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as T);
}

/** Fragments that a node has passed without knowing their datagram. */
async function unknownFragments(cluster: Cluster, node: Node): Promise<number> {
  type Counter = { key: number; value: { packets: number } };
  const counters = await dump<Counter>(cluster, node, "counters");
  return counters.find(({ key }) => key === Reason.PASS_FRAGMENT)?.value.packets ?? 0;
}

for (const { title, world } of WORLDS) {
  describe(`datagrams in fragments ${title}`, () => {
    let cluster: Cluster;
    before(async () => {
      cluster = await Cluster.start({
        world,
        pods: [
          { node: 1, name: "client", labels: { client: "yes" } },
          { node: 1, name: "near", labels: { near: "yes" } },
          { node: 2, name: "far", labels: { far: "yes" } },
        ],
        manifests,
      });
    });
    after(() => cluster?.close());

    for (const { name, n, place } of TARGETS) {
      for (const payload of SIZES) {
        it(`${payload} bytes reach ${place} and come back whole, from the VIP`, async () => {
          const agent = await cluster.at("client");
          for (const dst of vips(n)) {
            for (const connected of [false, true]) {
              const answer = await agent.connect({ dst, port: 53, proto: "udp", payload, connected });
              const label = JSON.stringify({ dst, connected, answer });
              assert.deepEqual([answer.ok, answer.who], [true, name], label);
              assert.deepEqual([answer.from, answer.fromPort], [dst, 53], label);
            }
          }
        });
      }
    }

    it("large datagrams from one port through a VIP and to the pod behind it stay apart", async () => {
      const agent = await cluster.at("client");
      for (const name of ["near", "far"] as const) {
        const pod = cluster.pod(name);
        for (const [dst, own] of [
          [vips(name === "near" ? 1 : 2)[0], pod.ip4],
          [vips(name === "near" ? 1 : 2)[1], pod.ip6],
        ] as const) {
          const target = { dst: dst as string, port: 53, proto: "udp", sport: 41_000 } as const;
          await agent.open("both", target);
          for (let i = 0; i < 3; i++) {
            const through = await agent.ask("both", { payload: 4000 });
            assert.deepEqual([through.who, through.from], [name, dst], JSON.stringify({ i, through }));
            const direct = await agent.ask("both", { dst: own, port: 5353, payload: 4000 });
            assert.deepEqual([direct.who, direct.from], [name, own], JSON.stringify({ i, direct }));
          }
          await agent.close("both");
        }
      }
    });

    it("a large datagram to a Service without endpoints is refused at once (7.1)", async () => {
      const agent = await cluster.at("client");
      for (const dst of vips(4)) {
        const target = { dst, port: 53, proto: "udp", payload: 4000, connected: true } as const;
        const answer = await agent.connect(target);
        assert.deepEqual([answer.ok, answer.errno], [false, "ECONNREFUSED"], JSON.stringify({ dst, answer }));
        assert.ok(answer.us < 900_000, JSON.stringify(answer));
      }
    });

    it("they came in fragments, all of which were known, with right checksums", async () => {
      const node = cluster.world.node(1);
      const sniffer = await cluster.at(node);
      const { hostVeth, ip4, ip6 } = cluster.pod("client");
      await sniffer.sniff("pieces", { dev: hostVeth });
      const agent = await cluster.at("client");
      for (const [own, dst] of [
        [ip4, vips(2)[0] as string],
        [ip6, vips(2)[1] as string],
      ] as const) {
        const answer = await agent.connect({ dst, port: 53, proto: "udp", payload: 60_000 });
        assert.equal(answer.who, "far", JSON.stringify({ dst, answer }));
        // 60,000 bytes in packets of 1,450.
        const seen = await eventually(`42 packets each between ${own} and ${dst}`, async () => {
          const all = await sniffer.sniffed("pieces");
          const there = all.filter((packet) => packet.src === own && packet.dst === dst);
          const back = all.filter((packet) => packet.src === dst && packet.dst === own);
          return there.length >= 42 && back.length >= 42 ? [...there, ...back] : undefined;
        });
        assert.ok(
          seen.every((packet) => packet.len <= 1464),
          "a packet was larger than the MTU",
        );
      }
      await sniffer.close("pieces");
      type Fragment = { key: { src: string; dst: string; direction: string }; value: { dport: number } };
      for (const [map, src, dst] of [
        ["fragments4", ip4, vips(2)[0]],
        ["fragments6", ip6, vips(2)[1]],
      ] as const) {
        const known = (await dump<Fragment>(cluster, node, map)).filter(({ key }) => key.src === src);
        const asked = known.find(({ key }) => key.dst === dst && key.direction === "in");
        assert.equal(asked?.value.dport, 53, JSON.stringify(known));
      }
      for (const each of cluster.world.nodes)
        assert.equal(await unknownFragments(cluster, each), 0, each.name);
      for (const host of cluster.world.hosts()) {
        const counters = await (await cluster.at(host)).counters();
        for (const name of ["IpExt.InCsumErrors", "Udp.InCsumErrors", "Udp6InCsumErrors", "Ip.ReasmFails"]) {
          assert.equal(counters[name] ?? 0, 0, `${host.name} ${name}`);
        }
      }
      assert.deepEqual(cluster.errors(), []);
    });
  });
}
