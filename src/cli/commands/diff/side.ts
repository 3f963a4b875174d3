// SPDX-License-Identifier: Apache-2.0
/** One of the two states that are compared. */
import { open } from "node:fs/promises";
import type { MemoryKernel } from "../../../native/memory.js";
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

/** An archive is a gzip file, which no manifest is. */
async function isArchive(path: string): Promise<boolean> {
  if (path === "-") return false;
  try {
    const file = await open(path);
    try {
      if (!(await file.stat()).isFile()) return false;
      const { buffer, bytesRead } = await file.read(Buffer.alloc(2), 0, 2, 0);
      return bytesRead === 2 && buffer[0] === GZIP[0] && buffer[1] === GZIP[1];
    } finally {
      await file.close();
    }
  } catch {
    return false; // what reads manifests says what is wrong with it
  }
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
  const { bpfRoot, from: _, ...rest } = options;
  const archive = text !== LIVE && (await isArchive(text));
  if (text !== LIVE && !archive)
    return use({ kind: "manifests", text, desired: await readDesired({ ...rest, file: [text] }, printer) });
  const live = bpfRoot === undefined ? rest : { ...rest, bpfRoot };
  const { copyMaps } = await import("../../../dataplane/dry-run.js");
  return withMaps(archive ? { ...rest, from: text } : live, async (opened) =>
    use({
      kind: "maps",
      text: archive ? text : `${LIVE} (${opened.source})`,
      opened,
      copy: await copyMaps(opened.maps),
    }),
  );
}
