// SPDX-License-Identifier: Apache-2.0
/** Services of every kind as writes to the maps, made from abi.h alone: what reads them is tested without what writes them. */
import {
  AddressClass,
  BackendFlag,
  BackendState,
  Empty,
  FrontendFlag,
  InterfaceFlag,
  Role,
} from "../../src/abi/enums.gen.js";
import { choiceTag, encodeChoice } from "../../src/abi/hash.js";
import {
  affinityCodec,
  FAMILY_CODECS,
  frontendCodec,
  interfaceCodec,
  serviceNameCodec,
} from "../../src/abi/layout.gen.js";
import type { MapName } from "../../src/abi/maps.gen.js";
import type { MapWrite } from "../../src/native/kernel.js";
import { type Family, parseIp } from "../../src/net/ip.js";
import { protocolNumber } from "../../src/net/port.js";

export const bytesOf = (text: string): Uint8Array => {
  const address = parseIp(text);
  if (address === null) throw new Error(`${text} is no address`);
  return address.bytes;
};

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const familyOf = (address: string): Family => (address.includes(":") ? 6 : 4);

export function put(map: MapName, keys: Uint8Array, values: Uint8Array): MapWrite {
  return { map, kind: "update", count: 1, keys, values };
}

interface CellOptions {
  readonly state?: number;
  readonly flags?: number;
  readonly generation?: number;
  readonly service?: number;
}

export function cell(
  index: number,
  addr: string,
  port: number,
  { state = BackendState.BACKEND_LIVE, flags = 0, generation = 0, service = 0 }: CellOptions,
): MapWrite {
  const { backend } = FAMILY_CODECS[familyOf(addr)];
  const value = backend.encode({ addr: bytesOf(addr), port, state, flags, generation, service });
  return put(`backends${familyOf(addr)}`, u32(index), value);
}

interface FrontendOptions {
  readonly service: number;
  readonly protocol?: "TCP" | "UDP";
  readonly affinitySeconds?: number;
  readonly flags: number;
  /** Count and base of the slots. */
  readonly internal: readonly [number, number];
  readonly external: readonly [number, number];
}

export function frontend(addr: string, port: number, options: FrontendOptions): MapWrite {
  const { service, protocol = "TCP", affinitySeconds = 0, flags, internal, external } = options;
  const { addrPort } = FAMILY_CODECS[familyOf(addr)];
  const key = addrPort.encode({ addr: bytesOf(addr), port, protocol: protocolNumber(protocol) });
  const word = ([count, base]: readonly [number, number]): bigint =>
    encodeChoice({ tag: choiceTag(key), count, base });
  const value = frontendCodec.encode({
    internal: word(internal),
    external: word(external),
    service,
    affinitySeconds,
    flags,
  });
  return put(`frontends${familyOf(addr)}`, key, value);
}

export function name(index: number, service: string, portName: string, protocol: "TCP" | "UDP"): MapWrite {
  const value = { namespaceName: "shop", name: service, portName, protocol: protocolNumber(protocol) };
  return put("services", u32(index), serviceNameCodec.encode(value));
}

function address(addr: string, classes: number, port = 0): MapWrite {
  const key = { addr: bytesOf(addr), port, protocol: port === 0 ? 0 : protocolNumber("TCP") };
  return put(`addresses${familyOf(addr)}`, FAMILY_CODECS[familyOf(addr)].addrPort.encode(key), u32(classes));
}

export function range(service: number, addr: string, bits: number): MapWrite {
  const key = { prefixLength: 32 + bits, service, addr: bytesOf(addr) };
  return put(`source_ranges${familyOf(addr)}`, FAMILY_CODECS[familyOf(addr)].sourceRange.encode(key), u32(1));
}

/** `backend`, `generation`: what the client was given. `lastNew`: ns of CLOCK_MONOTONIC. */
export function client(
  addr: string,
  service: number,
  backend: number,
  lastNew: bigint,
  generation = 0,
): MapWrite {
  const { affinityKey } = FAMILY_CODECS[familyOf(addr)];
  const value = affinityCodec.encode({ backend, generation, lastNew });
  return put(`affinity${familyOf(addr)}`, affinityKey.encode({ client: bytesOf(addr), service }), value);
}

export function networkInterface(
  ifindex: number,
  role: number,
  flags: number,
  four: string,
  six: string,
): MapWrite {
  const value = { role, mtu: 1500, flags, masquerade4: bytesOf(four), masquerade6: bytesOf(six) };
  return put("interfaces", u32(ifindex), interfaceCodec.encode(value));
}

const F = FrontendFlag;
const BOTH = BackendFlag.BACKEND_CLUSTER_SET | BackendFlag.BACKEND_LOCAL_SET;
const WEB = { service: 0, affinitySeconds: 600, internal: [2, 1], external: [1, 3] } as const;

/**
 * shop/web: a LoadBalancer with externalTrafficPolicy Local, session affinity and source ranges; one backend here, one
 * elsewhere, one draining. shop/dns: a NodePort of IPv6 with both policies Local and no endpoint here. The node serves
 * NodePorts on 192.168.7.1 and fd07::1.
 */
export const SERVICES_IN_MAPS: readonly MapWrite[] = [
  name(0, "web", "http", "TCP"),
  cell(1, "10.1.0.1", 8080, { flags: BackendFlag.BACKEND_LOCAL | BOTH }),
  cell(2, "10.2.0.1", 8080, { flags: BackendFlag.BACKEND_CLUSTER_SET, generation: 2 }),
  cell(3, "10.2.0.2", 8080, { state: BackendState.BACKEND_DRAINING, generation: 4 }),
  cell(4, "10.2.0.3", 8080, { state: BackendState.BACKEND_FREE, generation: 5 }),
  put("slots4", u32(1), u32(1)),
  put("slots4", u32(2), u32(2)),
  put("slots4", u32(3), u32(1)),
  frontend("10.96.0.1", 80, {
    ...WEB,
    external: WEB.internal,
    flags: F.FRONTEND_CLUSTER_IP | F.FRONTEND_MASQUERADE_OUTSIDERS,
  }),
  frontend("203.0.113.7", 80, { ...WEB, flags: F.FRONTEND_SOURCE_RANGES | F.FRONTEND_EXTERNAL_LOCAL }),
  frontend("0.0.0.0", 30080, { ...WEB, flags: F.FRONTEND_NODE_PORT | F.FRONTEND_EXTERNAL_LOCAL }),
  range(0, "192.0.2.0", 24),
  range(0, "10.0.0.0", 8),
  range(0, "198.51.100.9", 32),
  name(1, "dns", "dns", "UDP"),
  cell(1, "fd02::1", 53, { service: 1 }),
  frontend("::", 30053, {
    service: 1,
    protocol: "UDP",
    flags:
      F.FRONTEND_NODE_PORT |
      F.FRONTEND_MASQUERADE |
      F.FRONTEND_INTERNAL_LOCAL |
      F.FRONTEND_EXTERNAL_LOCAL |
      F.FRONTEND_SOURCE_RANGES,
    internal: [0, Empty.REJECT],
    external: [0, Empty.DROP],
  }),
  address("fd07::1", AddressClass.CLASS_NODE),
  address("192.168.7.1", AddressClass.CLASS_NODE | AddressClass.CLASS_BACKEND),
  address("203.0.113.7", AddressClass.CLASS_VIP),
  // NODE is a class of addresses alone: with a port it means nothing.
  address("192.168.7.9", AddressClass.CLASS_NODE, 80),
  networkInterface(0, Role.NODE, 0, "192.168.7.1", "fd07::1"),
  networkInterface(7777, Role.POD, InterfaceFlag.INTERFACE_LOCAL_PODS, "0.0.0.0", "fd07::1"),
];
