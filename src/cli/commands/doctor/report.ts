// SPDX-License-Identifier: Apache-2.0
/** How a look at a machine is told: a line for each check, and below it how to mend it. */
import type { Check, CheckStatus } from "../../../daemon/host-checks.js";
import type { Colors, Printer } from "../../output.js";

/** What `portolan doctor -o json` prints. */
export interface DoctorReport {
  /** No check failed. */
  readonly ok: boolean;
  readonly checks: readonly Check[];
}

function line({ name, status, detail, fix }: Check, width: number, colors: Colors): string {
  const paint: Readonly<Record<CheckStatus, (text: string) => string>> = {
    ok: colors.green,
    warn: colors.yellow,
    fail: colors.red,
  };
  const head = `${paint[status](status.padEnd(4))}  ${name.padEnd(width)}  ${detail}`;
  return fix === null ? head : `${head}\n${" ".repeat(6)}${" ".repeat(width)}  ${colors.dim("mend:")} ${fix}`;
}

export function printReport({ ok, checks }: DoctorReport, printer: Printer): void {
  if (printer.structured) {
    printer.json({ ok, checks });
    return;
  }
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const check of checks) printer.line(line(check, width, printer.colors));
}
