// SPDX-License-Identifier: Apache-2.0
import { isIP, SocketAddress } from "node:net";

/** The canonical text of an address, leading zeroes in IPv4 being decimal (2.8); undefined when it is none. */
export function canonical(text: string): string | undefined {
  const trimmed = text.trim();
  const lenient = /^\d+(\.\d+){3}$/.test(trimmed) ? trimmed.split(".").map(Number).join(".") : trimmed;
  const family = isIP(lenient);
  if (family === 0) return undefined;
  if (family === 4) return lenient;
  return new SocketAddress({ address: lenient, family: "ipv6" }).address;
}

export function familyOf(address: string): 4 | 6 {
  return address.includes(":") ? 6 : 4;
}

/** `1.2.3.4:80` or `[2001:db8::1]:80`, always from a canonical address. */
export function socketText(address: string, port: number): string {
  return familyOf(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`;
}

/** Takes `1.2.3.4:80` and `[2001:db8::1]:80` apart; undefined when it is neither. */
export function parseSocket(text: string): { address: string; port: number } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text);
  const address = canonical(match?.[1] ?? match?.[2] ?? "");
  const port = Number(match?.[3]);
  return address === undefined || port > 65_535 ? undefined : { address, port };
}

export function isLoopback(address: string): boolean {
  return address === "::1" || address.startsWith("127.");
}
