// SPDX-License-Identifier: Apache-2.0
// Writes the command reference of docs/cli.md from the commands themselves, as `--help` does. `--check` only compares.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { ArgumentNode, CommandNode, OptionNode } from "../src/cli/command-tree.js";
import { type Place, withPart, writeDocument } from "./generated-docs.js";

const MAIN = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
const PLACE: Place = {
  what: "the commands",
  open: "<!-- commands -->",
  close: "<!-- end: commands -->",
};

/** docs/configuration.md has them all. */
const OPTIONS_ELSEWHERE: readonly string[] = ["portolan agent"];

/** What the program itself says that it is. */
export function readTree(): CommandNode {
  const args = ["--import", "tsx", MAIN, "command-tree"];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    maxBuffer: 16 * 1024 * 1024,
  });
  if (status !== 0) throw new Error(`the command tree cannot be read: ${stderr}`);
  return JSON.parse(stdout) as CommandNode;
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

function optionRow({ short, long, value, description, choices, fallback, required }: OptionNode): string {
  const flags = [...(short === null ? [] : [short]), `${long}${value === null ? "" : ` ${value}`}`].join(
    ", ",
  );
  const notes = [
    ...(choices.length > 0 ? [`one of ${choices.join(", ")}`] : []),
    ...(fallback === null ? [] : [`default: ${fallback}`]),
    ...(required ? ["must be given"] : []),
  ];
  return `| \`${cell(flags)}\` | ${cell(description)}${notes.length > 0 ? ` (${cell(notes.join("; "))})` : ""} |`;
}

const argumentRow = ({ name, description }: ArgumentNode): string =>
  `| \`${cell(name)}\` | ${cell(description)} |`;

function section({ path, description, arguments: given, options, examples }: CommandNode): string {
  const shown = OPTIONS_ELSEWHERE.includes(path) ? [] : options.filter(({ long }) => long !== "--help");
  const rows = [...given.map(argumentRow), ...shown.map(optionRow)];
  const width = Math.max(...examples.map(({ line }) => line.length));
  return [
    `### ${path}`,
    `\`${[path, "[options]", ...given.map(({ name }) => name)].join(" ")}\``,
    description,
    ...(OPTIONS_ELSEWHERE.includes(path) ? ["All options are in [configuration.md](configuration.md)."] : []),
    ...(rows.length > 0 ? [["| | |", "|---|---|", ...rows].join("\n")] : []),
    ["```sh", ...examples.map(({ line, does }) => `${line.padEnd(width)}   # ${does}`), "```"].join("\n"),
  ].join("\n\n");
}

/** The reference: a section for each command that can be run. */
export function referenceOf(tree: CommandNode): string {
  const sections = (node: CommandNode): readonly string[] =>
    node.commands
      .filter(({ examples }) => examples.length > 0)
      .flatMap((child) => [section(child), ...sections(child)]);
  return sections(tree).join("\n\n");
}

/** The document with its reference as it should be. */
export function withReference(text: string, tree: CommandNode): string {
  return withPart(text, PLACE, referenceOf(tree));
}

writeDocument(import.meta.url, new URL("../docs/cli.md", import.meta.url), (text) =>
  withReference(text, readTree()),
);
