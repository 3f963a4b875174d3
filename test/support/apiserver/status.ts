// SPDX-License-Identifier: Apache-2.0
/** What an API server says when it does not do what it was asked: metav1.Status. */

/** A refusal; `body` is what goes over the wire. */
export class ApiError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly retryAfterSeconds: number | undefined;
  /** A continue token that goes on from here in spite of it all (410 of a page). */
  readonly continueToken: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(
    code: number,
    reason: string,
    message: string,
    more: {
      readonly retryAfterSeconds?: number | undefined;
      readonly continueToken?: string;
      readonly details?: Readonly<Record<string, unknown>>;
    } = {},
  ) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.retryAfterSeconds = more.retryAfterSeconds;
    this.continueToken = more.continueToken;
    this.details = more.details;
  }

  get body(): Record<string, unknown> {
    return {
      kind: "Status",
      apiVersion: "v1",
      metadata: this.continueToken === undefined ? {} : { continue: this.continueToken },
      status: "Failure",
      message: this.message,
      reason: this.reason,
      ...(this.details === undefined ? {} : { details: this.details }),
      code: this.code,
    };
  }
}

const REASONS: Readonly<Record<number, string>> = {
  400: "BadRequest",
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  405: "MethodNotAllowed",
  406: "NotAcceptable",
  409: "Conflict",
  410: "Expired",
  415: "UnsupportedMediaType",
  422: "Invalid",
  429: "TooManyRequests",
  500: "InternalError",
  503: "ServiceUnavailable",
  504: "Timeout",
};

export const reasonOf = (code: number): string => REASONS[code] ?? "InternalError";

export const badRequest = (message: string): ApiError => new ApiError(400, "BadRequest", message);

export const unauthorized = (): ApiError => new ApiError(401, "Unauthorized", "Unauthorized");

/** What validation of list and watch options says. */
export const invalidOptions = (field: string, why: string): ApiError =>
  new ApiError(422, "Invalid", `ListOptions.meta.k8s.io "" is invalid: ${field}: Forbidden: ${why}`);

export const expired = (message: string, continueToken?: string): ApiError =>
  new ApiError(410, "Expired", message, continueToken === undefined ? {} : { continueToken });

export const tooLarge = (wanted: number, current: number): ApiError =>
  new ApiError(504, "Timeout", `Too large resource version: ${wanted}, current: ${current}`, {
    retryAfterSeconds: 1,
    details: {
      causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
      retryAfterSeconds: 1,
    },
  });
