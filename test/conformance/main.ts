// SPDX-License-Identifier: Apache-2.0
/** `npm run conformance -- [DIR|FILE ...] [--case ID] [-o json]`; `make conformance`. Needs root and a build. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { XdpShare } from "./run/case.js";
import { type CaseResult, runConformance, type Summary } from "./run/runner.js";

/** The shared cases: they lie beside the repository, not in it. */
const SHARED = fileURLToPath(new URL("../../../shared/conformance", import.meta.url));

const USAGE = "usage: npm run conformance -- [DIR|FILE ...] [--case ID ...] [--xdp] [-o table|json]";

/** Who served what came in by the uplink. */
function xdpText(xdp: XdpShare | undefined): string {
  if (xdp === undefined) return "";
  const passed = Object.entries(xdp.passed).map(([name, packets]) => `${name} ${packets}`);
  return ` [XDP sent ${xdp.sent}, dropped ${xdp.dropped}; to tc: ${passed.join(", ") || "nothing"}]`;
}

function textOf(result: CaseResult): string {
  switch (result.status) {
    case "ok":
      return `ok ${result.id} ${result.title} (${result.ms} ms)${xdpText(result.xdp)}`;
    case "failed":
      return [
        `not ok ${result.id} ${result.title}`,
        ...result.problems.map((problem) => `    ${problem}`),
      ].join("\n");
    case "story":
      return `story ${result.id} ${result.title}: ${result.tests.join(", ") || "NO TEST carries this id"}`;
  }
}

function totals(summary: Summary): string {
  const untold = summary.untold.length === 0 ? "" : `; without a test: ${summary.untold.join(", ")}`;
  const stories =
    summary.stories === 0 ? "" : `${summary.stories} stories are told by tests of their own${untold}\n`;
  return `${stories}${summary.passed} passed, ${summary.failed} failed\n`;
}

async function main(argv: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      case: { type: "string", multiple: true },
      output: { type: "string", short: "o", default: "table" },
      xdp: { type: "boolean", default: false },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help === true) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (!["table", "json"].includes(values.output))
    throw new RangeError(`-o must be table or json, not ${values.output}`);
  const paths = positionals.length > 0 ? positionals.map((path) => resolve(path)) : [SHARED];
  const missing = paths.find((path) => !existsSync(path));
  if (missing !== undefined)
    throw new RangeError(`${missing} does not exist: name a directory or a file of cases`);
  if (process.getuid?.() !== 0)
    throw new RangeError("this needs root: it makes network namespaces and loads programs");
  const json = values.output === "json";
  const onResult = (result: CaseResult): void => void process.stdout.write(`${textOf(result)}\n`);
  const summary = await runConformance({
    paths,
    ids: values.case ?? [],
    xdp: values.xdp,
    ...(json ? {} : { onResult }),
  });
  process.stdout.write(json ? `${JSON.stringify(summary, null, 2)}\n` : totals(summary));
  return summary.failed === 0 ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`conformance: ${(error as Error).message}\n${USAGE}\n`);
  process.exitCode = 2;
}
