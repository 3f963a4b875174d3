// SPDX-License-Identifier: Apache-2.0
/** From the agent's options and this node to what the kernel programs are told. Pure. */
import { localDetectors, type ProxyOptions } from "../config/proxy-options.js";
import type { InterfaceOptions, LocalPods } from "../dataplane/interfaces.js";
import type { NodeInfo } from "../model/types.js";
import { AppError } from "../util/errors.js";
import type { KernelOptions } from "./kernel-config.js";

/** Whose sockets are served: all, those of this node's own network namespace, none. */
export type SocketLb = "full" | "host-only" | "off";

export interface KernelChoices {
  readonly proxy: ProxyOptions;
  readonly socketLb: SocketLb;
  readonly resetRemovedBackends: boolean;
  /** 0 to 31. */
  readonly markBit: number;
  /** Bit of the packet mark on flows that will be masqueraded: kube-proxy's, which others' rules know (8.9). */
  readonly masqueradeBit: number;
}

/** Which way translated packets go on: the kernel's stack, or past it (decision 0022). `auto`: past it where nothing is missed. */
export type ForwardingSetting = "auto" | "stack" | "redirect";

/** What the kernel says about itself. */
export interface KernelAbilities {
  /** SO_NETNS_COOKIE of this network namespace; 0: it does not tell. */
  readonly netnsCookie: bigint;
  /** bpf_set_retval (Linux 5.18). */
  readonly setRetval: boolean;
  /** bpf_ktime_get_coarse_ns (Linux 5.11). */
  readonly coarseClock: boolean;
  /** The hooks of cgroups that socket programs need. */
  readonly socketHooks: boolean;
}

/**
 * @param node null: it is not known. Only detector NodeCIDR needs it.
 * @param shortcut whether the programs are to have the shortcut at all
 * @throws AppError E_NO_POD_CIDR when detector NodeCIDR finds no ranges in the Node object
 */
export function kernelOptions(
  { proxy, socketLb, resetRemovedBackends, markBit, masqueradeBit }: KernelChoices,
  node: NodeInfo | null,
  { netnsCookie, setRetval, coarseClock }: Pick<KernelAbilities, "netnsCookie" | "setRetval" | "coarseClock">,
  shortcut: boolean = false,
): KernelOptions {
  return {
    mark: 2 ** markBit,
    masqueradeMark: 2 ** masqueradeBit,
    socketsOfPods: socketLb === "full",
    loopbackNodePorts: proxy.loopbackNodePorts,
    resetRemovedBackends,
    setRetval,
    coarseClock,
    shortcut,
    hostNetns: netnsCookie,
    detectors: localDetectors(proxy.detectLocal, detectorNode(proxy, node)),
  };
}

/** Whether the detectors cannot be told before the Node object has been read (8.3). */
export function needsNode({ detectLocal }: ProxyOptions): boolean {
  return detectLocal.mode === "NodeCIDR";
}

/**
 * The part of the Node that detectors depend on.
 *
 * @throws AppError E_NO_POD_CIDR
 */
export function detectorNode(proxy: ProxyOptions, node: NodeInfo | null): Pick<NodeInfo, "podCIDRs"> {
  if (!needsNode(proxy)) return { podCIDRs: [] };
  if (node !== null && node.podCIDRs.length > 0) return node;
  throw new AppError(
    "E_NO_POD_CIDR",
    `--detect-local-mode NodeCIDR: the manifests have no Node ${node?.name ?? ""} with spec.podCIDRs`,
    {
      fields: { node: node?.name ?? null },
      hint: "Add the Node object, name it with --hostname-override, or choose another --detect-local-mode.",
    },
  );
}

/** Detectors that go by interface are told by the keeper of interfaces. */
export function withLocalPods(options: InterfaceOptions, { detectLocal }: ProxyOptions): InterfaceOptions {
  const localPods: LocalPods | null =
    detectLocal.mode === "BridgeInterface"
      ? { bridge: detectLocal.name }
      : detectLocal.mode === "InterfaceNamePrefix"
        ? { prefix: detectLocal.prefix }
        : null;
  return localPods === null ? options : { ...options, localPods };
}
