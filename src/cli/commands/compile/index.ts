// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import { fileOption, withProxyOptions } from "../../desired-options.js";
import type { CompileOptions } from "./handler.js";

export function compileCommand(): Command {
  const command = describe({
    name: "compile",
    summary: "what a node's maps would hold for these manifests; needs no kernel and no root",
    description: `Reads Kubernetes manifests (Service, EndpointSlice, Endpoints, Pod, Node, ServiceCIDR; several documents, lists,
directories), selects the endpoints as kube-proxy does, and prints each Service address with the backends that new flows
are given. A NodePort's address is *: it is served on the addresses of the Node object, as --nodeport-addresses chooses.
Problems go to stderr; with an error among them the exit status is 1, and the other objects are compiled all the same.`,
    examples: [
      { line: "portolan compile -f examples/redis", does: "a directory" },
      {
        line: "portolan compile -f svc.yaml -f pods.yaml --node n1",
        does: "several files, as node n1 sees them",
      },
      {
        line: "portolan compile -f examples/web --node n1 --cluster-cidr 10.244.0.0/16",
        does: "with masquerading",
      },
      {
        line: "kubectl get svc,endpointslices -A -o yaml | portolan compile -f - -o json",
        does: "a live cluster",
      },
      {
        line: "portolan compile -f /etc/portolan --plan",
        does: "what would be written here (root); see portolan diff",
      },
    ],
  })
    .addOption(fileOption().makeOptionMandatory())
    .option("--plan", "show what would be written into this node's maps to get there, and write nothing");
  return withProxyOptions(command).action(
    run<CompileOptions>(async () => (await import("./handler.js")).compile),
  );
}
