// SPDX-License-Identifier: Apache-2.0
/* What changes while traffic flows: endpoints, pods, and the agent itself. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster, eventually, type LogLine } from "../support/cluster.js";
import { endpointSlice, service } from "../support/manifests.js";

const SERVICE_PORTS = [
  { name: "web", port: 80 },
  { name: "dns", port: 53, protocol: "UDP" as const },
];
const SLICE_PORTS = [
  { name: "web", port: 8080 },
  { name: "dns", port: 5353, protocol: "UDP" as const },
];
const VIPS = ["10.96.0.1", "fd00:10:96::1"];

/** The Service "moving" with these pods as endpoints. */
function moving(world: World, pods: readonly string[]): object[] {
  const chosen = pods.map((name) => world.pod(name));
  return [
    service("moving", VIPS, SERVICE_PORTS),
    endpointSlice(
      "moving",
      chosen.map((pod) => pod.ip4),
      SLICE_PORTS,
      { family: 4 },
    ),
    endpointSlice(
      "moving",
      chosen.map((pod) => pod.ip6),
      SLICE_PORTS,
      { family: 6 },
    ),
  ];
}

/** Map writes that an agent has told about. */
function writesOf(lines: readonly LogLine[]): number {
  const counts = lines.filter((line) => typeof line.writes === "number").map((line) => line.writes as number);
  assert.ok(counts.length > 0, "no line of the log tells the number of writes");
  return counts.reduce((sum, count) => sum + count, 0);
}

for (const attach of ["auto", "clsact"]) {
  describe(`endpoints that change, pods that come and go, agents that die (--attach ${attach})`, () => {
    let cluster: Cluster;
    before(async () => {
      cluster = await Cluster.start({
        pods: [
          { node: 1, name: "client" },
          { node: 1, name: "near" },
          { node: 2, name: "far" },
        ],
        manifests: (world) => ({ "moving.yaml": moving(world, ["near"]) }),
        agentArgs: ["--attach", attach],
      });
    });
    after(() => cluster?.close());

    const set = (...pods: string[]): Promise<void> =>
      cluster.apply("moving.yaml", moving(cluster.world, pods));

    it("a connected UDP socket moves at once: to another pod, to a refusal at zero endpoints, and back", async () => {
      const client = await cluster.at("client");
      for (const dst of VIPS) {
        await set("near");
        await client.open("udp", { dst, port: 53, proto: "udp", connected: true, sport: 41_000 });
        const ask = async (): Promise<string | undefined> => {
          const answer = await client.ask("udp", { timeout: 3000 });
          return answer.who ?? answer.errno;
        };
        assert.equal(await ask(), "near", dst);
        await set("far");
        assert.equal(await ask(), "far", dst);
        await set();
        assert.equal(await ask(), "ECONNREFUSED", dst);
        assert.equal(await ask(), "ECONNREFUSED", dst);
        await set("near");
        assert.equal(await ask(), "near", dst);
        await client.close("udp");
      }
    });

    it("an established TCP connection outlives its endpoint in the set, and new ones follow the set (7.5, 9.10)", async () => {
      const client = await cluster.at("client");
      await set("near");
      for (const [i, dst] of VIPS.entries()) assert.ok((await client.open(`old-${i}`, { dst, port: 80 })).ok);
      for (const [pods, expected] of [
        [["far"], "far"],
        [[], "ECONNREFUSED"],
        [["far"], "far"],
      ] as const) {
        await set(...pods);
        for (const [i, dst] of VIPS.entries()) {
          assert.equal((await client.ask(`old-${i}`)).who, "near");
          const fresh = await client.connect({ dst, port: 80 });
          assert.equal(fresh.who ?? fresh.errno, expected, JSON.stringify({ dst, fresh }));
        }
      }
      for (const i of [0, 1]) await client.close(`old-${i}`);
    });

    it("a reused source port finds the new endpoint after a change, however the old connection ended", async () => {
      const client = await cluster.at("client");
      for (const rst of [false, true]) {
        for (const dst of VIPS) {
          await set("near");
          const way = { dst, port: 80, sport: rst ? 42_001 : 42_000, rst };
          assert.equal((await client.connect(way)).who, "near");
          await set("far");
          // A socket in TIME_WAIT holds its own address and the VIP: the same four numbers are free only after a reset.
          const again = await client.connect(rst ? way : { ...way, sport: 42_002 });
          assert.equal(again.who, "far", JSON.stringify({ dst, rst, again }));
        }
      }
    });

    it("a deleted Service answers no more, its connections go on, and it is back when it is made again (7.8, 9.10)", async () => {
      const client = await cluster.at("client");
      for (const [i, dst] of VIPS.entries()) {
        await set("near");
        assert.ok((await client.open("old", { dst, port: 80 })).ok);
        await cluster.apply("moving.yaml", []);
        assert.equal((await client.connect({ dst, port: 80, timeout: 300 })).ok, false);
        assert.equal((await client.connect({ dst, port: 53, proto: "udp", timeout: 300 })).ok, false);
        assert.equal((await client.ask("old")).who, "near");
        await set(i === 0 ? "far" : "near");
        assert.equal((await client.connect({ dst, port: 80 })).who, i === 0 ? "far" : "near");
        assert.equal((await client.ask("old")).who, "near");
        await client.close("old");
      }
    });

    it("a pod that comes later is served, also when it has the interface name of one that was removed", async () => {
      await set("near");
      const node = cluster.world.node(1);
      for (const round of [1, 2]) {
        const late = await node.addPod("late");
        const agent = await cluster.at(late);
        for (const dst of VIPS) {
          const answer = await eventually(`the late pod reaches ${dst} in round ${round}`, async () => {
            const got = await agent.connect({ dst, port: 80, timeout: 300 });
            return got.ok ? got : undefined;
          });
          assert.equal(answer.who, "near");
          assert.equal((await agent.connect({ dst, port: 53, proto: "udp" })).who, "near");
        }
        await late.removeNow();
      }
    });

    it("traffic goes on while the agent is killed with SIGKILL and started again, which writes nothing", async () => {
      await set("near", "far");
      const client = await cluster.at("client");
      const node = cluster.world.node(1);
      for (const [i, dst] of VIPS.entries()) {
        await client.open(`held-${i}`, { dst, port: 80 });
        await client.loadStart(`load-tcp-${i}`, { dst, port: 80 }, { threads: 2, gap: 2000 });
        await client.loadStart(`load-udp-${i}`, { dst, port: 53, proto: "udp" }, { threads: 1, gap: 2000 });
      }
      const held = async (): Promise<(string | undefined)[]> => {
        const answers = await Promise.all(VIPS.map((_, i) => client.ask(`held-${i}`)));
        return answers.map((answer) => answer.who);
      };
      const before = await held();
      await cluster.agent(node).end("SIGKILL");
      for (const dst of VIPS) assert.ok((await client.connect({ dst, port: 80 })).ok);
      assert.deepEqual(await held(), before);
      const agent = await cluster.startAgent(node);
      assert.equal(writesOf(agent.lines), 0, agent.tail());
      assert.deepEqual(await held(), before);
      for (const i of [0, 1]) {
        for (const name of [`load-tcp-${i}`, `load-udp-${i}`]) {
          const result = await client.loadStop(name);
          assert.ok(result.attempts > 50, JSON.stringify(result));
          assert.deepEqual([result.good, result.errors], [result.attempts, {}], name);
        }
        await client.close(`held-${i}`);
      }
    });

    it("a change made while no agent ran is in force when it is back", async () => {
      const node = cluster.world.node(1);
      await set("near");
      await cluster.agent(node).end("SIGKILL");
      cluster.write("moving.yaml", moving(cluster.world, ["far"]));
      const client = await cluster.at("client");
      for (const dst of VIPS) assert.equal((await client.connect({ dst, port: 80 })).who, "near");
      await cluster.startAgent(node);
      for (const dst of VIPS) assert.equal((await client.connect({ dst, port: 80 })).who, "far");
    });

    it("an agent that is ended by SIGTERM leaves the traffic as it is", async () => {
      const node = cluster.world.node(1);
      const client = await cluster.at("client");
      await cluster.agent(node).end("SIGTERM");
      assert.equal(cluster.agent(node).process.exitCode, 0, cluster.agent(node).tail());
      for (const dst of VIPS) assert.ok((await client.connect({ dst, port: 80 })).ok, dst);
    });

    it("cleanup leaves nothing behind, may be run twice, and pods reach each other as before", async () => {
      const node = cluster.world.node(1);
      for (const round of [1, 2]) {
        const result = await cluster.cli(node, ["cleanup"]);
        assert.equal(result.code, 0, `round ${round}: ${result.stderr}`);
      }
      const root = cluster.bpfRoot(node);
      assert.deepEqual(existsSync(root) ? readdirSync(root, { recursive: true }) : [], []);
      const client = await cluster.at("client");
      for (const dst of VIPS) {
        assert.equal((await client.connect({ dst, port: 80, timeout: 300 })).ok, false);
      }
      const { ip4, ip6 } = cluster.pod("far");
      for (const dst of [ip4, ip6]) assert.equal((await client.connect({ dst, port: 8080 })).who, "far");
    });
  });
}
