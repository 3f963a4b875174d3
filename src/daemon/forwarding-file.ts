// SPDX-License-Identifier: Apache-2.0
/**
 * Which way new flows go and why, for `portolan doctor` and `portolan interfaces`: the maps say which, and not why. One JSON file
 * for each --bpf-root, in a directory that a reboot empties, beside problem-file.ts's.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { ForwardingDecision } from "./forwarding.js";
import {
  isProcessId,
  isRunning,
  makeRunDirectory,
  type ProcessId,
  RUN_DIRECTORY,
  runDirectoryOf,
  thisProcess,
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

interface ForwardingFile extends ForwardingReport {
  readonly version: number;
  readonly bpfRoot: string;
  readonly agent: ProcessId;
}

const fileOf = (directory: string): string => join(directory, "forwarding.json");

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
  const agent = thisProcess();
  const content: ForwardingFile = {
    version: FILE_VERSION,
    bpfRoot: resolve(bpfRoot),
    agent,
    decision,
    closed,
  };
  const file = fileOf(makeRunDirectory(bpfRoot, runDirectory));
  const next = `${file}.${process.pid}`;
  await writeFile(next, `${JSON.stringify(content)}\n`, { mode: 0o644 });
  await rename(next, file);
}

/** What the running agent with this --bpf-root has decided. Null when none runs, or there is nothing that can be read. */
export async function readForwarding(
  bpfRoot: string,
  runDirectory: string = RUN_DIRECTORY,
): Promise<ForwardingReport | null> {
  try {
    const text = await readFile(fileOf(runDirectoryOf(bpfRoot, runDirectory)), "utf8");
    const { version, agent, decision, closed } = JSON.parse(text) as Partial<ForwardingFile>;
    if (version !== FILE_VERSION || !isProcessId(agent) || !isRunning(agent)) return null;
    return decision === undefined || !Array.isArray(closed) ? null : { decision, closed };
  } catch {
    return null;
  }
}
