// SPDX-License-Identifier: Apache-2.0
/** By which options a command is told which flows it is about. Known before anything is loaded that reads them. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { parseDuration } from "../../../config/duration.js";
import type { FlowState } from "../../../dataplane/view.js";
import { wordOption } from "../../command.js";
import { type ServiceScope, withServiceScope } from "../../service-text.js";

export interface FlowFilterOptions extends ServiceScope {
  /** "10.0.0.1", "10.0.0.1:80", "[fd00::1]:80", "10.0.0.0/8"; and so below. */
  readonly client?: string;
  readonly backend?: string;
  readonly destination?: string;
  readonly protocol?: string;
  readonly family?: string;
  readonly state?: FlowState;
  /** Seconds. */
  readonly minIdle?: number;
  readonly maxIdle?: number;
}

export const FLOW_STATES: readonly FlowState[] = ["opening", "established", "closing", "closed", "dead"];

/** "90" or "90s", "5m", "1h30m": in seconds. */
export function parseIdle(text: string): number {
  const milliseconds = parseDuration(/^\d{1,10}$/.test(text) ? `${text}s` : text);
  if (milliseconds === null || milliseconds < 0)
    throw new InvalidArgumentError("it must be a time such as 90, 90s, 5m or 1h30m.");
  return milliseconds / 1000;
}

export function withFlowFilter(command: Command): Command {
  return withServiceScope(command)
    .option("--client <peer>", "only from this address, address and port, or range")
    .option("--backend <peer>", "only to this backend")
    .option("--destination <peer>", "only to this address of a Service")
    .addOption(wordOption("--protocol <protocol>", "only of this one", ["tcp", "udp", "sctp"]))
    .addOption(new Option("--family <family>", "only of this one").choices(["4", "6"]))
    .addOption(new Option("--state <state>", "only flows in this state").choices(FLOW_STATES))
    .option("--min-idle <time>", "only those that were silent so long: 90, 90s, 5m", parseIdle)
    .option("--max-idle <time>", "only those that were not silent longer", parseIdle);
}

/** Whether anything is asked for: all flows are not what somebody wants to delete. */
export function isFiltered(options: FlowFilterOptions): boolean {
  const { service, namespace, client, backend, destination, protocol, family, state, minIdle, maxIdle } =
    options;
  return [service, namespace, client, backend, destination, protocol, family, state, minIdle, maxIdle].some(
    (value) => value !== undefined,
  );
}
