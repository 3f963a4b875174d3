// SPDX-License-Identifier: Apache-2.0
import { AppError } from "../util/errors.js";

export type TraceErrorCode =
  /** The packet that was asked for cannot be: addresses of two families, a port too many or too few. */
  | "E_TRACE_PACKET"
  /** No interface of this network namespace carries programs of ours. */
  | "E_TRACE_NOT_ATTACHED"
  /** It cannot be told, or is none of ours, by which interface the packet comes in. */
  | "E_TRACE_INTERFACE";

export function traceError(
  code: TraceErrorCode,
  message: string,
  hint: string,
  fields: Readonly<Record<string, unknown>> = {},
): AppError<TraceErrorCode> {
  return new AppError(code, message, { hint, fields });
}
