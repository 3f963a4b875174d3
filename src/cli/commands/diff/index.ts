// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import { withProxyOptions } from "../../desired-options.js";
import type { DiffOptions } from "./handler.js";

export function diffCommand(): Command {
  const command = describe({
    name: "diff",
    summary: "what would be written to get from one state to another",
    description: `Each of the two is a file or directory of manifests, an archive of \`portolan dump\`, what \`portolan maps dump --all -o json\`
printed into a file, or the word live: the maps of this node. The real planner runs against a copy of the first in memory, and nothing is written: what is shown is the transaction,
in the order in which it would be written, and what becomes of flows, of clients with session affinity, and of the room in
the maps. Which cells and slots are taken is what an agent that starts now would take.

Between maps and manifests the node is taken to have the addresses on which NodePorts are served. What else the agent knows
of its node, such as the sockets that listen there, is not known here. The exit status is 1 when something would be written.`,
    examples: [
      { line: "portolan diff live /etc/portolan/manifests", does: "what would these manifests change here?" },
      { line: "portolan diff before.tar.gz after.tar.gz", does: "what happened between two dumps" },
      {
        line: "portolan diff before.json live",
        does: "since `portolan maps dump --all -o json > before.json`",
      },
      { line: "portolan diff old/ new/ --node n1", does: "between two sets of manifests, on any machine" },
      { line: "portolan diff live new/ --entries", does: "with every entry that would be written" },
    ],
  });
  return withProxyOptions(
    command
      .argument("<from>", "manifests, an archive, a dump of all maps, or live")
      .argument("<to>", "the same")
      .option("--entries", "print every entry that would be written or deleted"),
  ).action(run<DiffOptions>(async () => (await import("./handler.js")).diff));
}
