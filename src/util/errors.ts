// SPDX-License-Identifier: Apache-2.0
/**
 * Base of every error that a caller is expected to tell apart: `code` is a stable name from a closed set that each
 * component declares, `fields` are what a logger prints, `hint` says what a person can do about it.
 */
export class AppError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly hint: string | null;

  constructor(
    code: Code,
    message: string,
    options: { fields?: Readonly<Record<string, unknown>>; hint?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.fields = options.fields ?? {};
    this.hint = options.hint ?? null;
  }
}

/** A mistake of the person at the keyboard: printed as one line, without a stack. Exit code 2. */
export class UserError extends AppError<"E_USER"> {
  constructor(message: string, options: { fields?: Readonly<Record<string, unknown>>; hint?: string } = {}) {
    super("E_USER", message, options);
    this.name = "UserError";
  }
}

/** The message of anything that was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
