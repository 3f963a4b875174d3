// SPDX-License-Identifier: Apache-2.0
/** What `portolan doctor` prints of a host on which little is well. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { printReport } from "../../../src/cli/commands/doctor/report.js";
import { Printer } from "../../../src/cli/output.js";
import { checkHost } from "../../../src/daemon/host-checks.js";
import { assertGolden, prettyJson } from "../../support/golden.js";
import { GOOD_HOST } from "../../support/good-host.js";
import { checkSchema } from "../../support/json-schema.js";
import { Terminal } from "./terminal.js";

const CHECKS = checkHost({
  ...GOOD_HOST,
  capabilities: 0n,
  missingFeatures: ["tcx"],
  bridgeCallIptables: "0",
  ipForward: "0",
  cgroup2: null,
});

test("doctor prints a line for each check, and how to mend what is not in order", () => {
  for (const format of ["table", "json"] as const) {
    const terminal = new Terminal(false);
    printReport({ ok: false, checks: CHECKS }, new Printer(format, terminal.stream, terminal.stream));
    if (format === "table") assertGolden("doctor.txt", terminal.text);
    else {
      assertGolden("doctor.json", prettyJson(terminal.text));
      checkSchema("doctor", JSON.parse(terminal.text));
    }
  }
  assert.ok(CHECKS.some(({ status }) => status === "fail"));
  assert.ok(CHECKS.some(({ status }) => status === "warn"));
});
