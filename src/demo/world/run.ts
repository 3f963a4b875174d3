// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { WorldError } from "./errors.js";

/** What a finished command left behind. */
export interface RunResult {
  /** Exit status, or null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Options of {@link run}. */
export interface RunOptions {
  /** Written to the command's standard input; none by default. */
  readonly input?: string;
  /** After this long the command is killed and the call fails with E_WORLD_TIMEOUT. @default 120000 */
  readonly timeoutMs?: number;
  /** Throw E_WORLD_COMMAND when the status is not 0. @default true */
  readonly check?: boolean;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

/** Shows an argument vector as one could type it. */
export function showCommand(argv: readonly string[]): string {
  return argv
    .map((word) => (/^[\w@%+=:,./!-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(" ");
}

/**
 * Runs one program to its end, without a shell.
 *
 * @param argv program and arguments
 * @returns its output; the status is 0 unless `check` is false
 * @throws WorldError E_WORLD_TOOL_MISSING, E_WORLD_TIMEOUT or E_WORLD_COMMAND (quoting command and stderr)
 */
export function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new WorldError("E_WORLD_OPTION", "an empty command");
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ["pipe", "pipe", "pipe"],
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    let stdout = "";
    let stderr = "";
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, options.timeoutMs ?? 120_000);
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    child.stdin.on("error", () => {}); // the program may end without reading: its status tells the story
    child.stdin.end(options.input ?? "");
    child.on("error", (cause) => {
      clearTimeout(timer);
      const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
      const command = showCommand(argv);
      reject(
        missing
          ? new WorldError("E_WORLD_TOOL_MISSING", `${program} is not installed (wanted: ${command})`, {
              command,
              cause,
            })
          : new WorldError("E_WORLD_COMMAND", `${command}: ${cause.message}`, { command, cause }),
      );
    });
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      const result: RunResult = { code, signal, stdout, stderr };
      if (timedOut) reject(failure("E_WORLD_TIMEOUT", argv, options.input, result));
      else if (code !== 0 && (options.check ?? true)) {
        reject(failure("E_WORLD_COMMAND", argv, options.input, result));
      } else resolve(result);
    });
  });
}

function failure(
  code: "E_WORLD_TIMEOUT" | "E_WORLD_COMMAND",
  argv: readonly string[],
  input: string | undefined,
  result: RunResult,
): WorldError {
  const command = showCommand(argv);
  const how =
    code === "E_WORLD_TIMEOUT"
      ? "did not end in time"
      : `ended with ${result.signal ?? `status ${result.code}`}`;
  const said = result.stderr.trim() || result.stdout.trim() || "(it said nothing)";
  // `ip -batch` names the line that failed by number: without the lines that helps nobody.
  const lines = input === undefined ? "" : `\n  its input:\n${numbered(input)}`;
  return new WorldError(code, `${command} ${how}: ${said}${lines}`, {
    command,
    stderr: result.stderr,
    exitCode: result.code,
  });
}

function numbered(input: string): string {
  return input
    .trimEnd()
    .split("\n")
    .map((line, index) => `  ${String(index + 1).padStart(4)}  ${line}`)
    .join("\n");
}
