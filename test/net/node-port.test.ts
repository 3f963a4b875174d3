// SPDX-License-Identifier: Apache-2.0
/* NodePorts, externalIPs and load balancer addresses, as clients outside, pods and the node's own processes meet them. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Flavour, Host, World } from "../../src/demo/world/index.js";
import { Cluster, type ClusterOptions, eventually } from "../support/cluster.js";
import { agentOf, type Exchange, type Target } from "../support/host-agent.js";
import { anyService, nodeObject, type ServiceExtras, slicesOf } from "../support/manifests.js";

const CLUSTER_CIDR = ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"];
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];

/** Services by name; each is of type LoadBalancer, with one address of the balancer and one externalIP in each family. */
const SERVICES = {
  "cluster-near": { n: 1, pods: ["near"], policy: "Cluster" },
  "cluster-far": { n: 2, pods: ["far"], policy: "Cluster" },
  "local-near": { n: 3, pods: ["near"], policy: "Local" },
  "local-far": { n: 4, pods: ["far"], policy: "Local" },
  "local-none": { n: 5, pods: [], policy: "Local" },
  "cluster-none": { n: 6, pods: [], policy: "Cluster" },
} as const;
type Name = keyof typeof SERVICES;

const SLICE_PORTS = [
  { name: "web", port: 8080 },
  { name: "dns", port: 5353, protocol: "UDP" as const },
];

const clusterIP = (n: number, family: Family): string => (family === 4 ? `10.96.0.${n}` : `fd00:10:96::${n}`);
const balancer = (n: number, family: Family): string =>
  family === 4 ? `203.0.113.${n}` : `2001:db8:203::${n}`;
const external = (n: number, family: Family): string =>
  family === 4 ? `203.0.113.${100 + n}` : `2001:db8:203::1:${n}`;
const isV6 = (address: string): boolean => address.includes(":");

function serviceOf(world: World, name: Name, extras: ServiceExtras = {}): object[] {
  const { n, pods, policy } = SERVICES[name];
  const ports = [
    { name: "web", port: 80, nodePort: 30_080 + n },
    { name: "dns", port: 53, nodePort: 30_053 + n, protocol: "UDP" as const },
  ];
  return [
    anyService(
      name,
      FAMILIES.map((family) => clusterIP(n, family)),
      ports,
      {
        type: "LoadBalancer",
        externalTrafficPolicy: policy,
        ...(policy === "Local" ? { healthCheckNodePort: 32_000 + n } : {}),
        ingress: FAMILIES.map((family) => balancer(n, family)),
        externalIPs: FAMILIES.map((family) => external(n, family)),
        ...extras,
      },
    ),
    ...slicesOf(
      name,
      pods.map((pod) => {
        const { ip4, ip6, node } = world.pod(pod);
        return { ip4, ip6, nodeName: node.name };
      }),
      SLICE_PORTS,
    ),
  ];
}

const allServices = (world: World): Record<string, readonly object[]> => ({
  "all.yaml": (Object.keys(SERVICES) as Name[]).flatMap((name) => serviceOf(world, name)),
});

type Way = Target & { readonly dst: string; readonly kind: "NodePort" | "balancer" | "externalIP" };

/** All ways to a Service, through one node: TCP and UDP, IPv4 and IPv6. */
function ways(world: World, name: Name, index = 1): Way[] {
  const { n } = SERVICES[name];
  const { ip4, ip6 } = world.node(index).address;
  return FAMILIES.flatMap((family): Way[] =>
    (["tcp", "udp"] as const).flatMap((proto): Way[] => {
      const port = proto === "tcp" ? 80 : 53;
      const common = { proto, timeout: 3_000 };
      return [
        { ...common, kind: "NodePort", dst: family === 4 ? ip4 : ip6, port: 30_000 + port + n },
        { ...common, kind: "balancer", dst: balancer(n, family), port },
        { ...common, kind: "externalIP", dst: external(n, family), port },
      ];
    }),
  );
}

const nodePorts = (world: World, name: Name, index = 1): Way[] =>
  ways(world, name, index).filter(({ kind }) => kind === "NodePort");

/** What leads from outside to the addresses that no interface has: node 1. */
async function routeBalancers(world: World): Promise<void> {
  const { ip4, ip6 } = world.node(1).address;
  await world.switch.ip([`route add 203.0.113.0/24 via ${ip4}`, `route add 2001:db8:203::/64 via ${ip6}`]);
}

/** Every address of a node, of both families. */
async function addressesOf(host: Host): Promise<Set<string>> {
  const { stdout } = await host.exec(["ip", "-json", "address", "show"]);
  const links = JSON.parse(stdout) as { addr_info: { local: string }[] }[];
  return new Set(links.flatMap((link) => link.addr_info.map(({ local }) => local)));
}

/** Asks all ways at once; each with its answer. */
async function askAll(
  cluster: Cluster,
  from: string | Host,
  list: readonly Way[],
): Promise<{ way: Way; answer: Exchange; label: string }[]> {
  const agent = await cluster.at(from);
  return Promise.all(
    list.map(async (way) => {
      const answer = await agent.connect({ ...way, connected: true });
      return { way, answer, label: JSON.stringify({ way, answer }) };
    }),
  );
}

/** Every way leads to this pod; `seen` judges the address that it sees. */
async function mustReach(
  cluster: Cluster,
  from: string | Host,
  list: readonly Way[],
  who: string,
  seen: (address: string) => boolean = () => true,
): Promise<void> {
  for (const { answer, label } of await askAll(cluster, from, list)) {
    assert.equal(answer.who, who, label);
    assert.ok(seen(answer.seen as string), `the pod sees a wrong address: ${label}`);
  }
}

/** No way leads anywhere, and nothing is heard. */
async function mustBeSilent(cluster: Cluster, from: string | Host, list: readonly Way[]): Promise<void> {
  const short = list.map((way) => ({ ...way, timeout: 700 }));
  for (const { answer, label } of await askAll(cluster, from, short))
    assert.deepEqual([answer.ok, answer.errno], [false, "ETIMEDOUT"], label);
}

/** Every way is refused with the first packet. */
async function mustRefuse(cluster: Cluster, from: string | Host, list: readonly Way[]): Promise<void> {
  for (const { answer, label } of await askAll(cluster, from, list)) {
    assert.deepEqual([answer.ok, answer.errno], [false, "ECONNREFUSED"], label);
    assert.ok(answer.us < 900_000, `only the second packet was refused: ${label}`);
  }
}

const FLAVOURS: readonly { title: string; flavour: Flavour; attach: string }[] = [
  { title: "with pods on a bridge and vxlan", flavour: "bridge", attach: "auto" },
  { title: "with pods on routed veths", flavour: "routed", attach: "auto" },
  { title: "with pods on a bridge and vxlan, attached by clsact", flavour: "bridge", attach: "clsact" },
];

const PODS = [
  { node: 1, name: "client" },
  { node: 1, name: "near" },
  { node: 2, name: "far" },
];

for (const { title, flavour, attach } of FLAVOURS) {
  describe(`NodePorts, balancers' addresses and externalIPs ${title}`, () => {
    let cluster: Cluster;
    before(async () => {
      cluster = await Cluster.start({
        world: { flavour },
        pods: PODS,
        manifests: allServices,
        agentArgs: [...CLUSTER_CIDR, "--attach", attach],
        prepare: routeBalancers,
      });
      await cluster.inCgroup(cluster.world.node(1));
    });
    after(() => cluster?.close());

    for (const [name, who] of [
      ["cluster-near", "near"],
      ["cluster-far", "far"],
    ] as const) {
      it(`Cluster: a client outside reaches the ${who} pod, which sees an address of the node (4.11, 8.1, 8.4)`, async () => {
        const { world } = cluster;
        const own = await addressesOf(world.node(1));
        await mustReach(cluster, world.client, ways(world, name), who, (seen) => own.has(seen));
        await mustReach(cluster, world.client, nodePorts(world, name, 2), who);
      });

      it(`Cluster: a pod reaches the ${who} pod without leaving the cluster, masqueraded (6.11, 8.4)`, async () => {
        const own = await addressesOf(cluster.world.node(1));
        await mustReach(cluster, "client", ways(cluster.world, name), who, (seen) => own.has(seen));
      });

      it(`Cluster: a process of the node reaches the ${who} pod (4.11, 6.11)`, async () => {
        const node = cluster.world.node(1);
        const own = await addressesOf(node);
        await mustReach(cluster, node, ways(cluster.world, name), who, (seen) => own.has(seen));
      });
    }

    it("Local: the pod sees the client's own address and port (4.12, 8.5)", async () => {
      const { world } = cluster;
      const { ip4, ip6 } = world.clientAddress;
      for (const { way, answer, label } of await askAll(cluster, world.client, ways(world, "local-near"))) {
        assert.equal(answer.who, "near", label);
        assert.equal(answer.seen, isV6(way.dst) ? ip6 : ip4, label);
        assert.equal(answer.seenPort, answer.localPort, label);
      }
      await mustReach(cluster, world.client, nodePorts(world, "local-far", 2), "far", (seen) =>
        [ip4, ip6].includes(seen),
      );
    });

    it("Local: a node without an endpoint is silent to clients outside (7.3)", async () => {
      const { world } = cluster;
      const was = (await cluster.reasons(world.node(1))).get("policy_local") ?? 0;
      await mustBeSilent(cluster, world.client, ways(world, "local-far"));
      const is = (await cluster.reasons(world.node(1))).get("policy_local") ?? 0;
      assert.ok(is >= was + 12, `${is - was} packets were dropped by the policy`);
      await mustBeSilent(cluster, world.client, nodePorts(world, "local-near", 2));
    });

    it("Local: pods and processes of such a node reach the endpoint elsewhere (4.12, 8.5)", async () => {
      const { world } = cluster;
      const { ip4, ip6 } = world.pod("client");
      await mustReach(cluster, "client", ways(world, "local-far"), "far", (seen) =>
        [ip4, ip6].includes(seen),
      );
      const own = await addressesOf(world.node(1));
      await mustReach(cluster, world.node(1), ways(world, "local-far"), "far", (seen) => own.has(seen));
    });

    it("a Service without endpoints refuses everybody, whatever its policy (7.1, 7.4, 7.6)", async () => {
      const { world } = cluster;
      for (const name of ["local-none", "cluster-none"] as const) {
        for (const from of [world.client, "client", world.node(1)])
          await mustRefuse(cluster, from, ways(world, name));
      }
    });

    it("an address that comes later serves NodePorts too, and no longer when it goes (6.1)", async () => {
      const { world } = cluster;
      const node = world.node(1);
      const late = ["192.168.70.1", "fd00:70::1"];
      const tries: Way[] = late.map((dst) => ({ kind: "NodePort", dst, port: 30_081, timeout: 3_000 }));
      await world.switch.ip([
        `route add 192.168.70.0/24 via ${node.address.ip4}`,
        `route add fd00:70::/64 via ${node.address.ip6}`,
      ]);
      const served = async (wanted: boolean): Promise<boolean> => {
        const answers = await askAll(cluster, world.client, tries);
        return answers.every(({ answer }) => (answer.who === "near") === wanted);
      };
      await node.ip(["addr add 192.168.70.1/32 dev lo", "addr add fd00:70::1/128 dev lo nodad"]);
      await eventually("the new addresses", async () => ((await served(true)) ? true : undefined));
      await node.ip(["addr del 192.168.70.1/32 dev lo", "addr del fd00:70::1/128 dev lo"]);
      await eventually("the end of the addresses", async () => ((await served(false)) ? true : undefined));
      await mustReach(cluster, world.client, nodePorts(world, "cluster-near"), "near");
    });

    it("a listening process is shadowed on a NodePort, and has its port back with the Service (6.10)", async () => {
      const { world } = cluster;
      const [node, client] = [await cluster.at(world.node(1)), await cluster.at(world.client)];
      await node.serve("tcp", 30_081);
      await mustReach(
        cluster,
        world.client,
        nodePorts(world, "cluster-near").filter(({ proto }) => proto === "tcp"),
        "near",
      );
      await cluster.apply("all.yaml", [...serviceOf(world, "cluster-far")]);
      for (const dst of [world.node(1).address.ip4, world.node(1).address.ip6])
        assert.equal((await client.connect({ dst, port: 30_081 })).who, "n1", dst);
      await cluster.apply("all.yaml", allServices(world)["all.yaml"] as object[]);
      await mustReach(cluster, world.client, nodePorts(world, "cluster-near"), "near");
      await node.close("tcp-30081");
    });

    it("nothing of this was an error to an agent", () => assert.deepEqual(cluster.errors(), []));
  });
}

/** A cluster of one node whose process answers, as "n1", wherever port 30081 is not a NodePort. */
async function oneNode(options: Partial<ClusterOptions> & { args: readonly string[] }): Promise<Cluster> {
  const { args, prepare, manifests, ...others } = options;
  const cluster = await Cluster.start({
    pods: [
      { node: 1, name: "client" },
      { node: 1, name: "near" },
    ],
    manifests: manifests ?? ((world) => ({ "all.yaml": serviceOf(world, "cluster-near") })),
    agentNodes: [1],
    agentArgs: [...CLUSTER_CIDR, ...args],
    prepare: async (world) => {
      const node = world.node(1);
      await node.ip(["addr add 192.168.70.1/32 dev lo", "addr add fd00:70::1/128 dev lo nodad"]);
      await world.switch.ip([
        `route add 192.168.70.0/24 via ${node.address.ip4}`,
        `route add fd00:70::/64 via ${node.address.ip6}`,
      ]);
      await routeBalancers(world);
      await prepare?.(world);
    },
    ...others,
  });
  await cluster.inCgroup(cluster.world.node(1));
  return cluster;
}

const PRIMARY = ["192.168.50.1", "fd00:50::1"];
const SECOND = ["192.168.70.1", "fd00:70::1"];
const RANGES: readonly {
  readonly title: string;
  readonly args: readonly string[];
  readonly serving: readonly string[];
}[] = [
  {
    title: "without --nodeport-addresses every address serves (6.1)",
    args: [],
    serving: [...PRIMARY, ...SECOND],
  },
  {
    title: "a range of one family leaves the other family whole (6.2)",
    args: ["--nodeport-addresses", "192.168.70.0/24"],
    serving: ["192.168.70.1", PRIMARY[1] as string, SECOND[1] as string],
  },
  {
    title: "ranges of both families limit both (6.3)",
    args: ["--nodeport-addresses", "192.168.50.0/24,fd00:70::/64"],
    serving: ["192.168.50.1", "fd00:70::1"],
  },
  {
    title: "a range of all overrides the others (6.2)",
    args: ["--nodeport-addresses", "192.168.70.0/24,0.0.0.0/0"],
    serving: [...PRIMARY, ...SECOND],
  },
  {
    title: "a range that no address is in serves nowhere in its family (6.3)",
    args: ["--nodeport-addresses", "198.51.100.0/24"],
    serving: [PRIMARY[1] as string, SECOND[1] as string],
  },
  {
    title: "primary is the Node object's addresses (6.4)",
    args: ["--nodeport-addresses", "primary"],
    serving: PRIMARY,
  },
  {
    title: "--proxy-mode nftables means primary (6.1)",
    args: ["--proxy-mode", "nftables"],
    serving: PRIMARY,
  },
];

describe("Which addresses of the node serve NodePorts", () => {
  for (const { title, args, serving } of RANGES) {
    it(title, async () => {
      const cluster = await oneNode({
        args,
        manifests: (world) => ({
          "all.yaml": serviceOf(world, "cluster-near"),
          "node.yaml": [nodeObject("n1", PRIMARY)],
        }),
      });
      try {
        const { world } = cluster;
        await (await cluster.at(world.node(1))).serve("tcp", 30_081);
        const found: string[] = [];
        for (const from of [world.client, "client", world.node(1)]) {
          const agent = await cluster.at(from);
          for (const dst of [...PRIMARY, ...SECOND]) {
            const { who } = await agent.connect({ dst, port: 30_081 });
            const name = typeof from === "string" ? from : from.name;
            const wanted = serving.includes(dst) ? "near" : "n1";
            if (who !== wanted) found.push(`${name} -> ${dst}: ${who}, not ${wanted}`);
          }
        }
        assert.deepEqual(found, []);
      } finally {
        await cluster.close();
      }
    });
  }
});

const DETECTORS: readonly {
  readonly title: string;
  readonly flavour: Flavour;
  readonly args: readonly string[];
  /** Whether a pod of the node is known as one. */
  readonly pod: boolean;
  /** Whether there is a detector, so that others are masqueraded to ClusterIPs (8.2). */
  readonly any: boolean;
}[] = [
  { title: "ClusterCIDR", flavour: "bridge", args: CLUSTER_CIDR, pod: true, any: true },
  {
    title: "BridgeInterface cni0",
    flavour: "bridge",
    args: ["--detect-local-mode", "BridgeInterface", "--pod-bridge-interface", "cni0"],
    pod: true,
    any: true,
  },
  {
    title: "InterfaceNamePrefix cali",
    flavour: "routed",
    args: ["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "cali"],
    pod: true,
    any: true,
  },
  {
    title: "InterfaceNamePrefix with a prefix that no pod has",
    flavour: "routed",
    args: ["--detect-local-mode", "InterfaceNamePrefix", "--pod-interface-name-prefix", "nic"],
    pod: false,
    any: true,
  },
  { title: "none", flavour: "bridge", args: [], pod: false, any: false },
];

describe("Who is a local pod", () => {
  for (const { title, flavour, args, pod, any } of DETECTORS) {
    it(`by the detector ${title} (8.2, 8.3, 8.5, 8.6)`, async () => {
      const cluster = await Cluster.start({
        // flannel's rules would masquerade too.
        world: { flavour, flannelRules: false },
        pods: PODS,
        manifests: allServices,
        agentNodes: [1],
        agentArgs: args,
        prepare: routeBalancers,
      });
      try {
        const { world } = cluster;
        const client = world.pod("client");
        const isPod = (seen: string): boolean => [client.ip4, client.ip6].includes(seen);
        const own = await addressesOf(world.node(1));
        if (pod) await mustReach(cluster, "client", ways(world, "local-far"), "far", isPod);
        else await mustBeSilent(cluster, "client", ways(world, "local-far"));
        if (!pod) await mustReach(cluster, "client", ways(world, "local-near"), "near", isPod);
        const toClusterIP = FAMILIES.flatMap((family) => [
          { kind: "balancer" as const, dst: clusterIP(1, family), port: 80 },
          { kind: "balancer" as const, dst: clusterIP(1, family), port: 53, proto: "udp" as const },
        ]);
        const isOwn = (seen: string): boolean => own.has(seen);
        await mustReach(cluster, "client", toClusterIP, "near", any && !pod ? isOwn : isPod);
        const { ip4, ip6 } = world.clientAddress;
        await mustReach(
          cluster,
          world.client,
          toClusterIP,
          "near",
          any ? isOwn : (seen) => [ip4, ip6].includes(seen),
        );
      } finally {
        await cluster.close();
      }
    });
  }

  it("--masquerade-all concerns ClusterIPs, of pods too, and nothing else (8.2, 8.8)", async () => {
    const cluster = await oneNode({
      args: ["--masquerade-all"],
      manifests: (world) => ({ "all.yaml": serviceOf(world, "local-near") }),
    });
    try {
      const { world } = cluster;
      const own = await addressesOf(world.node(1));
      const toClusterIP = FAMILIES.map((family) => ({
        kind: "balancer" as const,
        dst: clusterIP(3, family),
        port: 80,
      }));
      await mustReach(cluster, "client", toClusterIP, "near", (seen) => own.has(seen));
      const { ip4, ip6 } = world.clientAddress;
      await mustReach(cluster, world.client, ways(world, "local-near"), "near", (seen) =>
        [ip4, ip6].includes(seen),
      );
    } finally {
      await cluster.close();
    }
  });
});

describe("A firewall whose FORWARD drops", () => {
  const dropForwarded = (tool: "legacy" | "nft") => async (world: World) => {
    for (const program of [`iptables-${tool}`, `ip6tables-${tool}`])
      await world.node(1).exec([program, "-P", "FORWARD", "DROP"]);
    await routeBalancers(world);
  };
  const start = (tool: "legacy" | "nft", args: readonly string[]): Promise<Cluster> =>
    Cluster.start({
      world: { flannelRules: false, dropInvalid: false },
      pods: PODS,
      manifests: allServices,
      agentArgs: [...CLUSTER_CIDR, ...args],
      prepare: dropForwarded(tool),
    });

  for (const tool of ["legacy", "nft"] as const) {
    it(`does not break what is translated (${tool}, 8.11)`, async () => {
      const cluster = await start(tool, []);
      try {
        const { world } = cluster;
        const near = world.pod("near");
        const direct = [near.ip4, near.ip6].map((dst) => ({ kind: "balancer" as const, dst, port: 8080 }));
        await mustBeSilent(cluster, world.client, direct);
        await mustReach(cluster, world.client, ways(world, "cluster-near"), "near");
        await mustReach(cluster, world.client, ways(world, "cluster-far"), "far");
        await mustReach(cluster, world.client, ways(world, "local-near"), "near");
        await mustReach(cluster, "client", ways(world, "cluster-far"), "far");
        for (const { dst } of nodePorts(world, "cluster-far")) {
          const bulk = await (await cluster.at(world.client)).bulk({ dst, port: 30_082 }, "up", 1 << 20);
          assert.equal(bulk.ok && bulk.received === bulk.sent, true, JSON.stringify(bulk));
        }
      } finally {
        await cluster.close();
      }
    });
  }

  it("does break it with --forward-rules=false, so the rules are what helps (8.11)", async () => {
    const cluster = await start("nft", ["--forward-rules=false"]);
    try {
      await mustBeSilent(cluster, cluster.world.client, nodePorts(cluster.world, "cluster-near"));
    } finally {
      await cluster.close();
    }
  });
});

describe("A frontend that would take a local listener's clients", () => {
  it("is refused with a reason, and the Service's other frontends are served (6.10, 2.22)", async () => {
    const cluster = await oneNode({
      args: [],
      manifests: (world) => ({
        "all.yaml": [
          anyService(
            "thief",
            FAMILIES.map((family) => clusterIP(9, family)),
            [{ name: "web", port: 9_443, nodePort: 30_089 }],
            { externalIPs: [...PRIMARY, external(9, 4), external(9, 6)] },
          ),
          ...slicesOf("thief", [world.pod("near")], [{ name: "web", port: 8080 }]),
        ],
      }),
      prepare: async (world) => {
        await (await agentOf(world.node(1))).serve("tcp", 9_443);
      },
    });
    try {
      const { world } = cluster;
      const client = await cluster.at(world.client);
      const problems = cluster.agent(world.node(1)).lines.filter((line) => line.msg === "service problem");
      for (const address of PRIMARY) {
        const text = problems.map((line) => JSON.stringify(line)).find((line) => line.includes(address));
        assert.ok(text !== undefined, `no problem names ${address}: ${JSON.stringify(problems)}`);
        assert.match(text, /thief/);
        assert.match(text, /9443/);
        assert.match(text, /listening socket/);
        assert.equal((await client.connect({ dst: address, port: 9_443 })).who, "n1");
        assert.equal((await client.connect({ dst: address, port: 30_089 })).who, "near");
      }
      for (const family of FAMILIES) {
        assert.equal((await client.connect({ dst: external(9, family), port: 9_443 })).who, "near");
        const inside = await cluster.at("client");
        assert.equal((await inside.connect({ dst: clusterIP(9, family), port: 9_443 })).who, "near");
      }
    } finally {
      await cluster.close();
    }
  });
});
