// SPDX-License-Identifier: Apache-2.0
/** How long an entry of `nat` lives, by what its flow has shown: the same decision as the kernel programs make. */
import { NatState, TICK_SHIFT } from "../../abi/enums.gen.js";
import type { NatValue4, PtlConfig } from "../../abi/layout.gen.js";
import { protocolNumber } from "../../net/port.js";

export type LivePhase = "opening" | "established" | "closing" | "closed";

export type FlowState = LivePhase | "dead";

/** In ticks of `nat`, as the programs were loaded with them. */
export type FlowTimeoutTicks = Pick<
  PtlConfig,
  | "timeoutTcpOpening"
  | "timeoutTcpEstablished"
  | "timeoutTcpHalfClosed"
  | "timeoutTcpClosed"
  | "timeoutUdpUnreplied"
  | "timeoutUdpReplied"
>;

/** CLOCK_MONOTONIC in the ticks of `nat`. */
export function monotonicTicks(): number {
  return ticksOf(process.hrtime.bigint());
}

/** Nanoseconds of CLOCK_MONOTONIC in the ticks of `nat`. */
export function ticksOf(nanoseconds: bigint): number {
  return Number(nanoseconds >> BigInt(TICK_SHIFT)) >>> 0;
}

export interface FlowAge {
  readonly state: FlowState;
  /** False: counts as absent everywhere, and may be taken over. */
  readonly live: boolean;
  /** Since the last packet, to about a second. */
  readonly idleSeconds: number;
}

/** As of `nowTicks`. */
export function ageOf(
  protocol: number,
  { state, lastSeen }: Pick<NatValue4, "state" | "lastSeen">,
  timeouts: FlowTimeoutTicks,
  nowTicks: number,
): FlowAge {
  const idleTicks = (nowTicks - lastSeen) | 0;
  const phase = phaseOf(protocol, state);
  const live = idleTicks < timeouts[phase.timeout];
  const idleSeconds = Math.max(0, Math.round((idleTicks * 2 ** TICK_SHIFT) / 1e9));
  return { state: live ? phase.state : "dead", live, idleSeconds };
}

export interface Phase {
  readonly state: LivePhase;
  readonly timeout: keyof FlowTimeoutTicks;
}

const FINS = NatState.FIN_FORWARD | NatState.FIN_REPLY;
const RSTS = NatState.RST_FORWARD | NatState.RST_REPLY;

/** The same decision as ptl_nat_live() in bpf/lib/common.bpf.h. */
export function phaseOf(protocol: number, state: number): Phase {
  if (protocol === protocolNumber("UDP")) {
    return state & NatState.SEEN_REPLY
      ? { state: "established", timeout: "timeoutUdpReplied" }
      : { state: "opening", timeout: "timeoutUdpUnreplied" };
  }
  if (state & RSTS || (state & FINS) === FINS) return { state: "closed", timeout: "timeoutTcpClosed" };
  if (!(state & NatState.ESTABLISHED)) return { state: "opening", timeout: "timeoutTcpOpening" };
  if (state & FINS) return { state: "closing", timeout: "timeoutTcpHalfClosed" };
  return { state: "established", timeout: "timeoutTcpEstablished" };
}
