// SPDX-License-Identifier: Apache-2.0
// What commands print is kept, and has a schema: of every command that the program has, in a table and in JSON.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readTree } from "../../scripts/cli-docs.js";
import { allNodes, type CommandNode } from "../../src/cli/command-tree.js";
import { contentOf, fixtureKernel, writeArchive } from "../support/archive.js";
import { COMMAND_CASES, type Form } from "../support/cli-commands.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import { checkSchema, SCHEMA_NAMES } from "../support/json-schema.js";
import { cli, REPOSITORY } from "./run-cli.js";

const GOLDEN = join(REPOSITORY, "test/cli/golden");
const directory = mkdtempSync(join(tmpdir(), "portolan-outputs-"));
const archive = join(directory, "dump.tar.gz");
after(() => rmSync(directory, { recursive: true }));
before(async () => {
  await writeArchive(archive, contentOf(await fixtureKernel()));
});

/** Those that can be run: not the program itself, and not its `help`. */
const COMMANDS: readonly CommandNode[] = allNodes(readTree()).filter(({ examples }) => examples.length > 0);

const printsJson = ({ options }: CommandNode): boolean =>
  options.some(({ long, choices }) => long === "--output" && choices.includes("json"));

const ALL_FORMS: readonly Form[] = Object.values(COMMAND_CASES).flatMap(({ forms }) => forms);

test("every command of the program is in test/support/cli-commands.ts, and nothing else is", () => {
  assert.deepEqual(Object.keys(COMMAND_CASES).sort(), COMMANDS.map(({ path }) => path).sort());
});

for (const command of COMMANDS) {
  test(`${command.path}: what it prints as JSON has a schema, and is kept beside its table`, () => {
    const { forms } = COMMAND_CASES[command.path] ?? { forms: [] };
    assert.equal(
      forms.length > 0,
      printsJson(command),
      "commands that print JSON have forms, others have none",
    );
    for (const { form, schema, table, json, by } of forms) {
      assert.ok(SCHEMA_NAMES.includes(schema), `${form}: docs/schema/${schema}.json is missing`);
      assert.ok(existsSync(join(GOLDEN, table)), `${form}: test/cli/golden/${table} is missing`);
      assert.ok(existsSync(join(GOLDEN, json)), `${form}: test/cli/golden/${json} is missing`);
      assert.match(readFileSync(join(REPOSITORY, by), "utf8"), /assertGolden\(/, `${by} compares nothing`);
      const kept = valuesIn(readFileSync(join(GOLDEN, json), "utf8"));
      assert.ok(kept.length > 0, json);
      for (const value of kept) checkSchema(schema, value);
    }
  });
}

/** The objects of a file that prettyJson() has made. */
function valuesIn(text: string): unknown[] {
  return text
    .split(/(?<=^\})\n/m)
    .filter((part) => part.trim() !== "")
    .map((part) => JSON.parse(part) as unknown);
}

test("every schema is of some command, and so is every JSON output that is kept", () => {
  const schemas = new Set(["common", ...ALL_FORMS.map(({ schema }) => schema)]);
  assert.deepEqual([...schemas].sort(), [...SCHEMA_NAMES].sort());
  const kept = readdirSync(GOLDEN).filter((file) => file.endsWith(".json"));
  assert.deepEqual(kept.sort(), Array.from(new Set(ALL_FORMS.map(({ json }) => json))).sort());
});

for (const [name, args, code] of [
  ["compile", ["compile", "-f", "test/fixtures/shop.yaml", "--node", "n1"], 0],
  ["verify", ["verify", "--from", archive], 1],
  ["maps-dump-all", ["maps", "dump", "--all", "--from", archive], 0],
] as const) {
  test(`portolan ${name.replaceAll("-", " ")} prints the table and the objects that it should`, async () => {
    const table = await cli(args);
    assert.equal(table.code, code, table.stderr);
    assertGolden(`${name}.txt`, evened(`${table.stdout}--- stderr\n${table.stderr}`));
    const json = await cli([...args, "-o", "json"]);
    assert.equal(json.code, code, json.stderr);
    assertGolden(`${name}.json`, evened(prettyJson(json.stdout)));
  });
}

/** Without the hash and the number of the layouts, which every change of them would show here. */
function evened(text: string): string {
  return text
    .replaceAll(directory, "DIRECTORY")
    .replace(/"abi": "[0-9a-f]{16}"/, '"abi": "0123456789abcdef"')
    .replace(/"layout": \d+/, '"layout": 1');
}
