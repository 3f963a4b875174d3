// SPDX-License-Identifier: Apache-2.0
/**
 * The problems of the last compile, for `portolan services`: the maps hold what was written, and not what was left out of
 * them and why. One JSON file for each --bpf-root, in a directory that a reboot empties.
 *
 *   writeProblems(bpfRoot, problems)   the agent, after each compile whose problems differ from the last one's, and the first
 *   removeProblems(bpfRoot)            cleanup
 *   sweepProblems()                    the agent, at its start
 *   readProblems(bpfRoot)              null when there is none
 *
 * The file outlives its agent, as the maps do that it belongs to. It says whose it is, so that a reader can tell.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Origin, Problem } from "../model/types.js";
import { readText } from "../util/proc.js";

export const RUN_DIRECTORY: string = "/run/portolan";
const FILE_VERSION = 1;

export interface ProblemReport {
  readonly problems: readonly Problem[];
  /** When they were found, RFC 3339. */
  readonly written: string;
  /** The agent that found them still runs. False also when it runs where this process cannot see it. */
  readonly agentRunning: boolean;
}

/** A process, also after its number was given to another. */
interface ProcessId {
  readonly pid: number;
  /** Clock ticks since boot. */
  readonly startTime: string;
}

interface ProblemFile {
  readonly version: number;
  readonly bpfRoot: string;
  readonly agent: ProcessId;
  readonly written: string;
  readonly problems: readonly Problem[];
}

/** Where an agent with this --bpf-root keeps what it has for other programs of this host. */
export function runDirectoryOf(bpfRoot: string, runDirectory: string = RUN_DIRECTORY): string {
  const name = createHash("sha256").update(resolve(bpfRoot)).digest("hex").slice(0, 16);
  return join(runDirectory, name);
}

const fileOf = (directory: string): string => join(directory, "problems.json");

/** Null when there is no such process. */
function startTimeOf(pid: number): string | null {
  const stat = readText(`/proc/${pid}/stat`);
  // "pid (any name, with blanks and brackets) state ppid …": the start time is field 22.
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}

/**
 * Replaces the file, whole or not at all; readable for all. Not to be called again before it has settled.
 *
 * @throws NodeJS.ErrnoException what the file system refuses. It is no reason for an agent to do anything but say so.
 */
export async function writeProblems(
  bpfRoot: string,
  problems: readonly Problem[],
  runDirectory: string = RUN_DIRECTORY,
): Promise<void> {
  const directory = runDirectoryOf(bpfRoot, runDirectory);
  const content: ProblemFile = {
    version: FILE_VERSION,
    bpfRoot: resolve(bpfRoot),
    agent: { pid: process.pid, startTime: startTimeOf(process.pid) ?? "" },
    written: new Date().toISOString(),
    problems,
  };
  const file = fileOf(directory);
  const next = `${file}.${process.pid}`;
  await mkdir(directory, { recursive: true, mode: 0o755 });
  await writeFile(next, `${JSON.stringify(content)}\n`, { mode: 0o644 });
  await rename(next, file);
}

/** EROFS, EBUSY: in a container it is a mount point. */
const KEPT_DIRECTORY: readonly (string | undefined)[] = ["ENOENT", "ENOTEMPTY", "EROFS", "EBUSY"];

/** Removes the file and its directories; what is not there, is mounted, or holds something of others, is no error. */
export async function removeProblems(bpfRoot: string, runDirectory: string = RUN_DIRECTORY): Promise<void> {
  const directory = runDirectoryOf(bpfRoot, runDirectory);
  await rm(directory, { recursive: true, force: true });
  await rmdir(runDirectory).catch((error: NodeJS.ErrnoException) => {
    if (!KEPT_DIRECTORY.includes(error.code)) throw error;
  });
}

/** What an agent with this --bpf-root last found. Null when there is no file, or none that can be read. */
export async function readProblems(
  bpfRoot: string,
  runDirectory: string = RUN_DIRECTORY,
): Promise<ProblemReport | null> {
  const content = await readReport(runDirectoryOf(bpfRoot, runDirectory));
  if (content === null || content.bpfRoot !== resolve(bpfRoot)) return null;
  const { agent, written, problems } = content;
  return { problems, written, agentRunning: isRunning(agent) };
}

/**
 * Removes what agents have left whose maps are gone: they were removed by other means than `portolan cleanup`. Never rejects;
 * what is not ours, cannot be read or belongs to a running agent stays. How many were removed.
 */
export async function sweepProblems(runDirectory: string = RUN_DIRECTORY): Promise<number> {
  let removed = 0;
  const names = await readdir(runDirectory).catch(() => []);
  for (const directory of names.map((name) => join(runDirectory, name))) {
    const content = await readReport(directory);
    if (content === null || existsSync(content.bpfRoot) || isRunning(content.agent)) continue;
    const failed = await rm(directory, { recursive: true, force: true }).catch(() => "failed");
    if (failed === undefined) removed += 1;
  }
  return removed;
}

/** Null: there is none, or none that can be read. Beside the maps it is a help, and no reason not to show them. */
async function readReport(directory: string): Promise<ProblemFile | null> {
  try {
    const content: unknown = JSON.parse(await readFile(fileOf(directory), "utf8"));
    return isProblemFile(content) ? content : null;
  } catch {
    return null;
  }
}

const isRunning = ({ pid, startTime }: ProcessId): boolean => startTimeOf(pid) === startTime;

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null;

function isProblemFile(value: unknown): value is ProblemFile {
  if (!isObject(value) || value.version !== FILE_VERSION) return false;
  const { bpfRoot, agent, written, problems } = value;
  return (
    typeof bpfRoot === "string" &&
    typeof written === "string" &&
    isObject(agent) &&
    Number.isSafeInteger(agent.pid) &&
    typeof agent.startTime === "string" &&
    Array.isArray(problems) &&
    problems.every(isProblem)
  );
}

/** Whether something that was read is a Problem. */
export function isProblem(value: unknown): value is Problem {
  if (!isObject(value)) return false;
  const { severity, origin, object, field, message } = value;
  return (
    (severity === "error" || severity === "warning") &&
    (origin === null || isOrigin(origin)) &&
    [object, field, message].every((text) => typeof text === "string")
  );
}

function isOrigin(value: unknown): value is Origin {
  return (
    isObject(value) &&
    typeof value.file === "string" &&
    (value.line === null || typeof value.line === "number")
  );
}
