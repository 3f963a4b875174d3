// SPDX-License-Identifier: Apache-2.0
/**
 * Keys and values of the maps as texts with one byte per character ("latin1"): cheap to compare and to look up, unlike
 * byte arrays. Everything here is in the layout of bpf/include/abi.h.
 */
import { Buffer } from "node:buffer";
import { FrontendFlag } from "../abi/enums.gen.js";
import {
  addrPort4Codec,
  addrPort6Codec,
  backend4Codec,
  backend6Codec,
  serviceNameCodec,
} from "../abi/layout.gen.js";
import type { ServicePortImage } from "../image/types.js";
import { type Family, ipFromBytes } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";

export const FAMILIES: readonly Family[] = [4, 6];

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

const scratch: Readonly<Record<Family, Buffer>> = {
  4: Buffer.alloc(LAYOUTS[4].key),
  6: Buffer.alloc(LAYOUTS[6].key),
};

/** A struct addr_port4/6. Port and protocol 0: the address itself. */
export function addrPortText(family: Family, address: Uint8Array, port: number, protocol: number): string {
  const bytes = scratch[family];
  const layout = LAYOUTS[family];
  for (let i = 0; i < layout.address; i += 1) bytes[i] = address[i] as number;
  bytes.writeUInt16BE(port, layout.address);
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
  const bytes = serviceNameCodec.encode({
    namespaceName: port.namespace,
    name: port.name,
    portName: storedPortName(port.portName),
    protocol: protocolNumber(port.protocol),
  });
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** IPPROTO_* of a struct service_name. */
export function protocolOfName(name: string): number {
  return name.charCodeAt(serviceNameCodec.offsets.protocol as number);
}

const frontendScratch = Buffer.alloc(32);

/** A struct frontend of a ClusterIP. */
export function frontendText(
  internal: bigint,
  external: bigint,
  service: number,
  affinitySeconds: number,
): string {
  frontendScratch.writeBigUInt64LE(internal, 0);
  frontendScratch.writeBigUInt64LE(external, 8);
  frontendScratch.writeUInt32LE(service, 16);
  frontendScratch.writeUInt32LE(affinitySeconds, 20);
  frontendScratch.writeUInt32LE(FrontendFlag.FRONTEND_CLUSTER_IP, 24);
  return frontendScratch.toString("latin1");
}
