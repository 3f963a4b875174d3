// SPDX-License-Identifier: Apache-2.0
/** Where the maps are pinned, and what to say when they are not there. */
import { readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { LAYOUT_VERSION } from "../abi/abi-hash.gen.js";
import { AppError } from "../util/errors.js";
import { mountPoint } from "../util/proc.js";

/** E_PINS_CHANGED: other maps than those that are being read are pinned by now, or none. */
export type PinErrorCode = "E_NO_PINS" | "E_OTHER_LAYOUT" | "E_PERMISSION" | "E_PINS_CHANGED";

/** Where a bpf file system belongs when there is none yet. */
export const DEFAULT_BPFFS = "/sys/fs/bpf";

/** `--bpf-root`, or `portolan` below the bpf file system that is mounted. */
export function bpfRoot(given: string | undefined): string {
  return given === undefined ? join(mountPoint("bpf") ?? DEFAULT_BPFFS, "portolan") : resolve(given);
}

/** The directory of this program's layout below a root. */
export function layoutDirectory(root: string, layout: number = LAYOUT_VERSION): string {
  return join(root, `v${layout}`);
}

/**
 * The layout versions that have a directory below a root, ascending.
 *
 * @throws AppError E_PERMISSION when the root may not be read
 */
export function layoutsAt(root: string): readonly number[] {
  try {
    const names = readdirSync(root);
    return names
      .flatMap((name) => /^v(\d{1,6})$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw noPermission(root, error);
  }
}

/**
 * What is pinned is still what is being read: maps that were opened stay readable without their pins, and nobody writes to
 * them any more.
 *
 * @param opened id of the map that was opened
 * @param pinned id of the map that has its place now; null: none has
 * @throws AppError E_PINS_CHANGED
 */
export function assertSameMap(path: string, opened: number, pinned: number | null): void {
  if (pinned === opened) return;
  const what =
    pinned === null ? "it is pinned no more" : `another map has its place (${pinned}, not ${opened})`;
  throw new AppError<PinErrorCode>(
    "E_PINS_CHANGED",
    `${path}: while it was read, the map was taken away: ${what}`,
    {
      fields: { path, opened, pinned },
      hint: "An agent was removed, or another one made its maps anew: run this again.",
    },
  );
}

function noPermission(path: string, cause: unknown): AppError<PinErrorCode> {
  return new AppError("E_PERMISSION", `${path} may not be read by this user`, {
    fields: { path },
    hint: "Pinned maps belong to root: run it with sudo.",
    cause,
  });
}

/**
 * The directory with this layout's pins.
 *
 * @throws AppError E_NO_PINS, E_OTHER_LAYOUT (naming both layouts) or E_PERMISSION
 */
export function requirePins(root: string): string {
  const directory = layoutDirectory(root);
  try {
    statSync(directory);
    return directory;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EACCES" || code === "EPERM") throw noPermission(root, error);
  }
  refuseOtherLayouts(root, "Use the portolan of the agent that made them.");
  throw new AppError<PinErrorCode>("E_NO_PINS", `no maps are pinned below ${root}`, {
    fields: { root },
    hint: "No agent has run here, or cleanup has removed them. Another place? --bpf-root DIR.",
  });
}

/**
 * @throws AppError E_OTHER_LAYOUT when maps of other layouts are pinned below a root, and none of this program's. It names
 * both layouts.
 */
export function refuseOtherLayouts(root: string, hint: string): void {
  const layouts = layoutsAt(root);
  if (layouts.length === 0 || layouts.includes(LAYOUT_VERSION)) return;
  const found = layouts.map((layout) => `v${layout}`);
  throw new AppError<PinErrorCode>(
    "E_OTHER_LAYOUT",
    `the maps below ${root} have layout ${found.join(" and ")}, this program's is v${LAYOUT_VERSION}`,
    { fields: { root, found, wanted: `v${LAYOUT_VERSION}` }, hint },
  );
}
