// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import { LIST_FORMATS } from "../../output.js";

export function interfacesCommand(): Command {
  return describe({
    name: "interfaces",
    summary: "the interfaces that carry the programs, their roles and masquerade addresses",
    description: `Reads the pinned map \`interfaces\`, and asks the kernel which programs are attached in this network namespace.
A bridge is listed for its address only: its ports carry the programs. The line of this node itself has the addresses that
its own processes are taken to have. XDP: how it carries the XDP program (--xdp); another program there is under OTHERS.
LOCAL PODS: what comes in there is a local pod's, as --detect-local-mode BridgeInterface or InterfaceNamePrefix says.
FORWARDING: which way new flows of pods take by it (agent --forwarding); the lines below the table, and forwardingWhy in JSON,
say why.`,
    examples: [
      { line: "portolan interfaces", does: "on this node" },
      { line: "portolan interfaces -o json", does: "for programs" },
    ],
    formats: LIST_FORMATS,
    reads: true,
  }).action(run(async () => (await import("./handler.js")).interfaces));
}
