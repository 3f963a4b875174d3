// SPDX-License-Identifier: Apache-2.0
/** The options that say where it stands what a node's maps should hold, and kube-proxy's: see desired.ts. */
import { type Command, Option } from "commander";
import type { ProxyOptionTexts } from "../config/proxy-options.js";
import { repeatedOption } from "./command.js";

export interface DesiredOptions extends ProxyOptionTexts {
  readonly file?: readonly string[];
  readonly kubeconfig?: string;
  readonly node?: string;
}

/** `-f`. */
export function fileOption(): Option {
  return new Option("-f, --file <path>", "a file, a directory, or - for stdin; may be repeated").argParser(
    repeatedOption,
  );
}

/** `--node`, and kube-proxy's options as far as a compile depends on them. */
export function withProxyOptions(command: Command): Command {
  return command
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
    );
}

/** `-f` and `--kubeconfig`, and then withProxyOptions(). */
export function withDesired(command: Command): Command {
  return withProxyOptions(
    command
      .addOption(fileOption())
      .addOption(
        new Option("--kubeconfig <file>", "read the API server that this file names").conflicts("file"),
      ),
  );
}

/** Whether the options name a source of what should be. */
export function namesSource({ file, kubeconfig }: DesiredOptions): boolean {
  return file !== undefined || kubeconfig !== undefined;
}
