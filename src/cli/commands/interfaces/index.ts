// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";

export function interfacesCommand(): Command {
  return describe({
    name: "interfaces",
    summary: "the interfaces that carry the programs, their roles and masquerade addresses",
    description: `Reads the pinned map \`interfaces\`, and asks the kernel which programs are attached in this network namespace.
A bridge is listed for its address only: its ports carry the programs.`,
    examples: [
      { line: "portolan interfaces", does: "on this node" },
      { line: "portolan interfaces -o json", does: "for programs" },
    ],
  }).action(run(async () => (await import("./handler.js")).interfaces));
}
