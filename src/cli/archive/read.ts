// SPDX-License-Identifier: Apache-2.0
/** Reads the archive of `portolan dump`. Nothing of it is written to a disk: its members' names are compared, and no paths. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { buffer } from "node:stream/consumers";
import { createGunzip } from "node:zlib";
import { type Extract, extract } from "tar-stream";
import { MAPS, type MapName } from "../../abi/maps.gen.js";
import { isArrayMap, type MapDump, type MapInfo } from "../../native/kernel.js";
import type { NativeMapInfo } from "../../native/maps.js";
import { AppError, UserError } from "../../util/errors.js";
import type { MapReader, OpenMaps } from "../open-maps.js";
import type { FoundProblems } from "../problems.js";
import {
  type ArchivedHooks,
  damaged,
  decodePart,
  foreign,
  indexKeys,
  MAX_JSON_BYTES,
  type Meta,
  mapOfPart,
  maxPartBytes,
  type Part,
  ROOT,
  readEnd,
  readHooks,
  readMeta,
  withoutMap,
} from "./format.js";
import { findKeys } from "./look-up.js";

/** Of one map: what is larger is read again from the file when it is asked for. */
const KEPT_BYTES = 8 * 1024 * 1024;

/** What of an archive is in memory. */
interface Index {
  readonly meta: Meta;
  readonly hooks: ArchivedHooks;
  readonly problems: FoundProblems;
  /** Null: too large to be kept. */
  readonly parts: ReadonlyMap<MapName, readonly Part[] | null>;
}

/**
 * Opens an archive in the place of a kernel.
 *
 * @throws UserError when there is no such file; AppError E_ARCHIVE or E_OTHER_LAYOUT
 */
export async function openArchive(file: string): Promise<OpenMaps> {
  const found = await stat(file).catch((error: NodeJS.ErrnoException) => {
    throw new UserError(
      `--from: ${file} cannot be read: ${error.code === "ENOENT" ? "there is no such file" : error.message}`,
      { hint: "It is what `portolan dump -f FILE` wrote." },
    );
  });
  if (found.isDirectory())
    throw new UserError(`--from: ${file} is a directory, not an archive`, { hint: "Name a file in it." });
  const { meta, hooks, problems, parts } = await readIndex(file);
  if (meta.noMaps !== null) {
    throw new AppError("E_NO_PINS", `${file} has no maps: ${meta.noMaps}`, {
      hint: `What else it has: tar tzf ${file}.`,
    });
  }
  const now = BigInt(meta.monotonicNs);
  return {
    maps: new ArchiveMaps(file, meta.maps, parts),
    source: file,
    nowNs: () => now,
    interfaces: () => hooks.interfaces,
    meta: async () => meta,
    attachments: async (ifindexes) => hooks.attachments.filter(({ ifindex }) => ifindexes.includes(ifindex)),
    xdp: async (ifindexes) => (hooks.xdp ?? []).filter(({ ifindex }) => ifindexes.includes(ifindex)),
    forwarding: async () => hooks.forwarding ?? null,
    problems: async (isWanted) => {
      const { concerns } = await import("../problems.js");
      return { ...problems, problems: problems.problems.filter((problem) => concerns(problem, isWanted)) };
    },
  };
}

/** Maps out of a file. */
export class ArchiveMaps implements MapReader {
  readonly names: readonly MapName[];
  readonly #file: string;
  readonly #infos: readonly NativeMapInfo[];
  readonly #parts: Index["parts"];

  constructor(file: string, infos: readonly NativeMapInfo[], parts: Index["parts"]) {
    this.#file = file;
    this.#infos = infos;
    this.#parts = parts;
    this.names = infos.map(({ name }) => name);
  }

  infos(): readonly NativeMapInfo[] {
    return this.#infos;
  }

  info(map: MapName): MapInfo {
    const info = this.#infos.find(({ name }) => name === map);
    if (info === undefined) throw withoutMap(this.#file, map);
    return info;
  }

  async dump(map: MapName, limit?: number): Promise<MapDump> {
    const dumps: MapDump[] = [];
    for await (const dump of this.dumpChunks(map, limit ?? Number.MAX_SAFE_INTEGER, limit)) dumps.push(dump);
    const [first = NO_ENTRIES] = dumps;
    if (dumps.length <= 1) return first;
    return {
      count: dumps.reduce((sum, { count }) => sum + count, 0),
      keys: Buffer.concat(dumps.map(({ keys }) => keys)),
      values: Buffer.concat(dumps.map(({ values }) => values)),
    };
  }

  /** As the kernel's: of an array the cells below `limit`, of a hash all entries. */
  async *dumpChunks(map: MapName, chunk: number, limit?: number): AsyncGenerator<MapDump> {
    const { keySize, valueSize, maxEntries } = this.info(map);
    const isArray = isArrayMap(map);
    let left = isArray ? Math.min(limit ?? maxEntries, maxEntries) : Number.POSITIVE_INFINITY;
    for await (const part of this.#partsOf(map)) {
      for (let at = 0; at < part.count && left > 0; at += chunk) {
        const count = Math.min(chunk, part.count - at, left);
        left -= count;
        const keys = isArray
          ? indexKeys(part.first + at, count)
          : part.keys.subarray(at * keySize, (at + count) * keySize);
        yield { count, keys, values: part.values.subarray(at * valueSize, (at + count) * valueSize) };
      }
      if (left <= 0) return;
    }
  }

  lookUp(map: MapName, keys: Uint8Array): Promise<readonly (Uint8Array | null)[]> {
    return findKeys(MAPS[map], keys, this.dumpChunks(map, Number.MAX_SAFE_INTEGER));
  }

  async *#partsOf(map: MapName): AsyncGenerator<Part> {
    const kept = this.#parts.get(map) ?? (this.#parts.has(map) ? null : []);
    if (kept !== null) {
      yield* kept;
      return;
    }
    for await (const member of members(this.#file)) {
      if (mapOfPart(member.name) === map)
        yield decodePart(map, await member.bytes(maxPartBytes(map)), this.#file);
    }
  }
}

const NO_ENTRIES: MapDump = { count: 0, keys: new Uint8Array(0), values: new Uint8Array(0) };

/** One pass over the whole file: that it is whole is known before anything is shown. */
async function readIndex(file: string): Promise<Index> {
  const json = new Map<string, unknown>();
  const parts = new Map<MapName, Part[] | null>();
  const counts = new Map<MapName, number>();
  let meta: Meta | null = null;
  for await (const member of members(file)) {
    const map = mapOfPart(member.name);
    if (meta === null) {
      if (member.name !== `${ROOT}meta.json`) throw foreign(file);
      meta = readMeta(await member.json(), file);
    } else if (map !== null) {
      const part = decodePart(map, await member.bytes(maxPartBytes(map)), file);
      if (part.first !== (counts.get(map) ?? 0)) throw damaged(file, `a part of map ${map} is missing`);
      counts.set(map, part.first + part.count);
      keep(parts, map, part);
    } else if (JSON_MEMBERS.includes(member.name)) json.set(member.name, await member.json());
  }
  if (meta === null) throw foreign(file);
  const end = json.get(`${ROOT}end.json`);
  if (end === undefined) throw damaged(file, "its end is missing");
  const { entries } = readEnd(end, file);
  for (const { name } of meta.maps) {
    if ((entries[name] ?? 0) !== (counts.get(name) ?? 0))
      throw damaged(file, `entries of map ${name} are missing`);
  }
  const hooks = readHooks(json.get(`${ROOT}interfaces.json`), file);
  return { meta, hooks, parts, problems: await readFoundProblems(json.get(`${ROOT}problems.json`), file) };
}

const JSON_MEMBERS: readonly string[] = ["interfaces.json", "problems.json", "end.json"].map(
  (name) => `${ROOT}${name}`,
);

async function readFoundProblems(value: unknown, file: string): Promise<FoundProblems> {
  const { isProblem } = await import("../../daemon/problem-file.js");
  const { problems, problemsFrom } = (value ?? {}) as Partial<FoundProblems>;
  const isFrom =
    problemsFrom === null ||
    (typeof problemsFrom?.written === "string" && typeof problemsFrom.agentRunning === "boolean");
  if (!Array.isArray(problems) || !problems.every(isProblem) || !isFrom) throw damaged(file, "problems.json");
  return { problems, problemsFrom };
}

function keep(parts: Map<MapName, Part[] | null>, map: MapName, part: Part): void {
  const kept = parts.has(map) ? parts.get(map) : [];
  if (kept === null || kept === undefined) return;
  kept.push(part);
  const bytes = kept.reduce((sum, { keys, values }) => sum + keys.length + values.length, 0);
  parts.set(map, bytes > KEPT_BYTES ? null : kept);
}

/** A member of an archive, to be read or not before the next one is asked for. */
interface Member {
  readonly name: string;
  bytes(limit: number): Promise<Buffer>;
  json(): Promise<unknown>;
}

/** @throws AppError E_ARCHIVE: in the beginning because it is none, later on because it is damaged */
async function* members(file: string): AsyncGenerator<Member> {
  const tar = extract();
  // What goes wrong before is thrown by the iteration; that it was ended early is nothing wrong.
  pipeline(createReadStream(file), createGunzip(), tar as unknown as NodeJS.WritableStream, () => {});
  let seen = 0;
  try {
    for await (const entry of tar) {
      seen += 1;
      yield memberOf(entry, file);
      entry.resume();
    }
  } catch (error) {
    if (error instanceof AppError) throw error;
    if (seen === 0) throw foreign(file, error);
    throw damaged(file, (error as Error).message, error);
  } finally {
    tar.destroy();
  }
}

type Entry = Extract extends AsyncIterable<infer E> ? E : never;

function memberOf(entry: Entry, file: string): Member {
  const { name, size = 0 } = entry.header;
  const bytes = async (limit: number): Promise<Buffer> => {
    if (size > limit) throw damaged(file, `${name} has ${size} bytes, at most ${limit} are expected`);
    try {
      return await buffer(entry);
    } catch (error) {
      throw damaged(file, (error as Error).message, error);
    }
  };
  const json = async (): Promise<unknown> => {
    const text = (await bytes(MAX_JSON_BYTES)).toString("utf8");
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      throw damaged(file, `${name} is no JSON`, error);
    }
  };
  return { name, bytes, json };
}
