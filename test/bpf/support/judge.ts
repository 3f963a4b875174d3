// SPDX-License-Identifier: Apache-2.0
/** What holds for any packet and any maps. */
import assert from "node:assert/strict";
import { assertSameFrame, describeFrame } from "../../support/packet-diff.js";
import { checksumProblems } from "../../support/packet-dissect.js";
import type { Outcome, ReasonName } from "./lab.js";

/** Reasons with which a packet must leave as it came, unless a port or address of it was changed under FLOW/DIRECT. */
const UNTOUCHED: ReadonlySet<ReasonName> = new Set([
  "PASS_NOT_IP",
  "PASS_MALFORMED",
  "PASS_PROTOCOL",
  "PASS_FRAGMENT",
  "PASS_NO_SERVICE",
  "PASS_TCP_NO_ENTRY",
  "PASS_EGRESS_MISS",
  "PASS_ICMP",
]);

/** The packet that went in and what came out of it fit together. */
export function judge(frame: Uint8Array, outcome: Outcome, what: string): void {
  const names = Object.keys(outcome.reasons) as ReasonName[];
  assert.ok(names.length > 0, `${what}: nothing was counted`);
  if (outcome.verdict === "drop") return;
  if (outcome.verdict === "pass" && names.length === 1 && UNTOUCHED.has(names[0] as ReasonName)) {
    assertSameFrame(outcome.frame, frame, `${what}: passed as ${names[0]}`);
    return;
  }
  if (outcome.verdict === "pass") {
    assert.equal(outcome.frame.length, frame.length, `${what}: a translated packet keeps its length`);
    assert.deepEqual(outcome.frame.subarray(0, 14), frame.subarray(0, 14), `${what}: link layer`);
  }
  // What came with a wrong sum may leave with one. A REJECT stands on the IP header's alone.
  const before = checksumProblems(frame).filter((p) => outcome.verdict === "pass" || p.startsWith("ip."));
  if (before.length > 0) return;
  // A quoted CRC32c is left as it is while the ports that it covers change.
  const problems = checksumProblems(outcome.frame).filter(
    (p) => (outcome.verdict === "pass" || !p.includes(".inner.")) && !p.includes(".inner.sctp."),
  );
  if (problems.length === 0) return;
  assert.fail(
    `${what}: ${names.join(", ")}: ${problems.join("; ")}\n${describeFrame(frame)}\nbecame\n${describeFrame(outcome.frame)}`,
  );
}
