// SPDX-License-Identifier: Apache-2.0
/**
 * Where an agent keeps what it has for other programs of its host, in a directory that a reboot empties: its problems, the
 * tail of its log, its socket. One for each --bpf-root. It says whose it is, and by that it is swept: whatever it holds.
 *
 *   makeRunDirectory(bpfRoot)   whoever of an agent writes there first
 *   sweepRunDirectories()       the agent, at its start
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { readdir, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { readText } from "../util/proc.js";

export const RUN_DIRECTORY: string = "/run/portolan";

/** A process, also after its number was given to another. */
export interface ProcessId {
  readonly pid: number;
  /** Clock ticks since boot. */
  readonly startTime: string;
}

/** Whose a directory is. */
export interface RunOwner {
  readonly bpfRoot: string;
  readonly agent: ProcessId;
}

/** The directory of an agent with this --bpf-root. */
export function runDirectoryOf(bpfRoot: string, runDirectory: string = RUN_DIRECTORY): string {
  const name = createHash("sha256").update(resolve(bpfRoot)).digest("hex").slice(0, 16);
  return join(runDirectory, name);
}

const ownerFileOf = (directory: string): string => join(directory, "owner.json");

/**
 * Makes it, and writes down that it is this process's, unless an agent that runs has: one that is about to find that out, and
 * to end, may come in between.
 *
 * @returns its path
 * @throws NodeJS.ErrnoException what the file system refuses
 */
export function makeRunDirectory(bpfRoot: string, runDirectory: string = RUN_DIRECTORY): string {
  const directory = runDirectoryOf(bpfRoot, runDirectory);
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  const before = readOwner(directory);
  if (before === null || !isRunning(before.agent)) {
    writeFileSync(ownerFileOf(directory), `${JSON.stringify(ownerOf(bpfRoot))}\n`, { mode: 0o644 });
  }
  return directory;
}

/**
 * Replaces a file of this agent's, whole or not at all; readable for all. Not to be called again before it has settled.
 *
 * @param content what is said beside whose it is
 * @throws NodeJS.ErrnoException what the file system refuses. It is no reason for an agent to do anything but say so.
 */
export async function writeRunFile(
  bpfRoot: string,
  name: string,
  content: object,
  runDirectory: string = RUN_DIRECTORY,
): Promise<void> {
  const file = join(makeRunDirectory(bpfRoot, runDirectory), name);
  const next = `${file}.${process.pid}`;
  await writeFile(next, `${JSON.stringify({ ...ownerOf(bpfRoot), ...content })}\n`, { mode: 0o644 });
  await rename(next, file);
}

/**
 * Removes what agents have left whose maps are gone: they were removed by other means than `portolan cleanup`. Never rejects;
 * what is not ours, cannot be read or belongs to a running agent stays. How many were removed.
 */
export async function sweepRunDirectories(runDirectory: string = RUN_DIRECTORY): Promise<number> {
  let removed = 0;
  const names = await readdir(runDirectory).catch(() => []);
  for (const directory of names.map((name) => join(runDirectory, name))) {
    const owner = readOwner(directory);
    if (owner === null || existsSync(owner.bpfRoot) || isRunning(owner.agent)) continue;
    const failed = await rm(directory, { recursive: true, force: true }).catch(() => "failed");
    if (failed === undefined) removed += 1;
  }
  return removed;
}

/** Whose a run directory is. Null: it says nothing, or nothing that can be read. */
export function readOwner(directory: string): RunOwner | null {
  try {
    const content = JSON.parse(readText(ownerFileOf(directory)) ?? "null") as Partial<RunOwner> | null;
    if (typeof content?.bpfRoot !== "string" || !isProcessId(content.agent)) return null;
    return { bpfRoot: content.bpfRoot, agent: content.agent };
  } catch {
    return null;
  }
}

/** What this process says of itself. */
function ownerOf(bpfRoot: string): RunOwner {
  const agent = { pid: process.pid, startTime: startTimeOf(process.pid) ?? "" };
  return { bpfRoot: resolve(bpfRoot), agent };
}

/** Null when there is no such process. */
function startTimeOf(pid: number): string | null {
  const stat = readText(`/proc/${pid}/stat`);
  // "pid (any name, with blanks and brackets) state ppid …": the start time is field 22.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}

/** False also of one that runs where this process cannot see it. */
export const isRunning = ({ pid, startTime }: ProcessId): boolean => startTimeOf(pid) === startTime;

/** Whether something that was read is a ProcessId. */
export function isProcessId(value: unknown): value is ProcessId {
  if (typeof value !== "object" || value === null) return false;
  const { pid, startTime } = value as Partial<Record<keyof ProcessId, unknown>>;
  return Number.isSafeInteger(pid) && typeof startTime === "string";
}
