// SPDX-License-Identifier: Apache-2.0
// Every command that reads, against archives: the same input on every machine, without root or BPF.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { MAPS } from "../../src/abi/maps.gen.js";
import { MemoryKernel } from "../../src/native/memory.js";
import { contentOf, fixtureKernel, metaOf, SMALL_MAPS, writeArchive } from "../support/archive.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import { checkSchema } from "../support/json-schema.js";
import { type CliResult, cli } from "./run-cli.js";

/** No library there: what reads an archive does not load it. */
const ENV = { PORTOLAN_BUILD_DIR: "/nonexistent" };

let directory: string;
/** SERVICES_IN_MAPS and FLOWS_IN_MAPS; nothing; and half a million flows. */
let full: string;
let empty: string;
let many: string;
const MANY = 500_000;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "portolan-archives-"));
  [full, empty, many] = ["full", "empty", "many"].map((name) => join(directory, `${name}.tar.gz`)) as [
    string,
    string,
    string,
  ];
  await writeArchive(full, contentOf(await fixtureKernel()));
  const bare = new MemoryKernel({ maxEntries: SMALL_MAPS });
  await writeArchive(empty, contentOf(bare, { problems: { problems: [], problemsFrom: null } }));
  const { keySize, valueSize } = MAPS.nat4;
  const [keys, values] = [Buffer.alloc(MANY * keySize), Buffer.alloc(MANY * valueSize)];
  for (let i = 0; i < MANY; i++) keys.writeUInt32LE(i + 1, i * keySize);
  const kernel = await fixtureKernel([{ map: "nat4", kind: "update", count: MANY, keys, values }]);
  await writeArchive(many, contentOf(kernel));
});

after(() => rmSync(directory, { recursive: true }));

const from = (archive: string, ...args: readonly string[]): Promise<CliResult> =>
  cli([...args, "--from", archive], { env: ENV });

/** What every command that reads is run as. */
const READERS: readonly (readonly string[])[] = [
  ["services"],
  ["backends"],
  ["flows"],
  ["affinity"],
  ["interfaces"],
  ["maps"],
  ["maps", "dump", "services"],
];

const GOLDENS: readonly (readonly string[])[] = [
  ...READERS,
  ["services", "shop/web"],
  ["services", "-n", "shop", "-o", "wide"],
  ["affinity", "-o", "wide"],
  ["flows", "--state", "established"],
  ["maps", "dump", "frontends4"],
  ["maps", "dump", "nat4", "--limit", "2"],
];

for (const args of GOLDENS) {
  const name = args.join("-").replaceAll(/[^\w]+/g, "-");
  test(`portolan ${args.join(" ")} prints the table that it should`, async () => {
    const { code, stdout, stderr } = await from(full, ...args);
    assert.equal(code, 0, stderr);
    assertGolden(`${name}.txt`, stdout + (stderr === "" ? "" : `--- stderr\n${stderr}`));
  });
}

for (const args of READERS) {
  const name = args.join("-");
  test(`portolan ${args.join(" ")} -o json is what it should be, as docs/schema says, and -o yaml is the same`, async () => {
    const json = await from(full, ...args, "-o", "json");
    assert.equal(json.code, 0, json.stderr);
    assertGolden(`${name}.json`, prettyJson(json.stdout));
    const isLines = args[1] === "dump";
    const values = json.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown);
    for (const value of values) checkSchema(isLines ? "maps-dump" : (args[0] as string), value);
    const yaml = await from(full, ...args, "-o", "yaml");
    const documents = isLines
      ? parseAllDocuments(yaml.stdout).map((each) => each.toJS())
      : [parse(yaml.stdout)];
    assert.deepEqual(documents, values);
    const nothing = await from(empty, ...args, "-o", "json");
    assert.equal(nothing.code, 0, nothing.stderr);
    if (!isLines) checkSchema(args[0] as string, JSON.parse(nothing.stdout));
  });
}

test("portolan maps shows a map that is not pinned as missing: a finding, in each format", async () => {
  const kernel = await fixtureKernel();
  const meta = metaOf(kernel);
  const maps = meta.maps.filter(({ name }) => name !== "nat6" && name !== "services");
  const partial = join(directory, "partial.tar.gz");
  await writeArchive(partial, contentOf(kernel, { meta: { ...meta, maps } }));
  const table = await from(partial, "maps");
  assertGolden(
    "maps-missing.txt",
    `${table.stdout}--- stderr\n${table.stderr.replaceAll(directory, "DIRECTORY")}`,
  );
  const json = await from(partial, "maps", "-o", "json");
  assertGolden("maps-missing.json", prettyJson(json.stdout));
  const names = await from(partial, "maps", "-o", "name");
  assert.doesNotMatch(names.stdout, /^map\/(nat6|services)$/m);
  const all = await from(partial, "maps", "dump", "--all", "-o", "json");
  for (const { code, stderr } of [table, json, names, all]) {
    assert.equal(code, 1);
    assert.match(stderr, /^not pinned in .*: nat6, services$/m);
  }
  const needed = await from(partial, "services");
  assert.deepEqual([needed.code, needed.stdout], [3, ""]);
  assert.match(needed.stderr, /it has no map services: that was not pinned where it was made\n {2}\S/);
});

test("portolan doctor -o json is as docs/schema says", async () => {
  const { stdout } = await cli(["doctor", "-o", "json"]);
  checkSchema("doctor", JSON.parse(stdout));
});

for (const [args, lines] of [
  [["services"], ["service/shop/dns", "service/shop/web"]],
  [["services", "-s", "dns"], ["service/shop/dns"]],
  [["flows", "--protocol", "UDP"], ["flow/UDP/[fd09::9]:50001/[fd07::1]:30053"]],
  [["backends", "-s", "dns"], ["backend/shop/dns/[fd02::1]:53"]],
  [["affinity"], ["affinity/shop/web/10.9.0.9", "affinity/shop/web/10.9.0.10"]],
  [["interfaces"], ["interface/node", "interface/veth7"]],
  [["flows", "-s", "dns"], ["flow/UDP/[fd09::9]:50001/[fd07::1]:30053"]],
] as const) {
  test(`portolan ${args.join(" ")} -o name is a line for each name`, async () => {
    const { code, stdout } = await from(full, ...args, "-o", "name");
    assert.equal(code, 0);
    assert.deepEqual(stdout.trimEnd().split("\n"), lines);
  });
}

for (const command of ["services", "backends", "flows", "affinity"]) {
  test(`portolan ${command} -n takes a namespace, -A all of them, and one that nothing is in is a finding`, async () => {
    const all = await from(full, command, "-A", "-o", "json");
    assert.equal(all.stdout, (await from(full, command, "-o", "json")).stdout);
    const none = await from(full, command, "-n", "nowhere");
    assert.deepEqual([none.code, none.stdout], [1, ""]);
    assert.match(
      none.stderr,
      /^no Service in namespace "nowhere" in the maps\n {2}`portolan services -o name` lists/,
    );
    const both = await from(full, command, "-n", "shop", "-A");
    assert.equal(both.code, 2);
    assert.match(both.stderr, /'-A, --all-namespaces' cannot be used with option '-n, --namespace <ns>'/);
  });
}

const STACK = /\bat .*\.[jt]s:\d+|unexpected error/;

for (const args of READERS) {
  const typed = args.join(" ");
  test(`portolan ${typed} of maps without an entry is no error`, async () => {
    const { code, stderr } = await from(empty, ...args);
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, STACK);
  });

  test(`portolan ${typed} says in a line or two what is wrong with an archive`, async () => {
    const cut = join(directory, "cut.tar.gz");
    writeFileSync(cut, readFileSync(full).subarray(0, 1500));
    const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
      [["--from", cut], 3, /cut\.tar\.gz: the archive is damaged/],
      [["--from", fileURLToPath(import.meta.url)], 3, /this is no archive of `portolan dump`/],
      [["--from", join(directory, "none")], 2, /there is no such file/],
      [["--bpf-root", directory, "--from", full], 2, /cannot be used with/],
    ];
    for (const [options, status, says] of cases) {
      const { code, stdout, stderr } = await cli([...args, ...options]);
      assert.deepEqual([code, stdout], [status, ""], stderr);
      assert.match(stderr, says);
      assert.doesNotMatch(stderr, STACK);
      assert.ok(stderr.trimEnd().split("\n").length <= 3, stderr);
    }
  });
}

test("portolan dump -f of a pipe writes into it, and puts no file in its place", async () => {
  const [pipe, out] = [join(directory, "pipe"), join(directory, "piped.tar.gz")];
  execFileSync("mkfifo", [pipe]);
  const inside = ["sh", "-c", 'cat "$PIPE" > "$OUT" & "$0" "$@"; code=$?; wait; exit $code'];
  const args = ["dump", "-f", pipe, "--bpf-root", join(directory, "nothing")];
  const { code, stderr } = await cli(args, { env: { PIPE: pipe, OUT: out }, inside });
  assert.equal(code, 0, stderr);
  assert.ok(statSync(pipe).isFIFO(), "it is a pipe as before");
  assert.deepEqual([...readFileSync(out).subarray(0, 2)], [0x1f, 0x8b]);
  const { code: status, stderr: told } = await cli(["dump", "-f", directory, ...args.slice(-2)]);
  assert.equal(status, 2);
  assert.match(told, /is a directory\n {2}Name the file/);
});

test("portolan maps dump of half a million entries needs little memory", async () => {
  const inside = ["sh", "-c", 'exec "$0" --max-old-space-size=80 "$@" | wc -l'];
  const { stdout, stderr } = await cli(["maps", "dump", "nat4", "-o", "json", "--from", many], {
    env: ENV,
    inside,
  });
  assert.equal(stderr, "");
  assert.ok(Number(stdout) >= MANY);
});

for (const [args, lines] of [
  [["maps", "dump", "nat4"], 3],
  [["maps", "dump", "nat4", "-o", "json"], 1],
  [["flows", "-o", "name"], 2],
] as const) {
  test(`portolan ${args.join(" ")} | head ends quietly`, async () => {
    const inside = ["bash", "-c", `"$0" "$@" | head -n ${lines}; echo "status \${PIPESTATUS[0]}"`];
    const { stdout, stderr } = await cli([...args, "--from", many], { env: ENV, inside });
    assert.equal(stderr, "");
    const printed = stdout.trimEnd().split("\n");
    assert.deepEqual([printed.length, printed.at(-1)], [lines + 1, "status 0"]);
  });
}
