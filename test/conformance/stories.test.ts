// SPDX-License-Identifier: Apache-2.0
/** The conformance cases that are stories: each test carries the id of the case which it tells. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { readCases } from "./form/read.js";
import type { ObjectState } from "./form/state.js";
import type { ConformanceCase, FlowForm } from "./form/types.js";
import { Ground } from "./ground/ground.js";
import { planGround, statesOf } from "./ground/plan.js";
import type { Attempt, TryGoal } from "./ground/probe.js";

const STORIES = fileURLToPath(new URL("stories/stories.yaml", import.meta.url));
const ANSWER_MS = 5_000;

interface Stage {
  readonly ground: Ground;
  /** The objects before the first change, after it, after the second … */
  readonly states: readonly ObjectState[];
  readonly flow: (index: number) => FlowForm;
  /** One attempt or several at what a flow names, from where it starts. */
  readonly attempt: (index: number, more?: Partial<TryGoal>) => Promise<readonly Attempt[]>;
}

async function tell(id: string, story: (stage: Stage) => Promise<void>): Promise<void> {
  const found = readCases([STORIES]).find((one) => one.id === id);
  if (!found?.ok) assert.fail(found?.error ?? `there is no story ${id}`);
  const it = found.case;
  const ground = new Ground(it, planGround(it));
  try {
    await ground.build();
    const states = statesOf(it);
    await ground.start(at(states, 0));
    await story(stageOf(ground, it, states));
  } finally {
    await ground.close();
  }
}

function stageOf(ground: Ground, it: ConformanceCase, states: readonly ObjectState[]): Stage {
  const flow = (index: number): FlowForm => at(it.rounds[0]?.flows ?? [], index);
  return {
    ground,
    states,
    flow,
    attempt: (index, more = {}) => {
      const { proto, dst, port } = flow(index);
      const { place, src } = ground.plan.senderOf(flow(index));
      return ground.probe(place).attempts({ proto, dst, port, src, n: 1, timeout: ANSWER_MS, ...more });
    },
  };
}

function at<T>(list: readonly T[], index: number): T {
  const value = list[index];
  if (value === undefined) assert.fail(`nothing at ${index}`);
  return value;
}

/** Who answered, as `address port`; what went wrong otherwise. */
const who = (attempt: Attempt): string =>
  attempt.error ?? (attempt.text ?? "").split(" ").slice(0, 2).join(" ");
const seen = (attempt: Attempt): string => (attempt.text ?? "").split(" ")[2] ?? "";
const only = (attempts: readonly Attempt[]): string => [...new Set(attempts.map(who))].sort().join(" or ");

describe("A story of the conformance cases", () => {
  test("F09: an open TCP connection keeps its endpoint after that has left the slice, new ones do not use it (4.15, 9.10)", () =>
    tell("F09", async ({ ground, states, flow, attempt }) => {
      const { proto, dst, port } = flow(0);
      const { place, src } = ground.plan.senderOf(flow(0));
      const before = who(await ground.probe(place).open("f", { proto, dst, port, src, timeout: ANSWER_MS }));
      const first = before === "10.0.1.1 80";
      await ground.apply(at(states, first ? 1 : 2));
      assert.equal(who(await ground.probe(place).ask("f")), before);
      assert.equal(only(await attempt(0, { n: 50 })), first ? "10.0.1.2 80" : "10.0.1.1 80");
      assert.equal(who(await ground.probe(place).ask("f")), before);
    }));

  test("J05: fifty datagrams from fifty ports of one client reach one endpoint (5.9)", () =>
    tell("J05", async ({ attempt }) => {
      const attempts = await attempt(0, { n: 50 });
      assert.match(only(attempts), /^10\.180\.\d\.\d 53$/);
      assert.equal(new Set(attempts.map(({ sport }) => sport)).size, 50);
    }));

  test("J06: affinity under externalTrafficPolicy Local chooses among local endpoints and keeps the source (5.3, 8.5)", () =>
    tell("J06", async ({ attempt }) => {
      const attempts = await attempt(0, { n: 20 });
      assert.match(only(attempts), /^10\.180\.0\.[12] 80$/);
      assert.deepEqual([...new Set(attempts.map(seen))], ["203.0.113.2"]);
    }));

  test("J08: each of a thousand clients comes back to the endpoint that it had (5.8)", () =>
    tell("J08", async ({ ground, attempt }) => {
      const veth = [...ground.plan.places.values()].find((place) => place.key === "pod")?.veth;
      await ground.host("pod").ip(["route add local 10.0.16.0/22 dev lo"]); // a thousand addresses of one pod
      await ground.host("node").ip([`route add 10.0.16.0/22 via 10.0.0.2 dev ${veth} onlink`]);
      const clients = Array.from(
        { length: 1000 },
        (_, i) => `10.0.${16 + Math.floor(i / 250)}.${1 + (i % 250)}`,
      );
      const first: string[] = [];
      for (const src of clients) first.push(only(await attempt(0, { src })));
      assert.deepEqual([...new Set(first)].sort(), ["10.180.0.1 80", "10.180.1.1 80"]);
      const moved: string[] = [];
      for (const [i, src] of clients.entries())
        if (only(await attempt(0, { src })) !== first[i]) moved.push(src);
      assert.deepEqual(moved, []);
    }));

  test("K01: a UDP flow from one port goes to the new endpoint at once, also after there was none (9.2, 9.5)", () =>
    tell("K01", async ({ ground, states, attempt }) => {
      assert.equal(only(await attempt(0, { sport: 12345 })), "10.180.1.1 80");
      await ground.apply(at(states, 1));
      assert.equal(only(await attempt(0, { sport: 12345 })), "10.180.1.2 80");
      await ground.apply(at(states, 2));
      assert.equal(only(await attempt(0, { sport: 12345 })), "ECONNREFUSED");
      await ground.apply(at(states, 3));
      assert.equal(only(await attempt(0, { sport: 12345 })), "10.180.1.1 80");
    }));

  test("K07: a UDP flow follows its endpoint to another port, by ClusterIP and by NodePort (9.8)", () =>
    tell("K07", async ({ ground, states, attempt }) => {
      for (const index of [0, 1])
        assert.equal(only(await attempt(index, { sport: 12345 })), "10.180.0.1 8080");
      await ground.apply(at(states, 1));
      for (const index of [0, 1])
        assert.equal(only(await attempt(index, { sport: 12345 })), "10.180.0.1 9090");
    }));

  test("K08: TCP and SCTP flows go on without any endpoint in the slices (9.1)", () =>
    tell("K08", async ({ ground, states, flow, attempt }) => {
      const { proto, dst, port } = flow(0);
      const { place, src } = ground.plan.senderOf(flow(0));
      const probe = ground.probe(place);
      const sctp = { proto: "SCTP", port: 81, sport: 23456 } as const;
      const tcp = who(await probe.open("t", { proto, dst, port, src, timeout: ANSWER_MS }));
      const begun = only(await attempt(0, sctp));
      assert.match(`${tcp}, ${begun}`, /^10\.180\.1\.[12] 80, 10\.180\.1\.[12] 81$/);
      await ground.apply(at(states, 1));
      assert.equal(who(await probe.ask("t")), tcp);
      assert.equal(only(await attempt(0, { ...sctp, again: 1 })), begun);
      assert.equal(only(await attempt(0)), "ECONNREFUSED");
    }));

  test("N01: an agent that is killed and started again breaks no flow, refuses none, and forgets no client (5.7, 9.6)", () =>
    tell("N01", async ({ ground, states, flow, attempt }) => {
      const { dst, port } = flow(0);
      const { place, src } = ground.plan.senderOf(flow(0));
      const probe = ground.probe(place);
      const tcp = who(await probe.open("t", { proto: "TCP", dst, port, src, timeout: ANSWER_MS }));
      const udp = who(await probe.open("u", { proto: "UDP", dst, port: 53, src, timeout: ANSWER_MS }));
      const sticky = only(await attempt(0, { dst: "172.30.0.42", n: 5 }));
      await ground.stop("SIGKILL");
      let ready = false;
      const again = ground.start(at(states, 0)).then(() => {
        ready = true;
      });
      const steady: Attempt[] = [];
      while (!ready) {
        steady.push(...(await attempt(0, { n: 4 })));
        await new Promise((resolve) => setTimeout(resolve, 20)); // a steady pace, not a flood
      }
      await again;
      steady.push(...(await attempt(0, { n: 20 })));
      assert.equal(only(steady), "10.180.0.1 80 or 10.180.1.1 80");
      assert.equal(who(await probe.ask("t")), tcp);
      assert.equal(who(await probe.ask("u")), udp);
      assert.equal(only(await attempt(0, { dst: "172.30.0.42", n: 20 })), sticky);
    }));

  test("N03: cleanup takes everything down, can be repeated, and leaves others' rules alone (12.5, 12.6)", () =>
    tell("N03", async ({ ground, attempt }) => {
      const node = ground.host("node");
      await node.exec(["iptables", "-N", "KUBE-FIREWALL"]);
      assert.equal(only(await attempt(0)), "10.180.0.1 80");
      await ground.stop("SIGTERM");
      assert.equal(only(await attempt(0)), "10.180.0.1 80");
      for (const turn of ["first", "second"]) {
        const { code, stderr } = await ground.cli(["cleanup"]);
        assert.equal(code, 0, `${turn}: ${stderr}`);
      }
      assert.equal(only(await attempt(0, { timeout: 400 })), "ETIMEDOUT");
      assert.equal(ground.pinned, false);
      assert.equal((await node.exec(["iptables", "-S", "KUBE-FIREWALL"])).stdout.trim(), "-N KUBE-FIREWALL");
    }));
});
