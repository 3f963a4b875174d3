// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import { LIST_FORMATS } from "../../output.js";
import { withServiceScope } from "../../service-text.js";
import type { ServicesOptions } from "./handler.js";

export function servicesCommand(): Command {
  const command = describe({
    name: "services",
    summary: "the Services in this node's maps, with their backends and traffic",
    description: `Reads the pinned maps: what the kernel does now, not what an agent intends. One line for each Service address.
NAME is "name" or "namespace/name", and may stand behind -s.

KIND External is an externalIP or a load balancer's address. A NodePort stands at 0.0.0.0 or [::]; on which addresses it is
served is said below the table. BACKENDS are what a new flow may be given, from inside the cluster and from outside where
that differs. RULES has what is special: masquerade=always|outsiders (the flows that are given an address of the node;
outsiders are no local pods), local, local=inside, local=outside (who gets endpoints of this node only), affinity=SECONDS,
from=RANGES (everybody else is dropped).

Problems that the agent found, such as two Services that claim one address, go to stderr, or into -o json.`,
    examples: [
      { line: "portolan services", does: "all of them" },
      { line: "portolan services default/redis", does: "one Service" },
      { line: "portolan services -n kube-system -o wide", does: "of one namespace, with all columns" },
      { line: "portolan services -o json | jq '.services[].address'", does: "for programs" },
    ],
    formats: LIST_FORMATS,
    reads: true,
  });
  return withServiceScope(command.argument("[name]", "only the Service of this name")).action(
    run<ServicesOptions>(async () => (await import("./handler.js")).services),
  );
}
