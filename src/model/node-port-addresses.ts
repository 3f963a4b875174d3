// SPDX-License-Identifier: Apache-2.0
/** On which addresses of this host NodePorts are served (6.1 to 6.4). */
import type { Cidr } from "../net/cidr.js";
import { cidrContains } from "../net/cidr.js";
import { compareIp, FAMILIES, type Family, type IpAddress, specialUse } from "../net/ip.js";
import type { NodeInfo, ProxyConfig } from "./types.js";

/** 13.1: this node's IP of the family; null when its Node object has none. Loopback ones stand for none (6.4). */
export function primaryAddress(node: NodeInfo, family: Family): IpAddress | null {
  const first = node.addresses.find((address) => address.family === family);
  return first === undefined || specialUse(first) === "loopback" ? null : first;
}

/**
 * The addresses among `local` (this host's) that the configuration asks for, sorted. Loopback and link-local addresses
 * are never among them: 6.5 is another matter, and a link-local address belongs to no one interface.
 */
export function nodePortAddresses(
  asked: ProxyConfig["nodePortAddresses"],
  node: NodeInfo,
  local: readonly IpAddress[],
): readonly IpAddress[] {
  const found = new Map<string, IpAddress>();
  for (const address of local) {
    if (specialUse(address) === null && isAskedFor(asked, node, address)) found.set(address.text, address);
  }
  return Array.from(found.values()).sort(compareIp);
}

function isAskedFor(asked: ProxyConfig["nodePortAddresses"], node: NodeInfo, address: IpAddress): boolean {
  if (asked === "primary") return primaryAddress(node, address.family)?.text === address.text;
  const ranges = rangesOf(asked, address.family);
  // 6.2: a family that the list does not speak of is served everywhere.
  return ranges.length === 0 || ranges.some((range) => cidrContains(range, address));
}

function rangesOf(ranges: readonly Cidr[], family: Family): readonly Cidr[] {
  return ranges.filter((range) => range.family === family);
}

/**
 * The families in which the configuration asks for certain addresses and this host has none of them (6.3), each with what
 * was asked for.
 */
export function unmatchedNodePortAddresses(
  asked: ProxyConfig["nodePortAddresses"],
  node: NodeInfo,
  found: readonly IpAddress[],
): readonly { readonly family: Family; readonly asked: string }[] {
  return FAMILIES.flatMap((family) => {
    if (found.some((address) => address.family === family)) return [];
    if (asked === "primary") {
      const primary = primaryAddress(node, family);
      return primary === null ? [] : [{ family, asked: `the node's address ${primary.text}` }];
    }
    const ranges = rangesOf(asked, family);
    return ranges.length === 0 ? [] : [{ family, asked: ranges.map(({ text }) => text).join(", ") }];
  });
}
