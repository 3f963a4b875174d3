// SPDX-License-Identifier: Apache-2.0
/** IP addresses as values: parsed once, canonical text, bytes in network order. */
import { Buffer } from "node:buffer";
import { isIPv6 } from "node:net";
import ipaddr from "ipaddr.js";

export type Family = 4 | 6;

export const FAMILIES: readonly Family[] = [4, 6];

export type Protocol = "TCP" | "UDP" | "SCTP";

export interface IpAddress {
  readonly family: Family;
  /** Canonical text (RFC 5952 for IPv6): equal addresses have equal text. */
  readonly text: string;
  /** 4 or 16 bytes, network order; a copy each time. */
  readonly bytes: Uint8Array;
}

/** As small as can be: a node has a hundred thousand, and each Uint8Array costs two hundred bytes beside its own. */
class Address implements IpAddress {
  readonly family: Family;
  readonly text: string;
  /** IPv4: its 32 bits. IPv6: a character for each byte; such texts compare as the bytes do. */
  readonly #packed: number | string;

  constructor(text: string, bytes: Uint8Array) {
    this.family = bytes.length === 4 ? 4 : 6;
    this.text = text;
    const [a = 0, b = 0, c = 0, d = 0] = bytes;
    this.#packed = bytes.length === 4 ? (a << 24) | (b << 16) | (c << 8) | d : String.fromCharCode(...bytes);
  }

  get bytes(): Uint8Array {
    const bytes = new Uint8Array(this.family === 4 ? 4 : 16);
    for (let i = 0; i < bytes.length; i += 1) bytes[i] = this.byteAt(i);
    return bytes;
  }

  byteAt(index: number): number {
    const packed = this.#packed;
    if (typeof packed === "string") return packed.charCodeAt(index);
    return (packed >>> (24 - 8 * index)) & 255;
  }

  /** Null: one of the two was made elsewhere. */
  static compare(a: IpAddress, b: IpAddress): number | null {
    if (!(a instanceof Address) || !(b instanceof Address)) return null;
    const [first, second] = [a.#packed, b.#packed];
    if (typeof first === "number" && typeof second === "number") return (first >>> 0) - (second >>> 0);
    return first < second ? -1 : Number(first > second);
  }
}

/** Longer texts are no addresses; Kubernetes' longest is an IPv4-mapped one with padded octets. */
const LONGEST_TEXT = 64;

/**
 * Addresses by the text they were read from, in two generations: when the young one is full it becomes the old one, and
 * what the old one held is forgotten. So the cache is bounded and needs no clock, and an address in use stays.
 */
const GENERATION_SIZE = 1 << 17;
let young = new Map<string, IpAddress>();
let old = new Map<string, IpAddress>();

function remember(text: string, address: IpAddress): IpAddress {
  if (young.size >= GENERATION_SIZE) {
    old = young;
    young = new Map();
  }
  // Nearly always it is the canonical one: then one text of the two is enough.
  young.set(text === address.text ? address.text : text, address);
  return address;
}

/** How many texts are remembered; for tests and memory reports. */
export function internedAddresses(): number {
  return young.size + old.size;
}

/**
 * Reads an address as Kubernetes does (2.8): leading zeros are decimal, an IPv4-mapped IPv6 address is the IPv4 address.
 * Not accepted: zones (`%eth0`), `0x`, short forms (`10.1`), white space. Null when it is no address.
 */
export function parseIp(text: string): IpAddress | null {
  const known = young.get(text);
  if (known !== undefined) return known;
  const older = old.get(text);
  if (older !== undefined) return remember(text, older);
  if (text.length > LONGEST_TEXT) return null;
  const address = text.includes(":") ? parseV6(text) : parseV4(text);
  return address === null ? null : remember(text, address);
}

function parseV4(text: string): IpAddress | null {
  const bytes = v4Bytes(text);
  if (bytes === null) return null;
  return new Address(isCanonicalV4(text, bytes) ? text : bytes.join("."), bytes);
}

/** As long as the text of these bytes: the text is then the canonical one, since v4Bytes() read them from it. */
function isCanonicalV4(text: string, bytes: Uint8Array): boolean {
  let length = 3;
  for (const byte of bytes) length += byte > 99 ? 3 : byte > 9 ? 2 : 1;
  return text.length === length;
}

/** Four decimal numbers with any leading zeros, never octal. */
function v4Bytes(text: string): Uint8Array | null {
  const bytes = new Uint8Array(4);
  let part = 0;
  let digits = 0;
  let value = 0;
  for (let i = 0; i <= text.length; i += 1) {
    const code = i < text.length ? text.charCodeAt(i) : 46;
    if (code === 46) {
      if (digits === 0 || part > 3) return null;
      bytes[part] = value;
      part += 1;
      digits = 0;
      value = 0;
    } else {
      if (code < 48 || code > 57) return null;
      value = value * 10 + code - 48;
      digits += 1;
      if (value > 255) return null;
    }
  }
  return part === 4 ? bytes : null;
}

function parseV6(text: string): IpAddress | null {
  const plain = withPlainTail(text);
  // Node's check comes first: ipaddr.js alone reads forms that nobody else does. Node itself lets zones through.
  if (plain === null || plain.includes("%") || !isIPv6(plain)) return null;
  return ipFromBytes(Uint8Array.from(ipaddr.IPv6.parse(plain).toByteArray()));
}

/** `::ffff:010.0.0.1` with its last four bytes as two hexadecimal groups, so that no octal reading can happen. */
function withPlainTail(text: string): string | null {
  if (!text.includes(".")) return text;
  const colon = text.lastIndexOf(":");
  const tail = v4Bytes(text.slice(colon + 1));
  if (tail === null) return null;
  const [a = 0, b = 0, c = 0, d = 0] = tail;
  return `${text.slice(0, colon + 1)}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/**
 * The address of 4 or 16 bytes in network order; 16 bytes that hold an IPv4-mapped address give the IPv4 address.
 * @throws RangeError for any other length.
 */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return new Address(Array.from(bytes).join("."), bytes);
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  if (MAPPED_PREFIX.every((byte, i) => bytes[i] === byte)) return ipFromBytes(bytes.subarray(12));
  return new Address(new ipaddr.IPv6(Array.from(bytes)).toRFC5952String(), bytes);
}

/** Writes the bytes of an address, in network order, without a copy of them in between. */
export function writeIp(address: IpAddress, target: Uint8Array, at: number): void {
  if (!(address instanceof Address)) {
    target.set(address.bytes, at);
    return;
  }
  const length = address.family === 4 ? 4 : 16;
  for (let i = 0; i < length; i += 1) target[at + i] = address.byteAt(i);
}

/** IPv4 before IPv6, then by the bytes. */
export function compareIp(a: IpAddress, b: IpAddress): number {
  if (a === b) return 0;
  if (a.family !== b.family) return a.family - b.family;
  return Address.compare(a, b) ?? Buffer.compare(a.bytes, b.bytes);
}

interface Text {
  readonly text: string;
}

/** Whether two lists of addresses, or of ranges, are the same in the same order. */
export function sameTexts(a: readonly Text[], b: readonly Text[]): boolean {
  return a.length === b.length && a.every(({ text }, i) => text === b[i]?.text);
}

const SCRATCH = new Uint8Array(16);

/** What an address cannot be used for, or null for an ordinary unicast address. */
export type SpecialUse = "unspecified" | "loopback" | "multicast" | "broadcast" | "link-local";

/** The special range an address lies in, as far as Kubernetes refuses such addresses for endpoints and VIPs. */
export function specialUse(address: IpAddress): SpecialUse | null {
  if (address.text === "0.0.0.0" || address.text === "::") return "unspecified";
  writeIp(address, SCRATCH, 0);
  const [a = 0, b = 0] = SCRATCH;
  if (address.family === 4) {
    if (a === 127) return "loopback";
    if (a === 169 && b === 254) return "link-local";
    if (a >= 224 && a < 240) return "multicast";
    return address.text === "255.255.255.255" ? "broadcast" : null;
  }
  if (address.text === "::1") return "loopback";
  if (a === 0xff) return "multicast";
  return a === 0xfe && (b & 0xc0) === 0x80 ? "link-local" : null;
}
