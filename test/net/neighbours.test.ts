// SPDX-License-Identifier: Apache-2.0
/* What else lives on a node: other programs on our hooks, a qdisc in the way, settings that break us, odd packets. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { agentOf } from "../support/host-agent.js";
import { service } from "../support/manifests.js";

const PORTS = [
  { name: "web", port: 80, targetPort: 8080 },
  { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" as const },
];
const PODS = [
  { node: 1, name: "client" },
  { node: 1, name: "near", labels: { near: "yes" } },
  { node: 2, name: "far", labels: { far: "yes" } },
];
const HOOKS = ["ingress", "egress"] as const;

function manifests(world: World): Record<string, readonly object[]> {
  return {
    "all.yaml": [
      service("near", ["10.96.0.1", "fd00:10:96::1"], PORTS, { near: "yes" }),
      service("far", ["10.96.0.2", "fd00:10:96::2"], PORTS, { far: "yes" }),
      ...world.nodes.flatMap((node) => node.pods.map((pod) => pod.manifest())),
    ],
  };
}

/** Every Service answers the client, TCP and UDP, IPv4 and IPv6. */
async function assertServed(cluster: Cluster): Promise<void> {
  const client = await cluster.at("client");
  for (const [n, name] of [
    [1, "near"],
    [2, "far"],
  ] as const) {
    for (const dst of [`10.96.0.${n}`, `fd00:10:96::${n}`]) {
      for (const way of [
        { dst, port: 80 },
        { dst, port: 53, proto: "udp" as const },
      ]) {
        const answer = await client.connect(way);
        assert.equal(answer.who, name, JSON.stringify({ way, answer }));
      }
    }
  }
}

describe("other programs on the same hooks", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      pods: PODS,
      manifests,
      prepare: async (world) => {
        const node = world.node(1);
        const agent = await agentOf(node);
        // Here before us, and it ends the chain: we must come before it.
        for (const hook of HOOKS) {
          await agent.tcx(`early-${hook}`, {
            dev: world.pod("client").hostVeth,
            hook,
            where: "after",
            verdict: 0,
          });
        }
        await node.exec([
          "tc",
          "qdisc",
          "add",
          "dev",
          world.pod("near").hostVeth,
          "handle",
          "ffff:",
          "ingress",
        ]);
      },
    });
  });
  after(() => cluster?.close());

  it("a program which was there first and ends the chain still runs, and so do we", async () => {
    await assertServed(cluster);
    const node = await cluster.at(cluster.world.node(1));
    for (const hook of HOOKS) assert.ok((await node.tcxCount(`early-${hook}`)) > 10, hook);
  });

  it("programs that come later run before us and after us, and so do we", async () => {
    const node = await cluster.at(cluster.world.node(1));
    const dev = cluster.pod("near").hostVeth;
    const names = HOOKS.flatMap((hook) => (["before", "after"] as const).map((where) => ({ hook, where })));
    for (const { hook, where } of names)
      await node.tcx(`${where}-${hook}`, { dev, hook, where, verdict: -1 });
    await assertServed(cluster);
    for (const { hook, where } of names) {
      assert.ok((await node.tcxCount(`${where}-${hook}`)) > 5, `${where} ${hook}`);
    }
  });

  it("an ingress qdisc in the way is no obstacle where the kernel has tcx", async () => {
    const { stdout } = await cluster.world
      .node(1)
      .exec(["tc", "qdisc", "show", "dev", cluster.pod("near").hostVeth]);
    assert.match(stdout, /qdisc ingress ffff:/);
    await assertServed(cluster);
    // near is a client, too: its requests enter through the port that has the qdisc
    const near = await cluster.at("near");
    for (const dst of ["10.96.0.2", "fd00:10:96::2"])
      assert.equal((await near.connect({ dst, port: 80 })).who, "far");
  });

  it("a TCP segment that opens nothing passes untouched, and selects no backend (10e)", async () => {
    const client = cluster.pod("client");
    const agent = await cluster.at(client);
    const node = await cluster.at(cluster.world.node(1));
    for (const name of ["near", "far"]) await (await cluster.at(name)).sniff("strangers", { proto: "tcp" });
    await node.sniff("strangers", { dev: "cni0", proto: "tcp" });
    const strange = [
      { flags: "A", sport: 45_001 },
      { flags: "PA", sport: 45_002 },
      { flags: "FA", sport: 45_003 },
      { flags: "R", sport: 45_004 },
      { flags: "SA", sport: 45_005 },
    ];
    for (const dst of ["10.96.0.1", "fd00:10:96::1", "10.96.0.2", "fd00:10:96::2"]) {
      for (const odd of strange) {
        await agent.rawTcp({ dst, port: 80, ...odd });
        await eventually(`${odd.flags} to ${dst} passed the hook untouched`, async () => {
          const seen = await node.sniffed("strangers");
          return seen.some((p) => p.sport === odd.sport && p.dst === dst && p.dport === 80) || undefined;
        });
      }
    }
    await assertServed(cluster); // whatever was on its way has arrived before these answers
    for (const name of ["near", "far"]) {
      const seen = (await (await cluster.at(name)).sniffed("strangers")).filter(
        (p) => p.sport >= 45_001 && p.sport <= 45_005,
      );
      assert.deepEqual(seen, [], name);
    }
  });
});

describe("a bridge without br_netfilter", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      world: { bridgeNetfilter: false, dropInvalid: true },
      pods: PODS,
      manifests,
    });
  });
  after(() => cluster?.close());

  const SWITCHES = /bridge-nf-call-ip6?tables/;

  it("the agent says at start that same-bridge flows will break, and how to mend it", async () => {
    const agent = cluster.agent(cluster.world.node(1));
    const line = await agent.line((candidate) => /br_netfilter|bridge-nf/.test(JSON.stringify(candidate)));
    assert.ok(Number(line.level) >= 40 || /warn|error/.test(String(line.level)), JSON.stringify(line));
    assert.match(JSON.stringify(line), SWITCHES);
  });

  it("doctor finds it (exit 1), and finds it mended when it is", async () => {
    const node = cluster.world.node(1);
    const found = await cluster.cli(node, ["doctor", "-o", "json"]);
    assert.equal(found.code, 1, found.stderr);
    assert.match(found.stdout, SWITCHES);
    await node.sysctl({ "net/bridge/bridge-nf-call-iptables": 1, "net/bridge/bridge-nf-call-ip6tables": 1 });
    const mended = await cluster.cli(node, ["doctor", "-o", "json"]);
    assert.doesNotMatch(mended.stdout, SWITCHES);
    await assertServed(cluster);
  });
});
