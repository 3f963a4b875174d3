// SPDX-License-Identifier: Apache-2.0
import { AppError } from "../../util/errors.js";

/** What can go wrong with a world of test hosts. */
export type WorldErrorCode =
  /** A tool exited with another status than 0; `command` and `stderr` are set. */
  | "E_WORLD_COMMAND"
  /** A tool is not installed (or not executable); `command` is set. */
  | "E_WORLD_TOOL_MISSING"
  /** A tool did not end in time and was killed; `command` is set. */
  | "E_WORLD_TIMEOUT"
  /** A host name or an option that cannot be used. */
  | "E_WORLD_OPTION"
  /** Not root: namespaces cannot be made. */
  | "E_WORLD_ROOT"
  /** The world (or the host) was already closed. */
  | "E_WORLD_CLOSED";

/** Details of a {@link WorldError}. */
export interface WorldErrorDetails {
  /** The command as a shell would show it. */
  readonly command?: string;
  readonly stderr?: string;
  readonly exitCode?: number | null;
  readonly cause?: unknown;
}

/** An error of the world builder. Its message quotes the failed command and what that said on stderr. */
export class WorldError extends AppError<WorldErrorCode> {
  readonly command: string | undefined;
  readonly stderr: string | undefined;

  constructor(code: WorldErrorCode, message: string, details: WorldErrorDetails = {}) {
    const { cause, ...fields } = details;
    super(code, message, cause === undefined ? { fields } : { fields, cause });
    this.name = "WorldError";
    this.command = details.command;
    this.stderr = details.stderr;
  }
}
