// SPDX-License-Identifier: Apache-2.0
/**
 * What connect(2) to a Service costs in the connect hook, by the kernel's run-time statistics (BPF_ENABLE_STATS, which is on only
 * while it runs): `make bench-connect [ARGS=--quick]`. Each round has an empty program beside it, since the statistics take time
 * themselves; both figures are told, the one as it is read and the one above the empty program. Our own counters must say that
 * every socket was sent to a backend. Writes bench/results/connect.json.
 */
import { mkdirSync, rmdirSync } from "node:fs";
import { Reason } from "../../src/abi/enums.gen.js";
import { FAMILIES, type Family } from "../../src/net/ip.js";
import { nthAddress } from "../support/big-image.js";
import { Cluster } from "../support/cluster.js";
import { endpointSlice, nodeObject, service } from "../support/manifests.js";
import { CounterReader, since } from "./path/proof.js";
import { median } from "./support/interleave.js";
import { loadText, ROOT, writeResult } from "./support/machine.js";

const QUICK = process.argv.includes("--quick");
const SERVICES = QUICK ? [1_000] : [1, 10_000];
const ROUNDS = QUICK ? 7 : 15;
const CONNECTS = 5_000;
const TARGET_NS = 300;
const PORT = 53;
const CONNECT = `${ROOT}build/perf/connect`;

interface Round {
  readonly hookNs: number;
  readonly emptyNs: number;
}

interface Figure {
  readonly family: Family;
  readonly services: number;
  /** As the statistics have it. */
  readonly rawNs: number;
  /** The same of an empty program. */
  readonly emptyNs: number;
  /** Median of the rounds' differences. */
  readonly ns: number;
  readonly rounds: readonly Round[];
}

const vip = (family: Family, i: number): string => nthAddress(family, 11, i).text;

/** Services for UDP, so that connect(2) sends no packet. */
function objects(services: number): object[] {
  return FAMILIES.flatMap((family) =>
    Array.from({ length: services }, (_, i) => {
      const name = `service-${family}-${i}`;
      const port = { name: "dns", port: PORT, protocol: "UDP" } as const;
      return [
        service(name, [vip(family, i)], [port]),
        endpointSlice(name, [nthAddress(family, 12, i).text], [port]),
      ];
    }).flat(),
  );
}

/** Asks for the last Service. @throws when not every socket was sent to a backend */
async function measure(cluster: Cluster, empty: string, family: Family, services: number): Promise<Figure> {
  const node = cluster.world.node(1);
  const cgroup = cluster.cgroup(node) as string;
  const counters = new CounterReader(cluster.bpfRoot(node));
  try {
    const before = await counters.read();
    const target = [vip(family, services - 1), `${PORT}`];
    const { stdout } = await node.exec([CONNECT, cgroup, empty, ...target, `${CONNECTS}`, `${ROUNDS}`], {
      timeoutMs: 180_000,
    });
    const sent = since(before, await counters.read())(Reason.SOCKET_TRANSLATED);
    if (sent !== CONNECTS * ROUNDS)
      throw new Error(`IPv${family}: ${sent} of ${CONNECTS * ROUNDS} sockets were sent to a backend`);
    const rounds = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Round);
    const middle = (of: (round: Round) => number): number => Math.round(median(rounds.map(of)));
    return {
      ...{ family, services, rounds },
      rawNs: middle(({ hookNs }) => hookNs),
      emptyNs: middle(({ emptyNs }) => emptyNs),
      ns: middle(({ hookNs, emptyNs }) => hookNs - emptyNs),
    };
  } finally {
    await counters.close();
  }
}

async function measureWith(services: number): Promise<Figure[]> {
  const cluster = await Cluster.start({
    world: { nodes: 1, flavour: "routed" },
    pods: [],
    manifests: (world) => ({
      "nodes.yaml": world.nodes.map(({ name, address }) => nodeObject(name, [address.ip4, address.ip6])),
      "services.yaml": objects(services),
    }),
    agentArgs: ["--conntrack-max-per-core", "0", "--conntrack-min", "0", "--audit-interval", "1h"],
  });
  try {
    const cgroup = cluster.cgroup(cluster.world.node(1));
    if (cgroup === undefined) throw new Error("this machine has no cgroup v2: there is no connect hook");
    const empty = `${cgroup}-empty`;
    mkdirSync(empty);
    try {
      const figures: Figure[] = [];
      for (const family of FAMILIES) figures.push(await measure(cluster, empty, family, services));
      return figures;
    } finally {
      rmdirSync(empty);
    }
  } finally {
    await cluster.close();
  }
}

const results: Figure[] = [];
for (const services of SERVICES) results.push(...(await measureWith(services)));
console.log("connect hook, VIP hit: ns above an empty program (as read, empty), target <= 300");
for (const { family, services, ns, rawNs, emptyNs } of results)
  console.log(
    `  IPv${family}  ${String(services).padStart(6)} Services  ${String(ns).padStart(5)}  (${rawNs}, ${emptyNs})  ${ns <= TARGET_NS ? "ok" : "MISSED"}`,
  );
const file = writeResult("connect", { targetNs: TARGET_NS, connects: CONNECTS, results }, QUICK);
console.log(`${loadText()}; ${file}`);
