// SPDX-License-Identifier: Apache-2.0
/** The dashboard asks for nothing that an agent does not say. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { HealthState } from "../../../src/daemon/health/health-state.js";
import { AgentMetrics } from "../../../src/daemon/metrics/agent-metrics.js";
import { silentLogger } from "../../../src/util/log.js";

interface Target {
  readonly expr: string;
  readonly legendFormat: string;
}

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly targets?: readonly Target[];
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number };
}

interface Variable {
  readonly name: string;
  readonly query: string;
}

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly Variable[] };
}

const text = readFileSync(new URL("../../../deploy/grafana/portolan.json", import.meta.url), "utf8");
const dashboard: Dashboard = JSON.parse(text);

/** What a Prometheus adds, or a histogram has. */
const FOREIGN_LABELS: readonly string[] = ["job", "instance", "le"];
const WORDS: readonly string[] = ["by", "without", "or", "and", "unless", "on", "ignoring", "bool", "offset"];

interface Parsed {
  readonly metrics: readonly string[];
  readonly labels: readonly string[];
}

/** Names of metrics and labels in a PromQL expression: what is left when all that is neither has been taken away. */
export function namesIn(expr: string): Parsed {
  const labels: string[] = [];
  const bare = expr
    .replace(/"(?:[^"\\]|\\.)*"/g, '""')
    .replace(/\{([^}]*)\}/g, (_, inside: string) => {
      labels.push(
        ...Array.from(inside.matchAll(/([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)/g), ([, label = ""]) => label),
      );
      return " ";
    })
    .replace(/\[[^\]]*\]/g, " ")
    .replace(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g, (_, inside: string) => {
      labels.push(...inside.split(",").map((label) => label.trim()));
      return " ";
    });
  const metrics = Array.from(bare.matchAll(/(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])/g), ([name]) => name);
  return { metrics: metrics.filter((name) => !WORDS.includes(name)), labels };
}

/** Every series name, with its labels, as /metrics has them. */
async function seriesNames(): Promise<ReadonlyMap<string, readonly string[]>> {
  const metrics = new AgentMetrics({ health: new HealthState(), log: silentLogger, version: "0.0.0" });
  const exposition = await metrics.registry.metrics();
  const labels = new Map(
    metrics.registry.getMetricsAsArray().map((metric) => {
      const { name, labelNames } = metric as unknown as { name: string; labelNames: readonly string[] };
      return [name, labelNames];
    }),
  );
  const all = new Map<string, readonly string[]>();
  for (const [, name = "", type] of exposition.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    const names = type === "histogram" ? ["_bucket", "_sum", "_count"].map((end) => name + end) : [name];
    for (const each of names) all.set(each, labels.get(name) ?? []);
  }
  return all;
}

const targets = dashboard.panels.flatMap(({ title, targets: own = [] }) =>
  own.map((target) => ({ title, ...target })),
);

describe("deploy/grafana/portolan.json", () => {
  it("asks for metrics that /metrics has, by labels that they have", async () => {
    const known = await seriesNames();
    assert.ok(targets.length > 40, `${targets.length} queries`);
    for (const { title, expr, legendFormat } of targets) {
      const { metrics, labels } = namesIn(expr);
      assert.ok(metrics.length > 0, `${title}: no metric in ${expr}`);
      for (const metric of metrics) assert.ok(known.has(metric), `${title}: no metric ${metric}`);
      const has = [...FOREIGN_LABELS, ...metrics.flatMap((metric) => known.get(metric) ?? [])];
      for (const label of labels) assert.ok(has.includes(label), `${title}: no label ${label} in ${expr}`);
      const shown = Array.from(legendFormat.matchAll(/\{\{\s*(\w+)\s*\}\}/g), ([, label = ""]) => label);
      for (const label of shown) assert.ok(labels.includes(label), `${title}: ${label} is not in ${expr}`);
    }
  });

  it("fills its variables from a metric that every agent has", async () => {
    const known = await seriesNames();
    const queries = dashboard.templating.list.flatMap(
      ({ query }) => /^label_values\((\w+)/.exec(query)?.[1] ?? [],
    );
    assert.deepEqual([...new Set(queries)], ["portolan_build_info"]);
    for (const metric of queries) assert.ok(known.has(metric));
  });

  it("uses no variable that it has not, and balanced parentheses", () => {
    const variables = ["__rate_interval", ...dashboard.templating.list.map(({ name }) => name)];
    for (const { title, expr } of targets) {
      for (const [, name = ""] of expr.matchAll(/\$\{?(\w+)/g))
        assert.ok(variables.includes(name), `${title}: $${name}`);
      for (const [open, close] of ["()", "{}", "[]"].map((pair) => [...pair]))
        assert.equal(expr.split(open ?? "").length, expr.split(close ?? "").length, `${title}: ${expr}`);
    }
  });

  it("shows every metric of our own", async () => {
    const asked = new Set(targets.flatMap(({ expr }) => namesIn(expr).metrics));
    const missing = [...(await seriesNames()).keys()].filter(
      (name) => name.startsWith("portolan_") && !/_(bucket|sum|count)$/.test(name) && !asked.has(name),
    );
    assert.deepEqual(missing, []);
  });

  it("has one panel in each place, and no id twice", () => {
    const ids = dashboard.panels.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length);
    for (const a of dashboard.panels)
      for (const b of dashboard.panels) {
        if (a.id >= b.id) continue;
        const [p, q] = [a.gridPos, b.gridPos];
        const apart = p.x + p.w <= q.x || q.x + q.w <= p.x || p.y + p.h <= q.y || q.y + q.h <= p.y;
        assert.ok(apart, `${a.title} and ${b.title} overlap`);
      }
  });
});

describe("namesIn()", () => {
  it("finds metrics and labels, and nothing else", () => {
    assert.deepEqual(
      namesIn('histogram_quantile(0.9, sum by (le, x) (rate(a_bucket{b=~"c{d}", e!="f"}[5m]))) > 1e3'),
      {
        metrics: ["a_bucket"],
        labels: ["b", "e", "le", "x"],
      },
    );
    assert.deepEqual(namesIn("count(a == 0) or vector(0)"), { metrics: ["a"], labels: [] });
    assert.deepEqual(namesIn("a / on (b) group_left (c) d"), { metrics: ["a", "d"], labels: ["b", "c"] });
  });
});
