// SPDX-License-Identifier: Apache-2.0
/**
 * What an image asks for that belongs to no service port: the addresses on which NodePorts are served, and the ranges that
 * ClusterIPs come from. Both are few. What does not fit is refused by itself, the rest is written.
 */
import type { Image } from "../image/types.js";
import type { Cidr } from "../net/cidr.js";
import { FAMILIES, type Family, type IpAddress } from "../net/ip.js";
import { ipText, networkText, PRESENT } from "./keys.js";
import { mapFull, type Refusal } from "./refusal.js";
import type { FamilyState, State } from "./state.js";

export interface NodeWide {
  /** Keys of `service_nets` to write and to delete. */
  readonly serviceNets: Readonly<
    Record<Family, { readonly added: readonly string[]; readonly removed: readonly string[] }>
  >;
  readonly refused: readonly Refusal[];
}

/** Changes the reasons for the class NODE in the state; the classes themselves are written with all others. */
export function planNodeWide(state: State, { nodePortAddresses, serviceNetworks }: Image): NodeWide {
  const refused: Refusal[] = [];
  if (nodePortAddresses !== state.nodePortAddresses) {
    for (const family of FAMILIES) {
      const ofFamily = nodePortAddresses.filter((address) => address.family === family);
      refused.push(...planNodeAddresses(state.families[family], ofFamily));
    }
    state.nodePortAddresses = refused.length === 0 ? nodePortAddresses : null;
  }
  const nets = (family: Family): NetChanges =>
    planServiceNets(
      state.families[family],
      serviceNetworks.filter((net) => net.family === family),
    );
  const serviceNets = { 4: nets(4), 6: nets(6) };
  refused.push(...serviceNets[4].refused, ...serviceNets[6].refused);
  return { serviceNets, refused };
}

function planNodeAddresses({ mirror, nodes }: FamilyState, wanted: readonly IpAddress[]): Refusal[] {
  const { addresses, capacity, family } = mirror;
  const refused: Refusal[] = [];
  const keys = new Map(wanted.map((address) => [ipText(address), address]));
  for (const key of nodes) {
    if (keys.has(key)) continue;
    nodes.delete(key);
    addresses.setNode(key, false);
  }
  for (const [key, { text }] of keys) {
    if (nodes.has(key)) continue;
    const missing = addresses.missing;
    addresses.setNode(key, true);
    if (addresses.missing === missing || addresses.present + addresses.missing <= capacity.addresses) {
      nodes.add(key);
      continue;
    }
    addresses.setNode(key, false);
    const subject = `NodePort address ${text}`;
    const available = Math.max(0, capacity.addresses - addresses.present - missing);
    refused.push(mapFull(subject, `addresses${family}`, 1, available, false, subject));
  }
  return refused;
}

interface NetChanges {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly refused: readonly Refusal[];
}

function planServiceNets({ mirror }: FamilyState, wanted: readonly Cidr[]): NetChanges {
  const { serviceNets, capacity, family } = mirror;
  const keys = new Set(wanted.map(networkText));
  const added: string[] = [];
  const refused: Refusal[] = [];
  let room = capacity.serviceNets - serviceNets.size;
  for (const net of wanted) {
    const key = networkText(net);
    const isNew = !serviceNets.has(key);
    if (added.includes(key) || serviceNets.get(key) === PRESENT) continue;
    if (isNew && room < 1) {
      const subject = `Service network ${net.text}`;
      refused.push(mapFull(subject, `service_nets${family}`, 1, 0, false, subject));
      continue;
    }
    if (isNew) room -= 1;
    added.push(key);
  }
  return { added, removed: [...serviceNets.keys()].filter((key) => !keys.has(key)), refused };
}
