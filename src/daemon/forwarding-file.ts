// SPDX-License-Identifier: Apache-2.0
/**
 * Which way new flows go and why, for `portolan doctor` and `portolan interfaces`: the maps say which, and not why. One JSON file
 * for each --bpf-root, in a directory that a reboot empties, beside problem-file.ts's.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ForwardingDecision } from "./forwarding.js";
import {
  isProcessId,
  isRunning,
  RUN_DIRECTORY,
  type RunOwner,
  runDirectoryOf,
  writeRunFile,
} from "./run-directory.js";

const FILE_VERSION = 1;

/** An interface that is closed to the shortcut though it may be taken. */
export interface ClosedInterface {
  readonly ifindex: number;
  readonly why: string;
}

export interface ForwardingReport {
  readonly decision: ForwardingDecision;
  readonly closed: readonly ClosedInterface[];
}

interface ForwardingFile extends ForwardingReport, RunOwner {
  readonly version: number;
}

const FILE = "forwarding.json";

/**
 * Replaces the file, whole or not at all; readable for all. Not to be called again before it has settled.
 *
 * @throws NodeJS.ErrnoException what the file system refuses. It is no reason for an agent to do anything but say so.
 */
export async function writeForwarding(
  bpfRoot: string,
  { decision, closed }: ForwardingReport,
  runDirectory: string = RUN_DIRECTORY,
): Promise<void> {
  const content: Omit<ForwardingFile, keyof RunOwner> = { version: FILE_VERSION, decision, closed };
  await writeRunFile(bpfRoot, FILE, content, runDirectory);
}

/** What the running agent with this --bpf-root has decided. Null when none runs, or there is nothing that can be read. */
export async function readForwarding(
  bpfRoot: string,
  runDirectory: string = RUN_DIRECTORY,
): Promise<ForwardingReport | null> {
  try {
    const text = await readFile(join(runDirectoryOf(bpfRoot, runDirectory), FILE), "utf8");
    const { version, agent, decision, closed } = JSON.parse(text) as Partial<ForwardingFile>;
    if (version !== FILE_VERSION || !isProcessId(agent) || !isRunning(agent)) return null;
    return decision === undefined || !Array.isArray(closed) ? null : { decision, closed };
  } catch {
    return null;
  }
}
