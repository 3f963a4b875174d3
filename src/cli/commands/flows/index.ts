// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from "commander";
import type { FlowState } from "../../../dataplane/view.js";
import { describe, run } from "../../command.js";
import { LIST_FORMATS } from "../../output.js";
import { withServiceScope } from "../../service-text.js";
import type { FlowOptions } from "./handler.js";

const FLOW_STATES: readonly FlowState[] = ["opening", "established", "closing", "closed", "dead"];

export function flowsCommand(): Command {
  const command = describe({
    name: "flows",
    summary: "the translated flows in this node's maps",
    description: `Reads the pinned maps. One line for each flow from a client to a Service: the backend it has, its state, and how
long ago its last packet was seen (to the second). A dead flow counts as absent everywhere and may be taken over.`,
    examples: [
      { line: "portolan flows --service redis", does: "those of one Service" },
      { line: "portolan flows --state established | wc -l", does: "how many connections are open" },
      { line: "portolan flows -o json", does: "for programs" },
    ],
    formats: LIST_FORMATS,
    reads: true,
  });
  return withServiceScope(command)
    .addOption(new Option("--state <state>", "only flows in this state").choices(FLOW_STATES))
    .action(run<FlowOptions>(async () => (await import("./handler.js")).flows));
}
