// SPDX-License-Identifier: Apache-2.0
/**
 * What the routing table must say before a packet can take the shortcut: the client, two backends on this node, each behind a
 * veth with a route and a neighbour of its own, as routed CNIs have them, and the other backends behind a router. Only in a
 * network namespace of the test's own (isolate()).
 */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { InterfaceFlag, Role } from "../../../src/abi/enums.gen.js";
import { addressesOf, type Host } from "./addresses.js";
import type { Lab } from "./lab.js";

/** A link of the node, and who is behind it. */
export interface Road {
  readonly name: string;
  readonly ifindex: number;
  /** Link addresses: the node's end, and whoever packets are sent to there. */
  readonly mac: string;
  readonly next: string;
  readonly role: Role;
}

export interface Roads {
  readonly client: Road;
  readonly backend: Road;
  readonly backend2: Road;
  /** To `router`, behind which backend3 and backend4 are. */
  readonly uplink: Road;
}

const MTU = 1400;

const ip = (...args: readonly string[]): string =>
  execFileSync("ip", [...args], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });

/** Puts down the links, routes and neighbours of both families. The uplink's MTU is 1400, the others' 1500. */
export function buildRoads(): Roads {
  for (const file of ["ipv4/ip_forward", "ipv6/conf/all/forwarding"])
    writeFileSync(`/proc/sys/net/${file}`, "1");
  const roads = {
    client: road("client", 1, Role.POD),
    backend: road("backend", 2, Role.POD),
    backend2: road("backend2", 3, Role.POD),
    uplink: road("uplink", 4, Role.UPLINK),
  };
  for (const host of ["client", "backend", "backend2"] as const) lead(host, roads[host]);
  ip("link", "set", roads.uplink.name, "mtu", String(MTU));
  lead("router", roads.uplink);
  for (const family of [4, 6] as const) {
    const at = addressesOf(family);
    for (const host of ["backend3", "backend4"] as const)
      ip(`-${family}`, "route", "add", at[host], "via", at.router, "dev", roads.uplink.name);
  }
  return roads;
}

function road(name: string, number: number, role: Role): Road {
  const mac = `02:00:00:00:0${number}:01`;
  ip("link", "add", name, "address", mac, "type", "veth", "peer", "name", `${name}-p`);
  ip("link", "set", name, "up");
  ip("link", "set", `${name}-p`, "up");
  const [link] = JSON.parse(ip("-j", "link", "show", "dev", name)) as { ifindex: number }[];
  return { name, ifindex: link?.ifindex ?? 0, mac, next: `02:00:00:00:0${number}:02`, role };
}

/** A host's route and neighbour, as a routed CNI's. */
function lead(host: Host, { name, next }: Road): void {
  for (const family of [4, 6] as const) {
    const at = addressesOf(family)[host];
    ip(`-${family}`, "route", "replace", at, "dev", name);
    ip(`-${family}`, "neigh", "replace", at, "lladdr", next, "dev", name, "nud", "permanent");
  }
}

/** The host is behind another link from now on. */
export function moveHost(host: Host, from: Road, to: Road): void {
  for (const family of [4, 6] as const)
    ip(`-${family}`, "neigh", "del", addressesOf(family)[host], "dev", from.name);
  lead(host, to);
}

/** The neighbour behind a link is not known (any more), or is again. */
export function forgetNeighbour(host: Host, { name }: Road): void {
  for (const family of [4, 6] as const)
    ip(`-${family}`, "neigh", "del", addressesOf(family)[host], "dev", name);
}

export function knowNeighbour(host: Host, road: Road): void {
  lead(host, road);
}

/** Opens the interfaces for the shortcut, or closes them (new flows take the stack). */
export async function openRoads(lab: Lab, roads: readonly Road[], open: boolean = true): Promise<void> {
  for (const { ifindex, role } of roads) {
    const peer = role === Role.POD ? InterfaceFlag.INTERFACE_PEER : 0;
    const mtu = role === Role.POD ? 1500 : MTU;
    const flags = peer | (open ? InterfaceFlag.INTERFACE_SHORTCUT : 0);
    await lab.interface({ masquerade: true, ifindex, role, mtu, flags });
  }
}
