// SPDX-License-Identifier: Apache-2.0
/** The pins: every map has its own, the programs work on those maps, and nothing else is below the root. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { LAYOUT_VERSION } from "../../abi/abi-hash.gen.js";
import { MAP_NAMES, type MapName } from "../../abi/maps.gen.js";
import type { ProgramMaps } from "../../native/programs.js";
import { SOCKET_HOOKS } from "../../native/sockets.js";
import type { MapIds } from "../map-pins.js";
import { type Finding, failure } from "./finding.js";

const isMapName = (name: string): name is MapName => (MAP_NAMES as readonly string[]).includes(name);

/** The maps that programs which are attached work on; of programs that do not agree, the first counts. */
export function mapsOf(programs: readonly ProgramMaps[]): MapIds {
  const ids = new Map<string, number>();
  for (const { maps } of programs)
    for (const [name, id] of maps) if (isMapName(name) && !ids.has(name)) ids.set(name, id);
  return ids;
}

/**
 * @param pinned the maps that are pinned
 * @param used the maps that the programs (or the running agent) work on; empty: not known
 */
export function checkPins(pinned: MapIds, used: MapIds, directory: string): Finding[] {
  const findings: Finding[] = [];
  for (const name of MAP_NAMES) {
    const at = { check: "pins", where: directory, entry: name } as const;
    const [there, working] = [pinned.get(name), used.get(name)];
    const wanted = { map: working === undefined ? name : `id ${working}` };
    if (there === undefined) findings.push(failure({ ...at, kind: "missing", wanted }));
    else if (working !== undefined && there !== working)
      findings.push(failure({ ...at, kind: "different", found: { map: `id ${there}` }, wanted }));
  }
  return findings;
}

/** Settings that programs were loaded with must be the same: they are of one life of one agent. */
export function checkSettings(programs: ReadonlyMap<string, ProgramMaps>): Finding[] {
  const texts = Array.from(programs, ([where, { config }]) => ({ where, text: settingsText(config) }));
  const counts = new Map<string, number>();
  for (const { text } of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  const [usual = ""] = [...counts].sort(([, a], [, b]) => b - a)[0] ?? [];
  return texts
    .filter(({ text }) => text !== usual)
    .map(({ where, text }) =>
      failure({
        check: "programs",
        kind: "different",
        where,
        entry: "settings",
        found: { config: text },
        wanted: { config: usual },
      }),
    );
}

function settingsText(config: ProgramMaps["config"]): string {
  return JSON.stringify(config, (_, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value,
  );
}

function names(directory: string): readonly string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return []; // not there: the maps' pins say so
  }
}

/** What is below the root and none of ours, or of another layout. `alive`: whether an interface with this index is there. */
export function checkStalePins(root: string, alive: (ifindex: number) => boolean): Finding[] {
  const ours = `v${LAYOUT_VERSION}`;
  const directory = join(root, ours);
  const links = join(directory, "links");
  const extra = (where: string, entry: string, fix: string): Finding =>
    failure({ check: "pins", kind: "extra", where, entry, found: { pin: "unknown" }, fix });
  const remove = "Remove it, when nobody misses it: rm.";
  return [
    ...names(root)
      .filter((name) => name !== ours)
      .map((name) =>
        /^v\d+$/.test(name)
          ? {
              ...extra(root, name, "portolan cleanup, with the agent stopped."),
              found: { pin: "another layout" },
            }
          : extra(root, name, remove),
      ),
    ...names(directory)
      .filter((name) => name !== "links" && !isMapName(name))
      .map((name) => extra(directory, name, remove)),
    ...names(links).flatMap((name): Finding[] => {
      const hook = /^socket-(.*?)(-next)?$/.exec(name);
      if (hook)
        return (SOCKET_HOOKS as readonly string[]).includes(hook[1] ?? "")
          ? []
          : [extra(links, name, remove)];
      const link = /^(\d+)-[a-z]+$/.exec(name);
      if (link === null) return [extra(links, name, remove)];
      if (alive(Number(link[1]))) return [];
      return [{ ...extra(links, name, "The agent removes it at its next start."), kind: "leaked" as const }];
    }),
  ];
}
