// SPDX-License-Identifier: Apache-2.0
/** What an agent left out of the maps and why, beside what the maps hold. */
import type { Problem } from "../model/types.js";
import type { ServiceTest } from "./service-text.js";

/** The problems that concern what was asked for. */
export interface FoundProblems {
  readonly problems: readonly Problem[];
  /** Whose they are; null when no agent has told any. */
  readonly problemsFrom: {
    /** RFC 3339. */
    readonly written: string;
    readonly agentRunning: boolean;
  } | null;
}

/** A conflict names the Service that goes without and, in its message, the one that has the address. */
const SERVICE_NAMES = /\bService (?<namespace>[a-z0-9-]+)\/(?<name>[a-z0-9.-]*[a-z0-9])/g;

/** Whether a problem names a Service that is asked for; every problem does when all are. */
export function concerns({ object, message }: Problem, isWanted: ServiceTest): boolean {
  if (isWanted(null)) return true;
  return Array.from(`${object} ${message}`.matchAll(SERVICE_NAMES)).some(({ groups = {} }) => {
    const { namespace = "", name = "" } = groups;
    return isWanted({ namespace, name });
  });
}

/** Reads what the agent of these maps last found. None, and no error, where it left no file. */
export async function findProblems(root: string, isWanted: ServiceTest): Promise<FoundProblems> {
  const { readProblems } = await import("../daemon/problem-file.js");
  const report = await readProblems(root);
  if (report === null) return { problems: [], problemsFrom: null };
  const { problems, written, agentRunning } = report;
  return {
    problems: problems.filter((problem) => concerns(problem, isWanted)),
    problemsFrom: { written, agentRunning },
  };
}

/** As `portolan compile` tells them; with a word of warning when they may be out of date. */
export async function problemNotes({ problems, problemsFrom }: FoundProblems): Promise<string[]> {
  if (problems.length === 0 || problemsFrom === null) return [];
  const { problemLine } = await import("../image/describe.js");
  const lines = problems.map((problem) => `${problem.severity}: ${problemLine(problem)}`);
  const { written, agentRunning } = problemsFrom;
  return agentRunning ? lines : [...lines, `found by an agent that has ended, at ${written}`];
}
