// SPDX-License-Identifier: Apache-2.0
/**
 * The problems of the last compile, for `portolan services`: the maps hold what was written, and not what was left out of
 * them and why. One JSON file for each --bpf-root, in a directory that a reboot empties.
 *
 *   writeProblems(bpfRoot, problems)   the agent, after each compile whose problems differ from the last one's, and the first
 *   removeProblems(bpfRoot)            cleanup: with all else that agents keep there
 *   readProblems(bpfRoot)              null when there is none
 *
 * The file outlives its agent, as the maps do that it belongs to. It says whose it is, so that a reader can tell.
 */
import { readFile, rm, rmdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Origin, Problem } from "../model/types.js";
import {
  isProcessId,
  isRunning,
  RUN_DIRECTORY,
  type RunOwner,
  runDirectoryOf,
  writeRunFile,
} from "./run-directory.js";

const FILE_VERSION = 1;

export interface ProblemReport {
  readonly problems: readonly Problem[];
  /** When they were found, RFC 3339. */
  readonly written: string;
  /** The agent that found them still runs. False also when it runs where this process cannot see it. */
  readonly agentRunning: boolean;
}

interface ProblemFile extends RunOwner {
  readonly version: number;
  readonly written: string;
  readonly problems: readonly Problem[];
}

const FILE = "problems.json";

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
  const content: Omit<ProblemFile, keyof RunOwner> = {
    version: FILE_VERSION,
    written: new Date().toISOString(),
    problems,
  };
  await writeRunFile(bpfRoot, FILE, content, runDirectory);
}

/** EROFS, EBUSY: in a container it is a mount point. */
const KEPT_DIRECTORY: readonly (string | undefined)[] = ["ENOENT", "ENOTEMPTY", "EROFS", "EBUSY"];

/** Removes the run directory of this root and the one above it; what is not there, is mounted, or holds something of others, is no error. */
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

/** Null: there is none, or none that can be read. Beside the maps it is a help, and no reason not to show them. */
async function readReport(directory: string): Promise<ProblemFile | null> {
  try {
    const content: unknown = JSON.parse(await readFile(join(directory, FILE), "utf8"));
    return isProblemFile(content) ? content : null;
  } catch {
    return null;
  }
}

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null;

function isProblemFile(value: unknown): value is ProblemFile {
  if (!isObject(value) || value.version !== FILE_VERSION) return false;
  const { bpfRoot, agent, written, problems } = value;
  return (
    typeof bpfRoot === "string" &&
    typeof written === "string" &&
    isProcessId(agent) &&
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
