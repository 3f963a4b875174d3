// SPDX-License-Identifier: Apache-2.0
/** How much of what is read, so that nonsense is refused in bounded time and memory. */
export interface Limits {
  /** A larger file is refused unread. Bytes. */
  readonly maxFileBytes: number;
  /** One object's text. An API server stores none above 1.5 MiB. Bytes. */
  readonly maxObjectBytes: number;
  /** After so many broken documents the rest of the file is not tried. */
  readonly maxBrokenDocuments: number;
}

export const DEFAULT_LIMITS: Limits = {
  maxFileBytes: 256 * 1024 * 1024,
  maxObjectBytes: 2 * 1024 * 1024,
  maxBrokenDocuments: 100,
};

export function mebibytes(bytes: number): string {
  return `${Number((bytes / (1024 * 1024)).toFixed(1))} MiB`;
}
