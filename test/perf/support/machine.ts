// SPDX-License-Identifier: Apache-2.0
/** Where a figure was measured: part of every result. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository. */
export const ROOT: string = fileURLToPath(new URL("../../../", import.meta.url));

export interface Machine {
  readonly date: string;
  /** Of the sources, with "+" when something is not committed. */
  readonly commit: string;
  readonly kernel: string;
  readonly node: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Load averages when the benchmark ended. */
  readonly load: readonly number[];
  /** net.core.bpf_jit_enable and the like: what makes the same code slower. */
  readonly settings: Readonly<Record<string, string>>;
}

const SETTINGS = ["net/core/bpf_jit_enable", "net/core/bpf_jit_harden", "kernel/bpf_stats_enabled"];

function git(...argv: readonly string[]): string {
  try {
    return execFileSync("git", argv, {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "";
  }
}

function setting(name: string): string {
  try {
    return readFileSync(`/proc/sys/${name}`, "utf8").trim();
  } catch {
    return "absent";
  }
}

/** For the end of what a benchmark prints. */
export function loadText(): string {
  const load = loadavg().map((each) => each.toFixed(1));
  return `load average ${load.join(" ")} on ${cpus().length} CPUs`;
}

export function machine(): Machine {
  const changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "bpf", "native") !== "";
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: `${git("rev-parse", "--short", "HEAD")}${changed ? "+" : ""}`,
    kernel: release(),
    node: process.version,
    cpu: cpus()[0]?.model ?? "",
    cpus: cpus().length,
    memoryMiB: Math.round(totalmem() / 2 ** 20),
    load: loadavg().map((each) => Math.round(each * 100) / 100),
    settings: Object.fromEntries(SETTINGS.map((name) => [name.replaceAll("/", "."), setting(name)])),
  };
}

/** Writes bench/results/NAME.json, or build/bench/NAME.json for a short look, and returns its path. */
export function writeResult(name: string, result: object, quick = false): string {
  const directory = join(ROOT, quick ? "build/bench" : "bench/results");
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `${name}.json`);
  writeFileSync(file, `${JSON.stringify({ machine: machine(), ...result }, null, 2)}\n`);
  return file;
}
