// SPDX-License-Identifier: Apache-2.0
/* --forwarding auto: past the stack where nothing would be missed, through it as soon as something would. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Node } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { counted, NEAR, options, useAll } from "./support/near-and-far.js";

interface Row {
  readonly role: string;
  readonly mode: string | null;
  readonly forwarding: string | null;
  readonly forwardingWhy: string | null;
}

describe("--forwarding auto", () => {
  let cluster: Cluster;
  let node: Node;
  before(async () => {
    const world = { flavour: "routed", flannelRules: false, dropInvalid: false, rpFilter: 0 } as const;
    cluster = await Cluster.start({ ...options, world, agentArgs: ["--forwarding", "auto"] });
    node = cluster.world.node(1);
    await useAll(cluster);
  });
  after(() => cluster?.close());

  const waysAre = (way: "stack" | "shortcut") =>
    eventually(`interfaces of ${node.name} say ${way}`, async () => {
      const { stdout } = await cluster.cli(node, ["interfaces", "-o", "json"]);
      const { interfaces } = JSON.parse(stdout) as { interfaces: readonly Row[] };
      const pods = interfaces.filter(({ role, mode }) => role === "pod" && mode !== null);
      return pods.length > 0 && pods.every(({ forwarding }) => forwarding === way) ? pods : undefined;
    });

  const doctorSays = async (): Promise<string> => {
    const { stdout } = await cluster.cli(node, ["doctor", "-o", "json"]);
    const { checks } = JSON.parse(stdout) as { checks: { name: string; detail: string }[] };
    return checks.find(({ name }) => name === "forwarding")?.detail ?? "";
  };

  it("takes the shortcut where no rule would be missed, and says so", async () => {
    await waysAre("shortcut");
    assert.match(await doctorSays(), /^auto: new flows of pods go past the stack: /);
    const seen = await counted(cluster, node, ["shortcut_flow"], () => useAll(cluster));
    assert.equal(seen.shortcut_flow, 8);
  });

  for (const [what, add, remove] of [
    [
      "iptables",
      "iptables -A FORWARD -p tcp --dport 8080 -j DROP",
      "iptables -D FORWARD -p tcp --dport 8080 -j DROP",
    ],
    [
      "nft",
      "nft add table inet netpol; nft add chain inet netpol deny '{type filter hook forward priority -5;}'; nft add rule inet netpol deny tcp dport 8080 drop",
      "nft delete table inet netpol",
    ],
  ] as const) {
    it(`goes through the stack for new flows as soon as ${what} has a rule for forwarded packets, which holds`, async () => {
      const client = await cluster.at("client");
      const [dst] = NEAR as [string];
      assert.ok((await client.open("old", { dst, port: 80 })).ok);
      await node.exec(["sh", "-c", add]);
      const [pod] = await waysAre("stack");
      assert.match(pod?.forwardingWhy ?? "", /^nftables: chain /);
      assert.match(await doctorSays(), /^auto: new flows of pods go through the stack: nftables: chain /);
      if (what === "nft")
        assert.equal((await client.connect({ dst, port: 80, timeout: 300 })).ok, false, "the rule holds");
      assert.equal((await client.ask("old")).who, "near", "what began before goes on as it was");
      await client.close("old");
      await node.exec(["sh", "-c", remove]);
      await waysAre("shortcut");
      assert.equal((await client.connect({ dst, port: 80 })).who, "near");
    });
  }
});
