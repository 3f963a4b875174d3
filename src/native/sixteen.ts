// SPDX-License-Identifier: Apache-2.0
/** Addresses as the C interface has them: sixteen bytes, of which IPv4 has the first four. */
import { type Family, type IpAddress, ipFromBytes } from "../net/ip.js";

/** Null: all zero. */
export function toSixteen(address: IpAddress | null): Uint8Array {
  const out = new Uint8Array(16);
  if (address !== null) out.set(address.bytes);
  return out;
}

export function fromSixteen(bytes: Uint8Array, family: Family): IpAddress {
  return ipFromBytes(bytes.subarray(0, family === 4 ? 4 : 16));
}
