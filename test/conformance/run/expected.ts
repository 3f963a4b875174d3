// SPDX-License-Identifier: Apache-2.0
/** What a flow must do: where kube-proxy's modes differ, as section 16 decides. */
import { isLoopback } from "../form/address.js";
import type { ConfigForm, FlowForm, Outcome } from "../form/types.js";

/**
 * The outcome which counts. `modes` goes before anything else that the flow says: who wrote it knew that the modes differ.
 *
 * Section 16: the default NodePort addresses follow the configured mode; loopback NodePorts are served (as in iptables mode)
 * unless they are turned off; in everything else (an undefined port of a ClusterIP, an unallocated service address, source
 * ranges without endpoints, the host to a load balancer's address without endpoints) nftables mode is right.
 */
export function expectedOf(flow: FlowForm, nodeAddresses: readonly string[], config: ConfigForm): Outcome {
  if (flow.modes !== undefined) {
    if (isLoopback(flow.dst)) return flow.modes[config.localhostNodePorts ? "iptables" : "nftables"];
    return flow.modes[nodeAddresses.includes(flow.dst) ? config.mode : "nftables"];
  }
  if (flow.outcome === undefined) throw new Error("a flow without an outcome was read");
  return flow.outcome;
}

/** What is expected, for messages. */
export function outcomeText(outcome: Outcome): string {
  return outcome.kind === "verdict" ? outcome.verdict : `to ${outcome.to.join(", ")}`;
}

/** A flow, for messages. */
export function flowText(flow: FlowForm, src: string): string {
  const dst = flow.dst.includes(":") ? `[${flow.dst}]` : flow.dst;
  return `${flow.from} (${src}) to ${dst}:${flow.port} ${flow.proto}`;
}
