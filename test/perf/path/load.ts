// SPDX-License-Identifier: Apache-2.0
/** test/perf/load.c on test hosts. */
import { once } from "node:events";
import { cpus } from "node:os";
import { createInterface } from "node:readline";
import type { Host } from "../../../src/demo/world/index.js";
import { ROOT } from "../support/machine.js";
import { SERVED } from "./services.js";

const LOAD = `${ROOT}build/perf/load`;

/** Beside the measurement itself. The program has deadlines of its own; this is for a machine that stands still. */
const PATIENCE_MS = 60_000;

/**
 * Client and server share this CPU, which this process leaves alone (it waits meanwhile): so a rate is what the CPU time of a whole
 * transaction allows. On two CPUs most of a transaction is the time in which one CPU wakes the other, a matter of the hypervisor
 * that hides what a path costs, and that changes from second to second by more than the paths differ.
 */
const CPU: number = cpus().length - 1;

/** What is asked: transactions of one byte each way, with a connection of its own for each, datagrams, or bytes one way. */
export const KINDS = ["tcp-rr", "tcp-crr", "udp-rr", "tcp-stream"] as const;
export type Kind = (typeof KINDS)[number];

/** What the load program prints. */
export interface Load {
  /** Transactions that were measured. */
  readonly count: number;
  /** Flows, those of the warm-up as well. */
  readonly connections: number;
  /** Datagrams that were sent again. */
  readonly lost: number;
  /** That the server has read. */
  readonly bytes: number;
  readonly seconds: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
}

/** Starts the server of a pod and waits until it listens. It ends with its world. Returns its pid. */
export async function startServer(host: Host): Promise<number> {
  const argv = [LOAD, "server", "--port", `${SERVED.tcp}`, "--udp-port", `${SERVED.udp}`];
  const child = host.spawn([...argv, "--cpu", `${CPU}`], { stdio: ["ignore", "pipe", "inherit"] });
  if (child.stdout === null) throw new Error("load server without stdout");
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(
      `the load server of ${host.name} ended with ${code}: is ${LOAD} there? (make build/perf/load)`,
    );
  });
  await Promise.race([once(createInterface({ input: child.stdout }), "line"), ended]);
  ended.catch(() => undefined);
  return child.pid as number;
}

/** Where and how long a client asks. */
export interface Ask {
  readonly kind: Kind;
  readonly address: string;
  readonly port: number;
  readonly seconds: number;
  /** The cgroup in which the client makes its sockets. */
  readonly cgroup?: string;
}

/** Runs a client to its end. Throws WorldError with what it said when it did not get its answers. */
export async function runClient(host: Host, { kind, address, port, seconds, cgroup }: Ask): Promise<Load> {
  const argv = [LOAD, kind, "--to", address, "--port", `${port}`, "--seconds", `${seconds}`];
  argv.push("--cpu", `${CPU}`, ...(cgroup === undefined ? [] : ["--cgroup", cgroup]));
  const { stdout } = await host.exec(argv, { timeoutMs: seconds * 1000 + PATIENCE_MS });
  return JSON.parse(stdout) as Load;
}
