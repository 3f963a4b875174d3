// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../net/ip.js";
import { readText, sysctl } from "../util/proc.js";

/**
 * The families that this host proxies (13.4): IPv6 unless the kernel has none or all of it is switched off. Both are served
 * where both are there, whatever the cluster has.
 *
 * @param read a file's text; null: it is not there
 */
export function hostFamilies(
  read: {
    readonly text: (path: string) => string | null;
    readonly sysctl: (path: string) => string | null;
  } = {
    text: readText,
    sysctl,
  },
): readonly Family[] {
  const has6 =
    read.text("/proc/net/if_inet6") !== null && read.sysctl("net/ipv6/conf/all/disable_ipv6") !== "1";
  return has6 ? [4, 6] : [4];
}
