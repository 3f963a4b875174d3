// SPDX-License-Identifier: Apache-2.0
import { rmdirSync } from "node:fs";
import { bpfRoot, layoutDirectory, layoutsAt } from "../../../dataplane/pins.js";
import { NativeLibrary } from "../../../native/lib.js";
import { AppError } from "../../../util/errors.js";
import { silentLogger } from "../../../util/log.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";

interface RemovedPins {
  readonly directory: string;
  readonly count: number;
}

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
  const removed = removePins(root);
  const { rules, failures } = await removeRules();
  const { removeProblems } = await import("../../../daemon/problem-file.js");
  await removeProblems(root);
  if (printer.format === "json") printer.json({ root, removed, firewallTables: rules });
  else {
    if (removed.length === 0) printer.line(`nothing below ${root}`);
    for (const { directory, count } of removed) printer.line(`${directory}: ${count} pins and hooks removed`);
    if (rules > 0) printer.line(`firewall: our rules removed (filter tables: ${rules})`);
  }
  for (const reason of failures) process.stderr.write(`portolan: firewall rules may be left: ${reason}\n`);
  return failures.length > 0 ? ExitCode.failure : ExitCode.ok;
};

function removePins(root: string): readonly RemovedPins[] {
  const layouts = layoutsAt(root).map((layout) => layoutDirectory(root, layout));
  const removed: RemovedPins[] = [];
  if (layouts.length > 0) {
    const library = new NativeLibrary();
    for (const directory of layouts) removed.push({ directory, count: library.cleanup(directory) });
  }
  removeIfEmpty(root);
  return removed;
}

/** Our rules in the host's firewall. Where there is no iptables, there are none of ours. */
async function removeRules(): Promise<{ readonly rules: number; readonly failures: readonly string[] }> {
  const { ForwardRules } = await import("../../../daemon/forward-rules.js");
  const { changed, failures } = await new ForwardRules({ log: silentLogger }).remove();
  const real = failures.filter(({ code }) => code !== "tool_missing");
  return { rules: changed, failures: real.map(({ message }) => message) };
}
