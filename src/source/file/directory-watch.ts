// SPDX-License-Identifier: Apache-2.0
/** Watches a changing set of directories for any sign of change. Best effort: the caller looks now and then anyway. */
import type { FSWatcher } from "node:fs";
import { statSync, watch } from "node:fs";
import type { Logger } from "../../util/log.js";

interface Watched {
  readonly watcher: FSWatcher;
  /** A directory that was made anew under its old name needs a new watch. */
  readonly identity: string;
}

export class DirectoryWatch {
  readonly #watched = new Map<string, Watched>();
  readonly #logger: Logger;
  readonly #onChange: () => void;

  constructor(logger: Logger, onChange: () => void) {
    this.#logger = logger;
    this.#onChange = onChange;
  }

  /** From now on these and no others. */
  update(directories: readonly string[]): void {
    for (const path of this.#watched.keys()) {
      if (!directories.includes(path)) this.#stop(path);
    }
    for (const path of directories) this.#ensure(path);
  }

  close(): void {
    for (const path of Array.from(this.#watched.keys())) this.#stop(path);
  }

  #ensure(path: string): void {
    try {
      const { dev, ino } = statSync(path);
      const identity = `${dev}:${ino}`;
      if (this.#watched.get(path)?.identity === identity) return;
      this.#stop(path);
      const watcher = watch(path, { persistent: true }, () => this.#onChange());
      watcher.on("error", () => this.#stop(path));
      this.#watched.set(path, { watcher, identity });
      // What changed before the watch began has given no sign.
      this.#onChange();
    } catch (error) {
      this.#stop(path);
      this.#logger.debug({ directory: path, err: error }, "directory cannot be watched");
    }
  }

  #stop(path: string): void {
    this.#watched.get(path)?.watcher.close();
    this.#watched.delete(path);
  }
}
