// SPDX-License-Identifier: Apache-2.0
import { sameTexts } from "../net/ip.js";
import type { NodeInfo } from "./types.js";

/** Whether all that a Snapshot says of a node is alike. */
export function sameNode(a: NodeInfo, b: NodeInfo): boolean {
  return (
    a.name === b.name &&
    a.zone === b.zone &&
    sameTexts(a.addresses, b.addresses) &&
    sameTexts(a.podCIDRs, b.podCIDRs)
  );
}
