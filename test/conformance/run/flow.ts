// SPDX-License-Identifier: Apache-2.0
/** One flow of a case: traffic is sent, and what became of it is compared with what the case says. */
import { awakeNow } from "../../support/awake.js";
import { buildFrame, tcp, udp } from "../../support/packet.js";
import { canonical, familyOf, isLoopback, socketText } from "../form/address.js";
import type { FlowForm, Outcome, ServiceForm } from "../form/types.js";
import type { Ground } from "../ground/ground.js";
import { CONTROL_PORT, type Sender } from "../ground/plan.js";
import type { Attempt, Probe, Seen } from "../ground/probe.js";
import { expectedOf, flowText, outcomeText } from "./expected.js";

/* All of these are of time in which the machine runs: one that stands still has lost nothing. */
/** How long an answer may take that must come; it is not waited for in vain. */
const ANSWER_MS = 5_000;
/** A refusal must be there within this time: before a TCP that was not refused at once would ask again. */
const REJECT_MS = 900;
/** So long is silence waited for. */
const SILENCE_MS = 400;
/** A packet that was there is found within this time. */
const WITNESS_MS = 3_000;
/** Attempts whose result is one word. */
const FEW = 3;
const MOST_ROUNDS = 12;

const PROTO_NUMBER = { TCP: 6, UDP: 17, SCTP: 132 } as const;
const ICMP = 1;
const ICMP6 = 58;
const OUTGOING = 4;
const FOR_US = 0;
const RST = 4;

/** What is wrong with a flow; undefined: nothing. */
export async function checkFlow(
  ground: Ground,
  flow: FlowForm,
  services: readonly ServiceForm[],
  config: Parameters<typeof expectedOf>[2],
): Promise<string | undefined> {
  const sender = ground.plan.senderOf(flow);
  const outcome = expectedOf(flow, ground.plan.nodeAddresses, config);
  await ground.lead(sender);
  try {
    const run = new FlowRun(ground, flow, sender);
    const sticky = services.some((service) => hasAffinity(service) && serves(service, flow));
    const wrong = await run.check(outcome, sticky);
    return wrong === undefined
      ? undefined
      : `${flowText(flow, sender.src)}: expected ${outcomeText(outcome)}, ${wrong}`;
  } finally {
    await ground.release(sender);
  }
}

/** With affinity, one client has one endpoint at a time: `to` are those that it may be. */
const hasAffinity = (service: ServiceForm): boolean => (service.affinity ?? null) !== null;

/** Whether this is one of a Service's own addresses, or its NodePort. */
function serves(service: ServiceForm, flow: FlowForm): boolean {
  const own = [service.clusterIP, ...(service.clusterIPs ?? []), ...(service.externalIPs ?? [])];
  const all = [...own, ...(service.lb ?? []).map((ingress) => ingress.ip)];
  if (all.some((text) => text !== undefined && canonical(text) === flow.dst)) return true;
  return (service.ports ?? []).some((port) => port.nodePort === flow.port);
}

class FlowRun {
  readonly #ground: Ground;
  readonly #flow: FlowForm;
  readonly #sender: Sender;
  readonly #probe: Probe;

  constructor(ground: Ground, flow: FlowForm, sender: Sender) {
    this.#ground = ground;
    this.#flow = flow;
    this.#sender = sender;
    this.#probe = ground.probe(sender.place);
  }

  check(outcome: Outcome, sticky: boolean): Promise<string | undefined> {
    if (outcome.kind === "to") return this.#checkTo(outcome, sticky);
    switch (outcome.verdict) {
      case "REJECT":
        return this.#checkReject();
      case "DROP":
        return this.#checkDrop();
      case "PASS":
        return this.#checkPass();
    }
  }

  #attempts(n: number, timeout: number): Promise<readonly Attempt[]> {
    const { proto, dst, port, sport } = this.#flow;
    const src = this.#sender.bound ? this.#sender.src : undefined;
    return this.#probe.attempts({ proto, dst, port, sport, src, n, timeout });
  }

  /** Batches of connections until each destination was hit, and enough of them that a wrong one would have been. */
  async #checkTo(outcome: Outcome & { kind: "to" }, sticky: boolean): Promise<string | undefined> {
    const hits = new Map<string, number>();
    const batch = 8 * (outcome.to.length + 1);
    const wanted = outcome.uniform ? 200 * outcome.to.length : batch;
    const single = this.#flow.sport !== undefined; // one flow: any of them will do
    for (let round = 0, sent = 0; round < MOST_ROUNDS; round++) {
      const n = single ? 1 : Math.min(Math.max(batch, wanted - sent), 512);
      const attempts = await this.#attempts(n, ANSWER_MS);
      sent += n;
      for (const attempt of attempts) {
        const wrong = this.#wrongAnswer(attempt, outcome);
        if (wrong !== undefined) return wrong;
        const { who } = parseAnswer(attempt.text ?? "");
        hits.set(who, (hits.get(who) ?? 0) + 1);
      }
      if (single) return undefined;
      if (sent >= wanted && (sticky || hits.size === outcome.to.length)) break;
    }
    if (sticky) return hits.size > 1 ? `saw ${tally(hits)}: one client went to several` : undefined;
    const missing = outcome.to.filter((one) => !hits.has(one));
    if (missing.length > 0) return `never reached ${missing.join(", ")} (saw ${tally(hits)})`;
    return outcome.uniform ? notUniform(hits) : undefined;
  }

  #wrongAnswer(attempt: Attempt, outcome: Outcome & { kind: "to" }): string | undefined {
    if (attempt.error !== undefined) return `saw ${attempt.error} after ${attempt.us} us`;
    const { who, seen } = parseAnswer(attempt.text ?? "");
    if (!outcome.to.includes(who)) return `saw ${who || `"${attempt.text}"`}`;
    const masq = outcome.masq[who];
    const { src } = this.#sender;
    if (masq === false && seen !== src) return `${who} saw the sender as ${seen}: it must not be masqueraded`;
    if (masq !== true) return undefined;
    const own = this.#ground.plan.nodeAddresses.includes(seen);
    const kept = seen === src && this.#sender.kind !== "node";
    return own && !kept ? undefined : `${who} saw the sender as ${seen}: it must be masqueraded`;
  }

  /** Fast, and by ICMP port unreachable (7.4); at a socket of the node itself, which no packet leaves, by the error. */
  async #checkReject(): Promise<string | undefined> {
    await this.#probe.clear();
    const attempts = await this.#attempts(FEW, REJECT_MS);
    const answered = attempts.find((attempt) => attempt.error === undefined);
    if (answered !== undefined) return `saw an answer of ${parseAnswer(answered.text ?? "").who}`;
    const local = this.#sender.kind === "node";
    const errors: readonly (string | undefined)[] = local ? ["ECONNREFUSED", "EPERM"] : ["ECONNREFUSED"];
    const wrong = attempts.find((attempt) => !errors.includes(attempt.error));
    if (wrong !== undefined) return wrong.error === "ETIMEDOUT" ? "saw silence" : `saw ${wrong.error}`;
    if (local) return undefined;
    // A reset beside it does no harm: an IPv6 socket may overhear the ICMPv6 error while connect() still owns it.
    if (await this.#witnessed(this.#probe, (packet) => this.#isUnreachable(packet))) return undefined;
    const reset = (await this.#probe.packets()).some((packet) => this.#isReset(packet));
    return reset ? "saw a TCP reset, and no ICMP port unreachable" : "saw no ICMP port unreachable";
  }

  /** Whether such a packet was seen. On a busy machine what watches may be behind what happened. */
  async #witnessed(probe: Probe, wanted: (packet: Seen) => boolean): Promise<boolean> {
    const end = awakeNow() + WITNESS_MS;
    for (;;) {
      if ((await probe.packets()).some(wanted)) return true;
      if (awakeNow() > end) return false;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Silence, nothing delivered to anybody, while the way to the node works. */
  async #checkDrop(): Promise<string | undefined> {
    const probes = this.#ground.probes();
    await Promise.all(probes.map(([, probe]) => probe.clear()));
    const attempts = this.#mustCraft() ? await this.#craft() : await this.#attempts(FEW, SILENCE_MS);
    const heard = attempts.find((attempt) => attempt.error !== "ETIMEDOUT");
    if (heard !== undefined)
      return heard.error === undefined
        ? `saw an answer of ${parseAnswer(heard.text ?? "").who}`
        : `saw ${heard.error} after ${heard.us} us`;
    for (const [key, probe] of probes) {
      const packet = (await probe.packets()).find((one) => this.#wasDelivered(key, one));
      if (packet !== undefined)
        return `a packet reached ${key}: ${socketText(packet.src, packet.sport)} to ${socketText(packet.dst, packet.dport)}`;
    }
    return this.#controlFails();
  }

  /** Without this, a broken world would look like DROP. */
  async #controlFails(): Promise<string | undefined> {
    const { src } = this.#sender;
    const dst = this.#ground.plan.nodeAddresses.find((one) => familyOf(one) === familyOf(src));
    if (dst === undefined) return undefined;
    const goal = { proto: "TCP" as const, dst, port: CONTROL_PORT, src, n: 1, timeout: ANSWER_MS };
    const [attempt] = await this.#probe.attempts(goal);
    return attempt?.error === undefined ? undefined : `the way to the node does not work: ${attempt.error}`;
  }

  /** A packet of this flow, translated or not, that came in where it could be read. */
  #wasDelivered(place: string, packet: Seen): boolean {
    const { kind } = this.#ground.plan.places.get(place) ?? {};
    const { proto, dst, port } = this.#flow;
    if (packet.kind === OUTGOING || packet.dport === CONTROL_PORT || packet.sport === CONTROL_PORT)
      return false;
    if (place === this.#sender.place && this.#isReply(packet)) return true;
    // The node sees what comes in before the programs do: there, silence is the proof.
    if (kind === "node" || packet.kind !== FOR_US || packet.proto !== PROTO_NUMBER[proto]) return false;
    if (kind === "pod" || kind === "remote") return packet.flags === 0 || (packet.flags & 2) !== 0;
    return packet.dst === dst && packet.dport === port && !packet.dev.startsWith("remote");
  }

  #isReply(packet: Seen): boolean {
    const { dst, port, proto } = this.#flow;
    return (
      packet.kind === FOR_US &&
      packet.proto === PROTO_NUMBER[proto] &&
      packet.src === dst &&
      packet.sport === port &&
      packet.dst === this.#sender.src // the last packets of another sender's flow may still be under way
    );
  }

  /** Nothing was translated: the packet itself is seen behind the node, or the node's own stack (or a program) answers. */
  async #checkPass(): Promise<string | undefined> {
    const { plan } = this.#ground;
    const local = plan.nodeAddresses.includes(this.#flow.dst) || isLoopback(this.#flow.dst);
    const listens = local && this.#flow.proto === "UDP";
    if (listens) await this.#ground.serve("UDP", this.#flow.port, this.#flow.dst).catch(() => {}); // EADDRINUSE serves as well
    const watchers = [this.#probe, this.#ground.probe("outside")];
    await Promise.all(watchers.map((probe) => probe.clear()));
    const attempts = await this.#attempts(FEW, listens ? ANSWER_MS : SILENCE_MS);
    if (listens) await this.#ground.probe("node").unserve("UDP", this.#flow.port);
    const answered = attempts.filter((attempt) => attempt.error === undefined);
    const strange = answered
      .map((attempt) => parseAnswer(attempt.text ?? ""))
      .find((answer) => !this.#isSelf(answer));
    if (strange !== undefined) return `saw ${strange.who}, and the sender as ${strange.seen}`;
    if (answered.length === attempts.length) return undefined;
    return local ? this.#refusedByStack(attempts) : this.#leftUntouched(attempts);
  }

  #isSelf(answer: { who: string; seen: string }): boolean {
    return answer.who === socketText(this.#flow.dst, this.#flow.port) && answer.seen === this.#sender.src;
  }

  async #refusedByStack(attempts: readonly Attempt[]): Promise<string | undefined> {
    const sctp = this.#flow.proto === "SCTP";
    const refused = (packet: Seen): boolean =>
      sctp ? this.#isNoSuchProtocol(packet) : this.#isReset(packet);
    if (await this.#witnessed(this.#probe, refused)) return undefined;
    return `saw ${attempts.map((attempt) => attempt.error).join(", ")}, and no sign that the node's own stack has refused`;
  }

  async #leftUntouched(attempts: readonly Attempt[]): Promise<string | undefined> {
    const { dst, port, proto } = this.#flow;
    const ports = new Set(attempts.map((attempt) => attempt.sport));
    const untouched = await this.#witnessed(
      this.#ground.probe("outside"),
      (packet) =>
        packet.kind !== OUTGOING &&
        packet.dev === "br0" &&
        packet.proto === PROTO_NUMBER[proto] &&
        packet.src === this.#sender.src &&
        packet.dst === dst &&
        packet.dport === port &&
        ports.has(packet.sport),
    );
    if (untouched) return undefined;
    return `saw ${attempts.map((attempt) => attempt.error).join(", ")}, and the packet never left the node as it was`;
  }

  #isReset(packet: Seen): boolean {
    return (
      packet.kind !== OUTGOING &&
      this.#flow.proto === "TCP" &&
      this.#isFrom(packet) &&
      (packet.flags & RST) !== 0
    );
  }

  #isFrom(packet: Seen): boolean {
    return packet.src === this.#flow.dst && packet.sport === this.#flow.port;
  }

  #isUnreachable(packet: Seen): boolean {
    const four = packet.proto === ICMP && packet.type === 3 && packet.code === 3;
    const six = packet.proto === ICMP6 && packet.type === 1 && packet.code === 4;
    return (four || six) && this.#quotesUs(packet);
  }

  #isNoSuchProtocol(packet: Seen): boolean {
    const four = packet.proto === ICMP && packet.type === 3 && packet.code === 2;
    const six = packet.proto === ICMP6 && packet.type === 4 && packet.code === 1;
    return (four || six) && this.#quotesUs(packet);
  }

  /** An ICMP error must quote the packet as the sender has sent it. */
  #quotesUs({ inner, kind }: Seen): boolean {
    const { dst, port } = this.#flow;
    return kind !== OUTGOING && inner?.dst === dst && inner.dport === port && inner.src === this.#sender.src;
  }

  /** No stack sends to a loopback address over a wire. */
  #mustCraft(): boolean {
    return isLoopback(this.#flow.dst) && this.#sender.kind !== "node";
  }

  /** Something listens there, so that an answer would come if one could. */
  async #craft(): Promise<readonly Attempt[]> {
    const { dst, port, proto } = this.#flow;
    const transport = proto === "UDP" ? "UDP" : "TCP";
    await this.#ground.serve(transport, port, dst).catch(() => {}); // EADDRINUSE: the node's own server is there
    await this.#controlFails(); // the node knows the way back: it could not ask for it in the name of 127.0.0.1
    await this.#probe.clear();
    const dev = this.#sender.kind === "outside" ? "br0" : "eth0";
    const mac = this.#sender.kind === "pod" ? "ee:ee:ee:ee:ee:ee" : this.#ground.nodeMac;
    const sports = Array.from({ length: FEW }, (_, i) => 41_000 + i);
    for (const sport of sports) {
      const payload = transport === "UDP" ? udp(sport, port) : tcp(sport, port, "S");
      await this.#probe.frame(dev, buildFrame({ src: this.#sender.src, dst, eth: { dst: mac }, payload }));
    }
    await new Promise((resolve) => setTimeout(resolve, SILENCE_MS)); // silence has no event
    const packets = await this.#probe.packets();
    return sports.map((sport) => {
      const answer = packets.find((packet) => packet.kind !== OUTGOING && packet.dport === sport);
      const error =
        answer === undefined ? "ETIMEDOUT" : `an answer from ${socketText(answer.src, answer.sport)}`;
      return { sport, us: 0, error };
    });
  }
}

/** The server's text: its own address and port, and the client's. */
function parseAnswer(text: string): { who: string; seen: string } {
  const [address = "", port = "", seen = ""] = text.split(" ");
  return { who: address === "" ? "" : socketText(address, Number(port)), seen };
}

function tally(hits: ReadonlyMap<string, number>): string {
  return [...hits].map(([who, count]) => `${who} ${count} times`).join(", ") || "nothing";
}

/** Six standard deviations: a fair choice fails once in 500 million. */
function notUniform(hits: ReadonlyMap<string, number>): string | undefined {
  const total = [...hits.values()].reduce((sum, count) => sum + count, 0);
  const share = 1 / hits.size;
  const allowed = 6 * Math.sqrt(total * share * (1 - share));
  const odd = [...hits.values()].some((count) => Math.abs(count - total * share) > allowed);
  return odd ? `the spread is not uniform: ${tally(hits)}` : undefined;
}
