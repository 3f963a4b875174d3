// SPDX-License-Identifier: Apache-2.0
/*
 * The publish protocol under load (docs/design/README.md, ideas 1 and 2): 2,000 endpoint changes while clients connect without pause.
 * No connection may fail, none may reach a pod or port that is not this Service's, and none that began after a removal was
 * in force may reach what was removed.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, describe, it, type TestContext } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import { countSynsSentAgain, type HostAgent, type LoadResult } from "../support/host-agent.js";
import { endpointSlice, service } from "../support/manifests.js";

const CHANGES = 2_000;
const PER_BATCH = 10;
const TCP_THREADS = 2;
const SERVICES = [1, 2, 3, 4];
const PODS = ["a", "b", "c", "d", "e", "f"];
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];

/** The endpoints of one Service in one family, and when one that is missing was removed for good (CLOCK_MONOTONIC, us). */
class EndpointSet {
  readonly service: number;
  readonly family: Family;
  readonly present = new Set<string>();
  readonly removedUs = new Map<string, number>();

  constructor(service: number, family: Family) {
    this.service = service;
    this.family = family;
  }

  /** Adds or removes; false when it would leave no endpoint. */
  toggle(pod: string): boolean {
    if (!this.present.has(pod)) {
      this.present.add(pod);
      this.removedUs.delete(pod);
    } else if (this.present.size > 1) this.present.delete(pod);
    else return false;
    return true;
  }

  object(world: World): object {
    const pods = [...this.present].sort().map((name) => world.pod(name));
    const addresses = pods.map((pod) => (this.family === 4 ? pod.ip4 : pod.ip6));
    const port = 9000 + this.service;
    return endpointSlice(`svc-${this.service}`, addresses, [
      { name: "web", port },
      { name: "dns", port, protocol: "UDP" },
    ]);
  }
}

/** A small generator of random numbers with a seed, so that a failure can be seen again. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** The least of some looks: manifests that are being read, and pipes of a firewall's tool, are open for a moment only. */
async function openFiles(pid: number): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let look = 0; look < 20; look++) {
    least = Math.min(least, readdirSync(`/proc/${pid}/fd`).length);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return least;
}

function filesOfAgents(cluster: Cluster): Promise<number[]> {
  return Promise.all(cluster.world.nodes.map((node) => openFiles(cluster.agent(node).pid)));
}

function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

function vip(n: number, family: Family): string {
  return family === 4 ? `10.96.0.${n}` : `fd00:10:96::${n}`;
}

describe("2,000 endpoint changes while clients connect without pause", () => {
  let cluster: Cluster;
  const sets = SERVICES.flatMap((n) => FAMILIES.map((family) => new EndpointSet(n, family)));
  const slices = (world: World): object[] => sets.map((set) => set.object(world));

  before(async () => {
    for (const set of sets) for (const pod of ["a", "d"]) set.toggle(pod);
    cluster = await Cluster.start({
      pods: [
        { node: 1, name: "client" },
        { node: 2, name: "client-2" },
        ...PODS.map((name, i) => ({ node: i < 3 ? 1 : 2, name })),
      ],
      manifests: (world) => ({
        "services.yaml": SERVICES.map((n) =>
          service(
            `svc-${n}`,
            FAMILIES.map((family) => vip(n, family)),
            [
              { name: "web", port: 80 },
              { name: "dns", port: 53, protocol: "UDP" },
            ],
          ),
        ),
        "slices.yaml": slices(world),
      }),
      prepare: async (world) => {
        // Hundreds of thousands of connections in two minutes would fill the host's own conntrack, which then drops.
        for (const node of world.nodes) {
          await node.sysctl({
            "net/netfilter/nf_conntrack_tcp_timeout_time_wait": 5,
            "net/netfilter/nf_conntrack_udp_timeout": 5,
          });
        }
      },
    });
    for (const name of PODS) {
      const agent = await cluster.at(name);
      for (const n of SERVICES) {
        for (const proto of ["tcp", "udp"] as const)
          await agent.serve(proto, 9000 + n, `${name}:${9000 + n}`);
      }
    }
  });
  after(() => cluster?.close());

  async function startLoads(agent: HostAgent): Promise<void> {
    for (const { service: n, family } of sets) {
      const dst = vip(n, family);
      await agent.loadStart(`tcp-${n}-${family}`, { dst, port: 80 }, { threads: TCP_THREADS, gap: 20_000 });
      await agent.loadStart(
        `udp-${n}-${family}`,
        { dst, port: 53, proto: "udp" },
        { threads: 1, gap: 20_000 },
      );
    }
  }

  /** Adds or removes PER_BATCH endpoints, each another one. */
  function toggleSome(pick: (below: number) => number): void {
    const touched = new Set<string>();
    while (touched.size < PER_BATCH) {
      const set = sets[pick(sets.length)] as EndpointSet;
      const pod = PODS[pick(PODS.length)] as string;
      const key = `${set.service} ${set.family} ${pod}`;
      if (!touched.has(key) && set.toggle(pod)) touched.add(key);
    }
  }

  /** One batch, awaited: from then on, nobody may reach what is not in the sets. */
  async function applySome(pick: (below: number) => number): Promise<void> {
    toggleSome(pick);
    await cluster.apply("slices.yaml", slices(cluster.world));
    const now = monotonicUs();
    for (const set of sets) {
      for (const pod of PODS)
        if (!set.present.has(pod) && !set.removedUs.has(pod)) set.removedUs.set(pod, now);
    }
  }

  /** What is wrong with the answers that one load got. */
  function wrong(set: EndpointSet, result: LoadResult): string[] {
    const complaints: string[] = [];
    for (const [error, tally] of Object.entries(result.errors))
      complaints.push(`${tally.count} times ${error}`);
    for (const [who, tally] of Object.entries(result.who)) {
      const [pod, port] = who.split(":") as [string, string];
      if (port !== String(9000 + set.service)) complaints.push(`${tally.count} reached ${who}`);
      const removed = set.removedUs.get(pod);
      if (removed !== undefined && tally.lastStartUs > removed) {
        complaints.push(`${who} answered ${tally.lastStartUs - removed} us after it was removed`);
      }
    }
    if (result.uncounted > 0) complaints.push(`${result.uncounted} of too many kinds`);
    return complaints;
  }

  /** Runs changes under load, and checks what every client met. */
  async function underLoad(t: TestContext, changes: () => Promise<void>): Promise<void> {
    const agents = await Promise.all(["client", "client-2"].map((name) => cluster.at(name)));
    const sentAgain = await Promise.all(
      agents.map((agent) => countSynsSentAgain(agent, sets.length * TCP_THREADS)),
    );
    for (const agent of agents) await startLoads(agent);
    await changes();
    // Loads go on for a moment after the last change, so that what was removed last is asked for, too.
    await Promise.all(
      agents.map((agent) => agent.loadCount({ dst: vip(1, 4), port: 80 }, { threads: 1, count: 100 })),
    );
    let attempts = 0;
    let slow = 0;
    const complaints: string[] = [];
    for (const [i, agent] of agents.entries()) {
      for (const set of sets) {
        for (const proto of ["tcp", "udp"]) {
          const result = await agent.loadStop(`${proto}-${set.service}-${set.family}`);
          const label = `client ${i} ${proto} svc-${set.service} IPv${set.family}`;
          attempts += result.attempts;
          slow += result.slow;
          complaints.push(...wrong(set, result).map((text) => `${label}: ${text}`));
        }
      }
    }
    const lost = await Promise.all(sentAgain.map((count) => count()));
    t.diagnostic(`${attempts} connections, ${slow} over 0.9 s, SYNs sent again: ${JSON.stringify(lost)}`);
    assert.deepEqual(complaints, []);
    assert.ok(attempts > 3_000, `${attempts} connections: too few to prove anything`);
    for (const { sent, explained } of lost)
      assert.ok(sent <= explained, `a SYN was lost and sent again: ${JSON.stringify(lost)}`);
  }

  it("no connection fails, and none is misdirected", async (t) => {
    const pick = random(20_261_123);
    await underLoad(t, async () => {
      await applySome(pick);
      const before = await filesOfAgents(cluster);
      for (let made = PER_BATCH; made < CHANGES; made += PER_BATCH) await applySome(pick);
      const now = await filesOfAgents(cluster);
      // A leak would be hundreds.
      for (const [i, count] of now.entries())
        assert.ok(count <= (before[i] as number) + 5, `${before} -> ${now} open files`);
    });
    assert.deepEqual(cluster.errors(), []);
  });

  it("the same holds when an agent is killed in the midst of a change, again and again", async (t) => {
    const pick = random(65_65);
    const node = cluster.world.node(1);
    await underLoad(t, async () => {
      for (let round = 0; round < 6; round++) {
        toggleSome(pick);
        cluster.write("slices.yaml", slices(cluster.world));
        // Anywhere between seeing the file and having written all of it.
        await new Promise((resolve) => setTimeout(resolve, pick(40)));
        await cluster.agent(node).end("SIGKILL");
        toggleSome(pick);
        cluster.write("slices.yaml", slices(cluster.world));
        await cluster.startAgent(node);
        for (let i = 0; i < 3; i++) await applySome(pick);
      }
    });
  });
});
