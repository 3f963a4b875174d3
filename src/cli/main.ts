#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
import { basename } from "node:path";
import { Command, type OutputConfiguration } from "commander";
import { productVersion } from "../util/version.js";
import { report } from "./command.js";
import { affinityCommand } from "./commands/affinity/index.js";
import { agentCommand, kubeProxyCommand, withDashes } from "./commands/agent/index.js";
import { backendsCommand } from "./commands/backends/index.js";
import { cleanupCommand } from "./commands/cleanup/index.js";
import { compileCommand } from "./commands/compile/index.js";
import { commandTreeCommand, completionCommand } from "./commands/completion/index.js";
import { demoCommand } from "./commands/demo/index.js";
import { diffCommand } from "./commands/diff/index.js";
import { doctorCommand } from "./commands/doctor/index.js";
import { dumpCommand } from "./commands/dump/index.js";
import { explainCommand } from "./commands/explain/index.js";
import { flowsCommand } from "./commands/flows/index.js";
import { interfacesCommand } from "./commands/interfaces/index.js";
import { mapsCommand } from "./commands/maps/index.js";
import { monitorCommand } from "./commands/monitor/index.js";
import { servicesCommand } from "./commands/services/index.js";
import { topCommand } from "./commands/top/index.js";
import { traceCommand } from "./commands/trace/index.js";
import { verifyCommand } from "./commands/verify/index.js";
import { endWhenClosed } from "./output.js";

const DESCRIPTION =
  "Portolan writes Kubernetes Services into eBPF maps, and translates their packets in the kernel.";

const MORE = `
Start here:
  $ portolan doctor                             # can this machine run it?
  $ portolan compile -f examples/redis          # what would the maps hold? needs no root
  $ portolan agent --manifests examples/redis   # run it (root)
  $ portolan services                           # see what the kernel does
  $ portolan demo                               # or: two nodes and a real Redis, in a minute

Every command explains itself with examples: portolan COMMAND --help
Results go to stdout and everything else to stderr; -o json works wherever there is a result.
Exit status: 0 done, 1 done with a finding, 2 wrong usage, 3 failed.`;

const HELP_WIDTH = 100;

const HELP_WIDTHS: OutputConfiguration = {
  getOutHelpWidth: () => Math.min(process.stdout.columns ?? HELP_WIDTH, HELP_WIDTH),
  getErrHelpWidth: () => Math.min(process.stderr.columns ?? HELP_WIDTH, HELP_WIDTH),
};

/** The whole command line, not yet run. */
export function buildProgram(): Command {
  const program = new Command("portolan")
    .description(DESCRIPTION)
    .version(productVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help, or that of a command")
    .configureOutput(HELP_WIDTHS)
    .helpCommand("help [command]", "print the help of a command")
    .showHelpAfterError("(portolan --help shows what there is)")
    .addHelpText("after", MORE);
  const commands = [
    agentCommand(),
    compileCommand(),
    explainCommand(),
    diffCommand(),
    servicesCommand(),
    backendsCommand(),
    flowsCommand(),
    affinityCommand(),
    interfacesCommand(),
    topCommand(),
    monitorCommand(),
    mapsCommand(),
    traceCommand(),
    verifyCommand(),
    doctorCommand(),
    dumpCommand(),
    cleanupCommand(),
    demoCommand(),
    completionCommand(() => program),
  ];
  for (const command of commands) program.addCommand(command);
  program.addCommand(
    commandTreeCommand(() => program),
    { hidden: true },
  );
  inherit(program);
  return program;
}

/** As it is typed: "portolan maps dump". */
function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}

/** commander copies settings to commands that it makes itself, not to those which are added. */
function inherit(parent: Command): void {
  for (const child of parent.commands) {
    inherit(child.copyInheritedSettings(parent).showHelpAfterError(`(${nameOf(child)} --help explains it)`));
  }
}

/** `exitOverride` makes commander throw instead of ending the process; it is not inherited by added commands. */
function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwInsteadOfExit(child);
}

/** A node's DaemonSet starts `kube-proxy`, and under that name the agent takes its arguments. */
function programFor([node = "", path = "", ...args]: readonly string[]): [Command, readonly string[]] {
  if (basename(path) !== "kube-proxy") return [buildProgram(), [node, path, ...args]];
  const program = kubeProxyCommand(productVersion())
    .configureOutput(HELP_WIDTHS)
    .showHelpAfterError("(kube-proxy --help shows what there is)");
  return [program, [node, path, ...withDashes(args)]];
}

async function main(args: readonly string[]): Promise<void> {
  endWhenClosed(process.stdout, process.stderr);
  const [program, argv] = programFor(args);
  throwInsteadOfExit(program);
  try {
    await program.parseAsync(argv);
  } catch (error) {
    process.exitCode = report(error);
  }
}

await main(process.argv);
