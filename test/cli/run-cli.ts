// SPDX-License-Identifier: Apache-2.0
/** Runs the command line as its users do: as a program of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));
export const REPOSITORY: string = fileURLToPath(new URL("../..", import.meta.url));

/** The program and first arguments. */
export const CLI: readonly string[] = [process.execPath, MAIN];

export interface CliResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Placed before the program, such as `nsenter --net=…`. */
  readonly inside?: readonly string[];
  readonly cwd?: string;
}

function start(args: readonly string[], options: CliOptions): ChildProcess {
  const [program, ...rest] = [...(options.inside ?? []), ...CLI, ...args];
  return spawn(program as string, rest, {
    cwd: options.cwd ?? REPOSITORY,
    env: { ...process.env, ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
  });
}

/** Runs a command to its end. */
export function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return new Promise((resolve, reject) => {
    const child = start(args, options);
    let stdout = "";
    let stderr = "";
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, stdout, stderr }));
    child.stdin?.on("error", () => {}); // it need not read
    child.stdin?.end(options.input ?? "");
  });
}
