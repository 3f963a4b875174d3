// SPDX-License-Identifier: Apache-2.0
import { allNodes, type CommandNode, type OptionNode } from "../../command-tree.js";

export interface Word {
  readonly text: string;
  readonly description: string;
}

/** "file": a path is completed. "text": nothing can be. */
export type ValueKind = "file" | "text";

export interface OptionWords {
  /** "--output", "-o" */
  readonly names: readonly string[];
  readonly description: string;
  /** Null: it has no value, or may go without. */
  readonly value: ValueKind | readonly string[] | null;
}

/** What can stand behind a command. */
export interface Place {
  /** "portolan maps dump" */
  readonly path: string;
  readonly commands: readonly Word[];
  /** What its first argument can be, where that is known. */
  readonly arguments: readonly string[];
  readonly options: readonly OptionWords[];
}

/** Names of values that are files, as the help has them. */
const FILES = /^<(file|path|dir|directory)>$/;

function optionWords({ short, long, value, choices, description }: OptionNode): OptionWords {
  const names = [long, ...(short === null ? [] : [short])];
  const needsValue = value?.startsWith("<") === true;
  const kind = choices.length > 0 ? choices : FILES.test(value ?? "") ? "file" : "text";
  return { names, description: firstWords(description), value: needsValue ? kind : null };
}

/** A description is one line in a menu. */
function firstWords(text: string): string {
  const [line = ""] = text.split("\n");
  return line.length <= 80 ? line : `${line.slice(0, 79)}…`;
}

/** @param argumentWords what the first argument of a command can be, by its path, where commander does not know it */
export function completionsOf(
  tree: CommandNode,
  argumentWords: Readonly<Record<string, readonly string[]>>,
): readonly Place[] {
  return allNodes(tree)
    .filter(({ name }) => name !== "help")
    .map(({ path, commands, options, arguments: given }) => ({
      path,
      commands: commands.map(({ name, summary, description }) => ({
        text: name,
        description: firstWords(summary || description),
      })),
      arguments: argumentWords[path] ?? given[0]?.choices ?? [],
      options: options.map(optionWords),
    }));
}

/** In single quotes for bash and zsh. */
export const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
