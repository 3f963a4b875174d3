// SPDX-License-Identifier: Apache-2.0
/*
 * The shortcut past the stack (--forwarding), with real agents and real sockets: that flows take it is told by the programs' counters and by
 * what netfilter does not see; that they keep their way by connections that live through a change of the setting.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Node, World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { endpointSlice, service } from "../support/manifests.js";

const PORTS = [
  { name: "web", port: 80 },
  { name: "dns", port: 53, protocol: "UDP" as const },
];
const TARGETS = [
  { name: "web", port: 8080 },
  { name: "dns", port: 5353, protocol: "UDP" as const },
];
const NEAR = ["10.96.0.1", "fd00:10:96::1"];
const FAR = ["10.96.0.2", "fd00:10:96::2"];

function served(world: World, name: string, vips: readonly string[], pod: string): object[] {
  const { ip4, ip6 } = world.pod(pod);
  return [
    service(name, [...vips], PORTS),
    endpointSlice(name, [ip4], TARGETS, { family: 4 }),
    endpointSlice(name, [ip6], TARGETS, { family: 6 }),
  ];
}

const options = {
  pods: [
    { node: 1, name: "client" },
    { node: 1, name: "near" },
    { node: 2, name: "far" },
  ],
  manifests: (world: World) => ({
    "near.yaml": served(world, "near", NEAR, "near"),
    "far.yaml": served(world, "far", FAR, "far"),
  }),
};

/** How often each of these was counted while `work` ran. */
async function counted(
  cluster: Cluster,
  node: Node,
  names: readonly string[],
  work: () => Promise<void>,
): Promise<Record<string, number>> {
  const earlier = await cluster.reasons(node);
  await work();
  const later = await cluster.reasons(node);
  return Object.fromEntries(names.map((name) => [name, (later.get(name) ?? 0) - (earlier.get(name) ?? 0)]));
}

/** Connections and datagrams over both families, to both Services. */
async function useAll(cluster: Cluster): Promise<void> {
  const client = await cluster.at("client");
  for (const [vips, who] of [
    [NEAR, "near"],
    [FAR, "far"],
  ] as const)
    for (const dst of vips) {
      const tcp = await client.connect({ dst, port: 80 });
      assert.equal(tcp.who ?? tcp.errno, who, dst);
      const udp = await client.connect({ dst, port: 53, proto: "udp" });
      assert.equal(udp.who ?? udp.errno, who, dst);
    }
}

const WORLDS = [
  { flavour: "routed", overlay: "host-gw" },
  { flavour: "routed", overlay: "vxlan" },
  { flavour: "bridge", overlay: "vxlan" },
] as const;

for (const world of WORLDS) {
  describe(`--forwarding redirect, ${world.flavour} pods, ${world.overlay} between nodes`, () => {
    let cluster: Cluster;
    let node: Node;
    before(async () => {
      cluster = await Cluster.start({ ...options, world, agentArgs: ["--forwarding", "redirect"] });
      node = cluster.world.node(1);
      await useAll(cluster); // neighbours are known from now on
    });
    after(() => cluster?.close());

    it("flows to a pod of this node and of another one go past the stack, both ways, over IPv4 and IPv6", async () => {
      const names = ["shortcut_flow", "flow_new", "stack_route", "stack_interface", "stack_sender", "stack_neighbour"];
      const seen = await counted(cluster, node, names, () => useAll(cluster));
      assert.equal(seen.flow_new, 8);
      assert.deepEqual(seen, { ...Object.fromEntries(names.map((name) => [name, 0])), flow_new: 8, shortcut_flow: 8 });
    });

    it("bulk data arrives whole, both ways, past the stack", async () => {
      const client = await cluster.at("client");
      const seen = await counted(cluster, node, ["shortcut", "stack_size"], async () => {
        for (const dst of [...NEAR, ...FAR])
          for (const dir of ["up", "down"] as const) {
            const result = await client.bulk({ dst, port: 80 }, dir, 4 << 20, 7);
            assert.equal(result.ok, true, JSON.stringify({ dst, dir, result }));
          }
      });
      assert.ok((seen.shortcut ?? 0) > 8 * 20, JSON.stringify(seen));
      assert.equal(seen.stack_size, 0);
    });

    it("a refused datagram's ICMP error finds its way back past a rule that drops INVALID", async () => {
      const client = await cluster.at("client");
      const near = await cluster.at("near");
      await near.close("udp-5353");
      for (const dst of NEAR) {
        await client.open("refused", { dst, port: 53, proto: "udp", connected: true });
        const answer = await client.ask("refused", { timeout: 3000 });
        assert.equal(answer.errno, "ECONNREFUSED", dst);
        await client.close("refused");
      }
      await near.serve("udp", 5353);
    });

    it("a connection keeps its way while the setting goes to stack and back, and new ones do not", async () => {
      const client = await cluster.at("client");
      for (const [i, dst] of [...NEAR, ...FAR].entries())
        assert.ok((await client.open(`long-${i}`, { dst, port: 80 })).ok, dst);
      const talk = async (): Promise<void> => {
        for (const [i] of [...NEAR, ...FAR].entries())
          assert.equal((await client.ask(`long-${i}`)).who, i < NEAR.length ? "near" : "far");
      };
      await talk();
      await cluster.agent(node).end("SIGTERM");
      await talk();
      await cluster.startAgent(node, ["--forwarding", "stack"]);
      const names = ["shortcut", "shortcut_flow"];
      const kept = await counted(cluster, node, names, talk);
      assert.ok((kept.shortcut ?? 0) >= 8, JSON.stringify(kept));
      const fresh = await counted(cluster, node, names, () => useAll(cluster));
      assert.deepEqual(fresh, { shortcut: 0, shortcut_flow: 0 });
      await client.open("stack", { dst: NEAR[0] as string, port: 80 });
      await cluster.agent(node).end("SIGKILL");
      await cluster.startAgent(node, ["--forwarding", "redirect"]);
      await talk();
      const stayed = await counted(cluster, node, names, async () => {
        assert.equal((await client.ask("stack")).who, "near");
      });
      assert.deepEqual(stayed, { shortcut: 0, shortcut_flow: 0 });
      for (const name of ["long-0", "long-1", "long-2", "long-3", "stack"]) await client.close(name);
    });
  });
}

describe("--forwarding auto", () => {
  let cluster: Cluster;
  let node: Node;
  before(async () => {
    const world = { flavour: "routed", flannelRules: false, dropInvalid: false, rpFilter: 0 } as const;
    cluster = await Cluster.start({ ...options, world, agentArgs: ["--forwarding", "auto"] });
    node = cluster.world.node(1);
    await useAll(cluster);
  });
  after(() => cluster?.close());

  const waysAre = (way: "stack" | "shortcut") =>
    eventually(`interfaces of ${node.name} say ${way}`, async () => {
      const { stdout } = await cluster.cli(node, ["interfaces", "-o", "json"]);
      const rows = stdout.split("\n").filter((line) => line !== "");
      const pods = rows.map((line) => JSON.parse(line)).filter(({ role }) => role === "pod");
      return pods.length > 0 && pods.every(({ forwarding }) => forwarding === way) ? pods : undefined;
    });

  const doctorSays = async (): Promise<string> => {
    const { stdout } = await cluster.cli(node, ["doctor", "-o", "json"]);
    const { checks } = JSON.parse(stdout) as { checks: { name: string; detail: string }[] };
    return checks.find(({ name }) => name === "forwarding")?.detail ?? "";
  };

  it("takes the shortcut where no rule would be missed, and says so", async () => {
    await waysAre("shortcut");
    assert.match(await doctorSays(), /^auto: new flows of pods go past the stack: /);
    const seen = await counted(cluster, node, ["shortcut_flow"], () => useAll(cluster));
    assert.equal(seen.shortcut_flow, 8);
  });

  for (const [what, add, remove] of [
    ["iptables", "iptables -A FORWARD -p tcp --dport 8080 -j DROP", "iptables -D FORWARD -p tcp --dport 8080 -j DROP"],
    [
      "nft",
      "nft add table inet policy; nft add chain inet policy deny '{type filter hook forward priority -5;}'; nft add rule inet policy deny tcp dport 8080 drop",
      "nft delete table inet policy",
    ],
  ] as const) {
    it(`goes through the stack for new flows as soon as ${what} has a rule for forwarded packets, which holds`, async () => {
      const client = await cluster.at("client");
      const [dst] = NEAR as [string];
      assert.ok((await client.open("old", { dst, port: 80 })).ok);
      await node.exec(["sh", "-c", add]);
      const [pod] = await waysAre("stack");
      assert.match(pod.forwardingWhy, /^nftables: chain /);
      assert.match(await doctorSays(), /^auto: new flows of pods go through the stack: nftables: chain /);
      if (what === "nft") assert.equal((await client.connect({ dst, port: 80, timeout: 300 })).ok, false, "the rule holds");
      assert.equal((await client.ask("old")).who, "near", "what began before goes on as it was");
      await client.close("old");
      await node.exec(["sh", "-c", remove]);
      await waysAre("shortcut");
      assert.equal((await client.connect({ dst, port: 80 })).who, "near");
    });
  }
});
