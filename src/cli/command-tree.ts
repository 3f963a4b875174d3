// SPDX-License-Identifier: Apache-2.0
/**
 * The command line as data, read off the commands that commander runs: what `--help` says, shell completion offers and
 * docs/cli.md lists is one thing.
 */
import type { Command, Option } from "commander";
import { type Example, examplesOf } from "./command.js";

export interface OptionNode {
  /** "-o", or null. */
  readonly short: string | null;
  /** "--output" */
  readonly long: string;
  /** "<format>", "[bool]"; null: it has no value. */
  readonly value: string | null;
  readonly description: string;
  readonly choices: readonly string[];
  /** As `--help` shows it; null: none, or the description says it. */
  readonly fallback: string | null;
  readonly required: boolean;
}

export interface ArgumentNode {
  /** "<name>", "[name]" */
  readonly name: string;
  readonly description: string;
  readonly choices: readonly string[];
}

export interface CommandNode {
  /** "portolan maps dump" */
  readonly path: string;
  readonly name: string;
  readonly summary: string;
  readonly description: string;
  readonly arguments: readonly ArgumentNode[];
  readonly options: readonly OptionNode[];
  readonly examples: readonly Example[];
  readonly commands: readonly CommandNode[];
}

/** Hidden commands and options are left out. */
export function treeOf(command: Command, above = ""): CommandNode {
  const help = command.createHelp();
  const path = `${above}${command.name()}`;
  return {
    path,
    name: command.name(),
    summary: command.summary(),
    description: command.description(),
    arguments: command.registeredArguments.map((each) => ({
      name: each.required ? `<${each.name()}>` : `[${each.name()}]`,
      description: each.description,
      choices: each.argChoices ?? [],
    })),
    options: help.visibleOptions(command).map(optionNode),
    examples: examplesOf(command),
    commands: help
      .visibleCommands(command)
      .filter(({ name }) => name !== undefined)
      .map((child) => treeOf(child, `${path} `)),
  };
}

function optionNode(option: Option): OptionNode {
  const { short = null, long = "", flags, description, argChoices = [], defaultValue, mandatory } = option;
  return {
    short,
    long,
    value: /[<[].*[>\]]$/.exec(flags)?.[0] ?? null,
    description,
    choices: argChoices,
    fallback: defaultValue === undefined || mandatory ? null : String(defaultValue),
    required: mandatory,
  };
}

/** The command and all below it, depth first. */
export function allNodes(node: CommandNode): readonly CommandNode[] {
  return [node, ...node.commands.flatMap(allNodes)];
}
