// SPDX-License-Identifier: Apache-2.0
/** IP addresses as values: parsed once, canonical text, bytes in network order. */
export type Family = 4 | 6;

export type Protocol = "TCP" | "UDP" | "SCTP";

export interface IpAddress {
  readonly family: Family;
  /** Canonical text (RFC 5952 for IPv6): equal addresses have equal text. */
  readonly text: string;
  /** 4 or 16 bytes, network order. Never written to after construction. */
  readonly bytes: Uint8Array;
}
