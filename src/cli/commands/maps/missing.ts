// SPDX-License-Identifier: Apache-2.0
import { MAP_NAMES, type MapName } from "../../../abi/maps.gen.js";
import { ExitCode } from "../../exit-codes.js";
import type { OpenMaps } from "../../open-maps.js";
import type { Printer } from "../../output.js";

export function missingMaps({ maps }: Pick<OpenMaps, "maps">): readonly MapName[] {
  return MAP_NAMES.filter((name) => !maps.names.includes(name));
}

/** Says which maps should be pinned and are not: a finding. */
export function missingStatus(open: Pick<OpenMaps, "maps" | "source">, printer: Printer): ExitCode {
  const missing = missingMaps(open);
  if (missing.length === 0) return ExitCode.ok;
  printer.note(`not pinned in ${open.source}: ${missing.join(", ")}`);
  printer.note("The programs go on without the pins. `portolan verify --repair` makes them again.");
  return ExitCode.finding;
}
