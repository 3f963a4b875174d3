// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { readdirSync, readlinkSync, statSync } from "node:fs";

/** Where iproute2 keeps the named network namespaces. */
export const NETNS_DIR = "/run/netns";

/** What the registry must know of a world to remove it, at any time and without waiting. */
export interface Removable {
  /** Names of the network namespaces, as they are at the moment. */
  namespaces(): readonly string[];
  /** Process ids started for the world which may live outside its namespaces. */
  processes(): readonly number[];
  readonly handleSignals: boolean;
}

const worlds = new Set<Removable>();
let installed = false;

/**
 * Makes sure that a world is removed when this process ends: orderly, by an uncaught exception, or by SIGINT, SIGTERM
 * and SIGHUP. (After SIGKILL nothing can run: {@link removeStaleWorlds} finds what such a process left.)
 */
export function register(world: Removable): void {
  worlds.add(world);
  if (installed) return;
  installed = true;
  process.on("exit", removeAllNow);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
}

/** The world was removed in good order. */
export function unregister(world: Removable): void {
  worlds.delete(world);
}

function onSignal(signal: NodeJS.Signals): void {
  if (![...worlds].some((world) => world.handleSignals)) {
    if (process.listenerCount(signal) > 1) return; // the program deals with it, and closes its worlds itself
  }
  removeAllNow();
  process.removeListener(signal, onSignal);
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}

function removeAllNow(): void {
  for (const world of worlds) {
    worlds.delete(world);
    removeNow(world.namespaces(), world.processes());
  }
}

/** Kills and removes without waiting for anything; never throws. For exit handlers. */
export function removeNow(namespaces: readonly string[], processes: readonly number[]): void {
  for (const pid of [...processes, ...pidsIn(namespaces)]) kill(pid, "SIGKILL");
  const batch = namespaces.map((name) => `netns del ${name}\n`).join("");
  try {
    execFileSync("ip", ["-force", "-batch", "-"], {
      input: batch,
      stdio: ["pipe", "ignore", "ignore"],
      timeout: 60_000,
    });
  } catch {
    // -force goes on after a namespace that is not there any more, and then reports it: nothing is left to do
  }
}

/** Sends a signal to one process; false when it is gone. */
export function kill(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/**
 * The processes which live in one of these network namespaces, this process left out.
 *
 * A namespace outlives its name as long as a process is in it, so these must end first.
 */
export function pidsIn(namespaces: readonly string[]): number[] {
  const inodes = new Set<string>();
  for (const name of namespaces) {
    try {
      inodes.add(`net:[${statSync(`${NETNS_DIR}/${name}`).ino}]`);
    } catch {
      // already removed
    }
  }
  if (inodes.size === 0) return [];
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      if (pid === process.pid) return false;
      try {
        return inodes.has(readlinkSync(`/proc/${pid}/ns/net`));
      } catch {
        return false; // ended meanwhile
      }
    });
}

/** Namespaces of worlds exist under names `ptl-<pid>-<random>-<host>`. */
const WORLD_NAME = /^ptl-(\d+)-[0-9a-f]+-/;

/** Names of all namespaces of worlds whose maker is not running any more (it was killed with SIGKILL). */
export function staleNamespaces(): string[] {
  return worldNamespaces().filter((name) => {
    const owner = WORLD_NAME.exec(name)?.[1];
    return owner !== undefined && !kill0(Number(owner));
  });
}

/** Names of the namespaces of all worlds on this machine, or of those that one process made. */
export function worldNamespaces(ownerPid?: number): string[] {
  try {
    return readdirSync(NETNS_DIR).filter((name) => {
      const owner = WORLD_NAME.exec(name)?.[1];
      return owner !== undefined && (ownerPid === undefined || Number(owner) === ownerPid);
    });
  } catch {
    return [];
  }
}

function kill0(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/**
 * Removes what worlds of dead processes left.
 *
 * @param ownerPid only those of this process
 * @returns the names of the removed namespaces
 */
export function removeStaleWorlds(ownerPid?: number): string[] {
  const names = staleNamespaces().filter(
    (name) => ownerPid === undefined || name.startsWith(`ptl-${ownerPid}-`),
  );
  if (names.length > 0) removeNow(names, []);
  return names;
}
