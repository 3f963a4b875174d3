// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";

export function cleanupCommand(): Command {
  return describe({
    name: "cleanup",
    summary: "remove everything that an agent ever made on this node",
    description: `Detaches the programs from every interface of this network namespace and removes the pinned maps and links, of every
layout version, with their directories; takes the programs off the cgroup's sockets, and our rules out of the host's firewall
(of this network namespace, whoever's --bpf-root they were made with). Services stop working at once. Stop the agent first: it would put things back.
May be run again: with nothing left it does nothing.

With --kube-proxy it removes what kube-proxy has left instead, and nothing of ours: its chains and rules in iptables (legacy and
nft, IPv4 and IPv6), its nftables tables, and the virtual servers, sets and interface of ipvs mode. Connections go on: what the
kernel has begun to translate it translates to the end (but not IPVS). First let the agent be ready beside kube-proxy, then
stop kube-proxy, which would put things back, then run this.`,
    examples: [
      { line: "portolan cleanup", does: "remove it all" },
      { line: "portolan cleanup --kube-proxy --dry-run", does: "what of kube-proxy is left here?" },
      { line: "portolan cleanup --kube-proxy", does: "remove that, beside a running agent" },
      { line: "portolan cleanup -o json", does: "and say what was removed, for programs" },
    ],
  })
    .option("--kube-proxy", "remove what kube-proxy has left, and nothing of ours")
    .option("--dry-run", "with --kube-proxy: only say what would be removed")
    .action(run(async () => (await import("./handler.js")).cleanup));
}
