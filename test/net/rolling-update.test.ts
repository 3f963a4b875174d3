// SPDX-License-Identifier: Apache-2.0
/*
 * Rolling updates as a Deployment makes them, with a preStop hook that lets a pod serve until nobody comes any more: three
 * replicas, one after the other replaced, 20 times, with clients outside and inside that connect without pause. Not one
 * request may fail (3.2, 4.6, 4.7, 9.10).
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Pod, World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import { countSynsSentAgain, type HostAgent, type LoadResult, type Target } from "../support/host-agent.js";
import { anyService, type EndpointSpec, slicesOf } from "../support/manifests.js";

const UPDATES = 20;
const REPLICAS = 3;
const POLICIES = ["Cluster", "Local"] as const;
const FAMILIES = [4, 6] as const;
const PORTS = { Cluster: 8_081, Local: 8_082 } as const;
const NODE_PORTS = { Cluster: 30_081, Local: 30_082 } as const;
const CLUSTER_IPS = {
  Cluster: ["10.96.0.1", "fd00:10:96::1"],
  Local: ["10.96.0.2", "fd00:10:96::2"],
} as const;
const BALANCERS = {
  Cluster: ["203.0.113.1", "2001:db8:203::1"],
  Local: ["203.0.113.2", "2001:db8:203::2"],
} as const;

type Phase = "ready" | "serving" | "ending";
const CONDITIONS: Readonly<Record<Phase, NonNullable<EndpointSpec["conditions"]>>> = {
  ready: { ready: true, serving: true, terminating: false },
  /** Deleted; its preStop hook runs and its readiness probe still says yes. */
  serving: { ready: false, serving: true, terminating: true },
  /** The probe has failed: no new connection shall come, those that are there go on. */
  ending: { ready: false, serving: false, terminating: true },
};

/** The Deployment's pods and how each does. */
class Deployment {
  readonly phases = new Map<string, Phase>();
  readonly #world: World;

  constructor(world: World, names: readonly string[]) {
    this.#world = world;
    for (const name of names) this.phases.set(name, "ready");
  }

  objects(): object[] {
    const endpoints = [...this.phases].map(([name, phase]): EndpointSpec => {
      const { ip4, ip6, node }: Pod = this.#world.pod(name);
      return { ip4, ip6, nodeName: node.name, conditions: CONDITIONS[phase] };
    });
    return POLICIES.flatMap((policy) => [
      anyService(
        `web-${policy.toLowerCase()}`,
        CLUSTER_IPS[policy],
        [
          { name: "web", port: 80, nodePort: NODE_PORTS[policy] },
          { name: "dns", port: 53, nodePort: NODE_PORTS[policy], protocol: "UDP" },
        ],
        {
          type: "LoadBalancer",
          externalTrafficPolicy: policy,
          ...(policy === "Local" ? { healthCheckNodePort: 32_000 } : {}),
          ingress: BALANCERS[policy],
        },
      ),
      ...slicesOf(`web-${policy.toLowerCase()}`, endpoints, [
        { name: "web", port: PORTS[policy] },
        { name: "dns", port: PORTS[policy], protocol: "UDP" },
      ]),
    ]);
  }
}

/** Six places: of three replicas one is replaced at a time, each time by the free place of its node. */
const PLACES: readonly { readonly names: readonly [string, string]; readonly node: 1 | 2 }[] = [
  { names: ["a-1", "a-2"], node: 1 },
  { names: ["b-1", "b-2"], node: 1 },
  { names: ["c-1", "c-2"], node: 2 },
];

interface Load {
  readonly title: string;
  readonly agent: HostAgent;
  readonly target: Target;
}

describe(`${UPDATES} rolling updates of ${REPLICAS} replicas under load`, () => {
  let cluster: Cluster;
  let deployment: Deployment;
  before(async () => {
    cluster = await Cluster.start({
      pods: [
        { node: 1, name: "client" },
        ...PLACES.flatMap(({ names, node }) => names.map((name) => ({ node, name }))),
      ],
      manifests: (world) => {
        deployment = new Deployment(
          world,
          PLACES.map(({ names }) => names[0]),
        );
        return { "web.yaml": deployment.objects() };
      },
      // kube-proxy's own bit: flannel's rules leave packets with it alone. Else the kernel would masquerade some flows, and our
      // hook others, to one address and sometimes one port.
      agentArgs: ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"],
      prepare: async (world) => {
        const { ip4, ip6 } = world.node(1).address;
        await world.switch.ip([
          `route add 203.0.113.0/24 via ${ip4}`,
          `route add 2001:db8:203::/64 via ${ip6}`,
        ]);
        for (const node of world.nodes) {
          await node.sysctl({
            "net/netfilter/nf_conntrack_tcp_timeout_time_wait": 5,
            "net/netfilter/nf_conntrack_udp_timeout": 5,
          });
        }
      },
    });
    for (const { names } of PLACES) await serveAll(names[0]);
  });
  after(() => cluster?.close());

  /** A new pod's servers; with them it is ready. */
  async function serveAll(name: string): Promise<void> {
    const agent = await cluster.at(name);
    for (const policy of POLICIES)
      for (const proto of ["tcp", "udp"] as const) await agent.serve(proto, PORTS[policy], name);
  }

  /** The end of a pod's programs: who comes now is refused, or worse. */
  async function stopAll(name: string): Promise<void> {
    const agent = await cluster.at(name);
    for (const policy of POLICIES)
      for (const proto of ["tcp", "udp"] as const) await agent.close(`${proto}-${PORTS[policy]}`);
  }

  async function loads(): Promise<Load[]> {
    const { world } = cluster;
    const clients = [
      { who: "outside", agent: await cluster.at(world.client) },
      { who: "inside", agent: await cluster.at("client") },
    ];
    const list: Load[] = [];
    for (const { who, agent } of clients) {
      for (const policy of POLICIES) {
        for (const [i, family] of FAMILIES.entries()) {
          const node = world.node(1).address;
          const ways: Target[] = (["tcp", "udp"] as const).flatMap((proto): Target[] => [
            { proto, dst: family === 4 ? node.ip4 : node.ip6, port: NODE_PORTS[policy] },
            { proto, dst: BALANCERS[policy][i] as string, port: proto === "tcp" ? 80 : 53 },
          ]);
          for (const target of ways)
            list.push({
              title: `${who} ${policy} ${target.proto} ${target.dst} ${target.port}`,
              agent,
              target,
            });
        }
      }
    }
    return list;
  }

  /** Replaces one pod of the place by the other: surge, then drain, as the Deployment's default strategy does. */
  async function replace(old: string, fresh: string): Promise<void> {
    const now = async (): Promise<void> => cluster.apply("web.yaml", deployment.objects());
    await serveAll(fresh);
    deployment.phases.set(fresh, "ready");
    await now();
    deployment.phases.set(old, "serving");
    await now();
    deployment.phases.set(old, "ending");
    await now();
    await drained(old);
    deployment.phases.delete(old);
    await now();
    await stopAll(old);
  }

  /** What a preStop hook waits for: requests that were under way when the last node heard of it have been answered. */
  async function drained(name: string): Promise<void> {
    const clients = await Promise.all([cluster.at(cluster.world.client), cluster.at("client")]);
    const { ip4 } = cluster.world.node(1).address;
    // A load's threads each make one request at a time: after two rounds of other requests, theirs have ended too.
    for (const client of clients) {
      const met = await client.loadCount({ dst: ip4, port: NODE_PORTS.Cluster }, { threads: 2, count: 40 });
      assert.equal(met.good, 40, JSON.stringify(met));
      assert.equal(met.who[name], undefined, `${name} does not serve and got a new connection`);
    }
  }

  it("no request fails, from outside and from inside, with the external policies Cluster and Local", async (t) => {
    const all = await loads();
    const agents = [...new Set(all.map(({ agent }) => agent))];
    const sentAgain = await Promise.all(
      agents.map((agent) => countSynsSentAgain(agent, all.filter((load) => load.agent === agent).length)),
    );
    for (const [i, { agent, target }] of all.entries())
      await agent.loadStart(`load-${i}`, target, { threads: 1, gap: 20_000 });
    for (let round = 0; round < UPDATES; round++) {
      for (const { names } of PLACES) {
        const [old, fresh] = round % 2 === 0 ? names : ([names[1], names[0]] as const);
        await replace(old, fresh);
      }
    }
    const complaints: string[] = [];
    const pods = new Set<string>();
    let requests = 0;
    let slow = 0;
    for (const [i, { title, agent }] of all.entries()) {
      const result: LoadResult = await agent.loadStop(`load-${i}`);
      requests += result.attempts;
      slow += result.slow;
      for (const who of Object.keys(result.who)) pods.add(who);
      for (const [error, { count }] of Object.entries(result.errors))
        complaints.push(`${title}: ${count} of ${result.attempts}: ${error}`);
    }
    const lost = await Promise.all(sentAgain.map((count) => count()));
    t.diagnostic(`${requests} requests, ${slow} over 0.9 s, SYNs sent again: ${JSON.stringify(lost)}`);
    assert.deepEqual(complaints, []);
    assert.deepEqual([...pods].sort(), PLACES.flatMap(({ names }) => names).sort());
    assert.ok(requests > 5_000, `${requests} requests: too few to prove anything`);
    for (const { sent, explained } of lost)
      assert.ok(sent <= explained, `a SYN was lost and sent again: ${JSON.stringify(lost)}`);
    assert.deepEqual(cluster.errors(), []);
  });
});
