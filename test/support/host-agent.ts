// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import type { Host } from "../../src/demo/world/index.js";
import { compileTestProgram } from "./c-program.js";

/** How an exchange with a server ended. */
export interface Exchange {
  readonly ok: boolean;
  /** Name of the server which answered. */
  readonly who?: string;
  /** The client's address and port as the server saw them. */
  readonly seen?: string;
  readonly seenPort?: number;
  /** UDP: where the answer came from, as the client saw it. */
  readonly from?: string;
  readonly fromPort?: number;
  /** The client's own address and port. */
  readonly local?: string;
  readonly localPort?: number;
  /** A connected socket's peer, as getpeername(2) tells it; IPv4-mapped addresses are shown as IPv4. */
  readonly peer?: string;
  readonly peerPort?: number;
  /** What failed (`connect`, `send`, `receive` …) and how (`ECONNREFUSED`, `ETIMEDOUT` …). */
  readonly stage?: string;
  readonly errno?: string;
  /** How long it took, in microseconds; the time in which the machine stood still does not count. */
  readonly us: number;
}

/** Where to connect, and from where. */
export interface Target {
  readonly dst: string;
  readonly port: number;
  /** @default "tcp" */
  readonly proto?: "tcp" | "udp";
  readonly src?: string;
  readonly sport?: number;
  /** For the connection and for the answer, in milliseconds each, in which the machine runs. @default 5000 */
  readonly timeout?: number;
  /** UDP: connect the socket, so that errors and only this peer's answers reach it. */
  readonly connected?: boolean;
  /** UDP: size of datagram and answer, in bytes; their contents are compared (stage `content` when they differ). */
  readonly payload?: number;
  /** Send UDP over IPv4 without a checksum. */
  readonly nocheck?: boolean;
  /** Never fragment. */
  readonly df?: boolean;
  /** Close with a reset, so that no TIME_WAIT is left. */
  readonly rst?: boolean;
}

/** How a transfer ended: the checksums of what was sent and of what arrived, and the connection's last path MTU. */
export interface BulkResult {
  readonly ok: boolean;
  readonly sent?: string;
  readonly received?: string;
  readonly stage?: string;
  readonly errno?: string;
  readonly us: number;
  readonly retransmits?: number;
  readonly pmtu?: number;
  readonly mss?: number;
}

/** How often one pod answered (or one failure happened). */
export interface Tally {
  readonly count: number;
  /** When the last such attempt began: CLOCK_MONOTONIC in microseconds, as process.hrtime. */
  readonly lastStartUs: number;
  readonly lastPort: number;
}

/**
 * Counts the SYNs that a host's clients send again from now on.
 *
 * @param inFlight how many of its connections begin at a time, at most
 * @returns tells how many there were, and how many the machine explains: one that stands still for a second between a SYN
 *   and its answer sends it again, for each connection that had just begun
 */
export async function countSynsSentAgain(
  agent: HostAgent,
  inFlight: number,
): Promise<() => Promise<{ readonly sent: number; readonly explained: number }>> {
  const now = async (): Promise<number> => (await agent.counters())["TcpExt.TCPSynRetrans"] ?? 0;
  const [before, stood] = [await now(), await agent.standstills()];
  return async () => ({
    sent: (await now()) - before,
    explained: ((await agent.standstills()) - stood) * inFlight,
  });
}

/** What many clients met. */
export interface LoadResult {
  readonly attempts: number;
  readonly good: number;
  /** Attempts that took more than 0.9 s in which the machine ran: a packet was lost and sent again. */
  readonly slow: number;
  readonly slowestUs: number;
  readonly uncounted: number;
  readonly who: Readonly<Record<string, Tally>>;
  readonly errors: Readonly<Record<string, Tally>>;
}

/** How two flows that began at the same moment fared; `slow`: after more than 0.9 s in which the machine ran, since a packet was lost. */
export interface RaceResult {
  readonly good: readonly [number, number];
  readonly slow: readonly [number, number];
  readonly failed: readonly [number, number];
}

/** One packet on the wire. */
export interface SeenPacket {
  readonly dev: string;
  readonly out: boolean;
  readonly src: string;
  readonly dst: string;
  readonly proto: number;
  readonly sport: number;
  readonly dport: number;
  /** TCP: some of S, A, F, R, P. */
  readonly flags: string;
  /** ICMP type and code. */
  readonly type: number;
  readonly code: number;
  readonly len: number;
}

/** What the kernel knows about a kept socket. */
export interface SocketState {
  readonly ok: boolean;
  readonly mtu: number;
  readonly error: string;
  readonly mss?: number;
  readonly retransmits?: number;
  readonly state?: number;
}

type Arguments = Readonly<Record<string, string | number | boolean | undefined>>;

/** Only so that a test which hangs says where. */
const REQUEST_TIMEOUT_MS = 300_000;

let built: Promise<string> | undefined;

/** Compiles the host agent when its sources are newer than the program; returns the program's path. */
export function buildHostAgent(): Promise<string> {
  built ??= compileTestProgram("host-agent", new URL("./host-agent/", import.meta.url));
  return built;
}

/** Commands to a test host's agent; see host-agent/agent.h. */
export class HostAgent {
  readonly #host: Host;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    number,
    { resolve: (answer: unknown) => void; reject: (error: Error) => void }
  >();
  #nextId = 1;
  #dead: Error | undefined;

  private constructor(host: Host, program: string) {
    this.#host = host;
    this.#child = host.spawn([program], { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#child.stdout === null) throw new Error("host agent without stdout");
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#answer(line));
    this.#child.stdin?.on("error", () => {}); // it ended: "exit" below says so
    this.#child.on("error", (error) => this.#die(error));
    this.#child.on("exit", (code, signal) =>
      this.#die(new Error(`host agent of ${host.name} ended (${signal ?? code})`)),
    );
  }

  /** Starts the agent of a host. */
  static async start(host: Host): Promise<HostAgent> {
    const agent = new HostAgent(host, await buildHostAgent());
    await agent.#request("ping", {});
    return agent;
  }

  /** Its process, for the cgroup that this is to be in. */
  get pid(): number {
    return this.#child.pid as number;
  }

  /** Serves on both families' wildcard addresses until the pod ends or {@link close} of `tcp-80` or the like; answers as `name`. */
  async serve(proto: "tcp" | "udp", port: number, name: string = this.#host.name): Promise<void> {
    await this.#must("serve", { proto, port, handle: `${proto}-${port}`, name });
  }

  /** Connects, asks who is there, and closes. */
  connect(target: Target): Promise<Exchange> {
    return this.#request("connect", { ...target }) as Promise<Exchange>;
  }

  /** As {@link connect}, but the socket is kept under a name. */
  open(handle: string, target: Target): Promise<Exchange> {
    return this.#request("open", { ...target, handle }) as Promise<Exchange>;
  }

  /** Asks over a kept socket; an unconnected UDP socket may ask somebody else than at first. */
  ask(handle: string, options: Partial<Target> = {}): Promise<Exchange> {
    return this.#request("ask", { ...options, handle }) as Promise<Exchange>;
  }

  /** Closes kept sockets, a server or a sniffer. */
  async close(handle: string, options: { rst?: boolean } = {}): Promise<void> {
    await this.#must("close", { handle, ...options });
  }

  /** What the kernel knows about a kept socket. */
  socket(handle: string): Promise<SocketState> {
    return this.#request("socket", { handle }) as Promise<SocketState>;
  }

  /** Transfers content with a checksum at both ends. */
  bulk(target: Target, dir: "up" | "down", bytes: number, seed = 1): Promise<BulkResult> {
    return this.#request("bulk", { ...target, dir, bytes, seed }) as Promise<BulkResult>;
  }

  /** Many connections, `threads` at a time, until `count` were tried. */
  loadCount(target: Target, options: { threads: number; count: number; gap?: number }): Promise<LoadResult> {
    return this.#must("load", {
      handle: `load-${this.#nextId}`,
      ...target,
      ...options,
    }) as Promise<LoadResult>;
  }

  /** Connections without pause, until {@link loadStop}; `gap` is a pause after each, in microseconds. */
  async loadStart(handle: string, target: Target, options: { threads: number; gap?: number }): Promise<void> {
    await this.#must("load", { handle, ...target, ...options });
  }

  /** How often the machine stood still so far, for longer than half a second, each of its CPUs for itself. */
  async standstills(): Promise<number> {
    return ((await this.#must("standstills", {})) as { count: number }).count;
  }

  loadStop(handle: string): Promise<LoadResult> {
    return this.#must("loadstop", { handle }) as Promise<LoadResult>;
  }

  /**
   * Starts two flows from one port at the same moment, `rounds` times, each round from the next port.
   * Pairs of counts: of the first goal and of the second.
   */
  race(first: Target, second: Target, options: { sport: number; rounds: number }): Promise<RaceResult> {
    const goals = { ...first, dst2: second.dst, port2: second.port };
    return this.#must("race", { timeout: 3000, ...goals, ...options }) as Promise<RaceResult>;
  }

  /** Sends one TCP segment without a socket behind it. */
  async rawTcp(target: Target & { flags: string; seq?: number; acknum?: number }): Promise<void> {
    await this.#must("rawtcp", { ...target });
  }

  /** Begins to remember packets of one interface, or of all. */
  async sniff(
    handle: string,
    filter: { dev?: string; proto?: "tcp" | "udp" | "icmp"; port?: number; host?: string } = {},
  ): Promise<void> {
    await this.#must("sniff", { handle, ...filter });
  }

  /** The packets seen so far. */
  async sniffed(handle: string): Promise<readonly SeenPacket[]> {
    const answer = (await this.#must("sniffed", { handle })) as { packets: SeenPacket[] };
    return answer.packets;
  }

  /**
   * Attaches a program that counts packets and returns `verdict` (-1: go on, 0: end the chain with "pass"), by tcx.
   * `complete`: it counts only packets that came with CHECKSUM_COMPLETE. `sum`: it looks only at such packets of so many
   * bytes from the IP header on, and tells those for which the kernel's sum is wrong from the others.
   */
  async tcx(
    handle: string,
    options: {
      dev: string;
      hook: "ingress" | "egress";
      where: "before" | "after";
      verdict: number;
      complete?: boolean;
      sum?: number;
    },
  ): Promise<void> {
    await this.#must("tcx", { handle, ...options });
  }

  /** Packets with a right and with a wrong sum, as a program with `sum` has seen them. */
  async tcxSums(handle: string): Promise<{ right: number; wrong: number }> {
    const answer = (await this.#must("tcxcount", { handle })) as { packets: number; wrong: number };
    return { right: answer.packets, wrong: answer.wrong };
  }

  /** Takes every tcx link off a hook, whosever it is; tells how many. */
  async tcxDetach(dev: string, hook: "ingress" | "egress"): Promise<number> {
    return ((await this.#must("tcxdetach", { dev, hook })) as { detached: number }).detached;
  }

  /** Packets which such a program has seen. */
  async tcxCount(handle: string): Promise<number> {
    return ((await this.#must("tcxcount", { handle })) as { packets: number }).packets;
  }

  /** A file as the host's processes see it, for what lies below /proc/net and /proc/sys/net. */
  async readFile(path: string): Promise<string> {
    return ((await this.#must("read", { path })) as { text: string }).text;
  }

  /** Writes one word into a file below /proc/sys/net. */
  async writeFile(path: string, text: string | number): Promise<void> {
    await this.#must("write", { path, text });
  }

  /** The kernel's protocol counters of both families, such as `Tcp.InCsumErrors` and `Icmp6InRedirects`. */
  async counters(): Promise<Readonly<Record<string, number>>> {
    const files = await Promise.all(
      ["snmp", "netstat", "snmp6"].map((name) => this.readFile(`/proc/thread-self/net/${name}`)),
    );
    return parseCounters(files);
  }

  async #must(verb: string, args: Arguments): Promise<unknown> {
    const answer = (await this.#request(verb, args)) as { ok: boolean; stage?: string; errno?: string };
    if (!answer.ok) {
      const text = Object.entries(args).map(([key, value]) => `${key}=${value}`);
      throw new Error(`${this.#host.name}: ${verb} ${text.join(" ")}: ${answer.stage}: ${answer.errno}`);
    }
    return answer;
  }

  #request(verb: string, args: Arguments): Promise<unknown> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    const id = this.#nextId++;
    const words = Object.entries(args)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => `${key}=${typeof value === "boolean" ? Number(value) : value}`);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`${this.#host.name}: no answer to ${verb} ${words.join(" ")}`));
      }, REQUEST_TIMEOUT_MS);
      const done = <T>(settle: (value: T) => void) => {
        return (value: T) => {
          clearTimeout(timer);
          settle(value);
        };
      };
      this.#waiting.set(id, { resolve: done(resolve), reject: done(reject) });
      this.#child.stdin?.write(`${[id, verb, ...words].join(" ")}\n`);
    });
  }

  #answer(line: string): void {
    const answer = JSON.parse(line) as { id: number };
    this.#waiting.get(answer.id)?.resolve(answer);
    this.#waiting.delete(answer.id);
  }

  #die(error: Error): void {
    this.#dead ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#dead);
    this.#waiting.clear();
  }
}

/** /proc/net/snmp and netstat have lines in pairs (names, values), snmp6 has a name and a value in each line. */
function parseCounters(files: readonly string[]): Record<string, number> {
  const counters: Record<string, number> = {};
  const lines = files.flatMap((text) => text.split("\n")).filter((line) => line !== "");
  lines.forEach((line, index) => {
    const single = /^(\w+)\s+(\d+)$/.exec(line);
    if (single !== null) {
      counters[single[1] as string] = Number(single[2]);
      return;
    }
    const [group, ...names] = line.split(/\s+/);
    const [again, ...values] = (lines[index + 1] ?? "").split(/\s+/);
    if (group !== again || /^-?\d/.test(names[0] ?? "")) return;
    names.forEach((name, column) => {
      counters[`${group?.slice(0, -1)}.${name}`] = Number(values[column]);
    });
  });
  return counters;
}

const agents = new WeakMap<Host, Promise<HostAgent>>();

/** The agent of a host, started when it is asked for the first time. */
export function agentOf(host: Host): Promise<HostAgent> {
  let agent = agents.get(host);
  if (agent === undefined) {
    agent = HostAgent.start(host);
    agents.set(host, agent);
  }
  return agent;
}
