// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { readProblems, removeProblems, writeProblems } from "../../../src/daemon/problem-file.js";
import type { Problem } from "../../../src/model/types.js";

const CONFLICT: Problem = {
  severity: "warning",
  origin: { file: "b.yaml", line: 3 },
  object: "Service default/b",
  field: "spec.clusterIPs",
  message: "10.96.0.1:80/TCP belongs to Service default/a (a.yaml:1), which is older or first by name",
};
const ROOT = "/sys/fs/bpf/problem-file-test";

let run: string;
let top: string;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "portolan-problems-"));
  run = join(top, "run");
});
afterEach(() => rmSync(top, { recursive: true, force: true }));

/** The one file below the run directory. */
function fileOf(): string {
  const [directory = ""] = readdirSync(run);
  return join(run, directory, "problems.json");
}

test("readProblems() gives what writeProblems() wrote last, and says that its writer runs", async () => {
  await writeProblems(ROOT, [CONFLICT, { ...CONFLICT, origin: null }], run);
  const before = Date.now();
  await writeProblems(`${ROOT}/../problem-file-test/`, [CONFLICT], run);
  const report = await readProblems(ROOT, run);
  assert.deepEqual(report?.problems, [CONFLICT]);
  assert.equal(report.agentRunning, true);
  assert.ok(Date.parse(report.written) >= before);
});

test("writeProblems() leaves one file beside the owner's that all may read and only its owner may write", async () => {
  await writeProblems(ROOT, [CONFLICT], run);
  assert.equal(statSync(fileOf()).mode & 0o777, 0o644);
  assert.deepEqual(readdirSync(join(fileOf(), "..")).sort(), ["owner.json", "problems.json"]);
});

test("writeProblems() rejects with the file system's error where it may not write", async () => {
  writeFileSync(run, "not a directory");
  await assert.rejects(writeProblems(ROOT, [], run), { code: "ENOTDIR" });
});

test("readProblems() keeps the files of two roots apart", async () => {
  await writeProblems(ROOT, [CONFLICT], run);
  await writeProblems(`${ROOT}-2`, [], run);
  assert.deepEqual((await readProblems(ROOT, run))?.problems, [CONFLICT]);
  assert.deepEqual((await readProblems(`${ROOT}-2`, run))?.problems, []);
});

test("readProblems() tells that the agent has ended, also when its number was given to another process", async () => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  await once(child, "spawn");
  const [pid, agent] = [child.pid as number, /"agent":\{[^}]*\}/];
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  await writeProblems(ROOT, [CONFLICT], run);
  const text = readFileSync(fileOf(), "utf8");
  const running = async (start: string | undefined): Promise<boolean | undefined> => {
    writeFileSync(fileOf(), text.replace(agent, `"agent":${JSON.stringify({ pid, startTime: start })}`));
    return (await readProblems(ROOT, run))?.agentRunning;
  };
  assert.equal(await running(startTime), true);
  assert.equal(await running("1"), false, "another process of that number");
  child.kill();
  await once(child, "exit");
  assert.equal(await running(startTime), false);
});

test("readProblems() is null without a file, and for one that is cut short, odd, or another root's", async () => {
  assert.equal(await readProblems(ROOT, run), null);
  await writeProblems(ROOT, [CONFLICT], run);
  const whole = readFileSync(fileOf(), "utf8");
  for (const text of [
    "",
    whole.slice(0, -10),
    "null",
    "[]",
    whole.replace('"version":1', '"version":2'),
    whole.replace(ROOT, "/elsewhere"),
    whole.replace('"warning"', '"fatal"'),
    whole.replace('"line":3', '"line":"3"'),
    whole.replace('"message":', '"massage":'),
  ]) {
    assert.notEqual(text, whole);
    writeFileSync(fileOf(), text);
    assert.equal(await readProblems(ROOT, run), null, text);
  }
  rmSync(fileOf());
  mkdirSync(fileOf());
  assert.equal(await readProblems(ROOT, run), null, "a directory");
});

test("removeProblems() leaves nothing, keeps what is another root's, and may be called again", async () => {
  await writeProblems(ROOT, [CONFLICT], run);
  await writeProblems(`${ROOT}-2`, [], run);
  await removeProblems(ROOT, run);
  assert.equal(await readProblems(ROOT, run), null);
  assert.notEqual(await readProblems(`${ROOT}-2`, run), null);
  await removeProblems(`${ROOT}-2`, run);
  await removeProblems(`${ROOT}-2`, run);
  assert.deepEqual(readdirSync(top), []);
});
