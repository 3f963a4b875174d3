// SPDX-License-Identifier: Apache-2.0
/* From kube-proxy to the agent and back, with flows that were open before each step. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Node, World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import type { HostAgent, Target } from "../support/host-agent.js";
import { iptablesRules, nftablesRules, type ProxiedPort } from "../support/kube-proxy-rules.js";
import { endpointSlice, type KubeObject, service } from "../support/manifests.js";

type Mode = "iptables" | "nftables";
type Family = 4 | 6;
const FAMILIES: readonly Family[] = [4, 6];
const VIP = { 4: "10.96.0.1", 6: "fd00:10:96::1" } as const;
const CLUSTER_CIDR = { 4: "10.244.0.0/16", 6: "fd00:10:244::/48" } as const;
const SERVICE_PORTS = [
  { name: "web", port: 80, nodePort: 30_080 },
  { name: "dns", port: 53, nodePort: 30_053, protocol: "UDP" as const },
];
const SLICE_PORTS = [
  { name: "web", port: 8080 },
  { name: "dns", port: 5353, protocol: "UDP" as const },
];

const address = (host: { ip4: string; ip6: string }, family: Family): string =>
  family === 4 ? host.ip4 : host.ip6;

/** The Service with these pods as endpoints. */
function objects(world: World, pods: readonly string[]): object[] {
  const plain = service("shop", Object.values(VIP), SERVICE_PORTS) as KubeObject & { spec: object };
  return [
    { ...plain, spec: { ...plain.spec, type: "NodePort" } },
    ...FAMILIES.map((family) =>
      endpointSlice(
        "shop",
        pods.map((name) => address(world.pod(name), family)),
        SLICE_PORTS,
        { family },
      ),
    ),
  ];
}

/** The same as kube-proxy would have it. */
function proxied(world: World, family: Family, pods: readonly string[]): ProxiedPort[] {
  const endpoints = (port: number) => pods.map((name) => ({ ip: address(world.pod(name), family), port }));
  const clusterIP = VIP[family];
  return [
    {
      name: "default/shop:web",
      protocol: "tcp",
      clusterIP,
      port: 80,
      nodePort: 30_080,
      endpoints: endpoints(8080),
    },
    {
      name: "default/shop:dns",
      protocol: "udp",
      clusterIP,
      port: 53,
      nodePort: 30_053,
      endpoints: endpoints(5353),
    },
  ];
}

/** kube-proxy's state as it writes it at its start. */
async function loadProxyRules(world: World, node: Node, mode: Mode, pods: readonly string[]): Promise<void> {
  for (const family of FAMILIES) {
    const about = { family, clusterCidr: CLUSTER_CIDR[family] };
    const ports = proxied(world, family, pods);
    const tool = family === 4 ? "iptables-nft-restore" : "ip6tables-nft-restore";
    if (mode === "iptables") await node.exec([tool, "--noflush"], { input: iptablesRules(ports, about) });
    else await node.exec(["nft", "-f", "-"], { input: nftablesRules(ports, about) });
  }
}

/** A flow that is kept open, and who answered it at first. */
interface OpenFlow {
  readonly name: string;
  readonly host: HostAgent;
  readonly target: Target;
  readonly who: string;
}

for (const mode of ["iptables", "nftables"] as const) {
  describe(`the way from kube-proxy in ${mode} mode to the agent and back`, () => {
    let cluster: Cluster;
    let node: Node;
    let inside: HostAgent;
    let outside: HostAgent;
    const flows: OpenFlow[] = [];

    before(async () => {
      cluster = await Cluster.start({
        // In nftables mode kube-proxy's chains are the only ones with NAT: the hardest case for what they leave behind.
        world: { flannelRules: mode === "iptables", dropInvalid: mode === "iptables" },
        pods: [
          { node: 1, name: "client" },
          { node: 1, name: "near" },
          { node: 2, name: "far" },
        ],
        manifests: (world) => ({ "shop.yaml": objects(world, ["near", "far"]) }),
        prepare: (world) => loadProxyRules(world, world.node(1), mode, ["near", "far"]),
        agentNodes: [],
      });
      node = cluster.world.node(1);
      inside = await cluster.at("client");
      outside = await cluster.at(cluster.world.client);
    });
    after(() => cluster?.close());

    /** Every way to the Service: pod to ClusterIP, and from outside to a NodePort with masquerade. */
    function ways(): { name: string; host: HostAgent; target: Target }[] {
      return FAMILIES.flatMap((family) => [
        { name: `pod-tcp-${family}`, host: inside, target: { dst: VIP[family], port: 80 } },
        {
          name: `pod-udp-${family}`,
          host: inside,
          target: { dst: VIP[family], port: 53, proto: "udp" as const, connected: true },
        },
        {
          name: `out-tcp-${family}`,
          host: outside,
          target: { dst: address(node.address, family), port: 30_080 },
        },
        {
          name: `out-udp-${family}`,
          host: outside,
          target: {
            dst: address(node.address, family),
            port: 30_053,
            proto: "udp" as const,
            connected: true,
          },
        },
      ]);
    }

    /** Opens so many flows on every way, and keeps them. */
    async function open(when: string, count = 3): Promise<void> {
      for (const { name, host, target } of ways())
        for (let i = 0; i < count; i++) {
          const handle = `${when}-${name}-${i}`;
          const opened = await host.open(handle, target);
          const answer = opened.who === undefined ? await host.ask(handle, { timeout: 3000 }) : opened;
          assert.ok(answer.who, `${handle}: ${JSON.stringify(answer)}`);
          flows.push({ name: handle, host, target, who: answer.who });
        }
    }

    /** Asks over every open flow: the same pod must answer. And new connections work on every way. */
    async function allGoOn(step: string): Promise<void> {
      const broken: string[] = [];
      await Promise.all(
        flows.map(async ({ name, host, who }) => {
          const answer = await host.ask(name, { timeout: 3000 });
          if (answer.who !== who) broken.push(`${name}: ${who}, now ${JSON.stringify(answer)}`);
        }),
      );
      for (const { name, host, target } of ways())
        for (let i = 0; i < 4; i++) {
          const { connected: _, ...way } = target;
          const fresh = await host.connect({ ...way, timeout: 3000 });
          if (!fresh.ok) broken.push(`new ${name}: ${JSON.stringify(fresh)}`);
        }
      assert.deepEqual(broken, [], step);
    }

    /** Makes a change while every open flow is asked over and over. A datagram may be lost, and is asked for again. */
    async function during<T>(step: string, change: () => Promise<T>): Promise<T> {
      let done = false;
      let asked = 0;
      const broken: string[] = [];
      const asking = flows.map(async ({ name, host, target, who }) => {
        const udp = target.proto === "udp";
        while (!done) {
          let answer = await host.ask(name, { timeout: udp ? 700 : 5000 });
          if (udp && !answer.ok) answer = await host.ask(name, { timeout: 3000 });
          asked++;
          if (answer.who === who) continue;
          broken.push(`${name}: ${who}, now ${JSON.stringify(answer)}`);
          return;
        }
      });
      const result = await change().finally(() => {
        done = true;
      });
      await Promise.all(asking);
      assert.deepEqual(broken, [], `during: ${step}`);
      assert.ok(asked > flows.length, `${asked} questions`);
      return result;
    }

    it("flows that kube-proxy began go on when the agent starts beside it, and new ones are the agent's", async () => {
      await open("early");
      await allGoOn("kube-proxy alone");
      const agent = await during("the agent starts", () => cluster.startAgent(node));
      const kept = agent.lines.find(
        ({ msg }) => msg === "UDP flows that the kernel translates are left alone",
      );
      assert.ok(Number(kept?.flows) >= 12, agent.tail());
      await allGoOn("beside kube-proxy");
      await open("beside");
      await allGoOn("beside kube-proxy, with flows of both");
    });

    it("cleanup --kube-proxy --dry-run changes nothing", async () => {
      const before = (await node.exec(["nft", "-s", "list", "ruleset"])).stdout;
      const { code, stdout } = await cluster.cli(node, [
        "cleanup",
        "--kube-proxy",
        "--dry-run",
        "-o",
        "json",
      ]);
      assert.equal(code, 0);
      assert.equal((JSON.parse(stdout) as { dryRun: boolean }).dryRun, true);
      assert.equal((await node.exec(["nft", "-s", "list", "ruleset"])).stdout, before);
    });

    it("cleanup --kube-proxy removes its rules alone, and no flow breaks (12.6)", async () => {
      const { code, stdout, stderr } = await during("kube-proxy is cleaned away", () =>
        cluster.cli(node, ["cleanup", "--kube-proxy", "-o", "json"]),
      );
      assert.equal(code, 0, stderr);
      const removed = JSON.parse(stdout) as {
        iptables: { chains: number }[];
        nftables: string[];
        natKept: string[];
      };
      if (mode === "nftables")
        assert.deepEqual(
          [removed.nftables, removed.natKept],
          [
            ["ip kube-proxy", "ip6 kube-proxy"],
            ["ip portolan", "ip6 portolan"],
          ],
        );
      else assert.ok(removed.iptables.reduce((sum, { chains }) => sum + chains, 0) >= 2 * 15, stdout);
      const rules = (await node.exec(["nft", "-s", "list", "ruleset"])).stdout;
      assert.doesNotMatch(
        rules,
        /KUBE-(SERVICES|SVC|SEP|EXT|NODEPORTS|POSTROUTING|MARK-MASQ|PROXY|FORWARD)|kube-proxy/,
      );
      if (mode === "iptables")
        assert.match(
          rules,
          /KUBE-FIREWALL[\s\S]*KUBE-KUBELET-CANARY|KUBE-KUBELET-CANARY[\s\S]*KUBE-FIREWALL/,
        );
      await allGoOn("agent alone");
      const again = await cluster.cli(node, ["cleanup", "--kube-proxy", "-o", "json"]);
      assert.equal(again.code, 0, again.stderr);
      assert.deepEqual(
        [
          (JSON.parse(again.stdout) as typeof removed).iptables,
          (JSON.parse(again.stdout) as typeof removed).nftables,
        ],
        [[], []],
      );
      await allGoOn("agent alone, cleaned twice");
    });

    it("an agent that is started again keeps those flows", async () => {
      await cluster.agent(node).end("SIGKILL");
      await allGoOn("no agent");
      await cluster.startAgent(node);
      await allGoOn("the agent after that");
      await open("alone");
    });

    it("flows of the agent go on when kube-proxy's rules are back and the agent is cleaned away", async () => {
      await during("kube-proxy comes back", () => loadProxyRules(cluster.world, node, mode, ["near", "far"]));
      await allGoOn("kube-proxy is back");
      await cluster.agent(node).end("SIGTERM");
      const { code, stdout, stderr } = await during("the agent is cleaned away", () =>
        cluster.cli(node, ["cleanup", "-o", "json"]),
      );
      assert.equal(code, 0, stderr);
      const { returnedFlows } = JSON.parse(stdout) as { returnedFlows: number };
      assert.ok(returnedFlows >= 2 * 24, `${returnedFlows} ${stderr}`);
      await allGoOn("kube-proxy alone again");
    });
  });
}

describe("UDP flows of kube-proxy whose backend goes", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      pods: [
        { node: 1, name: "client" },
        { node: 1, name: "near" },
        { node: 2, name: "far" },
      ],
      manifests: (world) => ({ "shop.yaml": objects(world, ["near"]) }),
      prepare: (world) => loadProxyRules(world, world.node(1), "iptables", ["near"]),
      agentNodes: [],
    });
  });
  after(() => cluster?.close());

  it("they move at once to one that serves, and are refused when there is none (9.2, 9.3, 9.5)", async () => {
    const client = await cluster.at("client");
    const { world } = cluster;
    const node = world.node(1);
    const ask = async (handle: string): Promise<string | undefined> => {
      const answer = await client.ask(handle, { timeout: 3000 });
      return answer.who ?? answer.errno;
    };
    for (const family of FAMILIES) {
      await client.open(`udp-${family}`, { dst: VIP[family], port: 53, proto: "udp", connected: true });
      assert.equal(await ask(`udp-${family}`), "near");
    }
    const agent = await cluster.startAgent(node);
    assert.equal((await cluster.cli(node, ["cleanup", "--kube-proxy"])).code, 0);
    for (const family of FAMILIES) assert.equal(await ask(`udp-${family}`), "near");
    await cluster.apply("shop.yaml", objects(world, ["far"]));
    await agent.line(({ msg }) => msg === "UDP flows of kube-proxy leave removed backends");
    for (const family of FAMILIES) assert.equal(await ask(`udp-${family}`), "far");
    const tracked = await node.exec(["conntrack", "-L", "-p", "udp", "--orig-dst", VIP[4]], { check: false });
    assert.doesNotMatch(tracked.stdout, /dport=53 /);
    await cluster.apply("shop.yaml", objects(world, []));
    for (const family of FAMILIES)
      await eventually(
        "it is refused",
        async () => (await ask(`udp-${family}`)) === "ECONNREFUSED" || undefined,
      );
  });
});
