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
May be run again: with nothing left it does nothing.`,
    examples: [
      { line: "portolan cleanup", does: "remove it all" },
      { line: "portolan cleanup -o json", does: "and say what was removed, for programs" },
    ],
  }).action(run(async () => (await import("./handler.js")).cleanup));
}
