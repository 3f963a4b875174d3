// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { cli, REPOSITORY } from "./run-cli.js";

const COMMANDS = [
  "affinity",
  "agent",
  "backends",
  "cleanup",
  "compile",
  "completion",
  "demo",
  "diff",
  "doctor",
  "dump",
  "explain",
  "flows",
  "flows delete",
  "interfaces",
  "maps",
  "maps dump",
  "monitor",
  "services",
  "top",
  "trace",
  "verify",
];

test("portolan --help names every command, explains the exit statuses, and goes to stdout with status 0", async () => {
  const { code, stdout, stderr } = await cli(["--help"]);
  assert.equal(code, 0);
  assert.equal(stderr, "");
  for (const name of COMMANDS.filter((name) => !name.includes(" "))) {
    assert.match(stdout, new RegExp(`^ {2}${name}\\b`, "m"));
  }
  assert.match(stdout, /Exit status: 0 done, 1 done with a finding, 2 wrong usage, 3 failed/);
});

for (const name of COMMANDS) {
  test(`portolan ${name} --help teaches by examples, and every command has -o and --bpf-root`, async () => {
    const { code, stdout } = await cli([...name.split(" "), "--help"]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^Usage: portolan ${name}\\b`));
    assert.match(stdout, /-o, --output <format>/);
    assert.match(stdout, /--bpf-root <dir>/);
    const [, examples = ""] = stdout.split("\nExamples:\n");
    const lines = examples.trimEnd().split("\n");
    assert.ok(lines.length >= 2, "at least two examples");
    for (const line of lines) assert.match(line, /^ {2}\$ .*portolan .* # \S/);
    for (const line of stdout.split("\nExamples:\n")[0]?.split("\n") ?? []) {
      assert.ok(line.length <= 100, `"${line}" is wider than 100 columns`);
    }
  });
}

test("portolan --version prints what package.json says", async () => {
  const { version } = JSON.parse(readFileSync(`${REPOSITORY}/package.json`, "utf8")) as { version: string };
  assert.deepEqual(await cli(["--version"]), { code: 0, stdout: `${version}\n`, stderr: "" });
});

for (const [args, says] of [
  [["servces"], /unknown command 'servces'\n\(Did you mean services\?\)/],
  [["services", "--nope"], /unknown option '--nope'/],
  [["services", "a", "b"], /too many arguments for 'services'/],
  [
    ["services", "-o", "xml"],
    /'-o, --output <format>' argument 'xml' is invalid\. Allowed choices are table, wide, json, yaml, name/,
  ],
  [["services", "web", "-s", "dns"], /which Service, "web" or "dns"\?\n {2}Give one name/],
  [["monitor", "--protocol", "http"], /Allowed choices are TCP, UDP, SCTP, ICMP/],
  [["demo", "-o", "json"], /'json' is invalid/],
  [["compile"], /required option '-f, --file <path>' not specified/],
  [["agent"], /nothing says where the cluster's Services are to be read\n {2}Give --kubeconfig/],
  [["agent", "--manifests", "x", "--max-nat", "lots"], /--max-nat: must be a whole number, not "lots"/],
  [["agent", "--manifests", "x", "--attach", "xdp"], /--attach: must be one of auto, tcx, clsact/],
  [["agent", "--manifests", "x", "--devices", ","], /must name at least one/],
  [["flows", "--state", "happy"], /Allowed choices are opening, established, closing, closed, dead/],
  [["maps", "dump"], /which map\? Name one, or give --all/],
] as const) {
  test(`portolan ${args.join(" ")} is wrong usage: status 2, one message on stderr, nothing on stdout`, async () => {
    const { code, stdout, stderr } = await cli([...args]);
    assert.equal(code, 2);
    assert.equal(stdout, "");
    assert.match(stderr, says);
    assert.doesNotMatch(stderr, /\bat .*\.js:\d+/, "no stack");
  });
}

test("portolan points from a wrong option to the help of that very command", async () => {
  const { stderr } = await cli(["maps", "dump", "--nope"]);
  assert.match(stderr, /\(portolan maps dump --help explains it\)/);
});

test("portolan without a command explains itself on stderr with status 2", async () => {
  const { code, stdout, stderr } = await cli([]);
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.match(stderr, /^Usage: portolan/);
});

test("portolan says in a line that its result cannot be written, with the status of a failure", async () => {
  const inside = ["sh", "-c", 'exec "$0" "$@" > /dev/full'];
  const { code, stderr } = await cli(["--help"], { inside });
  assert.deepEqual([code, stderr.trim().split("\n").length], [3, 1]);
  assert.match(stderr, /^portolan: cannot write the result: .*no space left/);
});

test("portolan prints no colours into a pipe", async () => {
  const { stdout } = await cli(["--help"], { env: { FORCE_COLOR: "" } });
  assert.ok(!stdout.includes("\u001b["));
});

test("portolan doctor names what is missing when the native library was not built", async () => {
  const { code, stdout } = await cli(["doctor", "-o", "json"], {
    env: { PORTOLAN_BUILD_DIR: "/nonexistent" },
  });
  assert.equal(code, 1);
  const { ok, checks } = JSON.parse(stdout) as {
    ok: boolean;
    checks: { name: string; status: string; detail: string }[];
  };
  assert.equal(ok, false);
  const library = checks.find(({ name }) => name === "library");
  assert.equal(library?.status, "fail");
  assert.match(library?.detail ?? "", /\/nonexistent\/libportolan\.so/);
});
