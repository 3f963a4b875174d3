// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { LogTail, readLogTail } from "../../../src/daemon/log-tail.js";
import { readProblems, writeProblems } from "../../../src/daemon/problem-file.js";
import { makeRunDirectory, runDirectoryOf, sweepRunDirectories } from "../../../src/daemon/run-directory.js";

const GONE = "/sys/fs/bpf/run-directory-test";

let run: string;
let top: string;

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), "portolan-run-directory-"));
  run = join(top, "run");
});
afterEach(() => rmSync(top, { recursive: true, force: true }));

interface OwnerFile {
  readonly bpfRoot: string;
  readonly agent: { readonly pid: number; readonly startTime: string };
}

const ownerFile = (root: string): string => join(runDirectoryOf(root, run), "owner.json");

const ownerOf = (root: string): OwnerFile => JSON.parse(readFileSync(ownerFile(root), "utf8")) as OwnerFile;

/** As if another process had made it. */
function giveTo(root: string, agent: Partial<OwnerFile["agent"]>): void {
  const owner = ownerOf(root);
  writeFileSync(ownerFile(root), JSON.stringify({ ...owner, agent: { ...owner.agent, ...agent } }));
}

/** A process's number that no process has. */
async function endedPid(): Promise<number> {
  const child: ChildProcess = spawn(process.execPath, ["-e", "0"], { stdio: "ignore" });
  await once(child, "exit");
  return child.pid as number;
}

test("sweepRunDirectories() removes what agents left whose maps are gone, and nothing else", async () => {
  const here = join(top, "maps");
  mkdirSync(here);
  await writeProblems(here, [], run);
  await writeProblems(GONE, [], run);
  const pid = await endedPid();
  for (const root of [here, GONE]) giveTo(root, { pid });
  await writeProblems(`${GONE}-running`, [], run); // this process is its agent
  mkdirSync(join(run, "of-somebody-else"));
  assert.equal(await sweepRunDirectories(run), 1);
  assert.equal(await readProblems(GONE, run), null);
  assert.deepEqual((await readProblems(here, run))?.problems, []);
  assert.ok(await readProblems(`${GONE}-running`, run));
  assert.equal(readdirSync(run).length, 3);
  assert.equal(await sweepRunDirectories(join(top, "nowhere")), 0);
});

test("sweepRunDirectories() removes the log's tail and the socket of an agent that never wrote a problem", async () => {
  new LogTail(GONE, run).write("last words\n");
  const directory = runDirectoryOf(GONE, run);
  const server = createServer().listen(join(directory, "bound.sock"));
  await once(server, "listening");
  try {
    assert.equal(await sweepRunDirectories(run), 0, "this process is its agent");
    assert.equal(await readLogTail(GONE, run), "last words\n");
    giveTo(GONE, { startTime: "1" }); // another process of that number
    assert.equal(await sweepRunDirectories(run), 1);
    assert.ok(!existsSync(directory));
  } finally {
    server.close();
  }
});

test("sweepRunDirectories() leaves a directory alone whose owner cannot be told", async () => {
  const directory = makeRunDirectory(GONE, run);
  giveTo(GONE, { startTime: "1" });
  const whole = readFileSync(ownerFile(GONE), "utf8");
  for (const text of ["", "null", "[]", '"x"', whole.slice(0, -10), whole.replace('"bpfRoot"', '"root"')]) {
    assert.notEqual(text, whole);
    writeFileSync(ownerFile(GONE), text);
    assert.equal(await sweepRunDirectories(run), 0, text);
  }
  assert.ok(existsSync(directory));
  writeFileSync(ownerFile(GONE), whole);
  assert.equal(await sweepRunDirectories(run), 1);
});

test("makeRunDirectory() leaves a running agent's directory its own, and takes over one whose agent has ended", async () => {
  const other = spawn("sleep", ["60"], { stdio: "ignore" });
  await once(other, "spawn");
  const stat = readFileSync(`/proc/${other.pid}/stat`, "utf8");
  const startTime = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] as string;
  makeRunDirectory(`${GONE}/../run-directory-test/`, run);
  assert.equal(ownerOf(GONE).bpfRoot, GONE);
  assert.equal(ownerOf(GONE).agent.pid, process.pid);
  giveTo(GONE, { pid: other.pid as number, startTime });
  assert.equal(makeRunDirectory(GONE, run), runDirectoryOf(GONE, run));
  assert.equal(ownerOf(GONE).agent.pid, other.pid);
  other.kill();
  await once(other, "exit");
  makeRunDirectory(GONE, run);
  assert.equal(ownerOf(GONE).agent.pid, process.pid);
});
