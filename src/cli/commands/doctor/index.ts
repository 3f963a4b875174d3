// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, integerOption, run } from "../../command.js";
import type { DoctorOptions } from "./handler.js";

export function doctorCommand(): Command {
  return describe({
    name: "doctor",
    summary: "what this kernel and host can do, what degrades, and how to mend it",
    description: `Looks at the kernel, the mounts, and the settings of this network namespace; changes nothing.
Each line is ok, warn (it works, less well) or fail (it will not work), with the command that mends it. Exit status 1 on fail.`,
    examples: [
      { line: "portolan doctor", does: "before the agent is installed" },
      {
        line: "portolan doctor -o json | jq '.checks[] | select(.status != \"ok\")'",
        does: "what is not in order",
      },
    ],
  })
    .option("--snat-ports <ranges>", "the agent's ranges, when they are not the default ones")
    .option(
      "--forward-mark-bit <n>",
      "the agent's bit of the packet mark, when it is not the default one",
      integerOption(0, 31),
      13,
    )
    .action(run<DoctorOptions>(async () => (await import("./handler.js")).doctor));
}
