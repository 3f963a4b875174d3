// SPDX-License-Identifier: Apache-2.0
/** What can go wrong between this process and an API server. */
import { AppError } from "../../util/errors.js";

export type ApiErrorCode =
  /** No answer: refused, reset, unknown host, bad certificate. */
  | "connect"
  /** No headers, no bytes, or no end in the time allowed. */
  | "headers_timeout"
  | "idle_timeout"
  | "total_timeout"
  /** The answer is none that an API server gives: no JSON, another kind, no metadata. */
  | "garbage"
  /** 401, 403, 404. */
  | "unauthorized"
  | "forbidden"
  | "not_found"
  /** 410: the resource version, or the token of the next page, is too old. */
  | "gone"
  /** The resource version is newer than what this server has. */
  | "too_new"
  /** 400, 422: the server does not take the request as it is. */
  | "refused"
  /** 429. */
  | "too_many_requests"
  /** Anything else of 4xx and 5xx. */
  | "server_error"
  /** Credentials could not be had: a token file, a certificate, an exec plugin. */
  | "credentials";

export interface ApiErrorOptions {
  readonly status?: number | null;
  readonly retryAfterMs?: number | null;
  readonly fields?: Readonly<Record<string, unknown>>;
  readonly hint?: string;
  readonly cause?: unknown;
}

/** A request that failed. Every one of them passes: whoever asked asks again later. */
export class ApiError extends AppError<ApiErrorCode> {
  /** Of HTTP, or of the Status object in a watch; null when there was none. */
  readonly status: number | null;
  /** What the server asks to wait. Milliseconds; null when it does not say. */
  readonly retryAfterMs: number | null;

  constructor(code: ApiErrorCode, message: string, options: ApiErrorOptions = {}) {
    const { status = null, retryAfterMs = null, ...rest } = options;
    super(code, message, { ...rest, fields: { ...rest.fields, status } });
    this.name = "ApiError";
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

export type KubeConfigErrorCode =
  | "kubeconfig_unreadable"
  | "kubeconfig_invalid"
  /** The current context, its cluster or its user is not in the file. */
  | "kubeconfig_incomplete"
  /** A certificate, key or token file that it names cannot be read. */
  | "kubeconfig_file"
  | "kubeconfig_server"
  | "not_in_cluster";

/** The configuration cannot work, whatever the server does. */
export class KubeConfigError extends AppError<KubeConfigErrorCode> {
  constructor(
    code: KubeConfigErrorCode,
    message: string,
    options: { fields?: Readonly<Record<string, unknown>>; hint?: string; cause?: unknown } = {},
  ) {
    super(code, message, options);
    this.name = "KubeConfigError";
  }
}

const BY_STATUS: ReadonlyMap<number, ApiErrorCode> = new Map<number, ApiErrorCode>([
  [400, "refused"],
  [401, "unauthorized"],
  [403, "forbidden"],
  [404, "not_found"],
  [410, "gone"],
  [422, "refused"],
  [429, "too_many_requests"],
]);

/** `what`: the request, for the message. `body`: what should be a Status object. */
export function statusError(
  what: string,
  status: number,
  body: unknown,
  retryAfterMs: number | null,
): ApiError {
  const { message, reason, details } = (typeof body === "object" && body !== null ? body : {}) as {
    message?: unknown;
    reason?: unknown;
    details?: { causes?: readonly { reason?: unknown }[]; retryAfterSeconds?: unknown } | null;
  };
  const tooNew =
    Array.isArray(details?.causes) &&
    details.causes.some((cause) => cause?.reason === "ResourceVersionTooLarge");
  const expired = reason === "Expired" || reason === "Gone";
  const code = tooNew ? "too_new" : expired ? "gone" : (BY_STATUS.get(status) ?? "server_error");
  const seconds = details?.retryAfterSeconds;
  const waitMs = retryAfterMs ?? (typeof seconds === "number" && seconds > 0 ? seconds * 1000 : null);
  const text = typeof message === "string" && message !== "" ? `: ${message}` : "";
  return new ApiError(code, `${what}: the API server answers ${status}${text}`, {
    status,
    retryAfterMs: waitMs,
  });
}

/** Anything thrown, as an ApiError. */
export function asApiError(what: string, error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const text = typeof message === "string" && message !== "" ? message : String(code ?? error);
  return new ApiError("connect", `${what}: ${text}`, { fields: { errno: code }, cause: error });
}
