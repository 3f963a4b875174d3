// SPDX-License-Identifier: Apache-2.0
/** On which addresses of this node health check ports listen (6.20). Pure. */
import type { ProxyConfig } from "../model/types.js";
import type { Family, IpAddress } from "../net/ip.js";

/** Per family: the family's wildcard address, or each of these; none of them: nothing listens. */
export type BindAddresses = Readonly<Record<Family, "any" | readonly IpAddress[]>>;

export const EVERY_ADDRESS: BindAddresses = { 4: "any", 6: "any" };

/**
 * @param configured ProxyConfig.nodePortAddresses. A family of which it has no range, or a range of length 0, is served on
 *   every address (6.2), also on those that come later.
 * @param matching Image.nodePortAddresses: the node's addresses that match now (6.3)
 */
export function healthCheckAddresses(
  configured: ProxyConfig["nodePortAddresses"],
  matching: readonly IpAddress[],
): BindAddresses {
  const of = (family: Family): "any" | readonly IpAddress[] => {
    if (configured !== "primary") {
      const ranges = configured.filter((range) => range.family === family);
      if (ranges.length === 0 || ranges.some(({ prefixLength }) => prefixLength === 0)) return "any";
    }
    return matching.filter((address) => address.family === family);
  };
  return { 4: of(4), 6: of(6) };
}
