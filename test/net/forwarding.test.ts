// SPDX-License-Identifier: Apache-2.0
/*
 * The shortcut past the stack (--forwarding), with real agents and real sockets: that flows take it is told by the programs' counters and by
 * what netfilter does not see; that they keep their way by connections that live through a change of the setting.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Node } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import { counted, FAR, NEAR, options, useAll } from "./support/near-and-far.js";

const WORLDS = [
  { flavour: "routed", overlay: "host-gw" },
  { flavour: "bridge", overlay: "vxlan" },
] as const;

for (const world of WORLDS) {
  describe(`--forwarding redirect, ${world.flavour} pods, ${world.overlay} between nodes`, () => {
    let cluster: Cluster;
    let node: Node;
    before(async () => {
      cluster = await Cluster.start({ ...options, world, agentArgs: ["--forwarding", "redirect"] });
      node = cluster.world.node(1);
      await useAll(cluster); // neighbours are known from now on
    });
    after(() => cluster?.close());

    it("flows to a pod of this node and of another one go past the stack, both ways, over IPv4 and IPv6", async () => {
      const names = [
        "shortcut_flow",
        "flow_new",
        "stack_route",
        "stack_interface",
        "stack_sender",
        "stack_neighbour",
      ];
      const seen = await counted(cluster, node, names, () => useAll(cluster));
      assert.equal(seen.flow_new, 8);
      assert.deepEqual(seen, {
        ...Object.fromEntries(names.map((name) => [name, 0])),
        flow_new: 8,
        shortcut_flow: 8,
      });
    });

    it("trace tells the way: of a flow that is there, of its replies, and of one that is still to begin", async () => {
      const client = await cluster.at("client");
      for (const [i, dst] of [...NEAR, ...FAR].entries()) {
        const opened = await client.open(`traced-${i}`, { dst, port: 80, sport: 41_000 + i });
        assert.ok(opened.ok, dst);
        const { ip4, ip6 } = cluster.world.pod("client");
        const at = (ip: string, port: number): string =>
          ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
        const own = dst.includes(":") ? ip6 : ip4;
        const ways = async (src: string, to: string, ...more: string[]): Promise<unknown[]> => {
          const args = ["trace", "--proto", "tcp", "--src", src, "--dst", to, "-o", "json", ...more];
          const { stdout, stderr } = await cluster.cli(node, args);
          assert.notEqual(stdout, "", stderr);
          const { legs } = JSON.parse(stdout) as { legs: { kind: string; forwarding?: string | null }[] };
          return legs.filter(({ kind }) => kind === "ingress").map(({ forwarding }) => forwarding);
        };
        assert.deepEqual(
          await ways(at(own, 41_000 + i), at(dst, 80), "--flags", "ack", "--reply"),
          ["shortcut", "shortcut"],
          dst,
        );
        assert.deepEqual(await ways(at(own, 42_000 + i), at(dst, 80)), ["either"], dst);
        await client.close(`traced-${i}`);
      }
    });

    it("bulk data arrives whole, both ways, past the stack", async () => {
      const client = await cluster.at("client");
      const seen = await counted(cluster, node, ["shortcut", "stack_size"], async () => {
        for (const dst of [...NEAR, ...FAR])
          for (const dir of ["up", "down"] as const) {
            const result = await client.bulk({ dst, port: 80 }, dir, 4 << 20, 7);
            assert.equal(result.ok, true, JSON.stringify({ dst, dir, result }));
          }
      });
      assert.ok((seen.shortcut ?? 0) > 8 * 20, JSON.stringify(seen));
      assert.equal(seen.stack_size, 0);
    });

    it("a refused datagram's ICMP error finds its way back past a rule that drops INVALID", async () => {
      const client = await cluster.at("client");
      const near = await cluster.at("near");
      await near.close("udp-5353");
      for (const dst of NEAR) {
        await client.open("refused", { dst, port: 53, proto: "udp", connected: true });
        const answer = await client.ask("refused", { timeout: 3000 });
        assert.equal(answer.errno, "ECONNREFUSED", dst);
        await client.close("refused");
      }
      await near.serve("udp", 5353);
    });

    it("a connection keeps its way while the setting goes to stack and back, and new ones do not", async () => {
      const client = await cluster.at("client");
      for (const [i, dst] of [...NEAR, ...FAR].entries())
        assert.ok((await client.open(`long-${i}`, { dst, port: 80 })).ok, dst);
      const talk = async (): Promise<void> => {
        for (const [i] of [...NEAR, ...FAR].entries())
          assert.equal((await client.ask(`long-${i}`)).who, i < NEAR.length ? "near" : "far");
      };
      await talk();
      await cluster.agent(node).end("SIGTERM");
      await talk();
      await cluster.startAgent(node, ["--forwarding", "stack"]);
      const names = ["shortcut", "shortcut_flow"];
      const kept = await counted(cluster, node, names, talk);
      assert.ok((kept.shortcut ?? 0) >= 8, JSON.stringify(kept));
      const fresh = await counted(cluster, node, names, () => useAll(cluster));
      assert.deepEqual(fresh, { shortcut: 0, shortcut_flow: 0 });
      await client.open("stack", { dst: NEAR[0] as string, port: 80 });
      await cluster.agent(node).end("SIGKILL");
      await cluster.startAgent(node, ["--forwarding", "redirect"]);
      await talk();
      const stayed = await counted(cluster, node, names, async () => {
        assert.equal((await client.ask("stack")).who, "near");
      });
      assert.deepEqual(stayed, { shortcut: 0, shortcut_flow: 0 });
      for (const name of ["long-0", "long-1", "long-2", "long-3", "stack"]) await client.close(name);
    });
  });
}
