// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, run } from "../../command.js";
import type { DumpArchiveOptions } from "./handler.js";

export function dumpCommand(): Command {
  return describe({
    name: "dump",
    summary: "one archive for a bug report, which the commands read back elsewhere with --from",
    description: `Writes a gzipped tar file that only its owner may read: all maps as the kernel has them, the interfaces and the programs at their
hooks, the versions of the product, the kernel, the layout and libbpf, what \`portolan doctor\` says, the problems that the
agent found, and its last log lines. Where no agent has run it has no maps, and the rest.

Every command with --from shows the node as it was, on any machine, without root and BPF. Ages count up to the time of the dump.

It has the names of Services, the addresses of pods, clients and interfaces, the host's name, and paths from the agent's log.
It has no manifests, kubeconfigs, tokens or environment. \`tar tzf FILE\` lists it.`,
    examples: [
      { line: "portolan dump", does: "a file in this directory, named after host and time" },
      { line: "portolan dump -f /tmp/node7.tar.gz", does: "this file" },
      { line: "portolan services --from /tmp/node7.tar.gz", does: "elsewhere: what its kernel did" },
      { line: "ssh node7 sudo portolan dump -f - > node7.tar.gz", does: "to stdout" },
    ],
  })
    .option("-f, --file <path>", "the archive; - is stdout (default: portolan-dump-HOST-TIME.tar.gz)")
    .action(run<DumpArchiveOptions>(async () => (await import("./handler.js")).dumpArchive));
}
