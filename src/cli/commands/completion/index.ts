// SPDX-License-Identifier: Apache-2.0
import { Argument, Command } from "commander";
import { describe, run } from "../../command.js";
import { treeOf } from "../../command-tree.js";
import { jsonText } from "../../output.js";

const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** `portolan completion SHELL`. @param program asked when the command is run: by then it has all its commands */
export function completionCommand(program: () => Command): Command {
  return describe({
    name: "completion",
    summary: "a script that completes commands, options and their values in bash, zsh or fish",
    description: `Prints the script. It is made from the commands themselves, and knows what this version knows; it needs nothing but the shell.
To have it in every shell put the line into the shell's own start-up file.`,
    examples: [
      { line: "source <(portolan completion bash)", does: "in bash, or in ~/.bashrc" },
      { line: "source <(portolan completion zsh)", does: "in zsh, or in ~/.zshrc after compinit" },
      { line: "portolan completion fish | source", does: "in fish, or in config.fish" },
    ],
    formats: ["table"],
  })
    .addArgument(new Argument("<shell>", "which shell").choices(SHELLS))
    .action(run(async () => (await import("./handler.js")).completion(treeOf(program()))));
}

/** Hidden: the command line as one JSON object, from which docs/cli.md is made. */
export function commandTreeCommand(program: () => Command): Command {
  return new Command("command-tree").action(() => {
    process.stdout.write(`${jsonText(treeOf(program()), true)}\n`);
  });
}
