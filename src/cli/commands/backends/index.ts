// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import { LIST_FORMATS } from "../../output.js";
import { withServiceScope } from "../../service-text.js";
import type { BackendOptions } from "./handler.js";

export function backendsCommand(): Command {
  const command = describe({
    name: "backends",
    summary: "the backends in this node's maps, with their traffic",
    description: `Reads the pinned maps. One line for each backend of each service port: its cell, its generation, and what went to it.
A backend of generation n is the n-th that its cell holds; flows remember the generation they began with. A draining one is
still in an EndpointSlice and does not serve: it keeps its TCP flows and is given no new ones. SETS is kept for Services with
session affinity: the endpoints of the node and of the cluster that its traffic policies may choose.`,
    examples: [
      { line: "portolan backends", does: "all of them" },
      { line: "portolan backends --service redis", does: "those of one Service" },
      { line: "portolan backends -n shop -o wide", does: "those of one namespace, with all columns" },
      { line: "portolan backends -o json", does: "for programs" },
    ],
    formats: LIST_FORMATS,
    reads: true,
  });
  return withServiceScope(command).action(
    run<BackendOptions>(async () => (await import("./handler.js")).backends),
  );
}
