// SPDX-License-Identifier: Apache-2.0
/** What a verification finds, whatever it looked at: one shape, so that people and programs read one list. */
import type { DifferenceKind } from "../../dataplane/compare.js";

export type CheckName =
  /** The agent's image against its source. */
  | "source"
  /** Maps are pinned, are those that the programs work on, and nothing else is there. */
  | "pins"
  /** The service maps. */
  | "maps"
  /** The map `interfaces`. */
  | "interfaces"
  /** At the hooks of interfaces. */
  | "programs"
  /** At the socket hooks of the cgroup. */
  | "sockets"
  | "capacity"
  /** Settings of this host that break what is translated. */
  | "host";

export type FindingKind =
  | DifferenceKind
  /** It is refused: there is no room for it. */
  | "refused"
  /** A program that is not of this build, or not the one that the running agent has loaded. */
  | "other build"
  /** Another program runs before ours and may end the chain. */
  | "order"
  /** A map that will soon be full. */
  | "nearly full"
  /** A setting of the host. */
  | "setting";

export interface Finding {
  readonly check: CheckName;
  readonly kind: FindingKind;
  /** fail: what should be is not. warn: it works, and will not for ever, or not on every path. */
  readonly severity: "fail" | "warn";
  /** The service port it belongs to; null: none. */
  readonly owner: string | null;
  /** The map, the interface, the directory. */
  readonly where: string;
  /** The entry, the hook, the pin. */
  readonly entry: string;
  /** What is there, by member; null: nothing. */
  readonly found: Readonly<Record<string, string>> | null;
  /** What should be there; null: nothing. */
  readonly wanted: Readonly<Record<string, string>> | null;
  /** What mends it, where --repair does not. */
  readonly fix: string | null;
}

/** A finding about something that is not as it should be. */
export function failure(
  finding: Pick<Finding, "check" | "kind" | "where" | "entry"> & Partial<Finding>,
): Finding {
  return { severity: "fail", owner: null, found: null, wanted: null, fix: null, ...finding };
}
