// SPDX-License-Identifier: Apache-2.0

/*
 * The addresses of a world. The same in each world: a world shares no link with another one, so nothing can clash.
 *
 *   underlay    192.168.50.N/24   fd00:50::N/64          node N; .254 / ::fe is the switch
 *   outside     192.168.60.2/24   fd00:60::2/64          the client; .1 / ::1 is the switch
 *   pods        10.244.N.0/24     fd00:10:244:N::/64     node N; .1 / ::1 is cni0, .0 / :: is flannel.1
 *   services    10.96.0.0/16      fd00:10:96::/112       (routed by the outside to node 1)
 */

/** An IPv4 and an IPv6 address of one host, as text. */
export interface DualAddress {
  readonly ip4: string;
  readonly ip6: string;
}

export const CLUSTER_CIDR4 = "10.244.0.0/16";
export const CLUSTER_CIDR6 = "fd00:10:244::/48";
export const SERVICE_CIDR4 = "10.96.0.0/16";
export const SERVICE_CIDR6 = "fd00:10:96::/112";
export const SWITCH_UNDERLAY: DualAddress = { ip4: "192.168.50.254", ip6: "fd00:50::fe" };
export const SWITCH_OUTSIDE: DualAddress = { ip4: "192.168.60.1", ip6: "fd00:60::1" };
export const CLIENT: DualAddress = { ip4: "192.168.60.2", ip6: "fd00:60::2" };
/** The next hop which Calico gives to all pods: answered by proxy ARP and by a fixed link-local address. */
export const ROUTED_GATEWAY: DualAddress = { ip4: "169.254.1.1", ip6: "fe80::ecee:eeff:feee:eeee" };
export const ROUTED_HOST_MAC = "ee:ee:ee:ee:ee:ee";

/** Address of node `n` on the wire between the nodes. */
export function nodeAddress(n: number): DualAddress {
  return { ip4: `192.168.50.${n}`, ip6: `fd00:50::${hex(n)}` };
}

/** Address of node `n`'s vxlan device: the first of its pod subnet, as flannel does. */
export function overlayAddress(n: number): DualAddress {
  return { ip4: `10.244.${n}.0`, ip6: `fd00:10:244:${hex(n)}::` };
}

/** Address of node `n`'s bridge, the gateway of its pods. */
export function gatewayAddress(n: number): DualAddress {
  return { ip4: `10.244.${n}.1`, ip6: `fd00:10:244:${hex(n)}::1` };
}

/** Address of the `index`-th pod (0 is the first) of node `n`. */
export function podAddress(n: number, index: number): DualAddress {
  const host = index + 10;
  return { ip4: `10.244.${n}.${host}`, ip6: `fd00:10:244:${hex(n)}::${hex(host)}` };
}

/** Subnet of node `n`'s pods. */
export function podSubnet(n: number): DualAddress {
  return { ip4: `10.244.${n}.0/24`, ip6: `fd00:10:244:${hex(n)}::/64` };
}

/** Hardware address of node `n`'s vxlan device; fixed, since the other nodes have it in static entries. */
export function overlayMac(n: number): string {
  return `0a:58:0a:f4:${hex(n).padStart(2, "0")}:00`;
}

function hex(n: number): string {
  return n.toString(16);
}
