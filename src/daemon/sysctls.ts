// SPDX-License-Identifier: Apache-2.0
/**
 * The kernel settings that kube-proxy writes at start (section 14). route_localnet (14.3) is not among them: NodePorts on
 * 127.0.0.1 are translated at the socket, no packet with such an address leaves the host, and so nothing must be opened
 * (6.6 would have to close it again). ip_forward must be on already (14.4).
 */
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { ConntrackConfiguration } from "../config/kube-proxy-configuration.js";
import { AppError, errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { readText } from "../util/proc.js";

/** E_SYSCTL: a setting that was asked for could not be written. */
export type SysctlErrorCode = "E_SYSCTL";

/** Files of the kernel: its settings, and where it says how many CPUs there are. */
export interface KernelFiles {
  /** Null: it is not there. */
  read(path: string): string | null;
  /** @throws the system's error */
  write(path: string, text: string): void;
}

export const kernelFiles: KernelFiles = {
  read: readText,
  // A file that is not there is not made: the kernel's own are opened as they are.
  write: (path, text) => writeFileSync(path, text, { flag: "r+" }),
};

const CONNTRACK = "/proc/sys/net/netfilter/nf_conntrack";
const MAX = `${CONNTRACK}_max`;
const HASH_SIZE = "/sys/module/nf_conntrack/parameters/hashsize";
const ONLINE_CPUS = "/sys/devices/system/cpu/online";

/** Kubernetes' newer limit: a node of many CPUs gets no larger table by their number alone (14.1). */
const MOST_SCALED = 1_048_576;
/** Entries for each bucket of the hash table. */
const ENTRIES_PER_BUCKET = 4;

/** A setting that is to have a value. */
interface Wanted {
  readonly path: string;
  readonly value: number;
}

/**
 * nf_conntrack_max for this many CPUs (14.1); 0: leave it alone. Where `min` is more than what the CPUs ask for, it counts.
 */
export function conntrackMax(
  { maxPerCore, min }: Pick<ConntrackConfiguration, "maxPerCore" | "min">,
  cpus: number,
): number {
  if (maxPerCore <= 0) return 0;
  return Math.max(min, Math.min(maxPerCore * cpus, MOST_SCALED));
}

/** "0-3,6" is five CPUs. Null when it is no such list. */
export function countCpus(text: string): number | null {
  let count = 0;
  for (const part of text.trim().split(",")) {
    const { first, last } = /^(?<first>\d+)(?:-(?<last>\d+))?$/.exec(part)?.groups ?? {};
    if (first === undefined) return null;
    count += last === undefined ? 1 : Number(last) - Number(first) + 1;
  }
  return count;
}

/** What is to be written beside nf_conntrack_max, in kube-proxy's order (14.2): timeouts in whole seconds. */
function wantedSettings(config: ConntrackConfiguration): readonly Wanted[] {
  const seconds = (name: string, milliseconds: number): Wanted[] =>
    milliseconds > 0 ? [{ path: `${CONNTRACK}_${name}`, value: Math.trunc(milliseconds / 1000) }] : [];
  return [
    ...seconds("tcp_timeout_established", config.tcpEstablishedTimeout),
    ...seconds("tcp_timeout_close_wait", config.tcpCloseWaitTimeout),
    ...seconds("udp_timeout", config.udpTimeout),
    ...seconds("udp_timeout_stream", config.udpStreamTimeout),
    ...(config.tcpBeLiberal ? [{ path: `${CONNTRACK}_tcp_be_liberal`, value: 1 }] : []),
  ];
}

export interface ConntrackOptions {
  readonly log: Logger;
  readonly files?: KernelFiles;
  /** /sys is read-only, and the hash table is smaller than it should be: kube-proxy makes an event of it, too. */
  readonly onReadOnlySys?: (message: string) => void;
}

/**
 * Sets the kernel's connection tracking up as configured (14.1, 14.2); what is so already is not written. A kernel that
 * tracks no connections has nothing to set up: Services do not need it here.
 *
 * @throws AppError E_SYSCTL, with the file, when something cannot be written
 */
export function setConntrack(
  config: ConntrackConfiguration,
  { log, files = kernelFiles, onReadOnlySys = () => {} }: ConntrackOptions,
): void {
  const cpus = countCpus(files.read(ONLINE_CPUS) ?? "") ?? availableParallelism();
  const max = conntrackMax(config, cpus);
  const settings = wantedSettings(config);
  if (max === 0 && settings.length === 0) return;
  if (files.read(MAX) === null) {
    log.info({ code: "no_conntrack", path: MAX }, "kernel tracks no connections, nothing to set");
    return;
  }
  if (max > 0) {
    set({ path: MAX, value: max }, files, log);
    growHashTable(max, files, log, onReadOnlySys);
  }
  for (const each of settings) set(each, files, log);
}

function set({ path, value }: Wanted, files: KernelFiles, log: Logger): void {
  const before = files.read(path)?.trim() ?? null;
  if (before === String(value)) return;
  try {
    files.write(path, String(value));
  } catch (cause) {
    throw new AppError<SysctlErrorCode>(
      "E_SYSCTL",
      `${path} cannot be set to ${value}: ${errorMessage(cause)}`,
      {
        cause,
        fields: { path, value, before },
        hint: "Run with the rights to write it (--init-only does so ahead of time), or leave it alone: its conntrack setting 0 or false.",
      },
    );
  }
  log.info({ path, before, value }, "kernel setting written");
}

/** 14.1: the table grows with the number of entries, and never shrinks. */
function growHashTable(
  max: number,
  files: KernelFiles,
  log: Logger,
  onReadOnlySys: (message: string) => void,
): void {
  const wanted = Math.trunc(max / ENTRIES_PER_BUCKET);
  const now = Number(files.read(HASH_SIZE)?.trim() ?? Number.NaN);
  if (!(now < wanted)) return;
  try {
    set({ path: HASH_SIZE, value: wanted }, files, log);
  } catch (error) {
    const { cause } = error as { cause?: NodeJS.ErrnoException };
    if (cause?.code !== "EROFS") throw error;
    const reason = `/sys is read-only: the hash table of conntrack keeps ${now} buckets instead of ${wanted}`;
    log.warn({ code: "sys_read_only", path: HASH_SIZE, value: wanted, before: now }, reason);
    onReadOnlySys(reason);
  }
}
