// SPDX-License-Identifier: Apache-2.0
/**
 * The bpf file system that maps, links and programs are pinned on. The dataplane outlives the agent only as long as that file
 * system does: one that a container has mounted for itself goes with the container.
 */
import { existsSync, readlinkSync, realpathSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { DEFAULT_BPFFS } from "../dataplane/pins.js";
import type { NativeLibrary } from "../native/lib.js";
import { AppError } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { type Mount, mounts, readText } from "../util/proc.js";

/**
 * - E_NO_BPFFS: pins would be ordinary files, which the kernel does not take.
 * - E_BPFFS_TAKEN: --init-only finds another file system in its place, and mounts nothing over it.
 */
export type BpffsErrorCode = "E_NO_BPFFS" | "E_BPFFS_TAKEN";

/** Whose it is: the host's, this container's own, or one of the two. */
export type BpffsOwner = "host" | "container" | "unclear";

export interface BpffsFacts {
  /** Of this process. */
  readonly mountinfo: string;
  /** Of process 1; null: it may not be read. */
  readonly initMountinfo: string | null;
  /** Process 1 is the host's, not a container's. */
  readonly initialPids: boolean;
}

/** BPF_FS_MAGIC of linux/magic.h. */
const BPF_FS = 0xcafe4a11;
/** PROC_PID_INIT_INO of the kernel: the inode of the first PID namespace. */
const INITIAL_PIDS = "pid:[4026531836]";

/** Whether a path, or what of it is there, lies on a bpf file system. */
export function onBpffs(path: string): boolean {
  return statfsSync(existing(path)).type >>> 0 === BPF_FS;
}

/** Whose the bpf file system at `path` is, a path without links. */
export function ownerOf(path: string, { mountinfo, initMountinfo, initialPids }: BpffsFacts): BpffsOwner {
  const mount = mountOf(path, mountinfo);
  if (mount === null) return "unclear";
  if (initialPids) {
    if (initMountinfo === null) return "host";
    const theirs = Array.from(mounts(initMountinfo, "bpf"));
    return theirs.some(({ device }) => device === mount.device) ? "host" : "container";
  }
  // What is mounted in a container by itself has no peer; neither has a host's that was handed in without propagation.
  return mount.propagation.length > 0 ? "host" : "unclear";
}

/**
 * Before anything is pinned: there must be a bpf file system, and it should be the host's, which is warned of.
 *
 * @throws AppError E_NO_BPFFS
 */
export function requireBpffs(root: string, log: Logger): void {
  if (!onBpffs(root)) {
    throw new AppError<BpffsErrorCode>("E_NO_BPFFS", `${root} is not on a bpf file system`, {
      fields: { path: root },
      hint: `On the host: mount -t bpf bpf ${DEFAULT_BPFFS}, or run portolan agent --init-only. In a container: hand in the host's ${DEFAULT_BPFFS} with mount propagation HostToContainer.`,
    });
  }
  const owner = ownerOf(realpathSync(existing(root)), readFacts());
  if (owner === "host") return;
  log.warn(
    {
      code: owner === "container" ? "bpffs_private" : "bpffs_maybe_private",
      path: root,
      hint: `Hand in the host's ${DEFAULT_BPFFS} with mount propagation HostToContainer.`,
    },
    owner === "container"
      ? "the bpf file system is this container's own: maps and programs end with it, and Services with them"
      : "the bpf file system may be this container's own: maps and programs would end with it, and Services with them",
  );
}

/**
 * --init-only: mounts a bpf file system at its usual place when there is none, and nothing over what others have mounted there.
 *
 * @throws AppError E_BPFFS_TAKEN; E_NO_BPFFS for a root elsewhere; NativeError when the mount is refused
 */
export function ensureBpffs(root: string, library: Pick<NativeLibrary, "mountBpffs">, log: Logger): void {
  const usual = root === DEFAULT_BPFFS || root.startsWith(`${DEFAULT_BPFFS}/`);
  if (onBpffs(root) || !usual) {
    requireBpffs(root, log);
    return;
  }
  const other = takenBy(readFacts().mountinfo);
  if (other !== null) {
    throw new AppError<BpffsErrorCode>(
      "E_BPFFS_TAKEN",
      `${DEFAULT_BPFFS} has a file system of type ${other}`,
      {
        fields: { path: DEFAULT_BPFFS, type: other },
        hint: "Unmount it, or name a directory on a bpf file system with --bpf-root.",
      },
    );
  }
  library.mountBpffs(DEFAULT_BPFFS);
  log.info({ path: DEFAULT_BPFFS }, "bpf file system mounted");
}

/** The type of what is mounted there; null: nothing, or the kernel's own empty directory, as a hostPath volume hands it in. */
export function takenBy(mountinfo: string): string | null {
  const top = Array.from(mounts(mountinfo)).findLast(({ path }) => path === DEFAULT_BPFFS);
  if (top === undefined || (top.type === "sysfs" && top.root === "/fs/bpf")) return null;
  return top.type;
}

/** The one that covers a path: the deepest, and of two at the same place the later. */
function mountOf(path: string, mountinfo: string): Mount | null {
  const covering = Array.from(mounts(mountinfo, "bpf")).filter(
    (mount) => path === mount.path || path.startsWith(`${mount.path}/`),
  );
  return covering.reduce<Mount | null>(
    (best, mount) => (best === null || mount.path.length >= best.path.length ? mount : best),
    null,
  );
}

function existing(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : existing(dirname(path));
}

function readFacts(): BpffsFacts {
  return {
    mountinfo: readText("/proc/self/mountinfo") ?? "",
    initMountinfo: readText("/proc/1/mountinfo"),
    initialPids: readlinkSync("/proc/self/ns/pid") === INITIAL_PIDS,
  };
}
