// SPDX-License-Identifier: Apache-2.0
/** Where a server listens. */
export interface BindAddress {
  /** An IP address, without brackets. */
  readonly host: string;
  /** 0: the kernel chooses, which is for tests. */
  readonly port: number;
}

/** For messages: "[::1]:10249". */
export const bindAddressText = ({ host, port }: BindAddress): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
