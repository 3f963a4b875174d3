// SPDX-License-Identifier: Apache-2.0
// What a test run may leave behind on the machine, before and after:
//   check-leaks.ts snapshot FILE    writes what there is now
//   check-leaks.ts compare FILE     prints what has come since and is still there after a grace time; exit 1 if anything is
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { RUN_DIRECTORY, readOwner } from "../src/daemon/run-directory.js";

const REPOSITORY = dirname(dirname(fileURLToPath(import.meta.url)));
const BPFFS = "/sys/fs/bpf";
/** The kernel frees namespaces, links and programs after their last user has gone, not at once. */
const GRACE_MS = 60_000;

/** Per kind of thing, what exists: a stable key and the text to show. */
export type Snapshot = Readonly<Record<string, Readonly<Record<string, string>>>>;

function names(list: readonly string[]): Record<string, string> {
  return Object.fromEntries(list.map((name) => [name, name]));
}

/** All paths below a directory, or nothing if it is not there (or goes away meanwhile). */
function below(root: string, directoriesOnly: boolean): string[] {
  if (!existsSync(root)) return [];
  const entries = readdirSync(root, { withFileTypes: true });
  return entries.flatMap((entry) => {
    const path = join(root, entry.name);
    if (!entry.isDirectory()) return directoriesOnly ? [] : [path];
    return [path, ...below(path, directoriesOnly)];
  });
}

function json<Row>(command: string, ...args: string[]): readonly Row[] {
  try {
    const text = execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return text.trim() === "" ? [] : (JSON.parse(text) as Row[]);
  } catch (error) {
    // Without the tool or the right to ask, this kind cannot be compared: say so once, do not fail the run for it.
    console.error(
      `check-leaks: \`${command} ${args.join(" ")}\` failed, not compared: ${(error as Error).message}`,
    );
    return [];
  }
}

/** cgroups below the cgroup2 mount, without the ones that the service manager makes for itself. */
function cgroups(): string[] {
  const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const root = mounts.map((line) => line.split(" ")).find((fields) => fields[2] === "cgroup2")?.[1];
  return root === undefined
    ? []
    : below(root, true).filter((path) => !/\.(slice|scope|service)(\/|$)/.test(path));
}

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly startTime: string;
  readonly command: string;
}

function readProcess(pid: number): Process | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field, the name in parentheses, may hold anything; the rest is plain.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").trim();
    return { pid, parent: Number(fields[1]), startTime: fields[19] ?? "", command };
  } catch {
    return undefined; // It has ended.
  }
}

/** Processes that name this repository or portolan, without our own ancestors and children. */
function processes(): Record<string, string> {
  const all = new Map<number, Process>();
  for (const name of readdirSync("/proc")) {
    const found = /^\d+$/.test(name) ? readProcess(Number(name)) : undefined;
    if (found) all.set(found.pid, found);
  }
  const related = (one: Process | undefined, to: number): boolean =>
    one !== undefined && (one.pid === to || related(all.get(one.parent), to));
  const found: Record<string, string> = {};
  for (const one of all.values()) {
    const ours = one.command.includes(REPOSITORY) || one.command.includes("portolan");
    if (!ours || related(one, process.pid) || related(all.get(process.pid), one.pid)) continue;
    found[`${one.pid}@${one.startTime}`] = `${one.pid}: ${one.command.slice(0, 200)}`;
  }
  return found;
}

/** Programs and links of ours in the kernel, also those that only an attachment keeps alive. */
function bpfObjects(): Record<string, string> {
  if (process.getuid?.() !== 0) return {};
  const rows = json<{ id: number; name?: string }>("bpftool", "-j", "prog", "show");
  const ours = rows.filter((row) => row.name?.startsWith("ptl_"));
  return Object.fromEntries(ours.map((row) => [`prog ${row.id}`, `program ${row.name} (id ${row.id})`]));
}

/** What agents have left beside their pins, each with the root that it belongs to. */
export function runDirectories(root: string = RUN_DIRECTORY): Record<string, string> {
  const paths = existsSync(root) ? readdirSync(root).map((name) => join(root, name)) : [];
  return Object.fromEntries(
    paths.map((path) => [path, `${path}, of ${readOwner(path)?.bpfRoot ?? "nobody who says so"}`]),
  );
}

export function takeSnapshot(): Snapshot {
  return {
    namespace: names(existsSync("/run/netns") ? readdirSync("/run/netns") : []),
    link: names(json<{ ifname: string }>("ip", "-j", "link", "show").map((row) => row.ifname)),
    pin: names(below(BPFFS, false)),
    "run directory": runDirectories(),
    cgroup: names(cgroups()),
    process: processes(),
    "BPF program": bpfObjects(),
  };
}

/** What is in `after` and was not in `before`, one line each. */
export function newcomers(before: Snapshot, after: Snapshot): string[] {
  return Object.entries(after).flatMap(([kind, found]) =>
    Object.entries(found)
      .filter(([key]) => before[kind]?.[key] === undefined)
      .map(([, text]) => `${kind}: ${text}`),
  );
}

async function compare(file: string): Promise<number> {
  const before = JSON.parse(readFileSync(file, "utf8")) as Snapshot;
  const deadline = performance.now() + GRACE_MS;
  let left = newcomers(before, takeSnapshot());
  while (left.length > 0 && performance.now() < deadline) {
    await delay(200);
    left = newcomers(before, takeSnapshot());
  }
  if (left.length === 0) {
    console.log(
      "check-leaks: no namespace, link, pin, run directory, cgroup, process or BPF program is left",
    );
    return 0;
  }
  for (const line of left) console.error(`check-leaks: left behind: ${line}`);
  return 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [action, file] = process.argv.slice(2);
  if (action === "snapshot" && file !== undefined)
    writeFileSync(file, JSON.stringify(takeSnapshot(), null, 1));
  else if (action === "compare" && file !== undefined) process.exitCode = await compare(file);
  else {
    console.error("usage: check-leaks.ts snapshot|compare FILE");
    process.exitCode = 2;
  }
}
