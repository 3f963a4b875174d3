// SPDX-License-Identifier: Apache-2.0
/**
 * A node's uplinks for tests of the XDP program: wires with routes and resolved neighbours, of which the program asks the kernel. The
 * first one carries the program, since the kernel runs it on no frame of an interface that does not; nothing arrives there.
 */
import { writeFileSync } from "node:fs";
import { Role } from "../../../src/abi/enums.gen.js";
import { interfaceCodec, xdpDeviceCodec } from "../../../src/abi/layout.gen.js";
import { addressBytes } from "../../support/packet-address.js";
import { addressesOf, type Host } from "./addresses.js";
import { type Bench, type Lab, u32 } from "./lab.js";
import { FAR_MAC, ip } from "./wire.js";

/** `near` and `second` carry XDP; `tunnel` is an overlay, `cni` a bridge that pods hang on, `foreign` nobody's. */
export const WIRES = ["near", "second", "tunnel", "cni", "foreign"] as const;
export type Wire = (typeof WIRES)[number];

/** Who is behind which wire, as a neighbour that is resolved. */
const BEHIND: readonly (readonly [Host, Wire])[] = [
  ["stranger", "near"],
  ["backend", "near"],
  ["backend2", "second"],
  ["backend3", "tunnel"],
  ["backend4", "cni"],
  ["stranger2", "foreign"],
];
/** Behind `near` too, but nobody has resolved it. */
export const SILENT: Host = "client2";
/** An address of the node itself. */
export const LOCAL: Host = "node";

export const macOf = (wire: Wire): string => `02:00:00:00:01:0${WIRES.indexOf(wire)}`;
const ROLES: Readonly<Partial<Record<Wire, number>>> = {
  near: Role.UPLINK,
  second: Role.UPLINK,
  tunnel: Role.OVERLAY,
  cni: Role.BRIDGE,
};

function makeWire(name: Wire): number {
  ip("link", "add", name, "address", macOf(name), "type", "veth", "peer", "name", `${name}-far`);
  writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, "0");
  for (const end of [name, `${name}-far`]) ip("link", "set", end, "up");
  const [link] = JSON.parse(ip("-j", "link", "show", name)) as [{ ifindex: number }];
  return link.ifindex;
}

/** Makes the wires in the test's own namespace, puts the bench's program on the first, and returns their ifindexes. */
export async function makeUplinks(bench: Bench): Promise<Readonly<Record<Wire, number>>> {
  // The far ends stay silent: what they sent would be counted.
  writeFileSync("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
  const indexes = Object.fromEntries(WIRES.map((name) => [name, makeWire(name)])) as Record<Wire, number>;
  for (const family of [4, 6] as const) {
    const at = addressesOf(family);
    const length = family === 4 ? 32 : 128;
    const nodad = family === 6 ? ["nodad"] : [];
    for (const host of ["nodeip", LOCAL] as const)
      ip("address", "add", `${at[host]}/${length}`, "dev", "near", ...nodad);
    for (const [host, device] of [...BEHIND, [SILENT, "near"] as const])
      ip("route", "add", `${at[host]}/${length}`, "dev", device);
    for (const [host, device] of BEHIND)
      ip("neigh", "replace", at[host], "lladdr", FAR_MAC, "nud", "permanent", "dev", device);
    writeFileSync(`/proc/sys/net/ipv${family}/conf/all/forwarding`, "1");
  }
  await bench.kernel.attachXdp(indexes.near, "native");
  return indexes;
}

export function removeUplinks(): void {
  for (const name of WIRES) ip("link", "del", name);
}

/** What the maps say of the wires. */
export async function describeUplinks(lab: Lab, indexes: Readonly<Record<Wire, number>>): Promise<void> {
  for (const wire of WIRES) {
    const role = ROLES[wire];
    if (role === undefined) continue;
    const value = interfaceCodec.encode({
      role,
      mtu: 1500,
      masquerade4: addressBytes(addressesOf(4).nodeip),
      masquerade6: addressBytes(addressesOf(6).nodeip),
      flags: 0,
    });
    await lab.set("interfaces", u32(indexes[wire]), value);
    if (role !== Role.UPLINK) continue;
    const address = Uint8Array.from(macOf(wire).split(":"), (byte) => Number.parseInt(byte, 16));
    await lab.set("xdp_devices", u32(indexes[wire]), xdpDeviceCodec.encode({ address }));
  }
}
