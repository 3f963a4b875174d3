// SPDX-License-Identifier: Apache-2.0
/** What the tests of --forwarding have in common. */
import assert from "node:assert/strict";
import type { Node, World } from "../../../src/demo/world/index.js";
import type { Cluster, ClusterOptions } from "../../support/cluster.js";
import { endpointSlice, service } from "../../support/manifests.js";

const PORTS = [
  { name: "web", port: 80 },
  { name: "dns", port: 53, protocol: "UDP" as const },
];
const TARGETS = [
  { name: "web", port: 8080 },
  { name: "dns", port: 5353, protocol: "UDP" as const },
];
export const NEAR: readonly string[] = ["10.96.0.1", "fd00:10:96::1"];
export const FAR: readonly string[] = ["10.96.0.2", "fd00:10:96::2"];

function served(world: World, name: string, vips: readonly string[], pod: string): object[] {
  const { ip4, ip6 } = world.pod(pod);
  return [
    service(name, [...vips], PORTS),
    endpointSlice(name, [ip4], TARGETS, { family: 4 }),
    endpointSlice(name, [ip6], TARGETS, { family: 6 }),
  ];
}

/** A client and a backend on one node, another backend on the other, each behind a Service of its own. */
export const options: Pick<ClusterOptions, "pods" | "manifests"> = {
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
export async function counted(
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
export async function useAll(cluster: Cluster): Promise<void> {
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
