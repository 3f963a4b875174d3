// SPDX-License-Identifier: Apache-2.0
import type { FlowOptions } from "../../../dataplane/view.js";

/** How long entries live: the timeouts that every agent loads its programs with. */
export async function flowTimeouts(): Promise<FlowOptions["timeouts"]> {
  const { DEFAULT_TIMEOUTS, kernelConfig } = await import("../../../daemon/kernel-config.js");
  return kernelConfig([], DEFAULT_TIMEOUTS);
}

/** How the entries of nat are read, as of a time. */
export async function flowOptions(nowTicks: number): Promise<FlowOptions> {
  return { timeouts: await flowTimeouts(), nowTicks };
}
