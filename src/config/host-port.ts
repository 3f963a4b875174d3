// SPDX-License-Identifier: Apache-2.0
/** Addresses with a port, as in "0.0.0.0:10256" and "[::1]:10249". */
import type { IpAddress } from "../net/ip.js";
import { parseIp } from "../net/ip.js";

export interface HostPort {
  readonly address: IpAddress;
  /** 1 to 65535. */
  readonly port: number;
}

/** Null when it is none. */
export function parseHostPort(text: string): HostPort | null {
  const match = /^(?:\[(?<six>[^\]]*)\]|(?<four>[^:[\]]*)):(?<port>\d{1,5})$/.exec(text);
  const { six, four, port = "" } = match?.groups ?? {};
  const address = parseIp(six ?? four ?? "");
  const number = Number(port);
  if (address === null || number < 1 || number > 65_535) return null;
  return Object.freeze({ address, port: number });
}

/** A bare address gets the port; anything else stays as it is. */
export function withPort(text: string, port: number): string {
  const address = parseIp(text);
  if (address === null) return text;
  return address.family === 4 ? `${text}:${port}` : `[${text}]:${port}`;
}
