// SPDX-License-Identifier: Apache-2.0
/** The product under test: one `portolan agent`, its log, and its end. */
import type { ChildProcess } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { createInterface } from "node:readline";
import type { Host } from "../../../src/demo/world/index.js";
import { awakeTimeout } from "../../support/awake.js";
import type { ConfigForm, Environment } from "../form/types.js";

/** Only so that an agent which hangs says where. */
const START_MS = 300_000;
/** It ends by itself, or the case would leave something behind. */
const END_MS = 60_000;

export interface AgentLine {
  readonly level?: number | string;
  readonly msg?: string;
  readonly [field: string]: unknown;
}

export interface AgentPaths {
  readonly manifests: string;
  readonly bpfRoot: string;
  readonly cgroup: string | undefined;
}

/** The agent's arguments: kube-proxy's configuration as flags. */
export function agentArguments(environment: Environment, paths: AgentPaths): string[] {
  return [
    "agent",
    ...["--manifests", paths.manifests],
    ...["--hostname-override", environment.node.name],
    ...["--bpf-root", paths.bpfRoot],
    ...(paths.cgroup === undefined ? [] : ["--cgroup-root", paths.cgroup]),
    ...(environment.serviceCIDR.length === 0 ? [] : ["--service-cidr", environment.serviceCIDR.join(",")]),
    ...configArguments(environment.config),
  ];
}

function configArguments(config: ConfigForm): string[] {
  return [
    ...["--proxy-mode", config.mode],
    ...["--detect-local-mode", config.detectLocalMode],
    ...(config.clusterCIDR === "" ? [] : ["--cluster-cidr", config.clusterCIDR]),
    ...(config.bridgeInterface === "" ? [] : ["--pod-bridge-interface", config.bridgeInterface]),
    ...(config.interfaceNamePrefix === "" ? [] : ["--pod-interface-name-prefix", config.interfaceNamePrefix]),
    ...(config.masqueradeAll ? ["--masquerade-all"] : []),
    ...(config.nodePortAddresses.length === 0
      ? []
      : ["--nodeport-addresses", config.nodePortAddresses.join(",")]),
    `--iptables-localhost-nodeports=${config.localhostNodePorts}`,
    ...(config.externalIPs ? [] : ["--external-ips=false"]),
    ...(config.socketLB === undefined ? [] : ["--socket-lb", config.socketLB]),
  ];
}

export class Agent {
  readonly lines: AgentLine[] = [];
  readonly #process: ChildProcess;
  readonly #events = new EventEmitter();
  #ended: string | undefined;

  constructor(host: Host, argv: readonly string[]) {
    this.#events.setMaxListeners(0);
    this.#process = host.spawn(argv, { stdio: ["ignore", "ignore", "pipe"] });
    if (this.#process.stderr === null) throw new Error("agent without stderr");
    createInterface({ input: this.#process.stderr }).on("line", (text) => {
      this.lines.push(parseLine(text));
      this.#events.emit("change");
    });
    this.#process.on("error", (error) => this.#end(error.message));
    this.#process.on("close", (code, signal) => this.#end(`${signal ?? `status ${code}`}`));
  }

  mark(): number {
    return this.lines.length;
  }

  /** Waits for a message after a place in the log; false when none came in so much time in which the machine runs. */
  async said(msg: string, from: number, timeoutMs: number): Promise<boolean> {
    const deadline = awakeTimeout(timeoutMs);
    for (;;) {
      if (this.lines.slice(from).some((line) => line.msg === msg)) return true;
      if (this.#ended !== undefined) throw new Error(`the agent ended (${this.#ended}): ${this.tail()}`);
      try {
        await once(this.#events, "change", { signal: deadline });
      } catch {
        return false;
      }
    }
  }

  async ready(): Promise<void> {
    if (!(await this.said("ready", 0, START_MS)))
      throw new Error(`the agent was not ready in time: ${this.tail()}`);
  }

  /** Its last words. */
  tail(): string {
    return this.lines
      .slice(-5)
      .map((line) => JSON.stringify(line))
      .join("\n");
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.#ended !== undefined) return;
    const closed = once(this.#process, "close");
    this.#process.kill(signal);
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), END_MS);
    await closed;
    clearTimeout(timer);
  }

  #end(how: string): void {
    this.#ended ??= how;
    this.#events.emit("change");
  }
}

function parseLine(text: string): AgentLine {
  try {
    return JSON.parse(text) as AgentLine;
  } catch {
    return { msg: text }; // a stack trace, for instance
  }
}
