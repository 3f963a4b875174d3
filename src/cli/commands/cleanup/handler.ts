// SPDX-License-Identifier: Apache-2.0
import { rmdirSync } from "node:fs";
import { bpfRoot, layoutDirectory, layoutsAt } from "../../../dataplane/pins.js";
import { NativeLibrary } from "../../../native/lib.js";
import { AppError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";

/** Removes an empty directory; one that is not there, or holds what is not ours, stays as it is. */
function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTEMPTY" && code !== "EBUSY") throw error;
  }
}

/** `portolan cleanup`: every layout below the root, since an older version's programs may still be attached. */
export const cleanup: Handler<object> = async (options, printer) => {
  const root = bpfRoot(options.bpfRoot);
  if (process.getuid?.() !== 0) {
    throw new AppError("E_PERMISSION", "cleanup detaches programs and removes pins, which needs root", {
      hint: "Run it with sudo.",
    });
  }
  const layouts = layoutsAt(root).map((layout) => layoutDirectory(root, layout));
  const removed: { readonly directory: string; readonly count: number }[] = [];
  if (layouts.length > 0) {
    const library = new NativeLibrary();
    for (const directory of layouts) removed.push({ directory, count: library.cleanup(directory) });
  }
  removeIfEmpty(root);
  if (printer.format === "json") printer.json({ root, removed });
  else if (removed.length === 0) printer.line(`nothing below ${root}`);
  else
    for (const { directory, count } of removed) printer.line(`${directory}: ${count} pins and hooks removed`);
  return ExitCode.ok;
};
