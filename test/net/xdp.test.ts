// SPDX-License-Identifier: Apache-2.0
/*
 * XDP on the uplinks of real agents: native mode on veths, whose other ends (the switch's) take part in it. What comes out of XDP
 * has whole checksums only when what goes in has, as on a wire: so nobody in this world leaves them to a device.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Node, World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import { attachForeignXdp } from "../support/foreign-xdp.js";
import type { Target } from "../support/host-agent.js";
import { anyService, slicesOf } from "../support/manifests.js";

const FAMILIES = [4, 6] as const;
/** A program that lets everything pass. A veth takes what its other end's XDP sends only when it has one, too. */
const PROTOCOLS = ["tcp", "udp"] as const;
/** A Service for each pod: ports of TCP and UDP, an externalIP and a load balancer's address in each family. */
const PODS = { near: 1, far: 2 } as const;
type PodName = keyof typeof PODS;

const balancer = (n: number, family: 4 | 6) => (family === 4 ? `203.0.113.${n}` : `2001:db8:203::${n}`);
const external = (n: number, family: 4 | 6) =>
  family === 4 ? `203.0.113.${100 + n}` : `2001:db8:203::1:${n}`;

function serviceOf(world: World, name: PodName): object[] {
  const n = PODS[name];
  const { ip4, ip6, node } = world.pod(name);
  return [
    anyService(
      name,
      FAMILIES.map((family) => (family === 4 ? `10.96.0.${n}` : `fd00:10:96::${n}`)),
      [
        { name: "web", port: 80, nodePort: 30_080 + n },
        { name: "dns", port: 53, nodePort: 30_053 + n, protocol: "UDP" as const },
      ],
      {
        type: "LoadBalancer",
        ingress: FAMILIES.map((family) => balancer(n, family)),
        externalIPs: FAMILIES.map((family) => external(n, family)),
      },
    ),
    ...slicesOf(
      name,
      [{ ip4, ip6, nodeName: node.name }],
      [
        { name: "web", port: 8080 },
        { name: "dns", port: 5353, protocol: "UDP" as const },
      ],
    ),
  ];
}

/** All ways to a Service from outside, through node 1: NodePort, balancer and externalIP, TCP and UDP, IPv4 and IPv6. */
function ways(world: World, name: PodName): Target[] {
  const n = PODS[name];
  const { ip4, ip6 } = world.node(1).address;
  return FAMILIES.flatMap((family) =>
    PROTOCOLS.flatMap((proto): Target[] => {
      const port = proto === "tcp" ? 80 : 53;
      const common = { proto, timeout: 3_000, connected: true };
      return [
        { ...common, dst: family === 4 ? ip4 : ip6, port: 30_000 + port + n },
        { ...common, dst: balancer(n, family), port },
        { ...common, dst: external(n, family), port },
      ];
    }),
  );
}

/** The other ends of the uplinks take what XDP sends, nobody leaves a checksum to a device, and all neighbours are known. */
async function prepare(world: World): Promise<void> {
  for (const node of world.nodes) {
    await attachForeignXdp(world.switch, node.name);
    await node.exec(["ethtool", "-K", "eth0", "tx", "off"]);
  }
  await world.client.exec(["ethtool", "-K", "eth0", "tx", "off"]);
  const { ip4, ip6 } = world.node(1).address;
  await world.switch.ip([`route add 203.0.113.0/24 via ${ip4}`, `route add 2001:db8:203::/64 via ${ip6}`]);
  for (const to of [world.clientAddress, world.node(2).address])
    for (const address of [to.ip4, to.ip6])
      await world.node(1).exec(["ping", "-c", "1", "-W", "10", address]);
}

const start = (agentArgs: readonly string[]) =>
  Cluster.start({
    world: { flavour: "routed" },
    pods: [
      { node: 1, name: "near" },
      { node: 2, name: "far" },
    ],
    manifests: (world) => ({ "all.yaml": [...serviceOf(world, "near"), ...serviceOf(world, "far")] }),
    agentNodes: [1],
    agentArgs,
    prepare,
  });

/** What was counted since. */
async function counting(cluster: Cluster, node: Node): Promise<(name: string) => Promise<number>> {
  const was = await cluster.reasons(node);
  return async (name) => ((await cluster.reasons(node)).get(name) ?? 0) - (was.get(name) ?? 0);
}

/** The client reaches the pod by every way. */
async function mustReach(cluster: Cluster, name: PodName): Promise<void> {
  const client = await cluster.at(cluster.world.client);
  const answers = await Promise.all(ways(cluster.world, name).map((way) => client.connect(way)));
  for (const [i, answer] of answers.entries())
    assert.equal(answer.who, name, JSON.stringify([ways(cluster.world, name)[i], answer]));
}

/** What holds in every mode. */
function serves(cluster: () => Cluster): void {
  it("a remote backend's flows are finished there, both ways, and tc sees none of them", async () => {
    const count = await counting(cluster(), cluster().world.node(1));
    await mustReach(cluster(), "far");
    assert.equal(await count("flow_new"), 12);
    assert.equal(await count("masqueraded"), 12);
    assert.equal(await count("translated"), 0);
    assert.equal(await count("xdp_stack_flow"), 0);
    // TCP: at least SYN, SYN-ACK, ACK, question, answer, two FINs and the last ACK; UDP: question and answer
    assert.ok((await count("xdp_sent")) >= 6 * 8 + 6 * 2, `${await count("xdp_sent")} packets`);
  });

  it("a local backend's flows are chosen there and served by tc", async () => {
    const count = await counting(cluster(), cluster().world.node(1));
    await mustReach(cluster(), "near");
    assert.equal(await count("flow_new"), 12);
    assert.equal(await count("xdp_local"), 12);
    assert.equal(await count("xdp_sent"), 0);
    assert.ok((await count("translated")) > 0);
  });

  it("megabytes arrive whole, both ways", async () => {
    const client = await cluster().at(cluster().world.client);
    const count = await counting(cluster(), cluster().world.node(1));
    const { ip4, ip6 } = cluster().world.node(1).address;
    for (const dst of [ip4, ip6])
      for (const dir of ["up", "down"] as const) {
        const result = await client.bulk({ dst, port: 30_082 }, dir, 1 << 20);
        assert.deepEqual([result.ok, result.received], [true, result.sent], JSON.stringify(result));
      }
    assert.equal(await count("translated"), 0);
    assert.ok((await count("xdp_sent")) > 4 * 700);
  });
}

describe("XDP on an uplink", () => {
  let cluster: Cluster;
  let node: Node;
  before(async () => {
    cluster = await start(["--xdp", "native"]);
    node = cluster.world.node(1);
  });
  after(() => cluster?.close());

  serves(() => cluster);

  it("is switched off and on again while connections go on and new ones are made", async () => {
    const client = await cluster.at(cluster.world.client);
    const { ip4, ip6 } = node.address;
    const kept = [ip4, ip6].map((dst) => ({ handle: `kept-${dst}`, dst, port: 30_082, timeout: 20_000 }));
    for (const { handle, ...target } of kept) assert.ok((await client.open(handle, target)).ok, handle);
    const target = { dst: ip4, port: 30_082, timeout: 20_000, rst: true };
    await client.loadStart("load", target, { threads: 2, gap: 2_000 });
    for (const mode of ["off", "native", "native"]) {
      await cluster.agent(node).end("SIGTERM");
      const agent = await cluster.startAgent(node, ["--xdp", mode]);
      const done = mode === "off" ? "XDP detached" : "XDP attached";
      await agent.line(({ msg, iface }) => msg === done && (iface === "eth0" || mode === "off"));
      for (const { handle } of kept) assert.equal((await client.ask(handle)).who, "far", `${mode} ${handle}`);
    }
    const load = await client.loadStop("load");
    assert.deepEqual(load.errors, {}, JSON.stringify(load));
    assert.ok(load.good > 0);
    for (const { handle } of kept) await client.close(handle);
    await mustReach(cluster, "far");
  });

  it("what somebody takes off is found and put back", async () => {
    await cluster.agent(node).end("SIGTERM");
    const agent = await cluster.startAgent(node, ["--xdp", "native", "--audit-interval", "1"]);
    await agent.line(({ msg }) => msg === "XDP attached");
    const report = async (): Promise<{ code: number | null; stdout: string }> =>
      cluster.cli(node, ["verify"]);
    assert.equal((await report()).code, 0, (await report()).stdout);
    const pin = `${cluster.bpfRoot(node)}/v2/links`;
    const { stdout: links } = await node.exec(["ls", pin]);
    const link = links.split("\n").find((name) => name.endsWith("-xdp"));
    assert.ok(link !== undefined, links);
    const mark = agent.mark();
    await node.exec(["bpftool", "link", "detach", "pinned", `${pin}/${link}`]);
    await agent.line(({ msg }) => msg === "the XDP program was taken off by someone else", mark);
    await mustReach(cluster, "far");
  });

  it("interfaces, verify, doctor and trace tell of it", async () => {
    const { stdout } = await cluster.cli(node, ["interfaces", "-o", "json"]);
    const { interfaces } = JSON.parse(stdout) as { interfaces: { name: string; xdp: string | null }[] };
    assert.equal(interfaces.find(({ name }) => name === "eth0")?.xdp, "native", stdout);
    const verified = await cluster.cli(node, ["verify"]);
    assert.equal(verified.code, 0, verified.stdout);
    assert.match(verified.stdout, /; 1 XDP/);
    assert.match((await cluster.cli(node, ["doctor"])).stdout, /xdp +ptl_xdp at eth0 \(native\)/);
    const src = `${cluster.world.clientAddress.ip4}:40000`;
    const traced = await cluster.cli(node, [
      ...["trace", "--proto", "tcp", "--src", src, "--dst", `${node.address.ip4}:30082`],
      ...["--from", "uplink", "-o", "json"],
    ]);
    assert.match(traced.stdout, /carries XDP/, traced.stderr);
  });

  it("nothing of this was an error to the agent", () => assert.deepEqual(cluster.errors(), []));

  it("cleanup takes it off", async () => {
    await cluster.agent(node).end("SIGTERM");
    assert.equal((await cluster.cli(node, ["cleanup"])).code, 0);
    assert.doesNotMatch((await node.exec(["ip", "link", "show", "dev", "eth0"])).stdout, /xdp/);
  });
});

describe("an uplink with somebody else's XDP program", () => {
  let cluster: Cluster;
  let node: Node;
  before(async () => {
    cluster = await Cluster.start({
      world: { flavour: "routed" },
      pods: [
        { node: 1, name: "near" },
        { node: 2, name: "far" },
      ],
      manifests: (world) => ({ "all.yaml": [...serviceOf(world, "near"), ...serviceOf(world, "far")] }),
      agentNodes: [1],
      agentArgs: ["--xdp", "native"],
      prepare: async (world) => {
        await prepare(world);
        await attachForeignXdp(world.node(1), "eth0");
      },
    });
    node = cluster.world.node(1);
  });
  after(() => cluster?.close());

  it("keeps it: the agent names it, and serves by tc", async () => {
    const { reason } = await cluster.agent(node).line(({ code }) => code === "xdp_failed");
    assert.match(String(reason), /The XDP program foreign_xdp \(id \d+\) is at eth0\. .*--xdp=off/);
    const count = await counting(cluster, node);
    await mustReach(cluster, "far");
    await mustReach(cluster, "near");
    assert.equal(await count("xdp_sent"), 0);
    const { stdout } = await node.exec(["ip", "link", "show", "dev", "eth0"]);
    assert.match(stdout, /prog\/xdp/);
  });

  it("is served by XDP once that has gone", async () => {
    const mark = cluster.agent(node).mark();
    await node.exec(["ip", "link", "set", "dev", "eth0", "xdpdrv", "off"]);
    await cluster.agent(node).line(({ msg }) => msg === "XDP attached", mark);
    const count = await counting(cluster, node);
    await mustReach(cluster, "far");
    assert.ok((await count("xdp_sent")) > 0);
  });
});

describe("generic XDP on an uplink", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await start(["--xdp", "generic"]);
  });
  after(() => cluster?.close());

  serves(() => cluster);

  it("interfaces says so", async () => {
    const { stdout } = await cluster.cli(cluster.world.node(1), ["interfaces", "-o", "json"]);
    const { interfaces } = JSON.parse(stdout) as { interfaces: { name: string; xdp: string | null }[] };
    assert.deepEqual(
      interfaces.filter(({ xdp }) => xdp !== null).map(({ name, xdp }) => [name, xdp]),
      [["eth0", "generic"]],
    );
  });
});
