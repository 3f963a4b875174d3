// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import type { DemoOptions } from "./handler.js";

export function demoCommand(): Command {
  return describe({
    name: "demo",
    summary: "two nodes, real redis servers and a client in network namespaces: see it work in a minute",
    description: `Builds a small cluster out of network namespaces as flannel would, runs redis servers in its pods and one agent on each
node, and shows what the product does: each step says what it proves, with the figure it measured. Touches nothing outside of
its own namespaces and pins, and removes them. Needs root, iproute2, iptables and redis-server (make deps).`,
    examples: [
      { line: "portolan demo", does: "the whole show" },
      { line: "portolan demo --keep", does: "and leave the cluster up to play with, until Ctrl-C" },
    ],
    formats: ["table"],
  })
    .option("--keep", "leave the cluster up at the end, and print commands to try")
    .action(run<DemoOptions>(async () => (await import("./handler.js")).demo));
}
