// SPDX-License-Identifier: Apache-2.0
/**
 * The agent's last log lines, for `portolan dump`: whoever runs the agent has the whole log, and who looks at the node has
 * not. Two files beside the problems, of at most TAIL_BYTES together, in a directory that a reboot empties.
 *
 *   new LogTail(bpfRoot)    the agent
 *   readLogTail(bpfRoot)    null when there is none
 *
 * `portolan cleanup` removes them with the problems, and an agent that starts those whose maps are gone.
 */
import { appendFileSync, renameSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { LogSink } from "./log.js";
import { makeRunDirectory, RUN_DIRECTORY, runDirectoryOf } from "./run-directory.js";

export const TAIL_BYTES: number = 256 * 1024;

const newest = (directory: string): string => join(directory, "log.jsonl");
const older = (directory: string): string => join(directory, "log.1.jsonl");

/** Keeps lines. What cannot be kept is no reason for an agent to do anything: nothing is kept from then on. */
export class LogTail implements LogSink {
  readonly #directory: string;
  /** Bytes in the newest file; null: nothing is kept. */
  #size: number | null = 0;

  /** The newest lines of the agent before it stay until they are pushed out. */
  constructor(bpfRoot: string, runDirectory: string = RUN_DIRECTORY) {
    this.#directory = runDirectoryOf(bpfRoot, runDirectory);
    this.#try(() => {
      makeRunDirectory(bpfRoot, runDirectory);
      this.#turn();
    });
  }

  write(line: string): void {
    if (this.#size === null) return;
    const bytes = Buffer.byteLength(line);
    // Of one line nobody needs more.
    if (bytes > TAIL_BYTES / 2) return;
    this.#try(() => {
      if ((this.#size as number) + bytes > TAIL_BYTES / 2) this.#turn();
      appendFileSync(newest(this.#directory), line, { mode: 0o600 });
      this.#size = (this.#size as number) + bytes;
    });
  }

  #turn(): void {
    rmSync(older(this.#directory), { force: true });
    try {
      renameSync(newest(this.#directory), older(this.#directory));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    this.#size = 0;
  }

  #try(what: () => void): void {
    try {
      what();
    } catch {
      this.#size = null;
    }
  }
}

/** The lines that are there, oldest first; null: there are none, or this user may not read them. */
export async function readLogTail(
  bpfRoot: string,
  runDirectory: string = RUN_DIRECTORY,
): Promise<string | null> {
  const directory = runDirectoryOf(bpfRoot, runDirectory);
  const parts = await Promise.all(
    [older(directory), newest(directory)].map((file) => readFile(file, "utf8").catch(() => "")),
  );
  const text = parts.join("");
  return text === "" ? null : text;
}
