// SPDX-License-Identifier: Apache-2.0
/** Which files the given paths mean: a file is itself, a directory its manifests, one level deep, by name. */
import type { BigIntStats } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Problem } from "../../model/types.js";
import { errorMessage } from "../../util/errors.js";

export interface ManifestFile {
  readonly path: string;
  readonly size: number;
  /** Changes whenever the content may have changed. */
  readonly fingerprint: string;
  /** Of the same file, however often it is rewritten; a renamed-in file is another one. */
  readonly identity: string;
  /** Wall clock, milliseconds. */
  readonly changedAt: number;
}

export interface Listing {
  readonly files: readonly ManifestFile[];
  readonly problems: readonly Problem[];
  /** Paths that cannot be read just now, files or directories: nothing is known about what is in or below them. */
  readonly unknown: readonly string[];
  /** Directories in which a change may matter. */
  readonly directories: readonly string[];
}

const NS_PER_MS = 1_000_000n;
const MANIFEST = /\.(?:ya?ml|json)$/i;

/** Hidden files and what editors leave beside the file that they write are no manifests. */
export function isManifestName(name: string): boolean {
  return MANIFEST.test(name) && !name.startsWith(".") && !name.startsWith("#") && !name.startsWith("~");
}

export function fileProblem(file: string, message: string, severity: Problem["severity"] = "error"): Problem {
  return { severity, origin: { file, line: null }, object: "", field: "", message };
}

/** Why the system refused, without the path that it repeats. */
export function reasonOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  const known: Readonly<Record<string, string>> = {
    ENOENT: "does not exist",
    EACCES: "cannot be read: permission denied",
    EPERM: "cannot be read: permission denied",
    ELOOP: "is a symbolic link that leads to itself",
    EISDIR: "is a directory",
  };
  return known[code ?? ""] ?? `cannot be read: ${errorMessage(error)}`;
}

/** Never rejects: what cannot be looked at is a problem, and `unknown`. */
export async function listManifests(paths: readonly string[]): Promise<Listing> {
  const files = new Map<string, ManifestFile>();
  const problems: Problem[] = [];
  const unknown: string[] = [];
  const directories = new Set<string>();
  const add = async (path: string, found: BigIntStats): Promise<void> => {
    if (found.isFile()) files.set(path, describeFile(path, found));
    else {
      unknown.push(path);
      problems.push(fileProblem(path, "is no regular file and is not read"));
    }
    await addLinkTarget(path, directories);
  };
  for (const path of paths) {
    try {
      const found = await stat(path, { bigint: true });
      if (found.isDirectory()) {
        directories.add(path);
        await listDirectory(path, add, problems, unknown);
      } else {
        directories.add(dirname(path));
        await add(path, found);
      }
    } catch (error) {
      directories.add(dirname(path));
      unknown.push(path);
      problems.push(fileProblem(path, reasonOf(error)));
    }
  }
  return { files: Array.from(files.values()), problems, unknown, directories: Array.from(directories) };
}

/** True when the file is as it was when it was listed. */
export async function isUnchanged(file: ManifestFile): Promise<boolean> {
  try {
    return describeFile(file.path, await stat(file.path, { bigint: true })).fingerprint === file.fingerprint;
  } catch {
    return false;
  }
}

async function listDirectory(
  directory: string,
  add: (path: string, found: BigIntStats) => Promise<void>,
  problems: Problem[],
  unknown: string[],
): Promise<void> {
  const names = (await readdir(directory)).filter(isManifestName).sort();
  if (names.length === 0) {
    const message = "holds no manifest: no *.yaml, *.yml or *.json; directories below are not read";
    problems.push(fileProblem(directory, message, "warning"));
  }
  for (const name of names) {
    const path = join(directory, name);
    try {
      const found = await stat(path, { bigint: true });
      if (found.isDirectory()) {
        problems.push(fileProblem(path, "is a directory; directories below are not read", "warning"));
      } else await add(path, found);
    } catch (error) {
      problems.push(fileProblem(path, reasonOf(error)));
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") unknown.push(path);
    }
  }
}

function describeFile(path: string, found: BigIntStats): ManifestFile {
  const identity = `${found.dev}:${found.ino}`;
  return {
    path,
    size: Number(found.size),
    identity,
    fingerprint: `${identity}:${found.size}:${found.mtimeNs}:${found.ctimeNs}`,
    changedAt: Math.max(Number(found.mtimeNs / NS_PER_MS), Number(found.ctimeNs / NS_PER_MS)),
  };
}

/** A link's file may change where it lies. */
async function addLinkTarget(path: string, directories: Set<string>): Promise<void> {
  try {
    const real = dirname(await realpath(path));
    if (real !== dirname(path)) directories.add(real);
  } catch {
    // It has gone since; the next look will tell.
  }
}
