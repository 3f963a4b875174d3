// SPDX-License-Identifier: Apache-2.0
/** Images of any size, in the shape that compile() gives: for exact counts and benchmarks. */
import type { Image, ServicePortImage } from "../../src/image/types.js";
import { type Family, type IpAddress, ipFromBytes } from "../../src/net/ip.js";

/** The i-th address below `top`: 10.x.y.z, or fd00::. */
export function nthAddress(family: Family, top: number, i: number): IpAddress {
  const bytes = [i >>> 16, i >>> 8, i].map((byte) => byte & 0xff);
  if (family === 4) return ipFromBytes(Uint8Array.of(top, ...bytes));
  return ipFromBytes(Uint8Array.of(0xfd, top, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...bytes));
}

/** A service port's backends have addresses of their own among so many. */
export const PODS_PER_PORT = 64;

/** What a backend is that serves, on another node, of a port without session affinity. */
const SERVES = { local: false, serving: true, clusterSet: false, localSet: false } as const;

export interface PortOptions {
  readonly family?: Family;
  /** Which backends of the port: default 0, 1, … */
  readonly pods?: readonly number[];
  readonly chosen?: readonly number[];
}

/** Service port number `i` with `count` backends of its own, all of them chosen. */
export function bigPort(
  i: number,
  count: number,
  { family = 4, pods, chosen }: PortOptions = {},
): ServicePortImage {
  const each = pods ?? Array.from({ length: count }, (_, pod) => pod);
  const backends = each.map((pod) => ({
    address: nthAddress(family, 10, i * PODS_PER_PORT + pod),
    port: 8080,
    ...SERVES,
  }));
  const choice = {
    backends: chosen ?? backends.map((_, index) => index),
    whenEmpty: "reject" as const,
    set: "cluster" as const,
  };
  const name = `service-${i}`;
  return {
    key: `default/${name}:http/TCP`,
    namespace: "default",
    name,
    portName: "http",
    protocol: "TCP",
    backends,
    frontends: [
      {
        kind: "ClusterIP",
        address: nthAddress(family, 11, i),
        port: 80,
        internal: choice,
        external: choice,
        masquerade: "never",
        sourceRanged: false,
      },
    ],
    affinitySeconds: 0,
    sourceRanges: [],
  };
}

export function imageOf(ports: Iterable<ServicePortImage>): Image {
  return {
    servicePorts: new Map(Array.from(ports, (port) => [port.key, port])),
    problems: [],
    nodePortAddresses: [],
    serviceNetworks: [],
  };
}

/** The same image with one service port exchanged. */
export function withPort(image: Image, port: ServicePortImage): Image {
  return { ...image, servicePorts: new Map(image.servicePorts).set(port.key, port) };
}
