// SPDX-License-Identifier: Apache-2.0
// Imports point one way. This table says which way, per directory of src/; `make check` fails with the offending line.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";

interface Rule {
  /** Directories of src/ that it may import; its own, and util and net (above them), always. */
  readonly modules: readonly string[];
  /** Directories that it may import as types, or load with `import()` when a command needs them: not at start. */
  readonly lazily?: readonly string[];
  /** The npm packages that it may import. */
  readonly packages?: readonly string[];
  /** Those that it may import as types, or load with `import()` when they are needed: not at start. */
  readonly lazyPackages?: readonly string[];
  /** No I/O: of Node's built-in modules only PURE_BUILTINS. */
  readonly pure?: true;
}

const BELOW_DAEMON = ["abi", "model", "config", "image", "diff", "native", "dataplane", "source"];

/** From low to high. "dir/file" allows single files. `source` and `dataplane` do not know each other: they meet in `daemon`. */
export const RULES: Readonly<Record<string, Rule>> = {
  util: { modules: [] },
  net: { modules: [], packages: ["ipaddr.js"], pure: true },
  abi: { modules: [] },
  model: { modules: [], pure: true },
  config: { modules: ["model"], packages: ["yaml", "valibot"], pure: true },
  image: { modules: ["model", "abi"], pure: true },
  diff: { modules: ["abi"], lazily: ["image", "native"], pure: true },
  native: { modules: ["abi"], packages: ["ffi-napi", "ref-napi"] },
  dataplane: { modules: ["native", "abi", "image", "diff", "model"] },
  trace: { modules: ["native", "abi", "dataplane/view"] },
  source: { modules: ["model"], packages: ["yaml"], lazyPackages: ["@kubernetes/client-node"] },
  daemon: { modules: BELOW_DAEMON, packages: ["pino", "prom-client"] },
  cli: {
    modules: [
      "native",
      "abi",
      "image",
      "model",
      "config",
      "dataplane/view",
      "dataplane/pins",
      "trace/packet",
    ],
    lazily: ["daemon", "source", "dataplane", "diff", "demo", "trace"],
    packages: ["commander", "picocolors", "pino", "pino-pretty", "string-width", "tar-stream", "yaml"],
  },
  demo: { modules: ["cli/output"], packages: ["picocolors"] },
  // src/index.ts: the library. A command line is not part of it.
  "": { modules: [...BELOW_DAEMON, "daemon"] },
};

const PURE_BUILTINS: readonly string[] = ["node:util", "node:buffer", "node:assert"];
/** These functions of node:net look at text only. */
const PURE_NET_FUNCTIONS: readonly string[] = ["isIP", "isIPv4", "isIPv6"];

interface Import {
  readonly line: number;
  readonly text: string;
  readonly specifier: string;
  readonly kind: "value" | "type" | "dynamic";
  readonly names: readonly string[];
}

// Statements begin at the start of a line, which examples in comments do not; a clause may run over several lines.
const STATEMENT =
  /^[ \t]*(?:import|export)\b(?<clause>[^;"'()=]*?)\bfrom\s*["'](?<from>[^"']+)["']|^[ \t]*import\s*["'](?<bare>[^"']+)["']|\b(?:import|require)\(\s*["'](?<call>[^"']+)["']\s*\)/gm;

function importsOf(text: string): Import[] {
  return Array.from(text.matchAll(STATEMENT), (match) => {
    const { clause = "", from, bare, call } = match.groups ?? {};
    const start = match.index + (match[0].length - match[0].trimStart().length);
    const inBraces = /\{([^}]*)\}/.exec(clause)?.[1] ?? "";
    return {
      line: text.slice(0, start).split("\n").length,
      text: match[0].replace(/\s+/g, " ").trim(),
      specifier: from ?? bare ?? call ?? "",
      kind: call !== undefined ? "dynamic" : /^\s*type\b/.test(clause) ? "type" : "value",
      names: inBraces.split(",").flatMap((name) => name.trim().split(/\s+as\s+/)[0] || []),
    };
  });
}

const moduleOf = (path: string): string => (path.includes("/") ? path.slice(0, path.indexOf("/")) : "");

function problemInside(module: string, rule: Rule, target: string, kind: Import["kind"]): string | undefined {
  const other = moduleOf(target);
  const low = module !== "util" && (other === "util" || other === "net");
  if (other === module || low) return undefined;
  const named = (list: readonly string[]): boolean =>
    list.some((entry) => entry === other || target === `${entry}.ts` || target.startsWith(`${entry}/`));
  if (named(rule.modules)) return undefined;
  if (named(rule.lazily ?? [])) {
    return kind === "value"
      ? `src/${module} may import src/${other} only as types or with import()`
      : undefined;
  }
  return `src/${module} may not import src/${other}`;
}

function problemOutside(module: string, rule: Rule, { specifier, names, kind }: Import): string | undefined {
  if (specifier.startsWith("node:")) {
    const textOnly = names.length > 0 && names.every((name) => PURE_NET_FUNCTIONS.includes(name));
    const allowed = PURE_BUILTINS.includes(specifier) || (specifier === "node:net" && textOnly);
    return rule.pure && !allowed ? `src/${module} does no I/O and may not import ${specifier}` : undefined;
  }
  const name = specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
  if (rule.lazyPackages?.includes(name)) {
    return kind === "value" ? `src/${module} may load "${name}" only as types or with import()` : undefined;
  }
  return rule.packages?.includes(name) ? undefined : `src/${module} may not import the package "${name}"`;
}

/** The first cycle through `file`, as a path, or undefined. `done` holds the files known to be in none. */
function cycleFrom(
  file: string,
  graph: ReadonlyMap<string, readonly string[]>,
  done: Set<string>,
  path: readonly string[] = [],
): readonly string[] | undefined {
  if (done.has(file)) return undefined;
  if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
  for (const next of graph.get(file) ?? []) {
    const cycle = cycleFrom(next, graph, done, [...path, file]);
    if (cycle) return cycle;
  }
  done.add(file);
  return undefined;
}

/** Checks source texts by their path below src/. Returns one line per problem: `src/file:line: what: the import`. */
export function checkImports(files: ReadonlyMap<string, string>): string[] {
  const problems: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [file, text] of files) {
    const module = moduleOf(file);
    const rule = RULES[module];
    if (!rule) problems.push(`src/${file}:1: src/${module} is not in the table of scripts/check-imports.ts`);
    for (const found of rule ? importsOf(text) : []) {
      const report = (what: string): number =>
        problems.push(`src/${file}:${found.line}: ${what}: ${found.text}`);
      if (!found.specifier.startsWith(".")) {
        const problem = problemOutside(module, rule as Rule, found);
        if (problem) report(problem);
        continue;
      }
      const target = posix.join(posix.dirname(file), found.specifier).replace(/\.js$/, ".ts");
      if (!files.has(target)) report(`src/${target} does not exist (imports end in .js)`);
      const problem = problemInside(module, rule as Rule, target, found.kind);
      if (problem) report(problem);
      if (found.kind === "value") graph.set(file, [...(graph.get(file) ?? []), target]);
    }
  }
  const done = new Set<string>();
  for (const file of graph.keys()) {
    const cycle = cycleFrom(file, graph, done);
    if (!cycle) continue;
    problems.push(`src/${cycle[0]}:1: a cycle of imports: ${cycle.join(" -> ")}`);
    for (const member of cycle) done.add(member);
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const src = join(dirname(fileURLToPath(import.meta.url)), "../src");
  const paths = readdirSync(src, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".ts"),
  );
  const problems = checkImports(new Map(paths.map((path) => [path, readFileSync(join(src, path), "utf8")])));
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
