// SPDX-License-Identifier: Apache-2.0
// The tables of docs/metrics.md out of the registry itself. `npx tsx scripts/metrics-docs.ts` writes them, `--check` compares.
import { HealthState } from "../src/daemon/health/health-state.js";
import { AgentMetrics } from "../src/daemon/metrics/agent-metrics.js";
import { silentLogger } from "../src/util/log.js";
import { tablePlace, withPart, writeDocument } from "./generated-docs.js";

/** What every metric of prom-client has; its types name the class of each, not this. */
interface Described {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
  readonly upperBounds?: readonly number[];
}

/** Name of a table in the document, and how its metrics' names begin. */
const TABLES: Readonly<Record<string, RegExp>> = {
  kubeproxy: /^kubeproxy_/,
  kubernetes: /^(kubernetes|rest_client|process)_/,
  portolan: /^portolan_/,
  nodejs: /^nodejs_/,
};

export function describedMetrics(): readonly Described[] {
  const metrics = new AgentMetrics({ health: new HealthState(), log: silentLogger, version: "" });
  const all = metrics.registry.getMetricsAsArray() as unknown as readonly Described[];
  return [...all].sort((a, b) => (a.name < b.name ? -1 : 1));
}

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("<", "&lt;");

function row({ name, help, type, labelNames, upperBounds }: Described): string {
  const labels = labelNames.filter((label) => label !== "le").map((label) => `\`${label}\``);
  const bounds = upperBounds === undefined ? "" : `. ${upperBounds.length} buckets to ${upperBounds.at(-1)}`;
  return `| \`${name}\` | ${type} | ${labels.join(", ")} | ${cell(help)}${bounds} |`;
}

/** The document with its tables as they should be. */
export function withMetricTables(text: string): string {
  const metrics = describedMetrics();
  const homeless = metrics.filter(({ name }) => !Object.values(TABLES).some((pattern) => pattern.test(name)));
  if (homeless.length > 0)
    throw new Error(`docs/metrics.md: no table for ${homeless.map(({ name }) => name).join()}`);
  return Object.entries(TABLES).reduce((before, [table, pattern]) => {
    const rows = metrics.filter(({ name }) => pattern.test(name)).map(row);
    const lines = ["| name | type | labels | what it is |", "|---|---|---|---|", ...rows];
    return withPart(before, tablePlace(table), lines.join("\n"));
  }, text);
}

writeDocument(import.meta.url, new URL("../docs/metrics.md", import.meta.url), withMetricTables);
