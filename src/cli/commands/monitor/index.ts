// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { EVENT_TYPES } from "../../../dataplane/view/event-types.js";
import { describe, integerOption, repeatedOption, run, wordOption } from "../../command.js";
import { withServiceScope } from "../../service-text.js";
import type { MonitorOptions } from "./handler.js";

const PROTOCOLS: readonly string[] = ["TCP", "UDP", "SCTP", "ICMP"];
const MOST_SAMPLE = 1_000_000_000;

export function monitorCommand(): Command {
  const command = describe({
    name: "monitor",
    summary: "live events: new flows and their backends, refusals, drops, backends that have gone",
    description: `Listens to the kernel programs and prints what they tell, as it happens, until Ctrl-C. A line each: who asked for which
Service, the backend that was chosen, and WHY: random, affinity (where the client's last flow went), affinity-new, local (traffic
policy Local), short-circuit (a sender of this node gets the Cluster set), masquerade; of all other events the reason, as
\`portolan maps dump counters\` and the metrics name it.

Translated packets are as many as there is traffic: they are told when --type or --sample asks for them, one in N. A slow
reader loses events, never packets; how many is said. Only one monitor can listen at a time. With -o json each event is one
line; {"type":"lost"} stands where some are missing.`,
    examples: [
      { line: "portolan monitor", does: "new flows, and everything that gets none" },
      { line: "portolan monitor --type rejected,dropped", does: "who is dropping it?" },
      { line: "portolan monitor -s redis --address 10.244.1.7", does: "one client and one Service" },
      { line: "portolan monitor --sample 1 --protocol UDP", does: "every translated packet, too" },
      { line: "portolan monitor --count 100 -o json", does: "for programs" },
    ],
    formats: ["table", "wide", "json", "yaml"],
  });
  return withServiceScope(command)
    .option("--type <types>", `only these events: ${EVENT_TYPES.join(", ")}`, repeatedOption)
    .option("--reason <names>", "only events with these reasons, such as no_backend", repeatedOption)
    .option(
      "--address <cidr>",
      "only with this client, destination or backend: an address or a range",
      repeatedOption,
    )
    .addOption(wordOption("--protocol <name>", "only of this protocol", PROTOCOLS))
    .option("--sample <n>", "of translated packets tell one in n", integerOption(1, MOST_SAMPLE))
    .option("-c, --count <n>", "so many events, then end", integerOption(1, 1_000_000_000))
    .option("--since-start", "times from when it began, instead of by the clock")
    .action(run<MonitorOptions>(async () => (await import("./handler.js")).monitor));
}
