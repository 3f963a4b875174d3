// SPDX-License-Identifier: Apache-2.0
/** Small readings of /proc and /sys. Everything below net/ is that of the process's own network namespace. */
import { readFileSync } from "node:fs";

/** A file's text, or null when it is not there or may not be read. */
export function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

/** A sysctl's value, by its path below /proc/sys. */
export function sysctl(path: string): string | null {
  return readText(`/proc/sys/${path}`)?.trim() ?? null;
}

export interface Mount {
  readonly type: string;
  /** What of the file system is mounted. */
  readonly root: string;
  /** Where. */
  readonly path: string;
  /** "major:minor": which file system. */
  readonly device: string;
  /** Its peers in other mount namespaces: "shared:N", "master:N". */
  readonly propagation: readonly string[];
}

/** The mounts in the text of a mountinfo in their order, of one file system type or of all. */
export function* mounts(mountinfo: string, only?: string): Generator<Mount> {
  for (const line of mountinfo.split("\n")) {
    // 36 35 98:0 /root /mount/point options … - type source options: the word after the dash is the type.
    const [before = "", after = ""] = line.split(" - ");
    const [type = ""] = after.split(" ");
    if (type === "" || (only !== undefined && type !== only)) continue;
    const [, , device = "", root = "", path = "", , ...tags] = before.split(" ");
    const decoded = path.replace(/\\(\d{3})/g, (_all, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    const propagation = tags.filter((tag) => /^(shared|master):/.test(tag));
    yield { type, root, path: decoded, device, propagation };
  }
}

/** Mount point of the first file system of a type; null: there is none. */
export function mountPoint(type: string): string | null {
  for (const { path } of mounts(readText("/proc/self/mountinfo") ?? "", type)) return path;
  return null;
}

/** Names of the interfaces that a default route uses, both families. */
export function defaultRouteInterfaces(): ReadonlySet<string> {
  const names = new Set<string>();
  for (const line of (readText("/proc/net/route") ?? "").split("\n").slice(1)) {
    const [name = "", destination, , flags = "0", , , , mask] = line.split(/\s+/);
    const up = (Number.parseInt(flags, 16) & 1) !== 0;
    if (destination === "00000000" && mask === "00000000" && up) names.add(name);
  }
  for (const line of (readText("/proc/net/ipv6_route") ?? "").split("\n")) {
    const [destination = "", prefix, , , , metric, , , flags = "0", name = ""] = line.trim().split(/\s+/);
    const rejecting = (Number.parseInt(flags, 16) & 0x0200) !== 0;
    if (/^0{32}$/.test(destination) && prefix === "00" && metric !== "ffffffff" && !rejecting)
      names.add(name);
  }
  names.delete("lo");
  names.delete("");
  return names;
}
