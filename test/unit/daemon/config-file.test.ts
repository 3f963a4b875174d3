// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { watchConfigFile } from "../../../src/daemon/config-file.js";

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "portolan-config-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** The next change; the test's time limit is what ends a wait for one that does not come. */
function watched(t: TestContext, path: string, text: string): () => Promise<void> {
  let changes = 0;
  let wake = (): void => {};
  const stop = watchConfigFile(path, text, () => {
    changes += 1;
    wake();
  });
  t.after(stop);
  return async () => {
    // A timer keeps the process alive: the watch does not.
    const alive = setInterval(() => {}, 1000);
    while (changes === 0) await new Promise<void>((resolve) => (wake = resolve));
    clearInterval(alive);
    changes -= 1;
  };
}

const LIMIT = { timeout: 180_000 };

test("watchConfigFile() tells a write, and a write of the same text is none (12.3)", LIMIT, async (t) => {
  const path = join(directory(t), "config.conf");
  writeFileSync(path, "a");
  const next = watched(t, path, "a");
  writeFileSync(path, "a");
  writeFileSync(path, "longer");
  await next();
});

test(
  "watchConfigFile() tells a file that is put in the place of it, and one that is moved away (12.3)",
  LIMIT,
  async (t) => {
    const root = directory(t);
    const path = join(root, "config.conf");
    writeFileSync(path, "a");
    const next = watched(t, path, "a");
    writeFileSync(join(root, "new"), "b");
    renameSync(join(root, "new"), path);
    await next();
    renameSync(path, join(root, "away"));
    await next();
  },
);

test("watchConfigFile() tells what had changed before it began", LIMIT, async (t) => {
  const path = join(directory(t), "config.conf");
  writeFileSync(path, "b");
  await watched(t, path, "a")();
});

test(
  "watchConfigFile() tells a ConfigMap that the kubelet has updated, which swaps a link (12.3)",
  LIMIT,
  async (t) => {
    const root = directory(t);
    const volume = (name: string, text: string): void => {
      mkdirSync(join(root, name));
      writeFileSync(join(root, name, "config.conf"), text);
      symlinkSync(name, join(root, "..data_tmp"));
      renameSync(join(root, "..data_tmp"), join(root, "..data"));
    };
    volume("..1", "a");
    symlinkSync("..data/config.conf", join(root, "config.conf"));
    const next = watched(t, join(root, "config.conf"), "a");
    volume("..2", "b");
    rmSync(join(root, "..1"), { recursive: true });
    await next();
  },
);

test("watchConfigFile() ends with what it returns, and needs no directory", (t) => {
  const stop = watchConfigFile(join(directory(t), "none", "config.conf"), "a", () => {});
  stop();
  stop();
});
