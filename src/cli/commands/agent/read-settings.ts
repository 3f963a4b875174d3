// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { ProxySettings } from "../../../config/proxy-settings.js";
import { errorMessage, UserError } from "../../../util/errors.js";
import type { FlagTexts } from "./flags.js";

/**
 * The settings of flags and, with --config, of a file.
 *
 * @throws UserError that names each field or flag that is wrong (12.9), or the file that cannot be read
 */
export async function readSettings(flags: FlagTexts): Promise<{
  readonly settings: ProxySettings;
  /** What was read of the file: who watches it compares. */
  readonly fileText: string | null;
}> {
  const [{ parseSettings }, { settingProblemLine }] = await Promise.all([
    import("../../../config/parse-settings.js"),
    import("../../../config/problem.js"),
  ]);
  const { config: path } = flags;
  const file = typeof path === "string" && path !== "" ? { path, text: readConfig(path) } : null;
  const { settings, problems } = parseSettings({ flags, file, hostname: hostname() });
  if (settings !== null) return { settings, fileText: file?.text ?? null };
  const errors = problems.filter(({ severity }) => severity === "error");
  throw new UserError(errors.map((problem) => settingProblemLine(problem, file?.path ?? null)).join("\n  "));
}

function readConfig(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const reason = code === "ENOENT" ? "does not exist" : `cannot be read: ${errorMessage(error)}`;
    throw new UserError(`--config: ${path} ${reason}`, { fields: { path } });
  }
}
