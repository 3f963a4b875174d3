// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";

export function servicesCommand(): Command {
  return describe({
    name: "services",
    summary: "the Services in this node's maps, with their backends and traffic",
    description: `Reads the pinned maps: what the kernel does now, not what an agent intends. One line for each Service address.
NAME is "name" or "namespace/name".`,
    examples: [
      { line: "portolan services", does: "all of them" },
      { line: "portolan services default/redis", does: "one Service" },
      { line: "portolan services -o json | jq '.services[].address'", does: "for programs" },
    ],
  })
    .argument("[name]", "only the Service of this name")
    .action(run(async () => (await import("./handler.js")).services));
}
