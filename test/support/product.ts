// SPDX-License-Identifier: Apache-2.0
/** The program under test, and what it needs of the machine. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
export const BPFFS = "/sys/fs/bpf";

/** The command under test. PORTOLAN_CLI names another one, to try the tests against another dataplane. */
export function cliCommand(): string[] {
  const other = process.env.PORTOLAN_CLI;
  if (other !== undefined) return other.split(" ");
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: run make first`);
  return [process.execPath, MAIN];
}

/** Pins need a bpffs; the agent would mount it too, but at the default root only. */
export function mountBpffs(): void {
  const mounted = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .some((line) => line.includes(` ${BPFFS} bpf `));
  if (!mounted) execFileSync("mount", ["-t", "bpf", "bpf", BPFFS]);
}
