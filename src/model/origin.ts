// SPDX-License-Identifier: Apache-2.0
import type { Origin } from "./types.js";

/** "web.yaml:12", or the file alone where no line is known. */
export function originText({ file, line }: Origin): string {
  return line === null ? file : `${file}:${line}`;
}
