// SPDX-License-Identifier: Apache-2.0
/** One of the two states that are compared. */
import { open } from "node:fs/promises";
import type { MemoryKernel } from "../../../native/memory.js";
import { UserError } from "../../../util/errors.js";
import type { CommonOptions } from "../../command.js";
import { type Desired, readDesired } from "../../desired.js";
import type { DesiredOptions } from "../../desired-options.js";
import { type OpenMaps, withMaps } from "../../open-maps.js";
import type { Printer } from "../../output.js";

export type Side =
  | { readonly kind: "manifests"; readonly text: string; readonly desired: Desired }
  | {
      readonly kind: "maps";
      readonly text: string;
      readonly opened: OpenMaps;
      /** What Services are written to. */
      readonly copy: MemoryKernel;
    };

const LIVE = "live";
const GZIP = [0x1f, 0x8b] as const;
const FIRST_BYTES = 256;

type FileKind = "archive" | "maps-dump" | "manifests";

/** The beginning of a file; null for a directory, a pipe, stdin, and what cannot be read: who reads manifests says why not. */
async function beginningOf(path: string): Promise<Buffer | null> {
  if (path === "-") return null;
  try {
    const file = await open(path);
    try {
      if (!(await file.stat()).isFile()) return null;
      const { buffer, bytesRead } = await file.read(Buffer.alloc(FIRST_BYTES), 0, FIRST_BYTES, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch {
    return null;
  }
}

/** What `portolan maps dump` prints that cannot be read back, and how it is told. */
const UNREADABLE: readonly (readonly [RegExp, string])[] = [
  [/^---\nformat: portolan-maps-dump\n/, "a dump of maps in YAML"],
  [/^(---\nmap: \w+\n)?(---\n)?key:/, "a dump of one map in YAML"],
  [/^\{"key":/, "a dump of one map"],
  [/^(MAP +)?KEY +VALUE\n/, "a dump of maps as a table"],
];

/** An archive is a gzip file, which no manifest is; a dump of all maps says in its first line what it is. */
async function kindOf(path: string): Promise<FileKind> {
  const beginning = await beginningOf(path);
  if (beginning === null) return "manifests";
  if (GZIP.every((byte, i) => beginning[i] === byte)) return "archive";
  const text = beginning.toString("latin1");
  const hint =
    "Make one that can be read: portolan maps dump --all -o json > FILE, or portolan dump -f FILE.";
  // Whoever redirected a command that failed has such a file: as manifests it would say that all Services are gone.
  if (beginning.length === 0)
    throw new UserError(`${path} is empty: it has neither manifests nor maps`, { hint });
  const unreadable = UNREADABLE.find(([form]) => form.test(text));
  if (unreadable !== undefined) throw new UserError(`${path} is ${unreadable[1]}`, { hint });
  return /^\s*\{\s*"format":\s*"portolan-maps-dump"/.test(text) ? "maps-dump" : "manifests";
}

/** Opens the maps that a side names, as they are or were, and calls `use`. */
async function withMapsOf<T>(
  kind: FileKind | typeof LIVE,
  text: string,
  options: CommonOptions,
  use: (opened: OpenMaps) => Promise<T>,
): Promise<T> {
  if (kind === "maps-dump") {
    const { openMapsDump } = await import("../../archive/maps-dump.js");
    return use(await openMapsDump(text));
  }
  const { bpfRoot, from: _, ...rest } = options;
  if (kind === "archive") return withMaps({ ...rest, from: text }, use);
  return withMaps(bpfRoot === undefined ? rest : { ...rest, bpfRoot }, use);
}

/**
 * Reads one of them, and calls `use`; maps are closed then.
 *
 * @throws what withMaps() or readDesired() throw
 */
export async function withSide<T>(
  text: string,
  options: CommonOptions & Omit<DesiredOptions, "file" | "kubeconfig">,
  printer: Printer,
  use: (side: Side) => Promise<T>,
): Promise<T> {
  const kind = text === LIVE ? LIVE : await kindOf(text);
  if (kind === "manifests") {
    const { bpfRoot: _, from: __, ...rest } = options;
    return use({ kind, text, desired: await readDesired({ ...rest, file: [text] }, printer) });
  }
  const { copyMaps } = await import("../../../dataplane/dry-run.js");
  return withMapsOf(kind, text, options, async (opened) =>
    use({
      kind: "maps",
      text: kind === LIVE ? `${LIVE} (${opened.source})` : text,
      opened,
      copy: await copyMaps(opened.maps),
    }),
  );
}
