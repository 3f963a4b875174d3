// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { newcomers, runDirectories, takeSnapshot } from "../../../scripts/check-leaks.js";
import { makeRunDirectory } from "../../../src/daemon/run-directory.js";

describe("newcomers()", () => {
  it("names what has come, by kind, and nothing else", () => {
    const before = { namespace: { a: "a", gone: "gone" }, pin: {} };
    const after = { namespace: { a: "a", b: "b" }, pin: { "/sys/fs/bpf/x": "/sys/fs/bpf/x" } };
    assert.deepEqual(newcomers(before, after), ["namespace: b", "pin: /sys/fs/bpf/x"]);
  });

  it("compares kinds apart: a link of the name of an old namespace is new", () => {
    assert.deepEqual(newcomers({ namespace: { a: "a" } }, { link: { a: "a" } }), ["link: a"]);
  });
});

describe("runDirectories()", () => {
  it("names what agents have left beside their pins, and whose it is", () => {
    const top = mkdtempSync(join(tmpdir(), "portolan-leaks-"));
    try {
      const run = join(top, "run");
      assert.deepEqual(runDirectories(run), {});
      const directory = makeRunDirectory("/sys/fs/bpf/leaks-test", run);
      const other = join(run, "of-somebody-else");
      mkdirSync(other);
      assert.deepEqual(runDirectories(run), {
        [directory]: `${directory}, of /sys/fs/bpf/leaks-test`,
        [other]: `${other}, of nobody who says so`,
      });
    } finally {
      rmSync(top, { recursive: true, force: true });
    }
  });
});

describe("takeSnapshot()", () => {
  it("sees a process that names portolan and outlives its parent, and no longer after it ended", async () => {
    const before = takeSnapshot();
    // The shell ends at once; what it leaves behind is no child of this process any more.
    const shell = spawn("sh", ["-c", 'sh -c "read line" portolan-leak-test <&3 >/dev/null 2>&1 & echo $!'], {
      stdio: ["ignore", "pipe", "inherit", "pipe"],
    });
    let pid = "";
    shell.stdout?.on("data", (data: Buffer) => {
      pid += data.toString();
    });
    assert.ok(shell.stdout);
    await Promise.all([once(shell, "exit"), once(shell.stdout, "end")]);
    const seen = newcomers(before, takeSnapshot()).filter((line) => line.includes("portolan-leak-test"));
    const input = shell.stdio[3];
    assert.ok(input);
    input.destroy();
    assert.equal(seen.length, 1, `expected the process ${pid.trim()} among the newcomers`);
    assert.match(seen[0] ?? "", new RegExp(`^process: ${pid.trim()}: sh -c read line`));
  });
});
