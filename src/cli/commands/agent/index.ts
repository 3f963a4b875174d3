// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from "commander";
import { describe, integerOption, listOption, repeatedOption, run } from "../../command.js";
import type { AgentOptions } from "./handler.js";

const size = (flags: string, what: string): Option =>
  new Option(flags, `${what} (a changed size needs \`portolan cleanup\` first)`).argParser(
    integerOption(1, 1 << 24),
  );

function booleanOption(text: string): boolean {
  if (text !== "true" && text !== "false") throw new InvalidArgumentError("it must be true or false.");
  return text === "true";
}

export function agentCommand(): Command {
  return describe({
    name: "agent",
    summary: "run the node agent: follow manifests and interfaces, and keep the kernel's maps in step",
    description: `Loads the programs, attaches them to this node's interfaces, and writes what the manifests say into pinned maps. It follows
both: a changed file or a new pod is in the kernel within milliseconds. Logs are JSON lines on stderr.
SIGTERM stops the agent and leaves the dataplane up: traffic goes on without it. \`portolan cleanup\` takes it down.`,
    examples: [
      { line: "portolan agent --manifests /etc/portolan", does: "everything detected" },
      {
        line: "portolan agent --manifests m --devices eth0 --pod-interfaces 'cali*'",
        does: "interfaces by name",
      },
      {
        line: "portolan agent --manifests m --hostname-override n1 --log-level debug",
        does: "as node n1, talkative",
      },
    ],
  })
    .requiredOption(
      "--manifests <dir>",
      "directory or file of Kubernetes manifests, watched; - is stdin, read once; may be repeated",
      repeatedOption,
    )
    .option("--hostname-override <name>", "this node's name in the manifests (default: the host's name)")
    .option(
      "--devices <names>",
      "interfaces that lead to other hosts, with * and ? (default: detected)",
      listOption,
    )
    .option(
      "--pod-interfaces <names>",
      "the node's ends of pods' interfaces, with * and ? (default: detected)",
      listOption,
    )
    .addOption(
      new Option("--attach <mode>", "how programs are attached")
        .choices(["auto", "tcx", "clsact"])
        .default("auto"),
    )
    .addOption(
      new Option(
        "--socket-lb <mode>",
        "whose sockets are served at connect(2): of this host's own programs, of pods too (TCP), or none",
      )
        .choices(["full", "host-only", "off"])
        .default("host-only"),
    )
    .option(
      "--cgroup-root <dir>",
      "cgroup v2 directory of the sockets to serve (default: where it is mounted)",
    )
    .option("--reset-removed-backends", "reset TCP connections whose backend has left its Service", false)
    .option("--snat-ports <ranges>", "source ports for masqueraded flows (default: 10240-29999,61000-65535)")
    .option(
      "--forward-mark-bit <n>",
      "bit of the packet mark by which the host's firewall can tell translated packets",
      integerOption(0, 31),
      13,
    )
    .option(
      "--forward-rules [bool]",
      "let translated packets through the host's iptables, where they would be stopped",
      booleanOption,
      true,
    )
    .option("--service-cidr <ranges>", "where ClusterIPs come from, beside what ServiceCIDR objects say")
    .option("--external-ips [bool]", "serve spec.externalIPs (default: true)")
    .addOption(size("--max-services <n>", "most service ports"))
    .addOption(size("--max-frontends <n>", "most Service addresses of one family"))
    .addOption(size("--max-backends <n>", "most backends of one family"))
    .addOption(size("--max-slots <n>", "most places in Services' choices of one family"))
    .addOption(size("--max-nat <n>", "most halves of flows of one family"))
    .option(
      "--audit-interval <seconds>",
      "how often the kernel's maps and hooks are compared with what they should be",
      integerOption(1, 86_400),
      60,
    )
    .addOption(
      new Option("--log-level <level>", "least severity that is logged")
        .choices(["debug", "info", "warn", "error"])
        .default("info"),
    )
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
    .option(
      "--iptables-masquerade-bit <n>",
      "bit of the packet mark on connections that get an address of the node; others' rules leave those alone",
      integerOption(0, 31),
      14,
    )
    .option(
      "--iptables-localhost-nodeports [bool]",
      "serve NodePorts on 127.0.0.0/8 to this host's programs (default: true)",
    )
    .action(run<AgentOptions>(async () => (await import("./handler.js")).agent));
}
