// SPDX-License-Identifier: Apache-2.0
/** Manifests read once: for `compile -f`. */
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import type { Problem, Snapshot } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import { UserError } from "../../util/errors.js";
import { inSlices } from "../../util/slices.js";
import { Assembler } from "../assemble.js";
import type { Ignored } from "../objects.js";
import type { Limits } from "./limits.js";
import { DEFAULT_LIMITS, mebibytes } from "./limits.js";
import { listManifests, reasonOf } from "./listing.js";
import type { FileState, ParseContext } from "./parse.js";
import { parseManifest, refused } from "./parse.js";
import { loadYaml } from "./yaml.js";

export interface ReadOptions {
  /** Which node this is; "" for none in particular. */
  readonly nodeName: string;
  /** --service-cidr. */
  readonly serviceCIDRs?: readonly Cidr[];
  /** What "-" reads; the process's standard input unless given. */
  readonly stdin?: AsyncIterable<Uint8Array | string>;
  readonly limits?: Partial<Limits>;
}

export interface ManifestSet {
  readonly snapshot: Snapshot;
  readonly problems: readonly Problem[];
  /** Objects left out on purpose: other kinds, other proxies' Services. */
  readonly ignored: readonly Ignored[];
}

/**
 * Reads files, directories (one level: *.yaml, *.yml, *.json) and "-" in the order given. Whatever is wrong inside them is a
 * problem in the result, and the rest goes on.
 * @throws UserError when a path does not exist or cannot be looked at.
 */
export async function readManifests(paths: readonly string[], options: ReadOptions): Promise<ManifestSet> {
  const limits: Limits = { ...DEFAULT_LIMITS, ...options.limits };
  const context: ParseContext = { readYaml: await loadYaml(), limits };
  const problems: Problem[] = [];
  const states: FileState[] = [];
  for (const path of paths) {
    if (path === "-") {
      states.push(await readStream("stdin", options.stdin ?? process.stdin, context));
      continue;
    }
    if (await isStream(path)) {
      states.push(await readStream(path, createReadStream(path), context));
      continue;
    }
    const listing = await listManifests([path]);
    problems.push(...listing.problems);
    for (const file of listing.files) states.push(await readWhole(file.path, file.size, context));
  }
  const objects = states.flatMap((state) => state.objects);
  const assembled = await inSlices(new Assembler(options.nodeName, options.serviceCIDRs).assemble(objects));
  return {
    snapshot: assembled.snapshot,
    problems: [...problems, ...states.flatMap((state) => state.problems), ...assembled.problems],
    ignored: states.flatMap((state) => state.ignored),
  };
}

/** A pipe, as `<(…)` makes one. */
async function isStream(path: string): Promise<boolean> {
  try {
    const found = await stat(path);
    return !found.isDirectory() && !found.isFile();
  } catch (error) {
    throw new UserError(`${path} ${reasonOf(error)}`, { fields: { path } });
  }
}

/** Reads a regular file. Never rejects: a refusal is a state with a problem. */
export async function readWhole(
  path: string,
  size: number,
  context: ParseContext,
  previous: FileState | null = null,
): Promise<FileState> {
  const { maxFileBytes } = context.limits;
  if (size > maxFileBytes) return refused(path, tooLarge(size, maxFileBytes));
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    return refused(path, reasonOf(error));
  }
  return inSlices(parseManifest(path, bytes, context, previous));
}

function tooLarge(size: number, limit: number): string {
  return `has ${mebibytes(size)}; the limit is ${mebibytes(limit)}`;
}

/** Reads a stream to its end, within the limit. Never rejects: a refusal is a state with a problem. */
export async function readStream(
  name: string,
  stream: AsyncIterable<Uint8Array | string>,
  context: ParseContext,
): Promise<FileState> {
  const parts: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const part of stream) {
      const bytes = typeof part === "string" ? Buffer.from(part) : part;
      size += bytes.length;
      if (size > context.limits.maxFileBytes)
        return refused(name, tooLarge(size, context.limits.maxFileBytes));
      parts.push(bytes);
    }
  } catch (error) {
    return refused(name, reasonOf(error));
  }
  return inSlices(parseManifest(name, Buffer.concat(parts), context, null));
}
