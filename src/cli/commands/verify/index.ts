// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from "commander";
import { describe, integerOption, repeatedOption, run } from "../../command.js";
import { withDesired } from "../../desired-options.js";
import type { VerifyCommandOptions } from "./handler.js";

export function verifyCommand(): Command {
  const command = describe({
    name: "verify",
    summary: "compare the kernel with what should be there: maps, programs, pins, settings",
    description: `Compares every entry that an agent writes with what manifests (-f), an API server (--kubeconfig) or the running agent
(--agent) say, and names what is missing, extra or different. Without one of them the maps are compared with themselves: that
what they hold fits together, and that nothing in them is out of reach. It looks whether every interface and the cgroup carry the right
programs, of this build and before others; whether the maps have room; whether pins are left that are nobody's; and whether
settings of this host break what is translated.

With --agent three things are compared: what the source says now, what the agent has compiled, and what the kernel holds. The
agent is asked through a socket that only root may use; -f or --kubeconfig beside it stand for the source.

With --repair what differs is put right, in the order in which an agent writes. A running agent is asked to do it, and does it by
what it has compiled itself; without one, what is wanted here is written. Give the same options as the agent's. Exit status 1 when something is not as
it should be; after --repair, when something still is not.`,
    examples: [
      { line: "portolan verify", does: "do the maps fit together, and are all programs in their places?" },
      { line: "portolan verify --agent", does: "source, agent and kernel" },
      { line: "portolan verify -f examples/redis --node n1", does: "against manifests" },
      { line: "portolan verify --kubeconfig /etc/portolan/kubeconfig --repair", does: "and put it right" },
      { line: "portolan verify -o json | jq '.findings[]'", does: "for programs" },
    ],
    formats: ["table", "wide", "json", "yaml"],
    reads: true,
  });
  return withDesired(
    command
      .option("--agent", "ask the agent of this host what it has compiled")
      .addOption(new Option("--repair", "put right what is not as it should be").conflicts("from"))
      .option("--no-build", "do not compare the programs with this build's, which takes a few seconds")
      .option("--devices <names>", "the agent's uplinks, when it does not detect them", repeatedNames)
      .option(
        "--pod-interfaces <names>",
        "the agent's pod interfaces, when it does not detect them",
        repeatedNames,
      )
      .addOption(
        new Option("--socket-lb <mode>", "the agent's, beside -f or --kubeconfig")
          .choices(["full", "host-only", "off"])
          .default("full"),
      )
      .option("--cgroup-root <dir>", "the agent's cgroup v2 directory, when it is not the mount point")
      .option(
        "--forward-mark-bit <n>",
        "the agent's bit of the packet mark, when it is not the default one",
        integerOption(0, 31),
        13,
      ),
  ).action(run<VerifyCommandOptions>(async () => (await import("./handler.js")).verify));
}

/** Names or globs, with commas between them or the option repeated. */
function repeatedNames(value: string, before: readonly string[] = []): readonly string[] {
  return value.split(",").reduce((all, name) => repeatedOption(name.trim(), all), before);
}
