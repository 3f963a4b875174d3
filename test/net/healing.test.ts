// SPDX-License-Identifier: Apache-2.0
/* Pods that come and go in numbers, and others who break what is ours: the agent notices and repairs it (1.18). */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { service } from "../support/manifests.js";

const VIPS = ["10.96.0.1", "fd00:10:96::1"];
const PORTS = [
  { name: "web", port: 80, targetPort: 8080 },
  { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" as const },
];

function manifests(world: World): Record<string, readonly object[]> {
  return {
    "all.yaml": [
      service("web", VIPS, PORTS, { web: "yes" }),
      world.pod("near").manifest(),
      world.pod("far").manifest(),
    ],
  };
}

for (const attach of ["tcx", "clsact"]) {
  describe(`an agent that audits every second (--attach ${attach})`, () => {
    let cluster: Cluster;
    before(async () => {
      cluster = await Cluster.start({
        pods: [
          { node: 1, name: "client" },
          { node: 1, name: "near", labels: { web: "yes" } },
          { node: 2, name: "far", labels: { web: "yes" } },
        ],
        manifests,
        agentArgs: ["--attach", attach, "--audit-interval", "1"],
      });
    });
    after(() => cluster?.close());

    /** Whether a client is served in both families. */
    async function served(name: string, timeout = 300): Promise<boolean> {
      const agent = await cluster.at(name);
      const answers = await Promise.all(VIPS.map((dst) => agent.connect({ dst, port: 80, timeout })));
      return answers.every((answer) => answer.ok);
    }

    /** Names of the interfaces that the dataplane knows on node 1, as the command line tells them. */
    async function interfaceNames(): Promise<string[]> {
      const { code, stdout, stderr } = await cluster.cli(cluster.world.node(1), ["interfaces", "-o", "json"]);
      assert.equal(code, 0, stderr);
      return [...stdout.matchAll(/"name":\s*"([^"]+)"/g)]
        .map((match) => match[1] as string)
        .filter((name) => name.startsWith("veth"));
    }

    it("follows twenty pods that come and go, and forgets those that are gone", async () => {
      const { world } = cluster;
      for (let round = 0; round < 2; round++) {
        const names = Array.from({ length: 10 }, (_, i) => `burst-${round}-${i}`);
        const pods = await world.addPods(names.map((name) => ({ node: 1, name })));
        await eventually(
          "the last of ten pods is served",
          async () => (await served(names[9] as string)) || undefined,
        );
        for (const pod of pods) await pod.removeNow();
      }
      const expected = world.node(1).pods.map((pod) => pod.hostVeth);
      const names = await eventually("the interfaces are those of the living pods", async () => {
        const found = await interfaceNames();
        return found.length === expected.length ? found : undefined;
      });
      assert.deepEqual(names.sort(), expected.sort());
      assert.ok(await served("client", 5_000));
    });

    it("puts its programs back when somebody takes them off", async () => {
      const node = cluster.world.node(1);
      const { hostVeth } = cluster.pod("client");
      if (attach === "clsact") {
        await node.exec(["tc", "qdisc", "del", "dev", hostVeth, "clsact"]);
      } else {
        const agent = await cluster.at(node);
        for (const hook of ["ingress", "egress"] as const)
          assert.equal(await agent.tcxDetach(hostVeth, hook), 1);
      }
      await eventually("the client is served again", async () => (await served("client")) || undefined);
      assert.ok((await interfaceNames()).includes(hostVeth));
    });

    it("writes its map entries again when somebody deletes them", async () => {
      const root = cluster.bpfRoot(cluster.world.node(1));
      const layout = readdirSync(root).find((name) => /^v\d+$/.test(name));
      for (const family of [4, 6]) {
        const pin = `${root}/${layout}/frontends${family}`;
        const { stdout } = await cluster.world.node(1).exec(["bpftool", "-j", "map", "dump", "pinned", pin]);
        const entries = JSON.parse(stdout) as { key: string[] }[];
        assert.equal(entries.length, 2, stdout);
        for (const { key } of entries) {
          await cluster.world
            .node(1)
            .exec([
              "bpftool",
              "map",
              "delete",
              "pinned",
              pin,
              "key",
              "hex",
              ...key.map((byte) => byte.slice(2)),
            ]);
        }
      }
      await eventually("the client is served again", async () => (await served("client")) || undefined);
    });
  });
}
