// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { worldNamespaces } from "../../src/demo/world/index.js";
import { type CaseResult, runConformance, type Summary } from "./run/runner.js";

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const OWN = path("cases");
const WRONG = path("wrong");
const SHARED = path("../../../shared/conformance");
const NO_SHARED =
  !existsSync(SHARED) &&
  `NOT RUN: ${SHARED} is not here; what the product says to the shared cases is not known`;
if (NO_SHARED) process.stderr.write(`\n*** ${NO_SHARED}\n\n`);

function problems(summary: Summary): string {
  const failed = summary.cases.filter((one) => one.status === "failed");
  return failed.map((one) => `${one.id}: ${one.problems.join("; ")}`).join("\n");
}

/** What a wrong case must be told, in order: one text for each of its flows and requests. */
const REASONS: Readonly<Record<string, readonly RegExp[]>> = {
  W01: [/saw 10\.8\.2\.1:8080$/, /never reached 10\.8\.2\.2:8080/, /saw 10\.8\.1\.1:8080$/],
  W02: [
    /saw the sender as 10\.8\.0\.2: it must be/,
    /saw the sender as \S+: it must not be/,
    /it must be masqueraded/,
  ],
  W03: [
    /expected REJECT, saw an answer of 10\.8\.1\.1:8080/,
    /expected DROP, saw an answer of 10\.8\.1\.1:8080/,
    /expected PASS, saw 10\.8\.1\.1:8080/,
    /expected PASS, saw 10\.8\.1\.1:8080/,
  ],
  W04: [
    /expected REJECT, saw silence/,
    /expected PASS, .* never left the node as it was/,
    /expected to 10\.8\.2\.1:8080, saw ETIMEDOUT/,
    /expected DROP, saw ECONNREFUSED/,
    /expected PASS, .* never left the node as it was/,
    /expected to 10\.8\.2\.1:8080, saw ECONNREFUSED/,
  ],
  W05: [
    /expected DROP, a packet reached outside/,
    /expected REJECT, saw a TCP reset/,
    /expected DROP, saw ECONNREFUSED/,
  ],
  W06: [
    /expected status 503, saw 200/,
    /expected header X-Load-Balancing-Endpoint-Weight: 2, saw 1/,
    /body\.localEndpoints to be 2, saw 1/,
    /body\.service\.name to be "b", saw "a"/,
    /has the key localEndpoints/,
    /expected ECONNREFUSED, saw an answer/,
    /expected status 200, saw ECONNREFUSED/,
  ],
  W07: [/after change 1: .* saw ECONNREFUSED/],
  W08: [/saw 10\.8\.1\.1:13868/, /saw 10\.8\.1\.1:5353/, /expected DROP, saw an answer/],
  W09: [/slice "s" has no endpoint 10\.8\.9\.9/],
  X01: [/^X01: unknown key "flow"/],
  X02: [/^X02\.svc: unknown key "clusterIp"/],
  X03: [/^X03\.slices\[0\]\.ep\[0\]: unknown key "node"/],
  X04: [/^X04\.flows\[0\]: unknown key "retries"/],
  X05: [/no sender is called "moon"/],
  X06: [/^X06\.flows\[0\]\.verdict: must be one of REJECT, DROP, PASS, not "LOSE"/],
  X07: [/^X07\.env\.config: unknown key "clusterCidr"/],
  X08: [/^X08\.then\[0\]\.change: unknown key "removeAll"/],
  X09: [/^X09\.http\[0\]: unknown key "code"/],
  X10: [/says nothing of the result/],
  X11: [/^X11\.slices\[0\]\.ep\[0\]\.c: must be one of R, nil, NR, S, ST, T, not "READY"/],
  X12: [/a slice must name its Service when there are several/],
};

function assertFailsFor(result: CaseResult): void {
  const reasons = REASONS[result.id];
  assert.ok(reasons !== undefined, `${result.id} has no reason to fail: name one in this test`);
  assert.ok(result.status === "failed", `${result.id} (${result.title}) must fail`);
  assert.equal(result.problems.length, reasons.length, result.problems.join("\n"));
  for (const [index, reason] of reasons.entries()) assert.match(result.problems[index] ?? "", reason);
}

describe("The conformance runner", () => {
  test("passes cases which use every key of the form", async () => {
    const summary = await runConformance({ paths: [OWN] });
    assert.equal(problems(summary), "");
    assert.ok(summary.passed >= 11, `${summary.passed} cases`);
    assert.deepEqual(summary.untold, ["R24"]);
  });

  test("passes cases that enter by an uplink with XDP on it, and says for each who served it", async () => {
    const summary = await runConformance({ paths: [OWN], ids: ["R02", "R22", "R23"], xdp: true });
    assert.equal(problems(summary), "");
    const served = summary.cases.map((result) => {
      if (result.status !== "ok" || result.xdp === undefined) return [result.id];
      const { sent, dropped, passed } = result.xdp;
      const tc = ["xdp_local", "xdp_own_address", "xdp_stack_flow"].some((name) => (passed[name] ?? 0) > 0);
      return [result.id, sent > 0, dropped > 0, tc];
    });
    assert.deepEqual(served, [
      ["R22", true, false, true], // a backend on this node and one on another
      ["R23", false, false, true], // a backend on this node
      ["R02", false, true, true], // traffic policy Local; who is in no source range is dropped by XDP
    ]);
  });

  test("fails each case with a wrong expectation, and each with an unknown key, and says why", async () => {
    const summary = await runConformance({ paths: [WRONG] });
    assert.equal(summary.passed, 0);
    assert.equal(summary.failed, Object.keys(REASONS).length);
    for (const result of summary.cases) assertFailsFor(result);
  });

  test("exits 1 after a failure, 2 for what it cannot run, and writes JSON", async () => {
    const run = promisify(execFile);
    const argv = ["--import", "tsx", path("main.ts")];
    const failed = await run(process.execPath, [...argv, WRONG, "--case", "X01", "-o", "json"]).catch(
      (error) => error,
    );
    assert.equal(failed.code, 1);
    const summary = JSON.parse(failed.stdout) as Summary;
    assert.deepEqual([summary.passed, summary.failed, summary.cases[0]?.id], [0, 1, "X01"]);
    const missing = await run(process.execPath, [...argv, "/nowhere"]).catch((error) => error);
    assert.equal(missing.code, 2);
    assert.match(missing.stderr, /\/nowhere does not exist/);
    const unknown = await run(process.execPath, [...argv, WRONG, "--case", "Z99"]).catch((error) => error);
    assert.equal(unknown.code, 2);
    assert.match(unknown.stderr, /there is no case Z99/);
  });

  test("passes all shared cases", { skip: NO_SHARED }, async () => {
    const summary = await runConformance({ paths: [SHARED] });
    assert.equal(problems(summary), "");
    assert.ok(summary.passed >= 59, `${summary.passed} cases`);
  });

  test("leaves no namespace and no pin", () => {
    assert.deepEqual(worldNamespaces(process.pid), []);
    const pins = readdirSync("/sys/fs/bpf").filter((name) => name.startsWith(`ptl-${process.pid}-`));
    assert.deepEqual(pins, []);
  });
});
