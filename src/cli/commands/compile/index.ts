// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, repeatedOption, run } from "../../command.js";
import type { CompileOptions } from "./handler.js";

export function compileCommand(): Command {
  return describe({
    name: "compile",
    summary: "what a node's maps would hold for these manifests; needs no kernel and no root",
    description: `Reads Kubernetes manifests (Service, EndpointSlice, Endpoints, Pod, Node; several documents, lists, directories), selects
the endpoints as kube-proxy does, and prints each Service address with the backends that new flows are given.
Problems go to stderr; with an error among them the exit status is 1, and the other objects are compiled all the same.`,
    examples: [
      { line: "portolan compile -f examples/redis", does: "a directory" },
      {
        line: "portolan compile -f svc.yaml -f pods.yaml --node n1",
        does: "several files, as node n1 sees them",
      },
      {
        line: "kubectl get svc,endpointslices -A -o yaml | portolan compile -f - -o json",
        does: "a live cluster",
      },
    ],
  })
    .requiredOption(
      "-f, --file <path>",
      "a file, a directory, or - for stdin; may be repeated",
      repeatedOption,
    )
    .option("--node <name>", "the node whose maps are wanted (default: this host's name)")
    .action(run<CompileOptions>(async () => (await import("./handler.js")).compile));
}
