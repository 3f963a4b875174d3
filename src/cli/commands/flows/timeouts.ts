// SPDX-License-Identifier: Apache-2.0
import type { FlowOptions } from "../../../dataplane/view.js";

/** How long entries live, by the timeouts that every agent loads its programs with. */
export async function flowOptions(nowTicks: number): Promise<FlowOptions> {
  const { DEFAULT_TIMEOUTS, kernelConfig } = await import("../../../daemon/kernel-config.js");
  return { timeouts: kernelConfig([], DEFAULT_TIMEOUTS), nowTicks };
}
