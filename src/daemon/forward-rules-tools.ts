// SPDX-License-Identifier: Apache-2.0
/** Runs iptables' programs, of either backend and family. */
import { spawn } from "node:child_process";
import type { Family } from "../net/ip.js";
import { errorMessage } from "../util/errors.js";
import { readText } from "../util/proc.js";

/** The two places in the kernel where an iptables rule can be. They do not know each other's rules, and both apply. */
export type Backend = "legacy" | "nft";

export interface ToolResult {
  /** null: it was ended by a signal, such as ours after {@link TOOL_TIMEOUT_MS}. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What this module needs of the host. Given by tests to work in another network namespace. */
export interface RuleTools {
  /** Runs a program to its end; null when there is no such program. Never rejects. */
  run(program: string, args: readonly string[], input?: string): Promise<ToolResult | null>;
  /** The tables that the legacy backend has in this network namespace, one a line; null: the kernel has no such backend. */
  legacyTables(family: Family): string | null;
}

/** Longer than iptables waits for its lock. */
export const TOOL_TIMEOUT_MS = 15_000;
const LOCK_WAIT_SECONDS = "5";
/** No filter table is larger. */
const MOST_OUTPUT_BYTES = 64 << 20;
const MOST_ERROR_TEXT = 4096;

export const hostTools: RuleTools = {
  run: runTool,
  legacyTables: (family) => readText(`/proc/net/${family === 4 ? "ip" : "ip6"}_tables_names`),
};

/**
 * Runs a program with an input of its own to its end, or for {@link TOOL_TIMEOUT_MS}. Null when it does not exist. Never
 * rejects: what could not be started has no status, and says why in `stderr`.
 */
export function runTool(program: string, args: readonly string[], input = ""): Promise<ToolResult | null> {
  return runToEnd(program, args, input).catch((error: unknown) =>
    (error as NodeJS.ErrnoException).code === "ENOENT"
      ? null
      : { status: null, stdout: "", stderr: errorMessage(error) },
  );
}

function runToEnd(program: string, args: readonly string[], input: string): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: ["pipe", "pipe", "pipe"] });
    // Before the pipes are touched: without a file descriptor to spare there are none.
    child.once("error", reject);
    // spawn's own timeout would keep running after a program that could not be started.
    const timer = setTimeout(() => child.kill("SIGKILL"), TOOL_TIMEOUT_MS);
    child.once("error", () => clearTimeout(timer));
    let stdout = "";
    let stderr = "";
    child.once("close", (status) => {
      clearTimeout(timer);
      resolve({ status, stdout, stderr });
    });
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
      if (stdout.length > MOST_OUTPUT_BYTES) child.kill("SIGKILL");
    });
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      if (stderr.length < MOST_ERROR_TEXT) stderr += text;
    });
    // It may end without reading: that shows in its status.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

/**
 * The same tools for who asks again and again: what a program that is of one backend by its name says of its version is
 * remembered, until a program fails. To start one holds up a large process for some milliseconds.
 */
export function rememberingVersions(tools: RuleTools): RuleTools {
  const known = new Map<string, ToolResult>();
  return {
    legacyTables: (family) => tools.legacyTables(family),
    run: async (program, args, input) => {
      const isVersion = args[0] === "--version" && /-(nft|legacy)$/.test(program);
      const before = isVersion ? known.get(program) : undefined;
      if (before !== undefined) return before;
      const result = await tools.run(program, args, input);
      if (isVersion && result?.status === 0) known.set(program, result);
      if (args[0] !== "--version" && result?.status !== 0) known.clear();
      return result;
    },
  };
}

const base = (family: Family): string => (family === 4 ? "iptables" : "ip6tables");

/** "iptables v1.8.9 (nf_tables)"; before 1.8 there was one backend and nothing in brackets. */
export function backendOfVersion(text: string): Backend | null {
  if (!/^ip6?tables v\d/.test(text)) return null;
  return text.includes("(nf_tables)") ? "nft" : "legacy";
}

/** The name that the program of this backend has here: its own, or plain "iptables" when that is of this backend. */
async function programOf(tools: RuleTools, backend: Backend, family: Family): Promise<string | null> {
  const own = `${base(family)}-${backend}`;
  const known = await tools.run(own, ["--version"]);
  if (known?.status === 0) return own;
  const plain = await tools.run(base(family), ["--version"]);
  return plain?.status === 0 && backendOfVersion(plain.stdout) === backend ? base(family) : null;
}

export type TableName = "filter" | "nat" | "mangle" | "raw";

export type TableText =
  /** Output of `iptables-save -t TABLE`. */
  | { readonly state: "read"; readonly program: string; readonly text: string }
  /** The backend holds no such table here. */
  | { readonly state: "unused" }
  /** `tool_missing`: rules may be there and cannot be seen. */
  | { readonly state: "unknown"; readonly code: "tool_missing" | "tool_failed"; readonly reason: string };

/** Reads a table of one backend and family without making one. Never rejects. */
export async function readTable(
  tools: RuleTools,
  backend: Backend,
  family: Family,
  table: TableName,
): Promise<TableText> {
  if (backend === "legacy") {
    // Reading a table that is not there would make it.
    const tables = tools.legacyTables(family)?.split("\n") ?? [];
    if (!tables.includes(table)) return { state: "unused" };
  }
  const program = await programOf(tools, backend, family);
  if (program === null) {
    const reason = `there is no ${base(family)} for the ${backend} backend`;
    return { state: "unknown", code: "tool_missing", reason };
  }
  const saved = await tools.run(saveProgram(program), ["-t", table]);
  if (saved?.status !== 0) {
    const reason = `${saveProgram(program)}: ${whyFailed(saved)}`;
    return { state: "unknown", code: "tool_failed", reason };
  }
  // iptables-nft cannot show a table in which nft itself has put something, and says so in a comment.
  if (saved.stdout.includes(`# Table \`${table}' is incompatible`)) {
    const reason = `${saveProgram(program)}: the ${table} table has rules that only nft can show`;
    return { state: "unknown", code: "tool_failed", reason };
  }
  return { state: "read", program, text: saved.stdout };
}

/**
 * Applies lines to a table, all or none.
 *
 * @param program as told by {@link readTable}
 * @returns null, or why it failed
 */
export async function applyTable(
  tools: RuleTools,
  program: string,
  table: TableName,
  lines: readonly string[],
): Promise<string | null> {
  const restore = restoreProgram(program);
  const input = `*${table}\n${lines.join("\n")}\nCOMMIT\n`;
  const result = await tools.run(restore, ["--noflush", "-w", LOCK_WAIT_SECONDS], input);
  return result?.status === 0 ? null : `${restore}: ${whyFailed(result)}`;
}

const saveProgram = (program: string): string => `${program}-save`;
const restoreProgram = (program: string): string => `${program}-restore`;

/** Why a tool that was run has not done it; null: it could not be run. */
export function whyFailed(result: ToolResult | null): string {
  if (result === null) return "there is no such program";
  const text = result.stderr.trim().split("\n")[0] ?? "";
  if (text !== "") return text;
  return result.status === null ? "was ended by a signal, or took too long" : `exit status ${result.status}`;
}
