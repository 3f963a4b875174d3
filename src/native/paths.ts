// SPDX-License-Identifier: Apache-2.0
/** Where the built files are: build/ of the package, or PORTOLAN_BUILD_DIR. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { mounts } from "../util/proc.js";

/** The directory with package.json: the same from src/ and from dist/. */
function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, "package.json")) && dirname(directory) !== directory)
    directory = dirname(directory);
  return directory;
}

export function buildDirectory(): string {
  const chosen = process.env.PORTOLAN_BUILD_DIR;
  return chosen ? resolve(chosen) : join(packageRoot(), "build");
}

/**
 * Where cgroup v2 is mounted: the whole of it rather than a part, else the first; null: nowhere. /sys/fs/cgroup on most hosts,
 * /sys/fs/cgroup/unified on hybrid ones.
 */
export function findCgroup2(mountinfo: string = readFileSync("/proc/self/mountinfo", "utf8")): string | null {
  const found = Array.from(mounts(mountinfo, "cgroup2"));
  return (found.find(({ root }) => root === "/") ?? found[0])?.path ?? null;
}

/** The id that the kernel gives a cgroup: what SocketLink.cgroupId is compared with. Throws when it is not there. */
export const cgroupId = (directory: string): bigint => statSync(directory, { bigint: true }).ino;

export const libraryPath = (): string => join(buildDirectory(), "libportolan.so");
export const objectPath = (): string => join(buildDirectory(), "portolan.bpf.o");
/** The twin of the programs, for `portolan trace`. */
export const twinPath = (): string => join(buildDirectory(), "portolan-trace.bpf.o");
