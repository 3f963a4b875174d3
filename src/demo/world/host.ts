// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { WorldError } from "./errors.js";
import { kill, NETNS_DIR, pidsIn } from "./registry.js";
import { type RunOptions, type RunResult, run } from "./run.js";

/** A test host: one network namespace with the processes in it. */
export class Host {
  /** Name within the world, such as `n1` or `web-1`. */
  readonly name: string;
  /** Name of the network namespace, below /run/netns. */
  readonly netns: string;
  readonly #children = new Set<ChildProcess>();
  #closed = false;

  constructor(name: string, netns: string) {
    this.name = name;
    this.netns = netns;
  }

  /** Path of the namespace, for `nsenter --net=`. */
  get netnsPath(): string {
    return `${NETNS_DIR}/${this.netns}`;
  }

  /** Whether the host was removed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** The argument vector which runs `argv` on this host. (`ip netns exec` would hide bpffs behind its own /sys.) */
  inside(argv: readonly string[]): string[] {
    if (this.#closed) throw new WorldError("E_WORLD_CLOSED", `host ${this.name} was already removed`);
    return ["nsenter", `--net=${this.netnsPath}`, "--", ...argv];
  }

  /**
   * Runs a program on the host to its end.
   *
   * @throws WorldError E_WORLD_COMMAND unless it ends with 0 or `check` is false; see {@link run}
   */
  exec(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(this.inside(argv), options);
  }

  /** Starts a program on the host. It is ended with the host or the world at the latest. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const [program, ...args] = this.inside(argv);
    // nsenter replaces itself by the program, so child.pid is the program's pid and signals reach it.
    const child = spawn(program as string, args, options);
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    child.once("error", () => this.#children.delete(child));
    return child;
  }

  /** Runs lines of `ip` (without the word `ip`) in one process. */
  async ip(lines: readonly string[]): Promise<void> {
    if (lines.length > 0) await this.exec(["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  /** Runs lines of `bridge` (without the word `bridge`) in one process. */
  async bridge(lines: readonly string[]): Promise<void> {
    if (lines.length > 0) await this.exec(["bridge", "-batch", "-"], { input: `${lines.join("\n")}\n` });
  }

  /**
   * Sets sysctls of the host.
   *
   * @param values path below /proc/sys (with slashes, since interface names have dots) to value
   */
  async sysctl(values: Readonly<Record<string, string | number>>): Promise<void> {
    const words = Object.entries(values).map(([name, value]) => `${name}=${value}`);
    if (words.length > 0) await this.exec(["sysctl", "-q", "-w", ...words]);
  }

  /** Pids of the processes which were started by {@link spawn} and still run. */
  pids(): number[] {
    return [...this.#children].map((child) => child.pid).filter((pid) => pid !== undefined);
  }

  /** Kills all processes of the host (also such that went into the background) and waits until they are gone. */
  async endProcesses(): Promise<void> {
    this.#closed = true;
    await endProcesses([this]);
  }
}

/**
 * Ends the processes of several hosts at once: first politely, since an agent or a redis has something to put in order,
 * and after `graceMs` with SIGKILL.
 *
 * @throws WorldError E_WORLD_TIMEOUT when a process survives SIGKILL for 10 s (it hangs in the kernel)
 */
export async function endProcesses(hosts: readonly Host[], graceMs = 3_000): Promise<void> {
  const living = (): number[] => {
    const all = [...hosts.flatMap((host) => host.pids()), ...pidsIn(hosts.map((host) => host.netns))];
    return [...new Set(all)];
  };
  let pids = living();
  for (const pid of pids) kill(pid, "SIGTERM");
  const start = performance.now();
  let killed = false;
  while (pids.length > 0) {
    const waited = performance.now() - start;
    if (waited > graceMs) {
      for (const pid of pids) kill(pid, "SIGKILL");
      killed = true;
    }
    if (killed && waited > graceMs + 60_000) {
      throw new WorldError("E_WORLD_TIMEOUT", `processes ${pids.join(", ")} survived SIGKILL`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
    pids = living();
  }
}
