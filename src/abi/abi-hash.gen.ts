// SPDX-License-Identifier: Apache-2.0
// GENERATED from bpf/include/*.h by scripts/gen-abi.ts (make abi). Do not edit.

/** Pins live below <bpf-root>/v<LAYOUT_VERSION>/. */
export const LAYOUT_VERSION = 2;

/** Of every struct, enum and map (their default sizes left out): library, object and this code must agree on it. */
export const ABI_HASH = 3430905334624425818n;
