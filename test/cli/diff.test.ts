// SPDX-License-Identifier: Apache-2.0
// portolan diff between manifests and archives. That it shows what a sync writes is test/property/dataplane/dry-run.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Reconciler } from "../../src/dataplane/reconciler.js";
import { compile } from "../../src/image/compile.js";
import { MemoryKernel } from "../../src/native/memory.js";
import { readManifests } from "../../src/source/file/read-manifests.js";
import { contentOf, fixtureKernel, SMALL_MAPS, writeArchive } from "../support/archive.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import { type CliResult, cli, REPOSITORY } from "./run-cli.js";

const directory = mkdtempSync(join(tmpdir(), "portolan-diff-"));
after(() => rmSync(directory, { recursive: true }));

const SHOP = "test/fixtures/shop.yaml";
/** The same with one endpoint less, the NodePort closed, and the older Service gone. */
const changed = join(directory, "changed.yaml");
const archive = join(directory, "dump.tar.gz");

before(async () => {
  const text = readFileSync(join(REPOSITORY, SHOP), "utf8");
  writeFileSync(
    changed,
    text
      .replace(/^ {2}- \{ addresses: \[10\.244\.3\.10\].*\n/m, "")
      .replace(", nodePort: 30080", "")
      .replace(/---\napiVersion: v1\nkind: Service\nmetadata: \{ name: older[\s\S]*?(?=---)/, ""),
  );
  await writeArchive(archive, contentOf(await fixtureKernel()));
});

const diff = (...args: string[]): Promise<CliResult> => cli(["diff", ...args, "--node", "n1"]);

test("portolan diff of manifests shows service ports, the transaction in its order, and the room in the maps", async () => {
  const { code, stdout } = await diff(SHOP, changed);
  assert.equal(code, 1, "something would be written");
  assertGolden("diff.txt", stdout);
  const entries = await diff(SHOP, changed, "--entries");
  assertGolden("diff-entries.txt", entries.stdout);
  const entriesJson = await diff(SHOP, changed, "--entries", "-o", "json");
  assertGolden("diff-entries.json", prettyJson(entriesJson.stdout.replaceAll(directory, "DIRECTORY")));
  const json = await diff(SHOP, changed, "-o", "json");
  assertGolden("diff.json", prettyJson(json.stdout.replaceAll(directory, "DIRECTORY")));
});

test("portolan diff of a state with itself, and of manifests with the maps made from them, writes nothing: status 0", async () => {
  const kernel = new MemoryKernel({ maxEntries: { ...SMALL_MAPS, addresses4: 64 } });
  const { snapshot } = await readManifests([join(REPOSITORY, SHOP)], { nodeName: "n1" });
  const { failure } = await new Reconciler({ kernel }).sync(compile(snapshot));
  assert.equal(failure, null);
  const made = join(directory, "made.tar.gz");
  await writeArchive(made, contentOf(kernel));
  for (const both of [
    [SHOP, SHOP],
    [made, made],
    [made, SHOP],
    [SHOP, made],
  ] as const) {
    const { code, stdout } = await diff(...both);
    assert.deepEqual([code, stdout], [0, "nothing would be written\n"], both.join(" "));
  }
});

test("portolan diff from an archive tells which flows and clients lose their backend", async () => {
  const { code, stdout } = await diff(archive, SHOP);
  assert.equal(code, 1);
  assertGolden("diff-archive.txt", stdout);
  const { consequences } = JSON.parse((await diff(archive, SHOP, "-o", "json")).stdout) as {
    consequences: { flows: unknown[]; clients: unknown[] };
  };
  assert.deepEqual(consequences.clients, [{ service: "shop/web", clients: 1 }]);
  assert.ok(consequences.flows.length > 0);
});

test("portolan diff reads what maps dump --all prints, and says of it what it says of the archive", async () => {
  const printed = await cli(["maps", "dump", "--all", "-o", "json", "--from", archive]);
  assert.equal(printed.code, 0, printed.stderr);
  const dump = join(directory, "maps.json");
  writeFileSync(dump, printed.stdout);
  const [ofDump, ofArchive] = [await diff(dump, SHOP), await diff(archive, SHOP)];
  assert.deepEqual(ofDump, ofArchive, "flows and clients included");
  assert.deepEqual(await diff(SHOP, dump), await diff(SHOP, archive));
});

test("portolan diff refuses a dump that is cut, empty, of one map, in another format, or of another layout", async () => {
  const dump = async (...args: string[]): Promise<string> =>
    (await cli(["maps", "dump", ...args, "--from", archive])).stdout;
  const whole = await dump("--all", "-o", "json");
  const cases: readonly (readonly [string, number, RegExp])[] = [
    [whole.split("\n").slice(0, -3).join("\n"), 3, /the dump is damaged: its end is missing/],
    [whole.slice(0, -10), 3, /the dump is damaged: line \d+: it is no JSON/],
    [
      whole.replace(/"abi":"[0-9a-f]{16}"/, '"abi":"0123456789abcdef"'),
      3,
      /its maps have layout v\d+ \(0123/,
    ],
    ["", 2, /is empty: it has neither manifests nor maps/],
    [await dump("services", "-o", "json"), 2, /is a dump of one map\n/],
    [await dump("--all", "-o", "yaml"), 2, /is a dump of maps in YAML/],
    [await dump("--all"), 2, /is a dump of maps as a table/],
    [await dump("--all", "--limit", "2", "-o", "json"), 2, /at most 2 entries of each map/],
  ];
  const file = join(directory, "bad.json");
  for (const [text, status, says] of cases) {
    writeFileSync(file, text);
    const { code, stdout, stderr } = await diff(file, SHOP);
    assert.deepEqual([code, stdout], [status, ""], stderr);
    assert.match(stderr, says);
    assert.match(stderr, /\n {2}\S.*\n$/, "and what to do");
  }
});

test("portolan diff's mistakes are a line each, and name what is wrong", async () => {
  const none = await diff("no/such/file", SHOP);
  assert.deepEqual([none.code, none.stdout], [2, ""]);
  assert.match(none.stderr, /^portolan: no\/such\/file /);
  const broken = join(directory, "broken.tar.gz");
  writeFileSync(broken, Buffer.from([0x1f, 0x8b, 1, 2, 3]));
  const damaged = await diff(broken, SHOP);
  assert.deepEqual([damaged.code, damaged.stdout], [3, ""]);
  assert.match(damaged.stderr, /broken\.tar\.gz/);
  const nowhere = await diff("live", SHOP, "--bpf-root", "/sys/fs/bpf/portolan-nothing-is-here");
  assert.deepEqual([nowhere.code, nowhere.stdout], [3, ""]);
  for (const { stderr } of [none, damaged, nowhere]) assert.doesNotMatch(stderr, /\n\s+at /);
});
