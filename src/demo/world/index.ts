// SPDX-License-Identifier: Apache-2.0
export { WorldError, type WorldErrorCode, type WorldErrorDetails } from "./errors.js";
export { Host } from "./host.js";
export { Node } from "./node.js";
export type { Flavour, Overlay, PodOptions, WorldOptions } from "./options.js";
export type { DualAddress } from "./plan.js";
export { Pod, type PodManifest } from "./pod.js";
export { removeStaleWorlds, staleNamespaces, worldNamespaces } from "./registry.js";
export { type RunOptions, type RunResult, run } from "./run.js";
export { createWorld, type PodRequest, World } from "./world.js";
