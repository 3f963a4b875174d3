// SPDX-License-Identifier: Apache-2.0
/** Where the kernel would send a packet, in the process's network namespace. */
import type { IpAddress } from "../net/ip.js";
import { NativeError } from "./errors.js";
import type { Ffi } from "./ffi.js";
import { ptlRouteCodec, ptlRouteRequestCodec } from "./portolan.gen.js";
import { fromSixteen, toSixteen } from "./sixteen.js";

export interface RouteRequest {
  /** Null: not known yet, the kernel chooses. */
  readonly source: IpAddress | null;
  readonly destination: IpAddress;
  /** IPPROTO_*. */
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The interface it came in by; 0: the node sends it. */
  readonly ifindex: number;
  readonly mark: number;
}

/**
 * `local`: to the node itself. `unicast`: out by an interface. `refused`: `errno` says why; EXDEV and EINVAL mean that the
 * interface may not bring that source (a reverse path filter, a martian).
 */
export type Route =
  | {
      readonly kind: "unicast" | "local";
      readonly ifindex: number;
      readonly gateway: IpAddress | null;
      readonly source: IpAddress | null;
    }
  | { readonly kind: "refused"; readonly errno: number };

const RTN_LOCAL = 2;
const RTN_UNICAST = 1;
/** What a route of another type (blackhole, prohibit, multicast …) comes to. */
const EHOSTUNREACH = 113;
/** The kernel takes ports of these for its rules, and refuses to be asked with others'. */
const WITH_PORTS: readonly number[] = [6, 17];

/** Asks the kernel's routing table. */
export function routeOf(ffi: Ffi, request: RouteRequest): Route {
  const { family } = request.destination;
  const ports = WITH_PORTS.includes(request.protocol);
  const packed = ptlRouteRequestCodec.encode({
    family,
    protocol: request.protocol,
    iif: request.ifindex,
    mark: request.mark >>> 0,
    sport: ports ? request.sourcePort : 0,
    dport: ports ? request.destinationPort : 0,
    src: toSixteen(request.source),
    dst: toSixteen(request.destination),
  });
  const out = Buffer.alloc(ptlRouteCodec.size);
  try {
    ffi.call("ptl_route_get", packed, out);
  } catch (error) {
    if (error instanceof NativeError) return { kind: "refused", errno: error.errno };
    throw error;
  }
  const { type, oif, gateway, source } = ptlRouteCodec.decode(out);
  if (type !== RTN_LOCAL && type !== RTN_UNICAST) return { kind: "refused", errno: EHOSTUNREACH };
  const address = (bytes: Uint8Array): IpAddress | null =>
    bytes.every((byte) => byte === 0) ? null : fromSixteen(bytes, family);
  return {
    kind: type === RTN_LOCAL ? "local" : "unicast",
    ifindex: oif,
    gateway: address(gateway),
    source: address(source),
  };
}
