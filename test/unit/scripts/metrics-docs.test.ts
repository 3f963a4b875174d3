// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { describedMetrics, withMetricTables } from "../../../scripts/metrics-docs.js";

const text = readFileSync(new URL("../../../docs/metrics.md", import.meta.url), "utf8");

describe("docs/metrics.md", () => {
  it("has the tables that the registry gives (npx tsx scripts/metrics-docs.ts)", () => {
    assert.equal(withMetricTables(text), text);
  });

  it("speaks of no metric that is not there, but of those that it says are left out", () => {
    const known = new Set(describedMetrics().map(({ name }) => name));
    const own = [...text.matchAll(/\b(?:portolan|kubeproxy)_[a-z0-9_]*[a-z0-9](?![a-z0-9_*])/g)].map(
      ([name]) => name,
    );
    const unknown = own.filter((name) => !known.has(name));
    assert.deepEqual(
      [...new Set(unknown)],
      ["kubeproxy_iptables_localhost_nodeports_accepted_packets_total"],
    );
  });

  it("says how many service ports have series of their own as the code does", async () => {
    const source = readFileSync(
      new URL("../../../src/daemon/metrics/dataplane-metrics.ts", import.meta.url),
      "utf8",
    );
    const most = /TOP_SERVICES = (\d+)/.exec(source)?.[1];
    assert.match(text, new RegExp(`busiest service ports, ${most} of them`));
  });
});

describe("withMetricTables()", () => {
  it("puts back what was changed by hand", () => {
    const changed = text.replace("| counter |", "| gauge |");
    assert.notEqual(changed, text);
    assert.equal(withMetricTables(changed), text);
  });

  it("names the table that has no place", () => {
    assert.throws(() => withMetricTables(text.replace("<!-- table: nodejs -->", "")), /table nodejs/);
  });
});
