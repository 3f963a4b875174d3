// SPDX-License-Identifier: Apache-2.0
/** Who may use a Service's load-balancer addresses (2.12, 2.13, 6.15 to 6.17). */
import type { Cidr } from "../net/cidr.js";
import { cidrContains, cidrOf, parseCidr } from "../net/cidr.js";
import type { Family } from "../net/ip.js";
import { primaryAddress } from "./node-port-addresses.js";
import type { NodeInfo, Service } from "./types.js";

/**
 * The ranges of one family. None: everybody may (2.13), and there is nothing to guard without an address either (6.15).
 * When one holds this node's IP, the load-balancer addresses themselves may too: a process of this node that speaks to one
 * which is bound here has it as its source (6.17).
 */
export function sourceRangesOf(service: Service, family: Family, node: NodeInfo): readonly Cidr[] {
  const addresses = service.loadBalancerIPs.filter((address) => address.family === family);
  if (addresses.length === 0) return [];
  const ranges = service.loadBalancerSourceRanges.flatMap((text) => {
    const range = parseCidr(text);
    return range?.family === family ? range : [];
  });
  const own = primaryAddress(node, family);
  if (own === null || !ranges.some((range) => cidrContains(range, own))) return ranges;
  return [...ranges, ...addresses.map((address) => cidrOf(address, address.bytes.length * 8))];
}
