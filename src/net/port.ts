// SPDX-License-Identifier: Apache-2.0
/** Ports and transport protocols. Port numbers are in host order everywhere above the codecs. */
import type { IpAddress, Protocol } from "./ip.js";
import { parseIp } from "./ip.js";

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

/** Exactly the API's spelling: upper case. */
export function parseProtocol(text: string): Protocol | null {
  return PROTOCOLS.find((protocol) => protocol === text) ?? null;
}

/** A whole number from 1 to 65535. */
export function isPort(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65535;
}

/** Decimal digits only, 1 to 65535. */
export function parsePort(text: string): number | null {
  if (!/^[0-9]{1,5}$/.test(text)) return null;
  const port = Number(text);
  return isPort(port) ? port : null;
}

/** `10.0.0.1:80` or `[fd00::1]:80`. */
export function formatAddressPort(address: IpAddress, port: number): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

/** The reverse of formatAddressPort. An IPv6 address needs its brackets. Null when it is not of that form. */
export function parseAddressPort(text: string): { address: IpAddress; port: number } | null {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]+)):([0-9]+)$/.exec(text);
  const address = parseIp(match?.[1] ?? match?.[2] ?? "");
  const port = parsePort(match?.[3] ?? "");
  return address === null || port === null ? null : { address, port };
}
