// SPDX-License-Identifier: Apache-2.0
/** Address ranges: an address with its host bits cleared, and a prefix length. */
import type { Family, IpAddress } from "./ip.js";
import { compareIp, ipFromBytes, parseIp } from "./ip.js";

export interface Cidr {
  readonly family: Family;
  /** The first address: host bits are zero. */
  readonly address: IpAddress;
  /** Bits: 0 to 32, or 0 to 128. */
  readonly prefixLength: number;
  /** Canonical text: equal ranges have equal text. */
  readonly text: string;
}

/**
 * Reads `10.0.0.0/8`, leniently as Kubernetes does (2.12): leading zeros of the address are decimal and host bits are
 * cleared. White space is the caller's to trim. Null when it is no range.
 */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf("/");
  if (slash < 0) return null;
  const length = text.slice(slash + 1);
  if (!/^[0-9]{1,3}$/.test(length)) return null;
  const addressText = text.slice(0, slash);
  const address = parseIp(addressText);
  if (address === null) return null;
  let prefixLength = Number(length);
  if (address.family === 4 && addressText.includes(":")) {
    // A mapped range counts its bits from the IPv6 address's start.
    if (prefixLength < 96) return null;
    prefixLength -= 96;
  }
  if (prefixLength > address.bytes.length * 8) return null;
  return cidrOf(address, prefixLength);
}

/** The range of this prefix length (bits) that holds the address. */
export function cidrOf(address: IpAddress, prefixLength: number): Cidr {
  const bytes = Uint8Array.from(address.bytes);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = (bytes[i] ?? 0) & maskOfByte(i, prefixLength);
  const first = ipFromBytes(bytes);
  return { family: first.family, address: first, prefixLength, text: `${first.text}/${prefixLength}` };
}

function maskOfByte(index: number, prefixLength: number): number {
  const bits = Math.min(8, Math.max(0, prefixLength - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}

/** The network mask, as long as an address of the family. */
export function maskBytes(cidr: Cidr): Uint8Array {
  return cidr.address.bytes.map((_, i) => maskOfByte(i, cidr.prefixLength));
}

/** Never true across families. */
export function cidrContains(cidr: Cidr, address: IpAddress): boolean {
  if (cidr.family !== address.family) return false;
  return address.bytes.every(
    (byte, i) => (byte & maskOfByte(i, cidr.prefixLength)) === cidr.address.bytes[i],
  );
}

/** Whether they share an address, which is when one holds the other's first. Never true across families. */
export function overlapping(a: Cidr, b: Cidr): boolean {
  return cidrContains(a, b.address) || cidrContains(b, a.address);
}

/** By family, first address and length: the order in which an image lists ranges. */
export function compareCidr(a: Cidr, b: Cidr): number {
  return compareIp(a.address, b.address) || a.prefixLength - b.prefixLength;
}

/** Without repetitions, sorted. */
export function cidrUnion(ranges: Iterable<Cidr>): readonly Cidr[] {
  const byText = new Map(Array.from(ranges, (range) => [range.text, range]));
  return Array.from(byText.values()).sort(compareCidr);
}
