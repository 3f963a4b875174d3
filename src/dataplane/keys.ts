// SPDX-License-Identifier: Apache-2.0
/**
 * Keys and values of the maps as texts with one byte per character ("latin1"): cheap to compare and to look up, unlike
 * byte arrays. Everything here is in the layout of bpf/include/abi.h.
 */
import { Buffer } from "node:buffer";
import { viewOf, wordsOf } from "../abi/codec.js";
import { AddressClass, BackendFlag, BackendState, FrontendFlag } from "../abi/enums.gen.js";
import {
  addrPort4Codec,
  addrPort6Codec,
  backend4Codec,
  backend6Codec,
  frontendCodec,
  network4Codec,
  network6Codec,
  serviceNameCodec,
  sourceRange4Codec,
  sourceRange6Codec,
} from "../abi/layout.gen.js";
import type { BackendImage, FrontendImage, ServicePortImage } from "../image/types.js";
import type { Masquerade } from "../model/masquerade.js";
import { type Cidr, cidrOf } from "../net/cidr.js";
import { type Family, type IpAddress, ipFromBytes, writeIp } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";

export interface FamilyLayout {
  /** Bytes of an address. */
  readonly address: number;
  /** Bytes of a struct addr_port, and where its protocol is. */
  readonly key: number;
  readonly protocol: number;
  /** Bytes of a struct backend, and where its members are. */
  readonly cell: number;
  readonly port: number;
  readonly state: number;
  readonly flags: number;
  readonly generation: number;
  readonly service: number;
}

function layoutOf(
  key: typeof addrPort4Codec | typeof addrPort6Codec,
  cell: typeof backend4Codec | typeof backend6Codec,
): FamilyLayout {
  const at = (offsets: Readonly<Record<string, number>>, member: string): number => {
    const offset = offsets[member];
    if (offset === undefined) throw new RangeError(`no member "${member}" in the generated layout`);
    return offset;
  };
  return {
    address: at(key.offsets, "port"),
    key: key.size,
    protocol: at(key.offsets, "protocol"),
    cell: cell.size,
    port: at(cell.offsets, "port"),
    state: at(cell.offsets, "state"),
    flags: at(cell.offsets, "flags"),
    generation: at(cell.offsets, "generation"),
    service: at(cell.offsets, "service"),
  };
}

export const LAYOUTS: Readonly<Record<Family, FamilyLayout>> = {
  4: layoutOf(addrPort4Codec, backend4Codec),
  6: layoutOf(addrPort6Codec, backend6Codec),
};

const PORT_BYTES = 2;

const scratch: Readonly<Record<Family, Buffer>> = {
  4: Buffer.alloc(LAYOUTS[4].key),
  6: Buffer.alloc(LAYOUTS[6].key),
};

/** The same bytes as words. */
const scratchWords: Readonly<Record<Family, Uint32Array>> = {
  4: wordsOf(scratch[4]),
  6: wordsOf(scratch[6]),
};

function writeAddrPort(address: IpAddress, port: number, protocol: number): Buffer {
  const bytes = scratch[address.family];
  const layout = LAYOUTS[address.family];
  writeIp(address, bytes, 0);
  bytes[layout.address] = port >>> 8;
  bytes[layout.address + 1] = port;
  bytes[layout.protocol] = protocol;
  return bytes;
}

/** A struct addr_port4/6. Port and protocol 0: the address itself. */
export function addrPortText(address: IpAddress, port: number, protocol: number): string {
  return writeAddrPort(address, port, protocol).toString("latin1");
}

/** The same as words, until the next key of this family is made. */
export function addrPortWords(address: IpAddress, port: number, protocol: number): Uint32Array {
  writeAddrPort(address, port, protocol);
  return scratchWords[address.family];
}

/** The words of a key, until the next key of this family is made. */
export function keyWords(family: Family, key: string): Uint32Array {
  scratch[family].write(key, "latin1");
  return scratchWords[family];
}

/** The struct addr_port4/6 of the backend in one of these packed cells. */
export function cellKey(family: Family, cells: Buffer, cell: number, protocol: number): string {
  const layout = LAYOUTS[family];
  const bytes = scratch[family];
  const at = cell * layout.cell;
  cells.copy(bytes, 0, at, at + layout.address);
  cells.copy(bytes, layout.address, at + layout.port, at + layout.port + PORT_BYTES);
  bytes[layout.protocol] = protocol;
  return bytes.toString("latin1");
}

/** The key of the address in another key. */
export function addressText(family: Family, key: string): string {
  return `${key.slice(0, LAYOUTS[family].address)}\0\0\0\0`;
}

/** "10.96.0.1:80" or "[fd00::1]:80", for messages. */
export function addrPortName(family: Family, key: string): string {
  const bytes = bytesOf(key);
  const { text } = ipFromBytes(bytes.subarray(0, LAYOUTS[family].address));
  const port = bytes.readUInt16BE(LAYOUTS[family].address);
  return family === 4 ? `${text}:${port}` : `[${text}]:${port}`;
}

export function bytesOf(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

/** Bytes that a port's name may have in struct service_name; Kubernetes allows more. */
const PORT_NAME_BYTES = 23;

/** FNV-1a: only to tell two long names apart. */
function shortHash(text: string): string {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return (h >>> 0).toString(16).padStart(8, "0");
}

/** What `services` can hold of a port's name: all of it, or its beginning, "~" and a hash. */
export function storedPortName(name: string): string {
  if (Buffer.byteLength(name) <= PORT_NAME_BYTES) return name;
  return `${name.slice(0, PORT_NAME_BYTES - 9)}~${shortHash(name)}`;
}

/** A struct service_name: the identity of a service port in the kernel (2.4). */
export function nameText(
  port: Pick<ServicePortImage, "namespace" | "name" | "portName" | "protocol">,
): string {
  serviceNameCodec.encodeInto(nameView, 0, {
    namespaceName: port.namespace,
    name: port.name,
    portName: storedPortName(port.portName),
    protocol: protocolNumber(port.protocol),
  });
  return nameBytes.toString("latin1");
}

/** Its padding stays zero. */
const nameBytes = Buffer.alloc(serviceNameCodec.size);
const nameView = viewOf(nameBytes);

/** IPPROTO_* of a struct service_name. */
export function protocolOfName(name: string): number {
  return name.charCodeAt(serviceNameCodec.offsets.protocol as number);
}

const frontendScratch = Buffer.alloc(frontendCodec.size);

/** A struct frontend; its bytes behind `flags` stay zero. */
export function frontendText(
  internal: bigint,
  external: bigint,
  service: number,
  affinitySeconds: number,
  flags: number,
): string {
  frontendScratch.writeBigUInt64LE(internal, 0);
  frontendScratch.writeBigUInt64LE(external, 8);
  frontendScratch.writeUInt32LE(service, 16);
  frontendScratch.writeUInt32LE(affinitySeconds, 20);
  frontendScratch.writeUInt32LE(flags, 24);
  return frontendScratch.toString("latin1");
}

/** enum ptl_frontend_flag. */
export function frontendFlags({ kind, internal, external, masquerade, sourceRanged }: FrontendImage): number {
  let flags = 0;
  if (kind === "ClusterIP") flags |= FrontendFlag.FRONTEND_CLUSTER_IP;
  if (kind === "NodePort") flags |= FrontendFlag.FRONTEND_NODE_PORT;
  if (masquerade === "always") flags |= FrontendFlag.FRONTEND_MASQUERADE;
  if (masquerade === "outsiders") flags |= FrontendFlag.FRONTEND_MASQUERADE_OUTSIDERS;
  if (sourceRanged) flags |= FrontendFlag.FRONTEND_SOURCE_RANGES;
  if (internal.set === "local") flags |= FrontendFlag.FRONTEND_INTERNAL_LOCAL;
  if (external.set === "local") flags |= FrontendFlag.FRONTEND_EXTERNAL_LOCAL;
  return flags;
}

/** Whose flows are masqueraded, by enum ptl_frontend_flag. */
export function masqueradeOf(flags: number): Masquerade {
  if (flags & FrontendFlag.FRONTEND_MASQUERADE) return "always";
  return flags & FrontendFlag.FRONTEND_MASQUERADE_OUTSIDERS ? "outsiders" : "never";
}

/** The classes that a frontend with these flags gives to the address in its key: none to that of a NodePort. */
export function frontendClasses(family: Family, key: string, flags: number): number {
  if (isUnspecified(key, LAYOUTS[family].address)) return 0;
  if ((flags & FrontendFlag.FRONTEND_CLUSTER_IP) === 0) return AddressClass.CLASS_VIP;
  return AddressClass.CLASS_VIP | AddressClass.CLASS_CLUSTER_IP;
}

/** Whether the first `bytes` of a key are zeros. */
function isUnspecified(key: string, bytes: number): boolean {
  for (let i = 0; i < bytes; i += 1) if (key.charCodeAt(i) !== 0) return false;
  return true;
}

/** enum ptl_backend_state of a backend that is there. */
export function backendState({ serving }: BackendImage): number {
  return serving ? BackendState.BACKEND_LIVE : BackendState.BACKEND_DRAINING;
}

/** enum ptl_backend_flag. */
export function backendFlags({ local, clusterSet, localSet }: BackendImage): number {
  return (
    (local ? BackendFlag.BACKEND_LOCAL : 0) |
    (clusterSet ? BackendFlag.BACKEND_CLUSTER_SET : 0) |
    (localSet ? BackendFlag.BACKEND_LOCAL_SET : 0)
  );
}

/** The value of every entry of `source_ranges` and `service_nets`: that it is there is all. */
export const PRESENT = "\u0001\0\0\0";

/** Bytes of a prefix length, and the bits of a service index behind it in a key of `source_ranges`. */
const LENGTH_BYTES = 4;
const SERVICE_BITS = 32;

export const PREFIX_LAYOUTS: Readonly<
  Record<Family, { readonly sourceRange: number; readonly network: number }>
> = {
  4: { sourceRange: sourceRange4Codec.size, network: network4Codec.size },
  6: { sourceRange: sourceRange6Codec.size, network: network6Codec.size },
};

/** A struct source_range4/6. */
export function sourceRangeText(service: number, { address, prefixLength }: Cidr): string {
  const bytes = Buffer.alloc(PREFIX_LAYOUTS[address.family].sourceRange);
  bytes.writeUInt32LE(SERVICE_BITS + prefixLength, 0);
  bytes.writeUInt32LE(service, LENGTH_BYTES);
  bytes.set(address.bytes, 2 * LENGTH_BYTES);
  return bytes.toString("latin1");
}

/** The service index and the range in a struct source_range4/6. */
export function readSourceRange(key: string): { readonly service: number; readonly range: Cidr } {
  const bytes = bytesOf(key);
  const address = ipFromBytes(bytes.subarray(2 * LENGTH_BYTES));
  const length = Math.max(0, bytes.readUInt32LE(0) - SERVICE_BITS);
  return { service: bytes.readUInt32LE(LENGTH_BYTES), range: cidrOf(address, length) };
}

/** A struct network4/6. */
export function networkText({ address, prefixLength }: Cidr): string {
  const bytes = Buffer.alloc(PREFIX_LAYOUTS[address.family].network);
  bytes.writeUInt32LE(prefixLength, 0);
  bytes.set(address.bytes, LENGTH_BYTES);
  return bytes.toString("latin1");
}

export function readNetwork(key: string): Cidr {
  const bytes = bytesOf(key);
  return cidrOf(ipFromBytes(bytes.subarray(LENGTH_BYTES)), bytes.readUInt32LE(0));
}

/** A key of an LPM trie without the bits that do not count: the kernel keeps those as they were written, and ignores them. */
export function withoutHostBits(key: string): string {
  const bytes = bytesOf(key);
  const length = bytes.readUInt32LE(0);
  for (let i = LENGTH_BYTES; i < bytes.length; i += 1) {
    const bits = Math.min(8, Math.max(0, length - (i - LENGTH_BYTES) * 8));
    bytes[i] = (bytes[i] as number) & ((0xff << (8 - bits)) & 0xff);
  }
  return bytes.toString("latin1");
}

/** The key of an address itself. */
export function ipText(address: IpAddress): string {
  return addrPortText(address, 0, 0);
}
