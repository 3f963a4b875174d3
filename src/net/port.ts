// SPDX-License-Identifier: Apache-2.0
/** Ports and transport protocols. Port numbers are in host order everywhere above the codecs. */
import type { IpAddress, Protocol } from "./ip.js";

/** 2.5. */
export const PROTOCOLS: readonly Protocol[] = ["TCP", "UDP", "SCTP"];

const NUMBERS: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

/** IANA protocol number, as in the IP header. */
export function protocolNumber(protocol: Protocol): number {
  return NUMBERS[protocol];
}

/** Null for a number that is no protocol of a Service. */
export function protocolOfNumber(number: number): Protocol | null {
  return PROTOCOLS.find((protocol) => NUMBERS[protocol] === number) ?? null;
}

/** `10.0.0.1:80` or `[fd00::1]:80`. */
export function formatAddressPort(address: IpAddress, port: number): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}
