// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import { withDesired } from "../../desired-options.js";
import type { ExplainOptions } from "./handler.js";

export function explainCommand(): Command {
  const command = describe({
    name: "explain",
    summary: "why a Service has these backends on this node, and what would change that",
    description: `With -f or --kubeconfig: every endpoint of every EndpointSlice of the Service, in the Cluster set and in the Local
set, and every frontend with what new flows to it are given. Numbers in brackets are those of the rules of kube-proxy's
behaviour by which that is decided. "What would change" is answered by compiling the Service as it would be then.

Without them the kernel's maps are read: what they hold of the Service. Conditions, hints and slices are not in them.`,
    examples: [
      { line: "portolan explain web -f examples/web --node n1", does: "from manifests" },
      {
        line: "portolan explain shop/web --kubeconfig /etc/portolan/kubeconfig",
        does: "as the API server has it now",
      },
      { line: "portolan explain shop/web", does: "what this node's maps tell" },
    ],
    reads: true,
  });
  return withDesired(
    command
      .argument("<service>", '"name" or "namespace/name"')
      .option("-n, --namespace <ns>", "the namespace of the Service"),
  ).action(run<ExplainOptions>(async () => (await import("./handler.js")).explain));
}
