// SPDX-License-Identifier: Apache-2.0
/**
 * Every command of the command line, as tests try it: what it is run as, what it says where there is nothing to work on, and
 * which of its outputs are held to a schema and kept. The tests take the commands from the program, so that none is forgotten.
 */

/** An exit status and what stands on stderr; or, in words, why that is no case of this command. */
export type Expected = { readonly code: number; readonly says: RegExp } | string;

/** One form of a command's output. */
export interface Form {
  readonly form: string;
  /** The name of the schema in docs/schema. */
  readonly schema: string;
  /** Files below test/cli/golden. */
  readonly table: string;
  readonly json: string;
  /** The test that compares them with what is printed. */
  readonly by: string;
}

export interface CommandCase {
  /** What it ends by itself with. FILE stands for a file that may be written. */
  readonly args: readonly string[];
  readonly noPins: Expected;
  readonly otherLayout: Expected;
  /** Of a user who is not root. */
  readonly noPermission: Expected;
  /** Where its reader has gone; "maps": pinned maps are there, "nothing": none are. */
  readonly closedPipe: "maps" | "nothing" | { readonly because: string };
  readonly forms: readonly Form[];
}

const NO_PINS: Expected = { code: 3, says: /^portolan: no maps are pinned below .*\n {2}\S.*\n$/ };
const OTHER_LAYOUT: Expected = { code: 3, says: /have layout v99, this program's is v\d+\n {2}\S.*\n$/ };
const DENIED: Expected = { code: 3, says: /may not be read by this user\n {2}.*run it with sudo\.\n$/ };
const ROOT_ONLY: Expected = { code: 3, says: /^portolan: .* needs root\n {2}Run it with sudo\.\n$/ };
const QUIET: Expected = { code: 0, says: /^$/ };

const needsMaps = (args: readonly string[], forms: readonly Form[]): CommandCase => ({
  args,
  noPins: NO_PINS,
  otherLayout: OTHER_LAYOUT,
  noPermission: DENIED,
  closedPipe: "maps",
  forms,
});

const needsNothing = (args: readonly string[], forms: readonly Form[]): CommandCase => ({
  args,
  noPins: QUIET,
  otherLayout: QUIET,
  noPermission: QUIET,
  closedPipe: "nothing",
  forms,
});

/** @param name of the golden files, where it is not that of the schema */
function form(of: string, schema: string, by: string, name = schema, table = name): Form {
  return { form: of, schema, table: `${table}.txt`, json: `${name}.json`, by };
}

const ARCHIVES = "test/cli/archives.test.ts";
const EVERY = "test/cli/every-command.test.ts";
const FLOWS = "test/cli/flows.test.ts";
const OUTPUTS = "test/cli/outputs.test.ts";

/** By the path under which the program lists it. */
export const COMMAND_CASES: Readonly<Record<string, CommandCase>> = {
  "portolan agent": {
    args: ["agent", "--manifests", "examples/redis"],
    noPins: "it makes them",
    otherLayout: "it makes its own beside them",
    noPermission: { code: 3, says: /\nportolan: .* is not on a bpf file system\n {2}\S.*\n$/ },
    closedPipe: { because: "it prints nothing but a log, to stderr" },
    // With --cleanup it prints what cleanup and cleanup --kube-proxy do.
    forms: [form("--cleanup", "cleanup", EVERY)],
  },
  "portolan compile": needsNothing(
    ["compile", "-f", "examples/redis"],
    [form("", "compile", OUTPUTS), form("--plan", "diff", EVERY, "compile-plan")],
  ),
  "portolan explain": needsMaps(
    ["explain", "web"],
    [
      form("-f", "explain", "test/cli/explain.test.ts"),
      form("of the maps", "explain-maps", "test/cli/kinds.test.ts"),
    ],
  ),
  "portolan diff": needsMaps(
    ["diff", "live", "examples/redis"],
    [
      form("", "diff", "test/cli/diff.test.ts"),
      form("--entries", "diff", "test/cli/diff.test.ts", "diff-entries"),
    ],
  ),
  "portolan services": needsMaps(["services"], [form("", "services", ARCHIVES)]),
  "portolan backends": needsMaps(["backends"], [form("", "backends", ARCHIVES)]),
  "portolan flows": needsMaps(
    ["flows"],
    [
      form("", "flows", ARCHIVES),
      form("--sort", "flows", FLOWS, "flows-sorted"),
      form("--count-by backend", "flows-counts", FLOWS, "flows-by-backend"),
      form("--count-by state", "flows-counts", FLOWS, "flows-by-state"),
      form("--orphans", "flows-orphans", FLOWS),
    ],
  ),
  "portolan flows delete": needsMaps(
    ["flows", "delete", "--client", "192.0.2.99", "--yes"],
    [form("--yes", "flows-delete", EVERY), form("--dry-run", "flows-delete", EVERY, "flows-delete-dry-run")],
  ),
  "portolan affinity": needsMaps(["affinity"], [form("", "affinity", ARCHIVES)]),
  "portolan interfaces": needsMaps(["interfaces"], [form("", "interfaces", ARCHIVES)]),
  "portolan top": needsMaps(
    ["top", "--count", "1", "--interval", "0.1"],
    [
      form("services", "top", "test/unit/cli/top.test.ts", "top", "top-services"),
      form("--backends", "top", "test/unit/cli/top.test.ts", "top", "top-backends"),
      form("--once", "top", EVERY, "top-once"),
    ],
  ),
  "portolan monitor": needsMaps(
    ["monitor", "--count", "1"],
    [form("", "monitor", "test/unit/cli/monitor.test.ts")],
  ),
  "portolan maps": needsMaps(
    ["maps"],
    [form("", "maps", ARCHIVES), form("of which one is missing", "maps", ARCHIVES, "maps-missing")],
  ),
  "portolan maps dump": needsMaps(
    ["maps", "dump", "services"],
    [
      form("NAME", "maps-dump", ARCHIVES, "maps-dump-services"),
      form("--all", "maps-dump-all", OUTPUTS, "maps-dump-all"),
    ],
  ),
  "portolan trace": {
    ...needsMaps(
      ["trace", "--proto", "tcp", "--src", "10.0.0.1:1", "--dst", "10.96.0.1:80"],
      [form("", "trace", "test/net/trace.test.ts")],
    ),
    closedPipe: { because: "it needs programs at their hooks: test/net/trace.test.ts" },
  },
  "portolan verify": needsMaps(["verify", "--no-build"], [form("", "verify", OUTPUTS)]),
  "portolan doctor": {
    args: ["doctor"],
    noPins: { code: 1, says: /^$/ },
    otherLayout: { code: 1, says: /^$/ },
    noPermission: { code: 1, says: /^$/ },
    closedPipe: "nothing",
    forms: [form("", "doctor", "test/unit/cli/doctor.test.ts")],
  },
  "portolan dump": {
    args: ["dump", "-f", "FILE"],
    noPins: { code: 0, says: /^without maps: no maps are pinned below .*\n.*\n$/ },
    otherLayout: { code: 0, says: /^without maps: .* have layout v99.*\n.*\n$/ },
    noPermission: DENIED,
    closedPipe: "maps",
    forms: [form("", "dump", EVERY)],
  },
  "portolan cleanup": {
    args: ["cleanup"],
    noPins: QUIET,
    otherLayout: "it removes every layout",
    noPermission: ROOT_ONLY,
    closedPipe: "nothing",
    forms: [form("", "cleanup", EVERY), form("--kube-proxy --dry-run", "cleanup-kube-proxy", EVERY)],
  },
  "portolan demo": {
    args: ["demo"],
    noPins: "it has pins of its own",
    otherLayout: "it has pins of its own",
    noPermission: ROOT_ONLY,
    closedPipe: { because: "it builds a cluster: test/demo" },
    forms: [],
  },
  "portolan completion": needsNothing(["completion", "bash"], []),
};
