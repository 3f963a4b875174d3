// SPDX-License-Identifier: Apache-2.0
/** Watches the configuration file: settings are read once, and a change asks for a restart (12.3). */
import { type FSWatcher, readFileSync, realpathSync, watch } from "node:fs";
import { dirname } from "node:path";

/**
 * - "rewritten": the file was written, replaced, moved away or removed.
 * - "swapped": another file stands behind the path's symbolic links, which is how the kubelet updates a mounted ConfigMap.
 *   kube-proxy takes no notice of it: whoever changes the ConfigMap restarts the pods when they want to.
 */
export type ConfigChange = "rewritten" | "swapped";

interface Seen {
  readonly real: string;
  readonly text: string;
}

/**
 * Calls `onChange` each time the file differs from what was seen before; a write of the same text is no change. Best
 * effort where directories cannot be watched: then nothing is called.
 *
 * @param text what was read at start, so that a change before this call counts
 * @returns ends the watch
 */
export function watchConfigFile(
  path: string,
  text: string,
  onChange: (change: ConfigChange) => void,
): () => void {
  let seen: Seen | null = { real: realpathOf(path) ?? path, text };
  const look = (): void => {
    const now = read(path);
    // A file that is removed and made anew is one change, as is one that stays away.
    if (now?.text === seen?.text) return;
    const swapped = now !== null && seen !== null && now.real !== seen.real;
    seen = now;
    onChange(swapped ? "swapped" : "rewritten");
  };
  const watchers = Array.from(new Set([dirname(path), dirname(seen.real)]), (directory) =>
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

function read(path: string): Seen | null {
  try {
    return { real: realpathSync(path), text: readFileSync(path, "utf8") };
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
