// SPDX-License-Identifier: Apache-2.0
/** The hosts of the packet tests, under names that are the same in both families: one table serves IPv4 and IPv6. */
import { addressText } from "../../support/packet-address.js";

export type Family = 4 | 6;

export type Host =
  | "client"
  | "client2"
  | "vip"
  | "vip2"
  | "backend"
  | "backend2"
  | "backend3"
  | "backend4"
  | "node"
  | "router"
  | "stranger"
  | "stranger2"
  | "nodeip"
  | "lb"
  | "lb2"
  | "unused"
  | "unspecified";

const HOSTS: Readonly<Record<Host, readonly [string, string]>> = {
  client: ["10.244.1.10", "fd00:244:1::a"],
  client2: ["10.244.1.11", "fd00:244:1::b"],
  vip: ["10.96.0.10", "fd00:96::10"],
  vip2: ["10.96.0.20", "fd00:96::20"],
  backend: ["10.244.2.20", "fd00:244:2::14"],
  backend2: ["10.244.2.21", "fd00:244:2::15"],
  backend3: ["10.244.3.22", "fd00:244:3::16"],
  backend4: ["10.244.3.23", "fd00:244:3::17"],
  /** What the egress interface masquerades with. */
  node: ["10.244.1.1", "fd00:244:1::1"],
  router: ["192.168.50.1", "fd00:50::1"],
  stranger: ["198.51.100.7", "2001:db8:5::7"],
  stranger2: ["198.51.100.8", "2001:db8:5::8"],
  /** An address of the node on which NodePorts are served, and what its uplink masquerades with. */
  nodeip: ["192.168.50.10", "fd00:50::a"],
  /** Addresses of load balancers, or external ones. */
  lb: ["203.0.113.5", "2001:db8:3::5"],
  lb2: ["203.0.113.6", "2001:db8:3::6"],
  /** In the Services' network, and no Service's. */
  unused: ["10.96.200.1", "fd00:96::8:1"],
  unspecified: ["0.0.0.0", "::"],
};

export type Addresses = Readonly<Record<Host, string>>;

export function addressesOf(family: Family): Addresses {
  const column = family === 4 ? 0 : 1;
  return Object.fromEntries(Object.entries(HOSTS).map(([name, texts]) => [name, texts[column]])) as Addresses;
}

/** The host's name for an address, or the address itself when it is nobody's. */
export function hostName(bytes: Uint8Array): string {
  const text = addressText(bytes);
  for (const [name, texts] of Object.entries(HOSTS)) {
    if (texts.some((candidate) => candidate === text)) return name;
  }
  return text;
}
