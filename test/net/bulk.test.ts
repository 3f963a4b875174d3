// SPDX-License-Identifier: Apache-2.0
/*
 * Large transfers through a VIP: GSO packets and partial checksums are rewritten on the way, so content and the kernels'
 * checksum counters must stay right whatever offloads are on.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Host, World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import { service } from "../support/manifests.js";

const BYTES = 12 << 20;
const PORTS = [
  { name: "web", port: 80, targetPort: 8080 },
  { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" as const },
];
const TARGETS = [
  { name: "near", n: 1, place: "the same bridge" },
  { name: "far", n: 2, place: "the vxlan" },
  { name: "client", n: 3, place: "the hairpin" },
] as const;
const CSUM_COUNTERS = [
  "IpExt.InCsumErrors",
  "Tcp.InCsumErrors",
  "Udp.InCsumErrors",
  "Udp6InCsumErrors",
  "Icmp.InCsumErrors",
  "Icmp6InCsumErrors",
];

function start(world: { vxlanUdpChecksum?: boolean }): Promise<Cluster> {
  return Cluster.start({
    world,
    pods: [
      { node: 1, name: "client", labels: { client: "yes" } },
      { node: 1, name: "near", labels: { near: "yes" } },
      { node: 2, name: "far", labels: { far: "yes" } },
    ],
    manifests: (made: World) => ({
      "all.yaml": [
        ...TARGETS.map(({ name, n }) =>
          service(`svc-${name}`, [`10.96.0.${n}`, `fd00:10:96::${n}`], PORTS, { [name]: "yes" }),
        ),
        ...made.nodes.flatMap((node) => node.pods.map((pod) => pod.manifest())),
      ],
    }),
  });
}

/** Moves content up and down through every Service, and checks it at both ends. */
async function transferAll(cluster: Cluster): Promise<void> {
  const agent = await cluster.at("client");
  for (const { n, place } of TARGETS) {
    for (const dst of [`10.96.0.${n}`, `fd00:10:96::${n}`]) {
      for (const dir of ["up", "down"] as const) {
        const result = await agent.bulk({ dst, port: 80, timeout: 10_000 }, dir, BYTES, n + BYTES);
        const label = `${place} ${dst} ${dir}: ${JSON.stringify(result)}`;
        assert.equal(result.ok, true, label);
        assert.equal(result.received, result.sent, label);
      }
      // UDP with and without a checksum (a zero must stay a zero), small, odd, and as large as fits one packet.
      for (const payload of [0, 333, 1300]) {
        for (const nocheck of dst.includes(":") ? [false] : [false, true]) {
          const answer = await agent.connect({ dst, port: 53, proto: "udp", payload, nocheck });
          assert.equal(
            answer.ok,
            true,
            `${place} udp ${dst} ${payload} ${nocheck} ${JSON.stringify(answer)}`,
          );
        }
      }
    }
  }
}

/** The checksum errors that any host has counted. */
async function checksumErrors(cluster: Cluster): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const host of cluster.world.hosts()) {
    const counters = await (await cluster.at(host)).counters();
    for (const name of CSUM_COUNTERS) {
      if ((counters[name] ?? 0) > 0) found[`${host.name} ${name}`] = counters[name] as number;
    }
  }
  return found;
}

/** Switches an offload of an interface, and makes sure that it is as wanted. */
async function offload(host: Host, dev: string, feature: string, on: boolean): Promise<void> {
  await host.exec(["ethtool", "-K", dev, feature, on ? "on" : "off"]);
  const { stdout } = await host.exec(["ethtool", "-k", dev]);
  assert.match(stdout, new RegExp(`${feature}: ${on ? "on" : "off"}`));
}

for (const udpcsum of [false, true]) {
  describe(`bulk transfers, vxlan ${udpcsum ? "with" : "without"} outer UDP checksums`, () => {
    let cluster: Cluster;
    before(async () => {
      cluster = await start({ vxlanUdpChecksum: udpcsum });
    });
    after(() => cluster?.close());

    const pods = (): Host[] => ["client", "near", "far"].map((name) => cluster.pod(name));
    const eachPort = async (feature: string, on: boolean): Promise<void> => {
      for (const node of cluster.world.nodes) {
        for (const pod of node.pods) await offload(node, pod.hostVeth, feature, on);
      }
    };

    it("content is whole with the default offloads, and the packets are large ones", async () => {
      const node = cluster.world.node(1);
      const sniffer = await cluster.at(node);
      await sniffer.sniff("large", { dev: cluster.pod("client").hostVeth, proto: "tcp" });
      await transferAll(cluster);
      const large = (await sniffer.sniffed("large")).filter((packet) => packet.len > 3000);
      await sniffer.close("large");
      assert.ok(large.length > 0, "no GSO packet was on the way: this proves nothing");
      assert.deepEqual(await checksumErrors(cluster), {});
    });

    it("content is whole when the pods compute full checksums (tx off in the pods)", async () => {
      for (const pod of pods()) await offload(pod, "eth0", "tx-checksumming", false);
      await transferAll(cluster);
      assert.deepEqual(await checksumErrors(cluster), {});
    });

    it("content is whole when the nodes compute full checksums (tx off on the nodes' ports, uplinks and vxlan)", async () => {
      for (const pod of pods()) await offload(pod, "eth0", "tx-checksumming", true);
      await eachPort("tx-checksumming", false);
      for (const node of cluster.world.nodes) {
        await offload(node, "eth0", "tx-checksumming", false);
        await offload(node, "flannel.1", "tx-checksumming", false);
      }
      await transferAll(cluster);
      assert.deepEqual(await checksumErrors(cluster), {});
    });

    it("content is whole without any offload on pods and nodes", async () => {
      for (const pod of pods()) {
        for (const feature of ["tx-checksumming", "generic-segmentation-offload"]) {
          await offload(pod, "eth0", feature, false);
        }
      }
      await eachPort("generic-segmentation-offload", false);
      await transferAll(cluster);
      assert.deepEqual(await checksumErrors(cluster), {});
    });
  });
}
