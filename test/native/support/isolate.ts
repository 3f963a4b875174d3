// SPDX-License-Identifier: Apache-2.0
/**
 * Tests of the native library run in a child process with network and mount namespaces of its own: interfaces and the bpf
 * file system vanish with it, whatever happens.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { NativeLibrary } from "../../../src/native/lib.js";

const INSIDE = "PORTOLAN_TEST_ISOLATED";

/** Set together with it: a directory that the outer process makes and removes, also after a crash of the inner one. */
const DIRECTORY = "PORTOLAN_TEST_DIRECTORY";

/** Registers `tests` when this process is the isolated one; otherwise one test that runs the file again inside. */
export function isolated(url: string, tests: () => void, timeoutMs = 840_000): void {
  if (process.env[INSIDE] === url) {
    tests();
    return;
  }
  const file = fileURLToPath(url);
  test(`${file.slice(file.lastIndexOf("/") + 1)} passes in namespaces of its own`, {
    timeout: timeoutMs,
  }, async () => {
    const directory = mkdtempSync("/tmp/portolan-native-");
    const argv = ["--net", "--mount", "--", process.execPath, ...process.execArgv, file];
    const { NODE_TEST_CONTEXT: _, ...inherited } = process.env;
    const env = { ...inherited, [INSIDE]: url, [DIRECTORY]: directory };
    const child = spawn("unshare", argv, { stdio: ["ignore", "pipe", "inherit"], env });
    try {
      let output = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        output += text;
      });
      const [code] = (await once(child, "close")) as [number | null];
      // What failed comes last; all that went well before it would hide it.
      assert.equal(code, 0, output.slice(Math.max(0, output.search(/^ *not ok |failing tests:/m))));
      assert.match(output, /# fail 0|ℹ fail 0/);
      assert.doesNotMatch(output, /# tests 0|ℹ tests 0/);
    } finally {
      await end(child);
      rmSync(directory, { recursive: true });
    }
  });
}

function directory(): string {
  const chosen = process.env[DIRECTORY];
  assert.ok(chosen, "runs inside isolated()");
  return chosen;
}

/** The checkout. */
export const ROOT: string = fileURLToPath(new URL("../../../", import.meta.url)).replace(/\/$/, "");

let root: string | null = null;
let counter = 0;

/** A directory on a bpf file system that only this process and its children see; not made yet. */
export function freshPins(library: NativeLibrary): string {
  if (!root) {
    root = join(directory(), "bpf");
    assert.equal(library.mountBpffs(root), true);
    assert.equal(library.mountBpffs(root), false, "the second time it is there");
  }
  counter++;
  return join(root, `t${counter}`, "v1");
}

/** A directory for files. */
export function scratch(): string {
  return mkdtempSync(join(directory(), "files-"));
}

export function ip(...args: readonly string[]): string {
  return execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

export function tc(...args: readonly string[]): string {
  return execFileSync("tc", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

export function ifindexOf(name: string): number {
  const [link] = JSON.parse(ip("-j", "link", "show", "dev", name)) as { ifindex: number }[];
  assert.ok(link);
  return link.ifindex;
}

/** A veth pair of this namespace, up; the ifindex of the first end. */
export function addVeth(name: string, peer = `${name}p`): number {
  ip("link", "add", name, "type", "veth", "peer", "name", peer);
  ip("link", "set", name, "up");
  ip("link", "set", peer, "up");
  return ifindexOf(name);
}

/** What each open descriptor of this process is. */
export function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
    } catch {
      return []; // the descriptor that reads the directory
    }
  });
}

/** Ends a child that holds something, and waits until it is gone. */
export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}
