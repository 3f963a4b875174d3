// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, repeatedOption, run } from "../../command.js";
import type { CompileOptions } from "./handler.js";

export function compileCommand(): Command {
  return describe({
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
    ],
  })
    .requiredOption(
      "-f, --file <path>",
      "a file, a directory, or - for stdin; may be repeated",
      repeatedOption,
    )
    .option("--node <name>", "the node whose maps are wanted (default: this host's name)")
    .option("--service-cidr <ranges>", "where ClusterIPs come from, beside what ServiceCIDR objects say")
    .option("--external-ips [bool]", "serve spec.externalIPs (default: true)")
    .optionsGroup("Options of kube-proxy:")
    .option("--cluster-cidr <ranges>", "addresses of pods, one range of each family")
    .option(
      "--detect-local-mode <mode>",
      "how a local pod is told: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix (default: ClusterCIDR)",
    )
    .option("--pod-bridge-interface <name>", "the bridge of local pods, for BridgeInterface")
    .option(
      "--pod-interface-name-prefix <text>",
      "how the names of pods' interfaces begin, for InterfaceNamePrefix",
    )
    .option("--masquerade-all [bool]", "give every connection to a ClusterIP an address of the node")
    .option(
      "--nodeport-addresses <ranges>",
      "local addresses that serve NodePorts: ranges, or the word primary (default: by --proxy-mode)",
    )
    .option(
      "--proxy-mode <mode>",
      "decides the default of --nodeport-addresses only: all with iptables, primary with nftables (default: iptables)",
    )
    .action(run<CompileOptions>(async () => (await import("./handler.js")).compile));
}
