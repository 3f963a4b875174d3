// SPDX-License-Identifier: Apache-2.0
/*
 * One source port, several ways to one backend: a VIP, another VIP, the backend's own address. All of these flows look
 * alike at the backend, so a stale or shared entry of one breaks another.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import type { Exchange, HostAgent } from "../support/host-agent.js";
import { service } from "../support/manifests.js";

const PORTS = [
  { name: "web", port: 80, targetPort: 8080 },
  { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" as const },
];

type Proto = "tcp" | "udp";
interface Goal {
  readonly dst: string;
  readonly port: number;
  readonly proto: Proto;
}

/** The ways to one backend in one family: two VIPs, and its own address. */
interface Ways {
  readonly title: string;
  readonly backend: string;
  readonly proto: Proto;
  readonly vip: Goal;
  readonly other: Goal;
  readonly direct: Goal;
}

function waysOf(cluster: Cluster, backend: "near" | "far", family: 4 | 6, proto: Proto): Ways {
  const n = backend === "near" ? 1 : 2;
  const vip = (k: number): Goal => ({
    dst: family === 4 ? `10.96.0.${k}` : `fd00:10:96::${k}`,
    port: proto === "tcp" ? 80 : 53,
    proto,
  });
  const pod = cluster.pod(backend);
  const direct = { dst: family === 4 ? pod.ip4 : pod.ip6, port: proto === "tcp" ? 8080 : 5353, proto };
  return {
    title: `${proto} IPv${family} ${backend}`,
    backend,
    proto,
    vip: vip(n),
    other: vip(n + 10),
    direct,
  };
}

let nextPort = 30_000;
let nextRace = 50_000;

/** The answer came from the backend, and to the client it looks as if it came from where it asked. */
function assertAnswer(answer: Exchange, ways: Ways, goal: Goal, step: string): void {
  const label = `${ways.title}: ${step}: ${JSON.stringify(answer)}`;
  assert.equal(answer.who, ways.backend, label);
  if (ways.proto === "udp") assert.deepEqual([answer.from, answer.fromPort], [goal.dst, goal.port], label);
}

/** Opens both, in this order, from one port; then asks them by turns; then closes. */
async function bothOpen(agent: HostAgent, ways: Ways, first: Goal, second: Goal): Promise<void> {
  const sport = nextPort++;
  for (const [name, goal] of [
    ["first", first],
    ["second", second],
  ] as const) {
    const opened = await agent.open(name, { ...goal, sport, connected: true });
    assert.equal(opened.ok, true, `${ways.title}: open ${name} ${JSON.stringify({ goal, opened })}`);
    assertAnswer(await agent.ask(name), ways, goal, `${name} at once`);
  }
  for (let i = 0; i < 5; i++) {
    assertAnswer(await agent.ask("first"), ways, first, `first, turn ${i}`);
    assertAnswer(await agent.ask("second"), ways, second, `second, turn ${i}`);
  }
  await agent.close("first");
  await agent.close("second");
}

/** One after the other from one port; the first is closed before. */
async function oneAfterTheOther(
  agent: HostAgent,
  ways: Ways,
  goals: readonly Goal[],
  rst: boolean,
): Promise<void> {
  const sport = nextPort++;
  for (const [i, goal] of goals.entries()) {
    assertAnswer(await agent.connect({ ...goal, sport, rst }), ways, goal, `step ${i} of port ${sport}`);
  }
}

describe("one source port and one backend", () => {
  let cluster: Cluster;
  let agent: HostAgent;
  let all: readonly Ways[];
  before(async () => {
    cluster = await Cluster.start({
      pods: [
        { node: 1, name: "client" },
        { node: 1, name: "near", labels: { near: "yes" } },
        { node: 2, name: "far", labels: { far: "yes" } },
      ],
      manifests: (world: World) => ({
        "all.yaml": [
          ...(["near", "far"] as const).flatMap((name, i) =>
            [i + 1, i + 11].map((n) =>
              service(`${name}-${n}`, [`10.96.0.${n}`, `fd00:10:96::${n}`], PORTS, { [name]: "yes" }),
            ),
          ),
          ...world.nodes.flatMap((node) => node.pods.map((pod) => pod.manifest())),
        ],
      }),
    });
    agent = await cluster.at("client");
    all = (["near", "far"] as const).flatMap((backend) =>
      ([4, 6] as const).flatMap((family) =>
        (["tcp", "udp"] as const).map((proto) => waysOf(cluster, backend, family, proto)),
      ),
    );
  });
  after(() => cluster?.close());

  /** Runs all eight cases and reports every one that fails, not only the first. */
  async function each(run: (ways: Ways) => Promise<void>): Promise<void> {
    const failures: string[] = [];
    for (const ways of all) {
      try {
        await run(ways);
      } catch (error) {
        failures.push((error as Error).message.slice(0, 500));
        for (const name of ["first", "second"]) await agent.close(name).catch(() => {});
      }
    }
    assert.deepEqual(failures, []);
  }

  for (const rst of [false, true]) {
    const how = rst ? "reset" : "closed";
    it(`a VIP, then (${how}) the backend's own address: both answer`, () =>
      each((ways) => oneAfterTheOther(agent, ways, [ways.vip, ways.direct], rst)));

    it(`the backend's own address, then (${how}) a VIP: both answer`, () =>
      each((ways) => oneAfterTheOther(agent, ways, [ways.direct, ways.vip], rst)));

    it(`a VIP, then (${how}) another VIP with the same backend: both answer`, () =>
      each((ways) => oneAfterTheOther(agent, ways, [ways.vip, ways.other], rst)));

    it(`all three by turns, each ${how}: all answer`, () =>
      each((ways) => {
        const once = [ways.vip, ways.direct, ways.other];
        // After an orderly close the client's own TIME_WAIT forbids the same way a second time.
        return oneAfterTheOther(agent, ways, rst ? [...once, ways.direct, ways.vip] : once, rst);
      }));
  }

  it("a VIP and, while that is open, the backend's own address: both go on", () =>
    each((ways) => bothOpen(agent, ways, ways.vip, ways.direct)));

  it("the backend's own address and, while that is open, a VIP: both go on", () =>
    each((ways) => bothOpen(agent, ways, ways.direct, ways.vip)));

  it("a VIP and, while that is open, another VIP with the same backend: both go on", () =>
    each((ways) => bothOpen(agent, ways, ways.vip, ways.other)));

  for (const [name, goals] of [
    ["a VIP and the backend's own address", (ways: Ways) => [ways.vip, ways.direct] as const],
    ["two VIPs of one backend", (ways: Ways) => [ways.vip, ways.other] as const],
  ] as const) {
    it(`${name} at the very same moment: both answer, and nothing is lost`, () =>
      each(async (ways) => {
        const rounds = 150;
        const sport = nextRace;
        nextRace += rounds;
        const result = await agent.race(...goals(ways), { sport, rounds });
        const whole = { good: [rounds, rounds], slow: [0, 0], failed: [0, 0] };
        const { good, slow, failed } = result;
        assert.deepEqual({ good, slow, failed }, whole, `${ways.title}: ${JSON.stringify(result)}`);
      }));
  }

  it("one unconnected UDP socket asks a VIP, the backend and another VIP by turns: each answers as who was asked", () =>
    each(async (ways) => {
      if (ways.proto !== "udp") return;
      await agent.open("first", { ...ways.vip, sport: nextPort++ });
      for (let i = 0; i < 5; i++) {
        for (const goal of [ways.vip, ways.direct, ways.other]) {
          assertAnswer(await agent.ask("first", goal), ways, goal, `turn ${i} ${goal.dst}`);
        }
      }
      await agent.close("first");
    }));

  it("thousands of flows from a hundred ports, to two VIPs and the backend itself at once, all work", async () => {
    await cluster.pod("client").sysctl({ "net/ipv4/ip_local_port_range": "40000 40099" });
    await each(async (ways) => {
      const options = { threads: 4, count: 1200 };
      const goals = [ways.vip, ways.other, ways.direct];
      const results = await Promise.all(
        goals.map((goal) => agent.loadCount({ ...goal, rst: true }, options)),
      );
      for (const [i, result] of results.entries()) {
        const label = `${ways.title} ${(goals[i] as Goal).dst}: ${JSON.stringify(result)}`;
        assert.deepEqual(
          [result.good, result.slow, Object.keys(result.who)],
          [1200, 0, [ways.backend]],
          label,
        );
      }
    });
  });
});
