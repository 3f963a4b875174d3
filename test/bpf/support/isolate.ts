// SPDX-License-Identifier: Apache-2.0
/**
 * Runs a test file again in a network and a mount namespace of its own: the programs send packets even under test-run
 * (a REJECT's RST), and pins need a bpf file system. Both vanish with the process, whatever happens.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import type { NativeLibrary } from "../../../src/native/lib.js";

const INSIDE = "PORTOLAN_BPF_TEST_INSIDE";

/**
 * Returns inside the namespaces. Outside it never returns: the process becomes the parent of the one inside, whose
 * results go where its own would have gone. So it must be called before the file registers a test.
 */
export function isolate(): void {
  if (process.env[INSIDE] !== undefined) return;
  const [, ...argv] = process.argv;
  const run = spawnSync(
    "unshare",
    ["--net", "--mount", "--", process.execPath, ...process.execArgv, ...argv],
    {
      stdio: "inherit",
      env: { ...process.env, [INSIDE]: "yes" },
    },
  );
  if (run.error) throw run.error;
  process.exit(run.status ?? 1);
}

/** A bpf file system of this process and its children, gone at exit with every pin. Only after isolate(). */
export function ownBpffs(library: NativeLibrary): string {
  const root = mkdtempSync("/tmp/portolan-bpf-");
  library.mountBpffs(root);
  process.on("exit", () => {
    execFileSync("umount", ["--lazy", root]);
    rmdirSync(root);
  });
  return root;
}
