// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from "commander";
import type { AffinityState } from "../../../dataplane/view-affinity.js";
import { describe, run } from "../../command.js";
import { LIST_FORMATS } from "../../output.js";
import { withServiceScope } from "../../service-text.js";
import type { AffinityCommandOptions } from "./handler.js";

const STATES: readonly AffinityState[] = ["valid", "expired", "gone", "draining", "unchosen", "off"];

export function affinityCommand(): Command {
  const command = describe({
    name: "affinity",
    summary: "the clients that session affinity remembers, and their backends",
    description: `Reads the pinned maps. One line for each client of a service port with sessionAffinity: ClientIP, whatever address of the
Service it used: the backend that its next connection goes to, and how long ago its last new connection was.

STATE is valid, or why the next connection is given a backend anew: expired (the last one is too long ago), gone (the
backend has left every EndpointSlice), draining (it does not serve), unchosen (the traffic policies do not offer it), off
(the Service has no session affinity any more).`,
    examples: [
      { line: "portolan affinity", does: "all clients" },
      { line: "portolan affinity --service shop/web --state valid", does: "who is bound to which pod" },
      { line: "portolan affinity -o json", does: "for programs" },
    ],
    formats: LIST_FORMATS,
    reads: true,
  });
  return withServiceScope(command)
    .addOption(new Option("--state <state>", "only clients in this state").choices(STATES))
    .action(run<AffinityCommandOptions>(async () => (await import("./handler.js")).affinity));
}
