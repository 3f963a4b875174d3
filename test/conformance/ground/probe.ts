// SPDX-License-Identifier: Apache-2.0
/** The probe process of one test host; see probe/probe.h. */
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import type { Host } from "../../../src/demo/world/index.js";
import { compileTestProgram } from "../../support/c-program.js";
import type { ProtocolName } from "../form/types.js";

/** How one attempt ended: with the server's address and the client's as the server saw it, or an error's name. */
export interface Attempt {
  readonly sport: number;
  readonly us: number;
  readonly text?: string;
  readonly error?: string;
}

/** A packet that passed an interface. `kind` is that of packet(7): 0 is for this host, 4 is outgoing. */
export interface Seen {
  readonly dev: string;
  readonly kind: number;
  readonly flags: number;
  readonly type: number;
  readonly code: number;
  readonly src: string;
  readonly dst: string;
  readonly proto: number;
  readonly sport: number;
  readonly dport: number;
  readonly inner?: {
    readonly src: string;
    readonly dst: string;
    readonly proto: number;
    readonly sport: number;
    readonly dport: number;
  };
}

export interface TryGoal {
  readonly proto: ProtocolName;
  readonly dst: string;
  readonly port: number;
  /** Undefined: the kernel chooses. */
  readonly src: string | undefined;
  readonly sport?: number | undefined;
  readonly n: number;
  readonly timeout: number;
  /** SCTP: 1 goes on with the association that was begun from this port. */
  readonly again?: 1;
}

/** Only so that a test which hangs says where. */
const ANSWER_MS = 300_000;
/** For a server that is there. */
const EXCHANGE_MS = 60_000;

let built: Promise<string> | undefined;

/** Compiles the probe when its sources are newer; returns the program's path. */
export function buildProbe(): Promise<string> {
  built ??= compileTestProgram("conformance-probe", new URL("../probe/", import.meta.url));
  return built;
}

interface Answer {
  readonly id: number;
  readonly ok: boolean;
  readonly error?: string;
}

type Arguments = Readonly<Record<string, string | number | undefined>>;

export class Probe {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer | Error) => void>();
  #next = 1;
  #dead: Error | undefined;

  private constructor(host: Host, program: string) {
    this.#name = host.name;
    this.#child = host.spawn([program], { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#child.stdout === null) throw new Error("probe without stdout");
    createInterface({ input: this.#child.stdout }).on("line", (line) => {
      const answer = JSON.parse(line) as Answer;
      this.#waiting.get(answer.id)?.(answer);
      this.#waiting.delete(answer.id);
    });
    this.#child.stdin?.on("error", () => {}); // it ended: "exit" below says so
    this.#child.on("error", (error) => this.#die(error));
    this.#child.on("exit", (code, signal) =>
      this.#die(new Error(`probe of ${host.name} ended (${signal ?? code})`)),
    );
  }

  static async start(host: Host): Promise<Probe> {
    const probe = new Probe(host, await buildProbe());
    await probe.#must("ping", {});
    return probe;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  async serve(proto: ProtocolName, port: number, addr?: string): Promise<void> {
    await this.#must("serve", { proto, port, addr });
  }

  async unserve(proto: ProtocolName, port: number): Promise<void> {
    await this.#must("unserve", { proto, port });
  }

  /** So many attempts at once; returns when all are over. */
  async attempts(goal: TryGoal): Promise<readonly Attempt[]> {
    return ((await this.#must("try", { ...goal })) as Answer & { tries: Attempt[] }).tries;
  }

  /** Opens a connection (or a connected UDP socket) and keeps it. */
  async open(handle: string, goal: Omit<TryGoal, "n">): Promise<Attempt> {
    return first((await this.#must("open", { handle, ...goal })) as Answer & { tries: Attempt[] });
  }

  /** Asks over a kept socket who is there. */
  async ask(handle: string, timeout = 5_000): Promise<Attempt> {
    return first((await this.#must("ask", { handle, timeout })) as Answer & { tries: Attempt[] });
  }

  async clear(): Promise<void> {
    await this.#must("clear", {});
  }

  /** What passed since the last {@link clear}. */
  async packets(): Promise<readonly Seen[]> {
    return ((await this.#must("packets", {})) as Answer & { packets: Seen[] }).packets;
  }

  async frame(dev: string, bytes: Uint8Array): Promise<void> {
    await this.#must("frame", { dev, hex: Buffer.from(bytes).toString("hex") });
  }

  /** One request over TCP: the answer's bytes, or the name of the error. */
  async exchange(
    dst: string,
    port: number,
    bytes: Uint8Array,
    src?: string,
  ): Promise<{ readonly bytes: Buffer } | { readonly error: string }> {
    const hex = Buffer.from(bytes).toString("hex");
    const answer = (await this.#request("exchange", {
      dst,
      port,
      hex,
      timeout: EXCHANGE_MS,
      src,
    })) as Answer & {
      hex: string;
    };
    return answer.ok ? { bytes: Buffer.from(answer.hex, "hex") } : { error: answer.error ?? "?" };
  }

  async #must(verb: string, args: Arguments): Promise<Answer> {
    const answer = await this.#request(verb, args);
    if (answer.ok) return answer;
    const words = Object.entries(args).map(([key, value]) => `${key}=${value}`);
    throw new Error(`${this.#name}: ${verb} ${words.join(" ")}: ${answer.error}`);
  }

  #request(verb: string, args: Arguments): Promise<Answer> {
    if (this.#dead !== undefined) return Promise.reject(this.#dead);
    const id = this.#next++;
    const words = Object.entries(args).flatMap(([key, value]) =>
      value === undefined ? [] : [`${key}=${value}`],
    );
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new Error(`${this.#name}: no answer to ${verb} ${words.join(" ")}`));
      }, ANSWER_MS);
      this.#waiting.set(id, (answer) => {
        clearTimeout(timer);
        if (answer instanceof Error) reject(answer);
        else resolve(answer);
      });
      this.#child.stdin?.write(`${[id, verb, ...words].join(" ")}\n`);
    });
  }

  #die(error: Error): void {
    this.#dead ??= error;
    for (const settle of this.#waiting.values()) settle(this.#dead);
    this.#waiting.clear();
  }
}

function first({ tries }: { readonly tries: readonly Attempt[] }): Attempt {
  const [attempt] = tries;
  if (attempt === undefined) throw new Error("no attempt was made");
  return attempt;
}
