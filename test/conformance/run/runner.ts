// SPDX-License-Identifier: Apache-2.0
/** Many cases, two at a time, and what is said of them. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type ReadCase, readCases } from "../form/read.js";
import { isStory } from "../form/types.js";
import { runCase, type XdpShare } from "./case.js";

export type CaseResult =
  | {
      readonly status: "ok";
      readonly id: string;
      readonly title: string;
      readonly ms: number;
      /** With `xdp`. */
      readonly xdp?: XdpShare;
    }
  | {
      readonly status: "failed";
      readonly id: string;
      readonly title: string;
      readonly ms: number;
      readonly problems: readonly string[];
    }
  /** Told by tests, not by this runner; `tests` name the files whose titles carry the id. None: nobody tells it. */
  | {
      readonly status: "story";
      readonly id: string;
      readonly title: string;
      readonly tests: readonly string[];
    };

export interface Summary {
  readonly passed: number;
  readonly failed: number;
  readonly stories: number;
  /** Stories that no test tells. */
  readonly untold: readonly string[];
  readonly cases: readonly CaseResult[];
}

export interface RunnerOptions {
  readonly paths: readonly string[];
  /** Only these; all when there are none. */
  readonly ids?: readonly string[];
  /** Called for each result, in the order of the cases. */
  readonly onResult?: (result: CaseResult) => void;
  /** @default 2 */
  readonly parallel?: number;
  /** With XDP on the uplink. */
  readonly xdp?: boolean;
}

const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url));

/**
 * Runs the cases of files and directories.
 *
 * @throws FormError when a file is no list of cases, RangeError when an id is unknown or twice there
 */
export async function runConformance(options: RunnerOptions): Promise<Summary> {
  const cases = chosen(readCases(options.paths), options.ids ?? []);
  const results: (CaseResult | undefined)[] = cases.map(() => undefined);
  const tests = testFiles();
  let next = 0;
  let told = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < cases.length; index = next++) {
      results[index] = await resultOf(cases[index] as ReadCase, tests, options.xdp ?? false);
      for (let result = results[told]; result !== undefined; result = results[++told])
        options.onResult?.(result);
    }
  };
  await Promise.all(Array.from({ length: options.parallel ?? 2 }, work));
  return summaryOf(results as CaseResult[]);
}

function chosen(cases: readonly ReadCase[], ids: readonly string[]): readonly ReadCase[] {
  const twice = cases.find((one, index) => cases.findIndex((other) => other.id === one.id) !== index);
  if (twice !== undefined) throw new RangeError(`two cases have the id ${twice.id}`);
  const unknown = ids.find((id) => !cases.some((one) => one.id === id));
  if (unknown !== undefined) throw new RangeError(`there is no case ${unknown}`);
  return ids.length === 0 ? cases : cases.filter((one) => ids.includes(one.id));
}

async function resultOf(read: ReadCase, tests: readonly TestFile[], withXdp: boolean): Promise<CaseResult> {
  const { id, title } = read;
  if (!read.ok) return { status: "failed", id, title, ms: 0, problems: [read.error] };
  if (isStory(read.case)) return { status: "story", id, title, tests: testsOf(id, tests) };
  const start = performance.now();
  let xdp: XdpShare | undefined;
  const problems = await (withXdp ? runCase(read.case, (share) => (xdp = share)) : runCase(read.case));
  const ms = Math.round(performance.now() - start);
  return problems.length === 0
    ? { status: "ok", id, title, ms, ...(xdp === undefined ? {} : { xdp }) }
    : { status: "failed", id, title, ms, problems };
}

function summaryOf(cases: readonly CaseResult[]): Summary {
  const stories = cases.filter((one) => one.status === "story");
  return {
    passed: cases.filter((one) => one.status === "ok").length,
    failed: cases.filter((one) => one.status === "failed").length,
    stories: stories.length,
    untold: stories.filter((one) => one.tests.length === 0).map((one) => one.id),
    cases,
  };
}

interface TestFile {
  readonly path: string;
  readonly text: string;
}

/** The repository's tests. */
function testFiles(): readonly TestFile[] {
  const root = join(REPOSITORY, "test");
  const paths = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((path) =>
    path.endsWith(".test.ts"),
  );
  return paths.sort().map((path) => ({
    path: relative(REPOSITORY, join(root, path)),
    text: readFileSync(join(root, path), "utf8"),
  }));
}

/** A test tells a story when one of its titles has the id as a word. */
function testsOf(id: string, tests: readonly TestFile[]): readonly string[] {
  const title = new RegExp(`\\b(?:test|it|describe)\\(\\s*["'\`][^\\n]*\\b${id.replace(/\W/g, "\\$&")}\\b`);
  return tests.filter((file) => title.test(file.text)).map((file) => file.path);
}
