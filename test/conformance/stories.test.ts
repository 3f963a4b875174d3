// SPDX-License-Identifier: Apache-2.0
/**
 * A story that needs what only this runner has, crafted SCTP. The other stories of the conformance cases are told in
 * test/net/stories.test.ts; each test carries the id of its case.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
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
const only = (attempts: readonly Attempt[]): string => [...new Set(attempts.map(who))].sort().join(" or ");

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
