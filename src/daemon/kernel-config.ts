// SPDX-License-Identifier: Apache-2.0
/** The settings that the kernel programs get when they are loaded. */
import { TICK_SHIFT } from "../abi/enums.gen.js";
import type { PtlConfig } from "../abi/layout.gen.js";
import type { PortRange } from "./snat-ports.js";

/** Seconds until a silent flow counts as dead, by what it has shown. */
export interface FlowTimeouts {
  readonly tcpOpening: number;
  readonly tcpEstablished: number;
  readonly tcpHalfClosed: number;
  readonly tcpClosed: number;
  readonly udpUnreplied: number;
  readonly udpReplied: number;
}

/**
 * Those of the kernel's conntrack with kube-proxy's settings (a day for established, an hour for half closed TCP), so that
 * no flow lives shorter here than it would there. What is closed is dead after seconds: its port is wanted again.
 */
export const DEFAULT_TIMEOUTS: FlowTimeouts = {
  tcpOpening: 60,
  tcpEstablished: 86_400,
  tcpHalfClosed: 3_600,
  tcpClosed: 5,
  udpUnreplied: 30,
  udpReplied: 180,
};

/** Seconds in the programs' unit, rounded up: 2^30 ns, about 1.07 s. */
export function ticks(seconds: number): number {
  return Math.ceil((seconds * 1e9) / 2 ** TICK_SHIFT);
}

/** `struct ptl_config`. At most two ranges are taken. */
export function kernelConfig(ranges: readonly PortRange[], timeouts: FlowTimeouts): PtlConfig {
  const size = (range: PortRange | undefined): number => (range ? range.last - range.first + 1 : 0);
  const [a, b] = ranges;
  return {
    snatPortBase: [a?.first ?? 0, b?.first ?? 0],
    snatPortCount: [size(a), size(b)],
    timeoutTcpOpening: ticks(timeouts.tcpOpening),
    timeoutTcpEstablished: ticks(timeouts.tcpEstablished),
    timeoutTcpHalfClosed: ticks(timeouts.tcpHalfClosed),
    timeoutTcpClosed: ticks(timeouts.tcpClosed),
    timeoutUdpUnreplied: ticks(timeouts.udpUnreplied),
    timeoutUdpReplied: ticks(timeouts.udpReplied),
  };
}
