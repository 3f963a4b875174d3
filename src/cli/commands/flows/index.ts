// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from "commander";
import { describe, integerOption, run } from "../../command.js";
import { LIST_FORMATS } from "../../output.js";
import type { DeleteFlowsOptions } from "./delete.js";
import { withFlowFilter } from "./filter-options.js";
import type { FlowsOptions } from "./handler.js";
import { COUNT_KEYS, SORT_KEYS } from "./keys.js";

function deleteCommand(): Command {
  const command = describe({
    name: "delete",
    summary: "make the kernel forget flows: those that are named, or those of a filter",
    description: `Deletes both entries of each flow, or all four where the client's address is changed, too. A UDP client's next packet
begins a new flow, and is given a backend anew. A TCP connection cannot begin in the middle: it ends, with a reset or by its
timeout. Session affinity is not touched.

Nothing is deleted without a name or a filter, nor without --yes; --dry-run shows what would be.`,
    examples: [
      {
        line: "portolan flows delete --backend 10.244.1.10:8080 --dry-run",
        does: "which flows would it be?",
      },
      { line: "portolan flows delete --backend 10.244.1.10:8080 --yes", does: "all flows of one backend" },
      { line: "portolan flows delete -s shop/dns --protocol udp --yes", does: "all UDP flows of a Service" },
      {
        line: "portolan flows delete flow/TCP/10.9.0.9:40000/10.96.0.1:80 --yes",
        does: "one flow, by its name",
      },
    ],
    formats: LIST_FORMATS,
  });
  return withFlowFilter(command.argument("[names...]", "flows, as `portolan flows -o name` prints them"))
    .option("--yes", "delete them")
    .addOption(new Option("--dry-run", "show them, and delete nothing").conflicts("yes"))
    .action(run<DeleteFlowsOptions>(async () => (await import("./delete.js")).deleteFlowsCommand));
}

export function flowsCommand(): Command {
  const command = describe({
    name: "flows",
    summary: "the translated flows in this node's maps",
    description: `Reads the pinned maps. One line for each flow from a client to a Service: the backend it has, its state, and how
long ago its last packet was seen (to the second); when a flow began is not kept. A dead flow counts as absent everywhere and
may be taken over. Flows are printed as they are read, a piece of the map at a time, however many there are; with --sort they
have an order, and then --limit takes the first. Without --limit all are held until they are sorted.

--orphans lists entries that have lost what they belong to: no-opposite (the entry for the other direction is missing),
backend-gone, service-gone. A TCP flow goes on when its backend has left the Service; that is no fault.`,
    examples: [
      { line: "portolan flows --service redis", does: "those of one Service" },
      { line: "portolan flows --state established --count-by backend", does: "who has how many connections" },
      { line: "portolan flows --client 10.244.0.0/16 --min-idle 5m", does: "pods' flows that are silent" },
      { line: "portolan flows --sort idle --limit 20", does: "those that were heard of last" },
      { line: "portolan flows --orphans", does: "what has lost its other half, its backend or its Service" },
      { line: "portolan flows -o json", does: "for programs" },
    ],
    formats: LIST_FORMATS,
    reads: true,
  });
  return withFlowFilter(command)
    .addOption(
      new Option("--count-by <what>", "count them by this, instead of listing them").choices(COUNT_KEYS),
    )
    .addOption(new Option("--sort <by>", "in this order").choices(SORT_KEYS).conflicts("countBy"))
    .option("--limit <n>", "at most so many lines", integerOption(1, 1_000_000_000))
    .addOption(
      new Option(
        "--orphans",
        "entries that have lost what they belong to; only -s and -n narrow them down",
      ).conflicts([
        "countBy",
        "sort",
        "client",
        "backend",
        "destination",
        "protocol",
        "family",
        "state",
        "minIdle",
        "maxIdle",
      ]),
    )
    .action(run<FlowsOptions>(async () => (await import("./handler.js")).flows))
    .addCommand(deleteCommand());
}
