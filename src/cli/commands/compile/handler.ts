// SPDX-License-Identifier: Apache-2.0
import { compile as compileImage } from "../../../image/compile.js";
import {
  type DescribedChoice,
  type DescribedFrontend,
  describeImage,
  problemLine,
} from "../../../image/describe.js";
import type { Problem } from "../../../model/types.js";
import type { Handler } from "../../command.js";
import { readDesired } from "../../desired.js";
import type { DesiredOptions } from "../../desired-options.js";
import { ExitCode } from "../../exit-codes.js";
import type { Column } from "../../output.js";
import { bothScopes } from "../../service-text.js";

export interface CompileOptions extends Omit<DesiredOptions, "kubeconfig"> {
  readonly plan?: true;
}

/** One line of the table: a Service address, and what new flows to it are given. */
interface Row {
  readonly service: string;
  readonly port: string;
  readonly protocol: string;
  readonly kind: string;
  readonly address: string;
  readonly family: 4 | 6;
  readonly masquerade: string;
  readonly senders: string;
  /** From inside the cluster, and from outside where that differs. */
  readonly backends: string;
}

const LEFT: readonly Column<Row>[] = [
  { header: "SERVICE", value: ({ service }) => service },
  { header: "PORT", value: ({ port }) => port },
  { header: "PROTOCOL", value: ({ protocol }) => protocol },
  { header: "KIND", value: ({ kind }) => kind },
  { header: "ADDRESS", value: ({ address }) => address },
];
/** Only where there is more than ClusterIPs, or a detector: they would say the same of all. */
const MORE: readonly Column<Row>[] = [
  { header: "FAMILY", value: ({ family }) => `IPv${family}` },
  { header: "MASQUERADE", value: ({ masquerade }) => masquerade },
  { header: "FROM", value: ({ senders }) => senders },
];
const RIGHT: readonly Column<Row>[] = [{ header: "BACKENDS", value: ({ backends }) => backends }];

function columnsFor(rows: readonly Row[]): readonly Column<Row>[] {
  const plain = rows.every(({ kind, masquerade }) => kind === "ClusterIP" && masquerade === "never");
  return plain ? [...LEFT, ...RIGHT] : [...LEFT, ...MORE, ...RIGHT];
}

const choiceText = ({ backends, whenEmpty }: DescribedChoice): string =>
  backends.length === 0 ? `none: ${whenEmpty}` : backends.join(",");

const backendsText = ({ internal, external }: DescribedFrontend): string =>
  bothScopes(choiceText(internal), choiceText(external));

/** Nothing to show is often the wrong file: say what was in it. */
const ignoredText = (count: number): string =>
  count === 0 ? "" : `; left out: ${count} (other kinds or another proxy's; -o json lists them)`;

/** `portolan compile`. Errors among the problems are a finding. */
export const compile: Handler<CompileOptions> = async (options, printer) => {
  const read = await readDesired(options, printer);
  if (options.plan === true) {
    const { planAgainstLive } = await import("../diff/handler.js");
    const side = { kind: "manifests", text: (options.file ?? []).join(" "), desired: read } as const;
    const { problems: found, refused } = await planAgainstLive(side, options, printer);
    const wrong = refused.length > 0 || found.some(({ severity }) => severity === "error");
    return wrong ? ExitCode.finding : ExitCode.ok;
  }
  const { node, config } = read;
  const image = describeImage(compileImage(read.snapshot, config));
  const problems: readonly Problem[] = [...read.problems, ...image.problems];
  for (const problem of problems) printer.note(`${problem.severity}: ${problemLine(problem)}`);
  if (printer.structured) {
    const { ignored } = read;
    const { servicePorts, nodePortAddresses, serviceNetworks } = image;
    printer.json({ node, servicePorts, nodePortAddresses, serviceNetworks, problems, ignored });
  } else {
    const rows = image.servicePorts.flatMap((port) =>
      port.frontends.map(
        (frontend): Row => ({
          service: `${port.namespace}/${port.name}`,
          port: port.portName,
          protocol: port.protocol,
          kind: frontend.kind,
          address: frontend.address,
          family: frontend.family,
          masquerade: frontend.masquerade,
          senders: frontend.sourceRanges?.join(",") ?? "any",
          backends: backendsText(frontend),
        }),
      ),
    );
    rows.sort((a, b) => (a.service < b.service ? -1 : Number(a.service > b.service)));
    if (rows.length > 0) printer.table(columnsFor(rows), rows);
    else printer.note(`no Service with an address${ignoredText(read.ignored.length)}`);
  }
  return problems.some(({ severity }) => severity === "error") ? ExitCode.finding : ExitCode.ok;
};
