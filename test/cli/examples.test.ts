// SPDX-License-Identifier: Apache-2.0
// Every example that `--help` and docs/cli.md show: each is one that the command line takes, and what only reads is run.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readTree } from "../../scripts/cli-docs.js";
import { allNodes, type CommandNode, type OptionNode } from "../../src/cli/command-tree.js";
import { contentOf, fixtureKernel, writeArchive } from "../support/archive.js";
import { CLI, REPOSITORY } from "./run-cli.js";

const TREE = readTree();
const NODES = allNodes(TREE).filter(({ examples }) => examples.length > 0);

/** The words of a simple command, as a shell splits them. */
function wordsOf(command: string): string[] {
  return Array.from(command.matchAll(/(?:'[^']*'|"(?:\\.|[^"])*"|[^\s'"])+/g), ([word]) =>
    word.replaceAll(/'([^']*)'|"((?:\\.|[^"])*)"/g, (_all, one = "", two = "") => one + two),
  );
}

/** Each `portolan …` in a line, up to what a shell would end it with. */
function callsIn(line: string): string[][] {
  return Array.from(line.matchAll(/\bportolan\b(?:'[^']*'|"[^"]*"|[^|)>&;])*/g), ([call]) =>
    wordsOf(call).slice(1),
  );
}

function valueProblem({ long, choices }: OptionNode, value: string | undefined): string | null {
  if (value === undefined) return `${long} has no value`;
  return choices.length > 0 && !choices.includes(value) ? `${long} cannot be ${value}` : null;
}

/** What of a call the command line would not take; null: it takes it. */
function problemOf(words: readonly string[]): string | null {
  let node: CommandNode = TREE;
  const options = new Set<string>();
  let given = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    const child = given === 0 ? node.commands.find(({ name }) => name === word) : undefined;
    if (child !== undefined) {
      node = child;
      continue;
    }
    if (!word.startsWith("-") || word === "-") {
      given += 1;
      continue;
    }
    const [name, attached] = word.split(/=(.*)/s);
    const option = node.options.find(({ short, long }) => short === name || long === name);
    if (option === undefined) return `${node.path} has no option ${name}`;
    options.add(option.long);
    if (option.value?.startsWith("<") !== true) continue;
    const problem = valueProblem(option, attached ?? words[++i]);
    if (problem !== null) return problem;
  }
  if (node === TREE && words.length > 0 && !options.has("--help")) return `there is no command ${words[0]}`;
  if (given > node.arguments.length) return `${node.path} takes ${node.arguments.length} arguments`;
  if (given < node.arguments.filter(({ name }) => name.startsWith("<")).length)
    return `${node.path} lacks an argument`;
  const missing = node.options.find(({ required, long }) => required && !options.has(long));
  return missing === undefined ? null : `${node.path} needs ${missing.long}`;
}

for (const { path, examples } of NODES) {
  test(`every example of ${path} is one that the command line takes`, () => {
    for (const { line } of examples) {
      const calls = callsIn(line);
      assert.ok(calls.length > 0, `"${line}" has no portolan in it`);
      for (const call of calls) assert.equal(problemOf(call), null, line);
    }
  });
}

test("an example that the command line does not take would be found", () => {
  const wrong = ["services --nope", "servces", "services -o xml", "services a b", "compile", "flows --state"];
  for (const line of wrong) assert.notEqual(problemOf(wordsOf(line)), null, line);
});

let directory: string;

/** A program of this name for the examples, which are written for a machine that has it in its PATH. */
function program(name: string, script: string): void {
  const file = join(directory, name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "portolan-examples-"));
  const archive = join(directory, "fixture.tar.gz");
  await writeArchive(archive, contentOf(await fixtureKernel()));
  program("portolan", `exec ${CLI.map((word) => `"${word}"`).join(" ")} "$@" $FROM`);
  program("jq", "cat > /dev/null");
  program("kubectl", 'echo \'{"apiVersion":"v1","kind":"List","items":[]}\'');
});

after(() => rmSync(directory, { recursive: true }));

function runLine(line: string, from: boolean): { readonly status: number | null; readonly stderr: string } {
  const env = {
    ...process.env,
    PATH: `${directory}:${process.env.PATH}`,
    FROM: from ? `--from ${join(directory, "fixture.tar.gz")}` : "",
    PORTOLAN_BUILD_DIR: "/nonexistent",
  };
  const { status, stderr } = spawnSync("bash", ["-o", "pipefail", "-c", line], {
    cwd: REPOSITORY,
    encoding: "utf8",
    env,
  });
  return { status, stderr };
}

/** Reads an archive (the --from of trace is something else) in the kernel's place, and is no other kind of command: that has examples which need more than that. */
const reads = ({ options }: CommandNode): boolean =>
  options.some(({ long, value }) => long === "--from" && value === "<file>") &&
  !options.some(({ long }) => long === "--file");

for (const { path, examples } of NODES.filter(reads)) {
  test(`every example of ${path} runs`, () => {
    for (const { line } of examples) {
      const { status, stderr } = runLine(line, true);
      // Of a Service that is not in the archive it is a finding.
      assert.ok(status === 0 || (status === 1 && /^no /m.test(stderr)), `${line}: ${status}: ${stderr}`);
    }
  });
}

test("the examples of compile on what is in examples/ run", () => {
  const lines = NODES.find(({ path }) => path === "portolan compile")?.examples.map(({ line }) => line) ?? [];
  const here = lines.filter((line) => line.includes("examples/") || line.includes("kubectl"));
  assert.ok(here.length >= 2);
  for (const line of here) {
    const { status, stderr } = runLine(line, false);
    assert.equal(status, 0, `${line}: ${stderr}`);
  }
});
