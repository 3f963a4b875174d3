// SPDX-License-Identifier: Apache-2.0
import type { Handler } from "../../command.js";
import { readDesired } from "../../desired.js";
import { type DesiredOptions, namesSource } from "../../desired-options.js";
import { ExitCode } from "../../exit-codes.js";
import type { Printer } from "../../output.js";
import { inScope, type ServiceTest } from "../../service-text.js";
import { explanationLines, whatIfLines } from "./text.js";

export interface ExplainOptions extends DesiredOptions {
  readonly namespace?: string;
}

/** `portolan explain SERVICE`. A Service that is not there is a finding. */
export const explain: Handler<ExplainOptions> = async (options, printer, [service = ""]) => {
  const { namespace } = options;
  const scope = namespace === undefined ? { service } : { service, namespace };
  const isWanted = inScope(scope);
  if (namesSource(options)) return explainDesired(options, printer, service, isWanted);
  const { explainMaps } = await import("./from-maps.js");
  return explainMaps(options, printer, scope);
};

async function explainDesired(
  options: ExplainOptions,
  printer: Printer,
  wanted: string,
  isWanted: ServiceTest,
): Promise<ExitCode> {
  const { snapshot, config, problems, ignored } = await readDesired(options, printer);
  const [{ createCompiler, NO_HOST_FACTS }, { explainService }, { whatIfs }] = await Promise.all([
    import("../../../image/compile.js"),
    import("../../../image/explain.js"),
    import("../../../image/what-if.js"),
  ]);
  const compiler = createCompiler(config);
  const image = compiler.compile(snapshot);
  const keys = Array.from(snapshot.services.entries())
    .filter(([, service]) => isWanted(service))
    .map(([key]) => key)
    .sort();
  const explanations = keys.flatMap((key) => {
    const input = { snapshot, config, host: NO_HOST_FACTS, image };
    const explanation = explainService(key, input);
    if (explanation === null) return [];
    const own = problems.filter(({ object }) => object === `Service ${key}`);
    const whatIf = whatIfs(key, snapshot, compiler, NO_HOST_FACTS);
    return { ...explanation, problems: [...own, ...explanation.problems], whatIf };
  });
  if (printer.structured) printer.json({ source: "desired", services: explanations });
  else {
    for (const [i, explanation] of explanations.entries()) {
      if (i > 0) printer.line("");
      for (const line of explanationLines(explanation, printer.colors)) printer.line(line);
      for (const line of whatIfLines(explanation.whatIf, printer.colors)) printer.line(line);
    }
  }
  if (explanations.length > 0) return ExitCode.ok;
  const left = ignored.find(({ object }) => isWanted(serviceOf(object)));
  const why = left === undefined ? "" : `: ${left.object} was left out, ${left.reason}`;
  printer.note(`no Service "${wanted}" there${why}`);
  return ExitCode.finding;
}

/** "Service default/web" as its parts; null for other kinds. */
function serviceOf(object: string): { readonly namespace: string; readonly name: string } | null {
  const { namespace, name } = /^Service (?<namespace>[^/ ]+)\/(?<name>.+)$/.exec(object)?.groups ?? {};
  return namespace === undefined || name === undefined ? null : { namespace, name };
}
