// SPDX-License-Identifier: Apache-2.0
/** healthzBindAddress and metricsBindAddress as kube-proxy reads them (section 12). Pure. */
import { parseIp } from "../../net/ip.js";
import { UserError } from "../../util/errors.js";

export interface BindAddress {
  /** An IP address, without brackets. */
  readonly host: string;
  /** 0: the kernel chooses, which is for tests. */
  readonly port: number;
}

export const HEALTHZ_PORT = 10256;
export const METRICS_PORT = 10249;

/**
 * "0.0.0.0:10256", "[::]:10256", or an address alone, which gets the default port. Null: "" switches the server off.
 *
 * @param field names the setting in the message
 * @throws UserError when it is neither
 */
export function parseBindAddress(text: string, defaultPort: number, field: string): BindAddress | null {
  if (text === "") return null;
  const alone = parseIp(text);
  if (alone !== null) return { host: alone.text, port: defaultPort };
  const match = /^(?:\[(?<six>[^\]]*)\]|(?<four>[^:[\]]*)):(?<port>[0-9]{1,5})$/.exec(text);
  const { six, four, port: digits = "" } = match?.groups ?? {};
  const address = parseIp(six ?? four ?? "");
  const port = Number(digits);
  if (address === null || address.family !== (six === undefined ? 4 : 6) || port > 65535) {
    throw new UserError(`${field}: "${text}" is no IP address with a port`, {
      fields: { field, value: text },
      hint: `for example 0.0.0.0:${defaultPort}, [::]:${defaultPort}, or "" for no server`,
    });
  }
  return { host: address.text, port };
}

/** For messages: "[::1]:10249". */
export const bindAddressText = ({ host, port }: BindAddress): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
