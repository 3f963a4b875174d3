// SPDX-License-Identifier: Apache-2.0
/** Watches the configuration file: settings are read once, and a change asks for a restart (12.3). */
import { type FSWatcher, realpathSync, watch } from "node:fs";
import { dirname } from "node:path";
import { readText } from "../util/proc.js";

/**
 * Calls `onChange` each time the file differs from what was seen before, be it written, replaced, moved away or removed, or
 * that another file stands behind the path's symbolic links now, which is how the kubelet updates a mounted ConfigMap. A write
 * of the same text is no change. Best effort where directories cannot be watched: then nothing is called.
 *
 * @param text what was read at start, so that a change before this call counts
 * @returns ends the watch
 */
export function watchConfigFile(path: string, text: string, onChange: () => void): () => void {
  let seen: string | null = text;
  const look = (): void => {
    const now = readText(path);
    // A file that is removed and made anew is one change, as is one that stays away.
    if (now === seen) return;
    seen = now;
    onChange();
  };
  const watchers = Array.from(new Set([dirname(path), dirname(realpathOf(path) ?? path)]), (directory) =>
    watchDirectory(directory, look),
  );
  // What changed before the watch began has given no sign.
  queueMicrotask(look);
  return () => {
    for (const watcher of watchers) watcher?.close();
  };
}

function watchDirectory(directory: string, look: () => void): FSWatcher | null {
  try {
    const watcher = watch(directory, { persistent: false }, look);
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch {
    return null;
  }
}

function realpathOf(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}
