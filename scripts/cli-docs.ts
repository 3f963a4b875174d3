// SPDX-License-Identifier: Apache-2.0
// Writes the command reference of docs/cli.md from the commands themselves, as `--help` does. `--check` only compares.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { ArgumentNode, CommandNode, OptionNode } from "../src/cli/command-tree.js";

const FILE = fileURLToPath(new URL("../docs/cli.md", import.meta.url));
const MAIN = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
const [OPEN, CLOSE] = ["<!-- commands -->", "<!-- end: commands -->"] as const;

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
  const [start, end] = [text.indexOf(OPEN), text.indexOf(CLOSE)];
  if (start < 0 || end < start) throw new Error("docs/cli.md: no place for the commands");
  return `${text.slice(0, start + OPEN.length)}\n\n${referenceOf(tree)}\n\n${text.slice(end)}`;
}

function main(): void {
  const before = readFileSync(FILE, "utf8");
  const after = withReference(before, readTree());
  if (before === after) return;
  if (process.argv.includes("--check")) {
    process.stderr.write("docs/cli.md is out of date: make docs\n");
    process.exitCode = 1;
  } else writeFileSync(FILE, after);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
