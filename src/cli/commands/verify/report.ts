// SPDX-License-Identifier: Apache-2.0
/** How a verification is told: a line for each check, then what is not as it should be. */

import type { CheckStatus } from "../../../daemon/host-checks.js";
import type { Finding } from "../../../daemon/verify/finding.js";
import type { RepairReport } from "../../../daemon/verify/repair.js";
import type { VerifyReport } from "../../../daemon/verify/verify.js";
import type { Colors, Column, Printer } from "../../output.js";

const fieldsText = (fields: Finding["found"]): string =>
  Object.entries(fields ?? {})
    .map(([name, value]) => `${name}: ${value}`)
    .join("; ");

const COLUMNS: readonly Column<Finding>[] = [
  { header: "CHECK", value: ({ check }) => check },
  { header: "FINDING", value: ({ kind }) => kind },
  { header: "SERVICE PORT", value: ({ owner }) => owner ?? "" },
  { header: "WHERE", value: ({ where }) => where },
  { header: "ENTRY", value: ({ entry }) => entry },
  { header: "FOUND", value: ({ found }) => fieldsText(found) },
  { header: "WANTED", value: ({ wanted }) => fieldsText(wanted) },
];

/** With `-o wide` beside each finding; else said below the table, where it is not said twice. */
const MEND: Column<Finding> = { header: "MEND", value: ({ fix }) => fix ?? "", wide: true };

/** Nothing is other than it should be; a warning is not that. */
export const isRight = ({ findings }: VerifyReport): boolean =>
  findings.every(({ severity }) => severity !== "fail");

/** More are counted: the first ones tell what is the matter, and JSON has all. */
const MOST_ROWS = 200;

export function printReport(report: VerifyReport, repaired: RepairReport | null, printer: Printer): void {
  const { against, checks, findings, capacity } = report;
  if (printer.structured) {
    printer.json({ ok: isRight(report), against, checks, findings, capacity, repaired });
    return;
  }
  if (repaired !== null) {
    printer.line(repairedLine(repaired));
    for (const reason of repaired.failures) printer.note(`not repaired: ${reason}`);
  }
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, status, detail } of checks)
    printer.line(`${painted(status, printer.colors)}  ${name.padEnd(width)}  ${detail}`);
  if (findings.length === 0) return;
  printer.line("");
  printer.table([...COLUMNS, MEND], findings.slice(0, MOST_ROWS));
  if (findings.length > MOST_ROWS)
    printer.note(`and ${findings.length - MOST_ROWS} more: -o json has all of them`);
  if (printer.format === "wide") return;
  for (const fix of new Set(findings.flatMap(({ fix: each }) => each ?? []))) printer.note(`mend: ${fix}`);
}

function painted(status: CheckStatus, colors: Colors): string {
  const paint: Readonly<Record<CheckStatus, (text: string) => string>> = {
    ok: colors.green,
    warn: colors.yellow,
    fail: colors.red,
  };
  return paint[status](status.padEnd(4));
}

function repairedLine({ by, entries, interfaces, sockets, pins }: RepairReport): string {
  const counts = `${entries} map entries, ${interfaces} interfaces, ${sockets} socket hooks, ${pins} pins`;
  return by === "agent" ? `repaired by the agent: ${counts}` : `repaired: ${counts}`;
}
