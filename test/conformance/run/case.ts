// SPDX-License-Identifier: Apache-2.0
/** One case from its beginning to its end, in a world of its own. */
import { FormError } from "../form/fields.js";
import type { ConformanceCase, Round } from "../form/types.js";
import { Ground } from "../ground/ground.js";
import { planGround, statesOf } from "../ground/plan.js";
import { checkFlow } from "./flow.js";
import { checkHttp } from "./http.js";

/** What XDP did in a case: packets that it has sent, dropped, and left to tc for a reason that is about a Service's packet. */
export interface XdpShare {
  readonly sent: number;
  readonly dropped: number;
  readonly passed: Readonly<Record<string, number>>;
}

/**
 * What is wrong with a case, one entry for each flow or request; none: it passes.
 *
 * @param onXdp with it the case runs with XDP on the uplink, and what that did is told at the end
 */
export async function runCase(
  it: ConformanceCase,
  onXdp?: (share: XdpShare) => void,
): Promise<readonly string[]> {
  try {
    const states = statesOf(it);
    const ground = new Ground(it, planGround(it), onXdp !== undefined);
    try {
      const wrong = await runOn(ground, it, states);
      onXdp?.(xdpShare(await ground.reasons()));
      return wrong;
    } finally {
      await ground.close();
    }
  } catch (error) {
    return [error instanceof FormError ? error.message : `cannot be run: ${(error as Error).message}`];
  }
}

function xdpShare(reasons: ReadonlyMap<string, number>): XdpShare {
  const own = [...reasons].filter(([name, packets]) => name.startsWith("xdp_") && packets > 0);
  const passed = own.filter(([name]) => !["xdp_sent", "xdp_dropped", "xdp_other"].includes(name));
  return {
    sent: reasons.get("xdp_sent") ?? 0,
    dropped: reasons.get("xdp_dropped") ?? 0,
    passed: Object.fromEntries(passed),
  };
}

async function runOn(
  ground: Ground,
  it: ConformanceCase,
  states: ReturnType<typeof statesOf>,
): Promise<readonly string[]> {
  await ground.build();
  const wrong: string[] = [];
  for (const [index, round] of it.rounds.entries()) {
    const state = states[index];
    if (state === undefined) throw new Error("a round without a state");
    await (index === 0 ? ground.start(state) : ground.apply(state));
    const where = index === 0 ? "" : `after change ${index}: `;
    wrong.push(...(await checkRound(ground, it, round, state.services)).map((text) => `${where}${text}`));
  }
  return wrong;
}

async function checkRound(
  ground: Ground,
  it: ConformanceCase,
  round: Round,
  services: ReturnType<typeof statesOf>[number]["services"],
): Promise<readonly string[]> {
  const wrong: string[] = [];
  for (const flow of round.flows) {
    const text = await checkFlow(ground, flow, services, it.environment.config);
    if (text !== undefined) wrong.push(text);
  }
  for (const http of round.http) {
    const text = await checkHttp(ground, http, it.environment);
    if (text !== undefined) wrong.push(text);
  }
  return wrong;
}
