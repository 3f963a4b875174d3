// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { LogTail, readLogTail, TAIL_BYTES } from "../../../src/daemon/log-tail.js";
import { removeProblems } from "../../../src/daemon/problem-file.js";

const RUN = mkdtempSync(join(tmpdir(), "portolan-log-tail-"));
after(() => rmSync(RUN, { recursive: true, force: true }));

const ROOT = "/sys/fs/bpf/portolan";
const bytesIn = (directory: string): number =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);

test("the log's tail is none before an agent has run, and what the agent logged after", async () => {
  assert.equal(await readLogTail(ROOT, RUN), null);
  const tail = new LogTail(ROOT, RUN);
  tail.write("first\n");
  tail.write("second\n");
  assert.equal(await readLogTail(ROOT, RUN), "first\nsecond\n");
  assert.equal(await readLogTail("/another/root", RUN), null);
});

test("the log's tail has the lines of the agent before it, too: it may be that one's end that is asked for", async () => {
  new LogTail(ROOT, RUN).write("third\n");
  assert.equal(await readLogTail(ROOT, RUN), "first\nsecond\nthird\n");
});

test("the log's tail never grows beyond its size, and has the newest lines", async () => {
  const tail = new LogTail(ROOT, RUN);
  const line = `${"x".repeat(1000)}\n`;
  for (let i = 0; i < 2000; i++) {
    tail.write(`${i} ${line}`);
    if (i % 100 === 0) assert.ok(bytesIn(RUN) <= TAIL_BYTES);
  }
  tail.write(`${"y".repeat(TAIL_BYTES)}\n`);
  tail.write("last\n");
  const lines = (await readLogTail(ROOT, RUN))?.trimEnd().split("\n") ?? [];
  assert.equal(lines.at(-1), "last");
  assert.ok(lines.length > 100 && lines.at(-2)?.startsWith("1999 "), "and none is torn");
});

test("a log's tail that cannot be kept is no error", async () => {
  const file = join(RUN, "file");
  writeFileSync(file, "");
  const tail = new LogTail(ROOT, file);
  tail.write("line\n");
  assert.equal(await readLogTail(ROOT, file), null);
});

test("`portolan cleanup` removes the log's tail with the problems", async () => {
  await removeProblems(ROOT, RUN);
  assert.equal(await readLogTail(ROOT, RUN), null);
});
