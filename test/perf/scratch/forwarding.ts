// SPDX-License-Identifier: Apache-2.0
/**
 * `node --import tsx test/perf/scratch/forwarding.ts [ROUNDS] [SECONDS] [FLAVOUR] [OVERLAY]`: a Service through the stack and by the shortcut, beside
 * the pod's own address. Two worlds at once, one for each way, so that rounds interleave; medians, and their ratios to direct. "near": a
 * pod of the client's node, "far": of another one.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import type { World } from "../../../src/demo/world/index.js";
import { Cluster } from "../../support/cluster.js";
import { endpointSlice, service } from "../../support/manifests.js";

const [rounds = "7", seconds = "1", flavour = "routed", overlay = "host-gw"] = process.argv.slice(2);
const PORT = 9000;
const VIPS = { near: "10.96.0.1", far: "10.96.0.2" } as const;
const program = `${mkdtempSync(`${tmpdir()}/netload-`)}/netload`;
execFileSync("gcc", ["-O2", "-pthread", "-o", program, new URL("netload.c", import.meta.url).pathname]);

const manifests = (world: World) =>
  Object.fromEntries(
    (["near", "far"] as const).map((name) => [
      `${name}.yaml`,
      [
        service(name, [VIPS[name]], [{ name: "load", port: 80 }]),
        endpointSlice(name, [world.pod(name).ip4], [{ name: "load", port: PORT }], { family: 4 }),
      ],
    ]),
  );

async function start(way: string): Promise<Cluster> {
  const cluster = await Cluster.start({
    world: { flavour: flavour as "routed", overlay: overlay as "host-gw" },
    pods: [
      { node: 1, name: "client" },
      { node: 1, name: "near" },
      { node: 2, name: "far" },
    ],
    manifests,
    agentArgs: ["--forwarding", way],
  });
  for (const name of ["near", "far"])
    cluster.world.pod(name).spawn([program, "serve", String(PORT)], { stdio: "ignore" });
  return cluster;
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

const clusters = { stack: await start("stack"), shortcut: await start("redirect") };
try {
  const measure = async (cluster: Cluster, kind: string, address: string, port: number): Promise<number> => {
    const argv = [program, kind, address, String(port), seconds];
    return Number((await cluster.world.pod("client").exec(argv)).stdout);
  };
  for (const to of ["near", "far"] as const)
    for (const kind of ["rr", "crr", "bulk"]) {
      const found: Record<string, number[]> = { direct: [], stack: [], shortcut: [] };
      for (let round = 0; round < Number(rounds); round++) {
        const direct = round % 2 === 0 ? clusters.stack : clusters.shortcut;
        const runs = [
          ["direct", () => measure(direct, kind, direct.world.pod(to).ip4, PORT)],
          ["stack", () => measure(clusters.stack, kind, VIPS[to], 80)],
          ["shortcut", () => measure(clusters.shortcut, kind, VIPS[to], 80)],
        ] as const;
        for (const [name, run] of round % 2 === 0 ? runs : [...runs].reverse())
          found[name]?.push(await run());
      }
      const medians = Object.fromEntries(
        Object.entries(found).map(([name, values]) => [name, median(values)]),
      );
      const ratio = (name: string): string => ((medians[name] ?? 0) / (medians.direct ?? 1)).toFixed(3);
      console.log(
        to,
        kind,
        `direct ${medians.direct}, stack ${ratio("stack")}, shortcut ${ratio("shortcut")}`,
      );
    }
  for (const [name, cluster] of Object.entries(clusters)) {
    const reasons = await cluster.reasons(cluster.world.node(1));
    console.log(
      name,
      ["shortcut", "shortcut_flow", "flow_new"].map((each) => `${each} ${reasons.get(each)}`).join(", "),
    );
  }
} finally {
  await Promise.all(Object.values(clusters).map((cluster) => cluster.close()));
}
process.exit(0);
