// SPDX-License-Identifier: Apache-2.0
import { createRequire } from "node:module";

/**
 * Loads the native binding before anything else is. ref-napi says of each pointer that it is a gigabyte, and ffi-napi makes
 * twenty as it is loaded: V8 collects all garbage nine times. That takes as long as the heap is large, and throws away code
 * that has been compiled: 40 ms at the beginning of a process, 200 ms once an agent's modules are there.
 *
 * Whether it can be loaded at all is for whoever uses it to say.
 */
export function loadBindingEarly(): void {
  try {
    createRequire(import.meta.url)("ffi-napi");
  } catch {
    // It is tried again, and told, by the first use.
  }
}
