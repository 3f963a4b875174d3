// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, type Handler, repeatedOption, run } from "../../command.js";
import { addFlags } from "./flags.js";
import type { AgentOptions } from "./handler.js";

const DESCRIPTION = `Loads the programs, attaches them to this node's interfaces, and writes what the cluster's Services say into pinned maps. It follows
both: a changed Service or a new pod is in the kernel within milliseconds. Logs are JSON lines on stderr.
SIGTERM stops the agent and leaves the dataplane up: traffic goes on without it. \`portolan cleanup\` takes it down.

The cluster is read from the API server as kube-proxy does (--config, --kubeconfig or --master; without them by the pod's service
account), or, with --manifests, from files. All of kube-proxy's options are taken, with their meanings: those that have no effect here say
why. What --config says wins over kube-proxy's own options, and our options win over the file; docs/configuration.md has every field and flag.`;

/** `portolan agent`. */
export function agentCommand(): Command {
  return withOptions(
    describe({
      name: "agent",
      summary: "run the node agent: follow the cluster and interfaces, and keep the kernel's maps in step",
      description: DESCRIPTION,
      examples: [
        { line: "portolan agent --kubeconfig /etc/portolan/kubeconfig", does: "from an API server" },
        {
          line: "portolan agent --config /var/lib/kube-proxy/config.conf",
          does: "with kube-proxy's own file",
        },
        { line: "portolan agent --manifests /etc/portolan", does: "from files, everything detected" },
        {
          line: "portolan agent --manifests m --devices eth0 --pod-interfaces 'cali*'",
          does: "interfaces by name",
        },
        {
          line: "portolan agent --manifests m --hostname-override n1 --log-level debug",
          does: "as node n1, talkative",
        },
        { line: "portolan agent --write-config-to defaults.yaml", does: "a file with all settings" },
      ],
    }),
  );
}

/** The same under the name and with the arguments of the program whose place it takes. */
export function kubeProxyCommand(version: string): Command {
  const line = "kube-proxy --config=/var/lib/kube-proxy/config.conf --hostname-override=$(NODE_NAME)";
  const command = describe({
    name: "kube-proxy",
    summary: "Portolan in kube-proxy's place",
    description: `This is Portolan, under the name of the program that it takes the place of: \`portolan agent\`.\n\n${DESCRIPTION}`,
    examples: [{ line, does: "as kubeadm's DaemonSet starts it" }],
  });
  return withOptions(command.version(`Portolan ${version}`, "--version [raw]", "print the version"));
}

async function load(): Promise<Handler<AgentOptions>> {
  (await import("../../../native/early.js")).loadBindingEarly();
  return (await import("./handler.js")).agent;
}

function withOptions(command: Command): Command {
  command.option(
    "--manifests <path>",
    "directory or file of Kubernetes manifests, watched, instead of an API server; - is stdin, read once; may be repeated",
    repeatedOption,
  );
  return addFlags(command).allowExcessArguments(false).action(run<AgentOptions>(load));
}

/**
 * kube-proxy takes "_" for "-" in the names of its flags.
 *
 * @param args what follows the program's name
 */
export function withDashes(args: readonly string[]): readonly string[] {
  return args.map((arg) => arg.replace(/^--[^=]+/, (name) => name.replaceAll("_", "-")));
}
