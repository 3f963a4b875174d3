// SPDX-License-Identifier: Apache-2.0
import type { Readable } from "node:stream";
import { type Pack, pack } from "tar-stream";
import type { MapName } from "../../abi/maps.gen.js";
import { isArrayMap, type KernelReads } from "../../native/kernel.js";
import { jsonText } from "../output.js";
import type { FoundProblems } from "../problems.js";
import { type ArchivedHooks, encodePart, type Meta, PART_ENTRIES, partName, ROOT } from "./format.js";

/** What goes into an archive: this and nothing else. */
export interface ArchiveContent {
  readonly meta: Meta;
  readonly hooks: ArchivedHooks;
  readonly problems: FoundProblems;
  readonly doctor: unknown;
  /** JSON lines; null: there are none. */
  readonly log: string | null;
  /** Where the maps of `meta` are read from; null when there are none. */
  readonly maps: KernelReads | null;
}

/**
 * The tar file of an archive, not yet compressed. One part of one map is in memory at a time.
 *
 * @param written the members' time of change
 * @returns a stream that fails with what reading the maps fails with, and how many entries of each map went into it
 */
export function archiveStream(
  content: ArchiveContent,
  written: Date,
): { readonly stream: Readable; readonly entries: Promise<Readonly<Partial<Record<MapName, number>>>> } {
  const tar = pack();
  const entries = fill(tar, content, written);
  // The stream's reader is told, and so is who waits for the count.
  entries.catch((error: Error) => tar.destroy(error));
  return { stream: tar as unknown as Readable, entries };
}

async function fill(
  tar: Pack,
  content: ArchiveContent,
  mtime: Date,
): Promise<Partial<Record<MapName, number>>> {
  const add = (name: string, bytes: Buffer): Promise<void> =>
    new Promise((resolve, reject) => {
      const done = (error?: Error | null): void => (error ? reject(error) : resolve());
      tar.entry({ name, size: bytes.length, mtime, mode: 0o600 }, done).end(bytes);
    });
  const addJson = (name: string, value: unknown): Promise<void> =>
    add(`${ROOT}${name}`, Buffer.from(`${jsonText(value, true)}\n`));
  await addJson("meta.json", content.meta);
  await addJson("interfaces.json", content.hooks);
  await addJson("problems.json", content.problems);
  await addJson("doctor.json", content.doctor);
  if (content.log !== null) await add(`${ROOT}log.jsonl`, Buffer.from(content.log));
  const entries: Partial<Record<MapName, number>> = {};
  for (const { name } of content.maps === null ? [] : content.meta.maps)
    entries[name] = await addMap(content.maps as KernelReads, name, add);
  await addJson("end.json", { entries });
  tar.finalize();
  return entries;
}

async function addMap(
  maps: KernelReads,
  name: MapName,
  add: (name: string, bytes: Buffer) => Promise<void>,
): Promise<number> {
  let [first, part] = [0, 0];
  for await (const { count, keys, values } of maps.dumpChunks(name, PART_ENTRIES)) {
    if (count === 0) continue;
    const packed = encodePart({ first, count, keys: isArrayMap(name) ? new Uint8Array(0) : keys, values });
    await add(partName(name, part), packed);
    first += count;
    part += 1;
  }
  return first;
}
