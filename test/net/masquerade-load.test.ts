// SPDX-License-Identifier: Apache-2.0
/*
 * Masquerading under load: one client address, one NodePort, far more connections than there are source ports, so that the
 * client's ports and the node's are taken again and again while old connections are still remembered (8.1).
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import { countSynsSentAgain, type LoadResult, type Target } from "../support/host-agent.js";
import { anyService, slicesOf } from "../support/manifests.js";

const CONNECTIONS = 200_000;
const BATCH = 10_000;
const THREADS = 8;
/** What the client's kernel uses: fewer ports than connections, so each is used several times. */
const CLIENT_PORTS = [20_000, 39_999] as const;
const NODE_PORTS = { near: 30_080, far: 30_081 } as const;

interface Run {
  readonly title: string;
  readonly pod: keyof typeof NODE_PORTS;
  readonly family: 4 | 6;
  readonly count: number;
}

const RUNS: readonly Run[] = [
  { title: "IPv4, a pod of this node", pod: "near", family: 4, count: CONNECTIONS },
  { title: "IPv6, a pod of this node", pod: "near", family: 6, count: 30_000 },
  { title: "IPv4, a pod of the other node", pod: "far", family: 4, count: 30_000 },
  { title: "IPv6, a pod of the other node", pod: "far", family: 6, count: 30_000 },
];

function manifests(world: World): Record<string, readonly object[]> {
  return {
    "all.yaml": Object.entries(NODE_PORTS).flatMap(([name, nodePort], i) => [
      anyService(name, [`10.96.0.${i + 1}`, `fd00:10:96::${i + 1}`], [{ name: "web", port: 80, nodePort }]),
      ...slicesOf(name, [world.pod(name)], [{ name: "web", port: 8080 }]),
    ]),
  };
}

/** Whatever lost a packet that it should not have. */
const LOSSES = [
  "source_port_exhausted",
  "nat_insert_failed",
  "backend_unreadable",
  "rewrite_failed",
  "masquerade_no_address",
  "reject_failed",
  "no_backend",
  "no_port",
];

describe(`${CONNECTIONS} short connections of one client to a masqueraded NodePort`, () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await Cluster.start({
      // flannel's own rule would masquerade what goes to the other node before our hook sees it.
      world: { flannelRules: false },
      pods: [
        { node: 1, name: "near" },
        { node: 2, name: "far" },
      ],
      manifests,
      agentNodes: [1],
      agentArgs: ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"],
      prepare: async (world) => {
        await world.client.sysctl({
          "net/ipv4/ip_local_port_range": CLIENT_PORTS.join(" "),
          "net/ipv4/tcp_tw_reuse": 1,
        });
        // The host's own conntrack remembers each connection for two minutes, and drops when it is full.
        for (const node of world.nodes)
          await node.sysctl({ "net/netfilter/nf_conntrack_tcp_timeout_time_wait": 5 });
      },
    });
  });
  after(() => cluster?.close());

  /** So many connections, in batches; what all met, put together. */
  async function load(target: Target, count: number): Promise<Omit<LoadResult, "who">> {
    const client = await cluster.at(cluster.world.client);
    const sum = { attempts: 0, good: 0, slow: 0, slowestUs: 0, uncounted: 0, errors: {} };
    while (sum.attempts < count) {
      const result = await client.loadCount(target, { threads: THREADS, count: BATCH });
      sum.attempts += result.attempts;
      sum.good += result.good;
      sum.slow += result.slow;
      sum.slowestUs = Math.max(sum.slowestUs, result.slowestUs);
      sum.uncounted += result.uncounted;
      sum.errors = { ...sum.errors, ...result.errors };
    }
    return sum;
  }

  for (const { title, pod, family, count } of RUNS) {
    it(`${count} connections (${title}) neither fail nor stall (8.1, 8.4)`, async (t) => {
      const { world } = cluster;
      const node = world.node(1);
      const client = await cluster.at(world.client);
      const dst = family === 4 ? node.address.ip4 : node.address.ip6;
      const port = NODE_PORTS[pod];
      const one = await client.connect({ dst, port });
      assert.equal(one.who, pod, JSON.stringify(one));
      const own = family === 4 ? world.clientAddress.ip4 : world.clientAddress.ip6;
      assert.notEqual(one.seen, own, "this is not masqueraded, so it would prove nothing");
      const [sentAgain, was] = [await countSynsSentAgain(client, THREADS), await cluster.reasons(node)];
      const start = performance.now();
      const result = await load({ dst, port, timeout: 5_000 }, count);
      const seconds = (performance.now() - start) / 1000;
      const [lost, is] = [await sentAgain(), await cluster.reasons(node)];
      const more = (name: string): number => (is.get(name) ?? 0) - (was.get(name) ?? 0);
      t.diagnostic(
        `${result.attempts} in ${seconds.toFixed(1)} s (${Math.round(result.attempts / seconds)}/s), slowest ` +
          `${Math.round(result.slowestUs / 1000)} ms, SYNs sent again: ${lost.sent} (${lost.explained} by standstills), masqueraded: ${more("masqueraded")}, ` +
          `ports shifted: ${more("source_port_shifted")}`,
      );
      assert.deepEqual(result.errors, {});
      assert.deepEqual([result.good, result.attempts, result.slow], [count, count, 0]);
      assert.ok(result.slowestUs < 1_000_000, `one took ${result.slowestUs} us`);
      assert.ok(lost.sent <= lost.explained, `a SYN was lost and sent again: ${JSON.stringify(lost)}`);
      assert.ok(more("masqueraded") >= count, `${more("masqueraded")} of ${count} masqueraded`);
      assert.deepEqual(
        LOSSES.filter((name) => more(name) > 0).map((name) => [name, more(name)]),
        [],
      );
    });
  }

  it("nothing of this was an error to the agent", () => assert.deepEqual(cluster.errors(), []));
});
