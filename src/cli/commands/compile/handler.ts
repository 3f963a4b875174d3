// SPDX-License-Identifier: Apache-2.0
import { compile as compileImage } from "../../../image/compile.js";
import { type DescribedChoice, describeImage, problemLine } from "../../../image/describe.js";
import type { Problem } from "../../../model/types.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { nodeName } from "../../node-name.js";
import type { Column } from "../../output.js";

export interface CompileOptions {
  readonly file: readonly string[];
  readonly node?: string;
}

/** One line of the table: a Service address, and what new flows to it are given. */
interface Row {
  readonly service: string;
  readonly port: string;
  readonly protocol: string;
  readonly kind: string;
  readonly address: string;
  /** From inside the cluster, and from outside where that differs. */
  readonly backends: string;
}

const COLUMNS: readonly Column<Row>[] = [
  { header: "SERVICE", value: ({ service }) => service },
  { header: "PORT", value: ({ port }) => port },
  { header: "PROTOCOL", value: ({ protocol }) => protocol },
  { header: "KIND", value: ({ kind }) => kind },
  { header: "ADDRESS", value: ({ address }) => address },
  { header: "BACKENDS", value: ({ backends }) => backends },
];

const choiceText = ({ backends, whenEmpty }: DescribedChoice): string =>
  backends.length === 0 ? `none: ${whenEmpty}` : backends.join(",");

/** Nothing to show is often the wrong file: say what was in it. */
const ignoredText = (count: number): string =>
  count === 0 ? "" : `; left out: ${count} (other kinds or another proxy's; -o json lists them)`;

/** `portolan compile`. Errors among the problems are a finding. */
export const compile: Handler<CompileOptions> = async (options, printer) => {
  const node = nodeName(options.node, "--node");
  const { readManifests } = await import("../../../source/file/read-manifests.js");
  const read = await readManifests(options.file, { nodeName: node });
  const image = describeImage(compileImage(read.snapshot));
  const problems: readonly Problem[] = [...read.problems, ...image.problems];
  for (const problem of problems) printer.note(`${problem.severity}: ${problemLine(problem)}`);
  if (printer.format === "json") {
    const { ignored } = read;
    printer.json({ node, servicePorts: image.servicePorts, problems, ignored });
  } else {
    const rows = image.servicePorts.flatMap((port) =>
      port.frontends.map((frontend): Row => {
        const [internal, external] = [choiceText(frontend.internal), choiceText(frontend.external)];
        return {
          service: `${port.namespace}/${port.name}`,
          port: port.portName,
          protocol: port.protocol,
          kind: frontend.kind,
          address: frontend.address,
          backends: internal === external ? internal : `${internal} (from outside: ${external})`,
        };
      }),
    );
    rows.sort((a, b) => (a.service < b.service ? -1 : Number(a.service > b.service)));
    if (rows.length > 0) printer.table(COLUMNS, rows);
    else printer.note(`no Service with an address${ignoredText(read.ignored.length)}`);
  }
  return problems.some(({ severity }) => severity === "error") ? ExitCode.finding : ExitCode.ok;
};
