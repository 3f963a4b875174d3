// SPDX-License-Identifier: Apache-2.0
/**
 * Random lives of many flows that get in each other's way: few clients with few ports use overlapping Services and the
 * backends' own addresses, answer, fall silent and come back. Whatever happens, two live flows never look the same on the
 * wire, a live flow keeps its backend, and every reply reaches who asked, from the address that was asked.
 * PORTOLAN_FUZZ_SEED repeats the choices made here; those of the programs are the kernel's.
 */
import assert from "node:assert/strict";
import { udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import type { Host } from "./support/addresses.js";
import { type Lab, openBench, twins } from "./support/lab.js";
import { random } from "./support/random.js";
import { dns } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";

const bench = await openBench();
const SEED = Number(process.env.PORTOLAN_FUZZ_SEED ?? Date.now() % 0x7fffffff);
const STEPS = Number(process.env.PORTOLAN_FUZZ_STEPS ?? 400);
/** Ticks of silence at a time: no sum of them comes near a timeout, so that it is always clear who is alive. */
const SILENCE = 11;
const LONG_SILENCE = 200;

interface Target {
  readonly host: Host;
  readonly port: number;
  readonly backends: readonly Host[];
}

const BACKENDS = ["backend", "backend2"] as const;
const SERVICE_PORT = 53;
const BACKEND_PORT = 5353;

const TARGETS: readonly Target[] = [
  { host: "vip", port: SERVICE_PORT, backends: BACKENDS },
  { host: "vip2", port: SERVICE_PORT, backends: BACKENDS },
  { host: "node", port: SERVICE_PORT, backends: ["backend"] },
  { host: "backend", port: BACKEND_PORT, backends: ["backend"] },
  { host: "backend2", port: BACKEND_PORT, backends: ["backend2"] },
];

const CLIENTS = ["client", "client2"] as const;
const PORTS = [40000, 40001, 40002];

interface Flow {
  readonly client: Host;
  readonly port: number;
  readonly target: Target;
  /** What the backend sees. */
  backend: string;
  wirePort: number;
  silent: number;
  replied: boolean;
}

/** What a flow looks like behind the ingress hook: two of these must not be equal. */
const wireOf = (flow: Flow) => `${flow.client}:${flow.wirePort} > ${flow.backend}`;

const isLive = (flow: Flow) =>
  flow.silent < (flow.replied ? TEST_CONFIG.timeoutUdpReplied : TEST_CONFIG.timeoutUdpUnreplied);

class Journal {
  readonly flows = new Map<string, Flow>();
  readonly #lab: Lab;
  readonly #log: string[] = [];

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  get live(): readonly Flow[] {
    return [...this.flows.values()].filter(isLive);
  }

  async ask(client: Host, port: number, target: Target): Promise<void> {
    const key = `${client}:${port} > ${target.host}`;
    const packet = this.#lab.packet(client, target.host, udp(port, target.port));
    const outcome = await this.#lab.run("ptl_pod_in", packet);
    const sent = dissectFrame(outcome.frame);
    const backend = fieldText(sent, "ip.dst");
    const wirePort = Number(fieldText(sent, "udp.sport"));
    this.#log.push(`${key} as ${wirePort} > ${backend} ${JSON.stringify(outcome.reasons)}`);
    this.#check(outcome.verdict === "pass", `${key}: ${outcome.verdict}`);
    this.#check(fieldText(sent, "udp.dport") === String(BACKEND_PORT), `${key}: the backend's port`);
    this.#check(
      target.backends.some((host) => this.#lab.at[host] === backend),
      `${key}: went to ${backend}`,
    );
    const known = this.flows.get(key);
    if (known !== undefined && isLive(known)) {
      const same = known.backend === backend && known.wirePort === wirePort;
      this.#check(same, `${key}: was on ${wireOf(known)} and is alive`);
    }
    const flow = { client, port, target, backend, wirePort, silent: 0, replied: known?.replied ?? false };
    if (known !== undefined && !isLive(known)) flow.replied = false;
    this.flows.set(key, flow);
    const twin = this.live.find((other) => other !== flow && wireOf(other) === wireOf(flow));
    this.#check(
      twin === undefined,
      `${key}: looks on the wire like ${twin?.client}:${twin?.port} > ${twin?.target.host}`,
    );
  }

  async answer(flow: Flow): Promise<void> {
    const { client, port, target } = flow;
    const host = BACKENDS.find((name) => this.#lab.at[name] === flow.backend) ?? "backend";
    const packet = this.#lab.packet(host, client, udp(BACKEND_PORT, flow.wirePort));
    const outcome = await this.#lab.run("ptl_pod_out", packet);
    this.#log.push(`answer to ${wireOf(flow)} ${JSON.stringify(outcome.reasons)}`);
    const seen = dissectFrame(outcome.frame);
    const got = ["ip.src", "udp.sport", "ip.dst", "udp.dport"].map((name) => fieldText(seen, name)).join(" ");
    const wanted = `${this.#lab.at[target.host]} ${target.port} ${this.#lab.at[client]} ${port}`;
    this.#check(
      got === wanted,
      `the answer to ${client}:${port} > ${target.host} came as "${got}", not "${wanted}"`,
    );
    flow.silent = 0;
    flow.replied = true;
  }

  async silence(ticks: number): Promise<void> {
    this.#log.push(`silence of ${ticks}`);
    await this.#lab.age(ticks);
    for (const flow of this.flows.values()) flow.silent += ticks;
  }

  #check(ok: boolean, what: string): void {
    assert.ok(ok, `seed ${SEED}, step ${this.#log.length}: ${what}\n${this.#log.slice(-60).join("\n")}`);
  }
}

twins(bench, `Flows that get in each other's way are kept apart, seed ${SEED}`, async (lab) => {
  const both = BACKENDS.map((host) => ({ host, port: BACKEND_PORT }));
  await dns(lab, { endpoints: both });
  await dns(lab, { vip: "vip2", endpoints: both });
  await dns(lab, { vip: "node" });
  const journal = new Journal(lab);
  const pick = random(SEED + lab.family);
  const oneOf = <T>(list: readonly T[]): T => list[pick(list.length)] as T;
  let answers = 0;
  for (let step = 0; step < STEPS; step++) {
    const what = pick(20);
    const { live } = journal;
    if (what < 11 || live.length === 0) await journal.ask(oneOf(CLIENTS), oneOf(PORTS), oneOf(TARGETS));
    else if (what < 18) {
      await journal.answer(oneOf(live));
      answers++;
    } else await journal.silence(what === 18 ? SILENCE : LONG_SILENCE);
  }
  assert.ok(answers > STEPS / 8, `only ${answers} answers in ${STEPS} steps`);
});
