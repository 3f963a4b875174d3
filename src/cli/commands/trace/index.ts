// SPDX-License-Identifier: Apache-2.0
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Origin } from "../../../trace/ground.js";
import { describe, run, wordOption } from "../../command.js";
import type { TraceOptions } from "./handler.js";

const ORIGINS: readonly Origin[] = ["pod", "uplink", "overlay", "host"];

/** Elsewhere --from names an archive, so a file's name is a likely mistake. */
function parseOrigin(text: string): Origin {
  const origin = ORIGINS.find((each) => each === text);
  if (origin === undefined)
    throw new InvalidArgumentError(
      `it must be ${ORIGINS.join(", ")}. A packet is traced through the kernel: an archive of \`portolan dump\` will not do.`,
    );
  return origin;
}

export function traceCommand(): Command {
  return describe({
    name: "trace",
    summary: "where a packet would go from here, and why",
    description: `Builds a packet, runs it through a twin of the programs that are at work on this node, and prints each step: what is
looked up and found, which backend is chosen and why, the packet before and after, and the verdict. The kernel's own
routing table says what comes between the hooks. With --reply the answer's way too. It leaves no state behind: what
the programs would write goes to a copy, and nothing is sent.

Run it on the node, as root. It does not look at the host's firewall, and not at other nodes.`,
    examples: [
      {
        line: "portolan trace --proto tcp --src 10.244.1.5:40000 --dst 10.96.0.10:80",
        does: "a pod's connection",
      },
      {
        line: "portolan trace --proto udp --src 203.0.113.7:5353 --dst 192.0.2.1:30053 --from uplink --reply",
        does: "and the answer",
      },
      {
        line: "portolan trace --proto tcp --src 192.0.2.1:40000 --dst [fd00:96::a]:443 --from host -o json",
        does: "for programs",
      },
    ],
  })
    .addOption(
      wordOption("--proto <protocol>", "transport protocol", [
        "tcp",
        "udp",
        "sctp",
        "icmp",
      ]).makeOptionMandatory(),
    )
    .requiredOption("--src <address>", "the sender: A:PORT or [A]:PORT; of icmp A")
    .requiredOption("--dst <address>", "where it goes: A:PORT or [A]:PORT; of icmp A")
    .addOption(
      new Option(
        "--from <origin>",
        "by what it comes in; host: from a process of this node (default: told by the route back)",
      )
        .choices(ORIGINS)
        .argParser(parseOrigin),
    )
    .option("--interface <name>", "the interface by which it comes in")
    .option("--flags <flags>", "of tcp and sctp, with commas: syn, ack, fin, rst, psh, urg (default: syn)")
    .option("--reply", "follow the answer, too")
    .action(run<TraceOptions>(async () => (await import("./handler.js")).trace));
}
