// SPDX-License-Identifier: Apache-2.0
/** Addresses of test packets: text to bytes and back, without the product's own parser. */
import ipaddr from "ipaddr.js";

/** 4 or 16 bytes in network order. Throws on anything that is not an address. */
export function addressBytes(text: string): Uint8Array {
  return Uint8Array.from(ipaddr.parse(text).toByteArray());
}

/** Canonical text of 4 or 16 bytes. */
export function addressText(bytes: Uint8Array): string {
  const address = ipaddr.fromByteArray([...bytes]);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
}

/** Six bytes of `aa:bb:cc:dd:ee:ff`. */
export function macBytes(text: string): Uint8Array {
  const bytes = Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
  if (bytes.length !== 6) throw new RangeError(`Not a link-layer address: "${text}"`);
  return bytes;
}

export function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}
