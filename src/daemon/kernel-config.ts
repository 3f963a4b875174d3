// SPDX-License-Identifier: Apache-2.0
/** The settings that the kernel programs get when they are loaded. */
import { Detector, Option, TICK_SHIFT } from "../abi/enums.gen.js";
import type { PtlConfig } from "../abi/layout.gen.js";
import { type Cidr, maskBytes } from "../net/cidr.js";
import type { Family } from "../net/ip.js";
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

/** Who counts as a local pod in one family (8.3). */
export type LocalDetector = "none" | "interface" | Cidr;

/** Everything but ports and times. */
export interface KernelOptions {
  /** Or'ed into the mark of every translated packet (8.11); 0: none. */
  readonly mark: number;
  /** Or'ed in from ingress to egress where the flow is masqueraded (8.9); 0: none. */
  readonly masqueradeMark: number;
  /** --socket-lb full. */
  readonly socketsOfPods: boolean;
  /** 6.5. */
  readonly loopbackNodePorts: boolean;
  readonly resetRemovedBackends: boolean;
  /** The kernel has bpf_set_retval (5.18). */
  readonly setRetval: boolean;
  /** The kernel has bpf_ktime_get_coarse_ns (5.11). */
  readonly coarseClock: boolean;
  /** New flows may take the shortcut, or flows that began so are still there (--forwarding). */
  readonly shortcut: boolean;
  /** SO_NETNS_COOKIE of this network namespace; 0: not known, the initial one. */
  readonly hostNetns: bigint;
  readonly detectors: Readonly<Record<Family, LocalDetector>>;
}

export const DEFAULT_KERNEL_OPTIONS: KernelOptions = {
  mark: 0,
  masqueradeMark: 0,
  socketsOfPods: false,
  loopbackNodePorts: false,
  resetRemovedBackends: false,
  setRetval: false,
  coarseClock: false,
  shortcut: false,
  hostNetns: 0n,
  detectors: { 4: "none", 6: "none" },
};

function detectorOf(detector: LocalDetector): Detector {
  if (detector === "none") return Detector.DETECT_NONE;
  return detector === "interface" ? Detector.DETECT_INTERFACE : Detector.DETECT_NETWORK;
}

/** Network and mask of a detector; a network that nothing is in where it has none. */
function networkOf(detector: LocalDetector, bytes: number): { network: Uint8Array; mask: Uint8Array } {
  if (typeof detector === "string") return { network: new Uint8Array(bytes), mask: new Uint8Array(bytes) };
  return { network: detector.address.bytes, mask: maskBytes(detector) };
}

function optionBits(options: KernelOptions): number {
  return (
    (options.socketsOfPods ? Option.SOCKETS_PODS : 0) |
    (options.loopbackNodePorts ? Option.LOOPBACK_NODEPORT : 0) |
    (options.resetRemovedBackends ? Option.RESET_REMOVED : 0) |
    (options.setRetval ? Option.SET_RETVAL : 0) |
    (options.coarseClock ? Option.COARSE_CLOCK : 0) |
    (options.shortcut ? Option.SHORTCUT : 0)
  );
}

/** `struct ptl_config`. At most two ranges are taken. */
export function kernelConfig(
  ranges: readonly PortRange[],
  timeouts: FlowTimeouts,
  options: KernelOptions = DEFAULT_KERNEL_OPTIONS,
): PtlConfig {
  const four = networkOf(options.detectors[4], 4);
  const six = networkOf(options.detectors[6], 16);
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
    mark: options.mark,
    masqueradeMark: options.masqueradeMark,
    options: optionBits(options),
    hostNetns: [Number(options.hostNetns & 0xffff_ffffn), Number(options.hostNetns >> 32n)],
    detector4: detectorOf(options.detectors[4]),
    detector6: detectorOf(options.detectors[6]),
    localNetwork4: four.network,
    localMask4: four.mask,
    localNetwork6: six.network,
    localMask6: six.mask,
  };
}
