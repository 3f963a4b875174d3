// SPDX-License-Identifier: Apache-2.0
import type { CommonOptions, Handler } from "../../command.js";
import type { DesiredOptions } from "../../desired-options.js";
import { ExitCode } from "../../exit-codes.js";
import type { Printer } from "../../output.js";
import { type DiffReport, diffReport } from "./report.js";
import { type Side, withSide } from "./side.js";
import { reportLines } from "./text.js";

export interface DiffOptions extends Omit<DesiredOptions, "file" | "kubeconfig"> {
  readonly entries?: true;
}

/** `portolan diff A B`. A difference is a finding. */
export const diff: Handler<DiffOptions> = (options, printer, [from = "", to = ""]) =>
  withSide(from, options, printer, (a) =>
    withSide(to, options, printer, async (b) => {
      const report = await printReport(a, b, options.entries === true, printer);
      return report.steps.length + report.refused.length > 0 ? ExitCode.finding : ExitCode.ok;
    }),
  );

/** `portolan compile --plan`: from the live maps to what was read. */
export function planAgainstLive(to: Side, options: CommonOptions, printer: Printer): Promise<DiffReport> {
  return withSide("live", options, printer, (live) => printReport(live, to, false, printer));
}

async function printReport(from: Side, to: Side, entries: boolean, printer: Printer): Promise<DiffReport> {
  const { problemLine } = await import("../../../image/describe.js");
  const report = await diffReport(from, to, entries);
  for (const problem of report.problems) printer.note(`${problem.severity}: ${problemLine(problem)}`);
  if (printer.structured) printer.json(report);
  else for (const line of reportLines(report, printer.colors)) printer.line(line);
  return report;
}
