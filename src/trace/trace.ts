// SPDX-License-Identifier: Apache-2.0
/**
 * `portolan trace`: a packet through the twin of the programs, hook by hook, with the kernel's own routing in between. Nothing
 * that is live is written: the twin writes to an overlay that ends with it.
 */
import { getSystemErrorName } from "node:util";
import { REASONS, Reason as ReasonId, TraceVerdict } from "../abi/enums.gen.js";
import type { TraceRecord } from "../abi/layout.gen.js";
import type { KernelLookups, KernelMaps } from "../native/kernel.js";
import type { NativeLibrary } from "../native/lib.js";
import type { Route } from "../native/route.js";
import { fromSixteen } from "../native/sixteen.js";
import type { Twin } from "../native/twin.js";
import type { Family, IpAddress } from "../net/ip.js";
import { formatAddressPort } from "../net/port.js";
import { type Choice, choiceOf } from "./choice.js";
import { traceError } from "./errors.js";
import { type Forwarding, forwardingOf } from "./forwarding.js";
import {
  type Entrance,
  entranceOf,
  exitOf,
  type Ground,
  inputInterface,
  type Origin,
  readGround,
} from "./ground.js";
import { type Names, readNames } from "./names.js";
import {
  buildFrame,
  hasFlags,
  hasPorts,
  type Packet,
  type PacketView,
  protocolNumberOf,
  readFrame,
  replyTo,
} from "./packet.js";
import { reasonOf, type Step, stepOf } from "./steps.js";

export interface TraceRequest {
  readonly packet: Packet;
  /** Left out: told by the route back to the sender. */
  readonly from?: Origin;
  readonly interface?: string;
  /** Follow the answer of who got the packet, too. */
  readonly reply: boolean;
}

/** Why: the counted reason, by name and in words. */
export interface Reason {
  readonly name: string;
  readonly text: string;
}

/** `answer`: the program has made a REJECT or RST of the packet, which goes back. */
export type Verdict = "pass" | "drop" | "answer";

export interface HookLeg {
  readonly kind: "ingress" | "egress";
  readonly direction: "forward" | "reply";
  readonly interface: string;
  readonly role: Origin;
  /** How the interface was found. */
  readonly why: string;
  /** The live program whose twin has run. */
  readonly program: string;
  readonly before: PacketView;
  readonly after: PacketView;
  readonly mark: number;
  readonly verdict: Verdict;
  readonly reason: Reason | null;
  readonly choice: Choice | null;
  /** Of a packet of a flow that an ingress hook lets pass: the live program's way with it. */
  readonly forwarding: Forwarding | null;
  readonly steps: readonly Step[];
  /** Accesses that could not be kept. */
  readonly lost: number;
}

export interface RouteLeg {
  readonly kind: "route";
  readonly direction: "forward" | "reply";
  readonly to: string;
  readonly verdict: "forward" | "local" | "refused";
  /** The interface it leaves by; null unless it does. */
  readonly interface: string | null;
  readonly gateway: string | null;
  /** Name of the errno; null unless it is refused. */
  readonly error: string | null;
}

export interface SocketLeg {
  readonly kind: "socket";
  readonly direction: "forward";
  /** The address that the socket asks for. */
  readonly wanted: string;
  readonly verdict: "translated" | "as-it-is" | "refused";
  /** What it talks to. */
  readonly target: string;
  readonly reason: Reason | null;
  readonly choice: Choice | null;
  readonly steps: readonly Step[];
  readonly lost: number;
}

export type Leg = HookLeg | RouteLeg | SocketLeg;

/**
 * What becomes of the packet. `delivered`: to a socket of the node itself. `sent`: out by an interface. `rejected`, `reset`: the
 * sender is answered. `dropped`: silence. `refused`: the socket is (ECONNREFUSED, EPERM before Linux 5.18). `unroutable`: the
 * kernel has no way for it.
 */
export type OutcomeVerdict =
  | "delivered"
  | "sent"
  | "rejected"
  | "reset"
  | "dropped"
  | "refused"
  | "unroutable";

export interface Outcome {
  readonly verdict: OutcomeVerdict;
  readonly reason: Reason | null;
  /** The packet as it is at the end: as its receiver sees it. */
  readonly packet: PacketView;
  readonly choice: Choice | null;
  /** "namespace/name:port/PROTOCOL"; null: no Service's. */
  readonly service: string | null;
}

export interface TraceResult {
  readonly packet: PacketView;
  readonly from: Origin;
  readonly legs: readonly Leg[];
  readonly outcome: Outcome;
  /** Of the answer; null: there is none, or it was not asked for. */
  readonly reply: Outcome | null;
}

const TC_DROP = 2;
const TC_REDIRECT = 7;

/**
 * @throws AppError E_TRACE_PACKET
 */
export function checkPacket({ protocol, source, destination, flags }: Packet): void {
  const fail = (message: string, hint: string): never => {
    throw traceError("E_TRACE_PACKET", message, hint);
  };
  if (source.address.family !== destination.address.family)
    fail(
      `${source.address.text} and ${destination.address.text} are of two families`,
      "Give both as IPv4, or both as IPv6.",
    );
  for (const { address, port } of [source, destination]) {
    if (hasPorts(protocol) && port === 0)
      fail(`${address.text} needs a port: ${protocol} has them`, `Write ${formatAddressPort(address, 80)}.`);
    if (!hasPorts(protocol) && port !== 0)
      fail(`${formatAddressPort(address, port)}: icmp has no ports`, `Write ${address.text}.`);
  }
  if (flags.length > 0 && !hasFlags(protocol))
    fail(`${protocol} has no flags`, "Leave out --flags, or trace tcp or sctp.");
}

/** One trace after the other over one twin; `run` begins with the live maps each time. */
export class Tracer {
  readonly #library: NativeLibrary;
  readonly #kernel: KernelLookups;
  readonly #ground: Ground;
  readonly #names: Names;
  readonly #twin: Twin;

  private constructor(
    library: NativeLibrary,
    kernel: KernelLookups,
    ground: Ground,
    names: Names,
    twin: Twin,
  ) {
    this.#library = library;
    this.#kernel = kernel;
    this.#ground = ground;
    this.#names = names;
    this.#twin = twin;
  }

  /**
   * Loads the twin of one family's programs, in the node's network namespace. Close it.
   *
   * @throws AppError E_TRACE_NOT_ATTACHED, NativeError
   */
  static async open(
    library: NativeLibrary,
    kernel: KernelMaps & KernelLookups,
    pins: string,
    family: Family,
  ): Promise<Tracer> {
    const ground = await readGround(library, kernel, pins);
    const names = await readNames(kernel, ground.interfaces);
    return new Tracer(library, kernel, ground, names, library.openTwin(pins, family, ground.config));
  }

  close(): void {
    this.#twin.close();
  }

  /**
   * Follows one packet.
   *
   * @throws AppError E_TRACE_PACKET, E_TRACE_INTERFACE, NativeError
   */
  async run(request: TraceRequest): Promise<TraceResult> {
    checkPacket(request.packet);
    this.#twin.reset();
    const from = request.from ?? this.#originOf(request.packet.source.address);
    const way = new Way(this.#library, this.#kernel, this.#ground, this.#names, this.#twin);
    const packet = readFrame(buildFrame(request.packet));
    const outcome =
      from === "host"
        ? await way.fromHost(request.packet)
        : await way.fromOutside(request.packet, from, request);
    const answered = outcome.verdict === "sent" || outcome.verdict === "delivered";
    const reply = request.reply && answered ? await way.back() : null;
    return { packet, from, legs: way.legs, outcome, reply };
  }

  #originOf(source: IpAddress): Origin {
    if (this.#ground.isLocal(source)) return "host";
    return entranceOf(this.#ground, (address) => routeTo(this.#library, address), source, {}).hooked.role;
  }
}

function routeTo(library: NativeLibrary, destination: IpAddress): number | null {
  const route = library.route({
    source: null,
    destination,
    protocol: 0,
    sourcePort: 0,
    destinationPort: 0,
    ifindex: 0,
    mark: 0,
  });
  return route.kind === "refused" ? null : route.ifindex;
}

/** One packet's way, and its answer's. */
class Way {
  readonly legs: Leg[] = [];
  readonly #library: NativeLibrary;
  readonly #kernel: KernelLookups;
  readonly #ground: Ground;
  readonly #names: Names;
  readonly #twin: Twin;
  #frame: Uint8Array = new Uint8Array();
  #mark = 0;
  #choice: Choice | null = null;
  #direction: "forward" | "reply" = "forward";
  /** By what the packet came in, and by what it left; null: from, and to, the node itself. */
  #entrance: Entrance | null = null;
  #exit: Entrance | null = null;

  constructor(library: NativeLibrary, kernel: KernelLookups, ground: Ground, names: Names, twin: Twin) {
    this.#library = library;
    this.#kernel = kernel;
    this.#ground = ground;
    this.#names = names;
    this.#twin = twin;
  }

  async fromOutside(packet: Packet, from: Exclude<Origin, "host">, request: TraceRequest): Promise<Outcome> {
    const asked = { from, ...(request.interface === undefined ? {} : { interface: request.interface }) };
    this.#entrance = entranceOf(
      this.#ground,
      (address) => routeTo(this.#library, address),
      packet.source.address,
      asked,
    );
    const told = from === "pod" ? await this.#socket(packet, false) : { packet, outcome: null };
    if (told.outcome !== null) return told.outcome;
    this.#frame = buildFrame(told.packet);
    return (await this.#hook("ingress", this.#entrance)) ?? (await this.#onward());
  }

  async fromHost(packet: Packet): Promise<Outcome> {
    const { packet: told, outcome } = await this.#socket(packet, true);
    if (outcome !== null) return outcome;
    this.#frame = buildFrame(told);
    return await this.#onward();
  }

  /** The answer of who got the packet. */
  async back(): Promise<Outcome> {
    this.#direction = "reply";
    this.#mark = 0;
    const entrance = this.#exit;
    this.#frame = buildFrame(replyTo(readFrame(this.#frame)));
    this.#entrance = entrance;
    if (entrance !== null) {
      const over = await this.#hook("ingress", entrance);
      if (over !== null) return over;
    }
    return await this.#onward();
  }

  /** What the socket hooks do with the first packet's sender: the packet that leaves the socket, or the end. */
  async #socket(packet: Packet, host: boolean): Promise<{ packet: Packet; outcome: Outcome | null }> {
    const { protocol, source, destination } = packet;
    const asks = this.#ground.sockets && (protocol === "tcp" || protocol === "udp");
    const opens = protocol === "udp" || (packet.flags.includes("syn") && !packet.flags.includes("ack"));
    if (!asks || !opens) return { packet, outcome: null };
    const { family } = destination.address;
    const { answer, records, lost } = this.#twin.socket({
      wanted: destination.address,
      port: destination.port,
      bound: source.address,
      boundPort: source.port,
      protocol: protocolNumberOf(protocol, family),
      host,
    });
    if (!host && answer.verdict === TraceVerdict.TRACE_AS_IT_IS) return { packet, outcome: null };
    const translated = answer.verdict === TraceVerdict.TRACE_TRANSLATED;
    this.#choice = translated ? await choiceOf(records, true, family, this.#kernel) : null;
    const wanted = formatAddressPort(destination.address, destination.port);
    const target = translated && this.#choice !== null ? this.#choice.backend : wanted;
    const reason = socketReason(answer.verdict, answer.result);
    this.legs.push({
      kind: "socket",
      direction: "forward",
      wanted,
      verdict: SOCKET_VERDICTS[answer.verdict] ?? "as-it-is",
      target,
      reason,
      choice: this.#choice,
      steps: this.#steps(records),
      lost,
    });
    if (answer.verdict === TraceVerdict.TRACE_REFUSED) {
      this.#frame = buildFrame(packet);
      return { packet, outcome: this.#outcome("refused", reason) };
    }
    if (!translated) return { packet, outcome: null };
    const address = fromSixteen(answer.addr, family);
    return { packet: { ...packet, destination: { address, port: answer.port } }, outcome: null };
  }

  /** Routing, and the egress hook. */
  async #onward(): Promise<Outcome> {
    const view = readFrame(this.#frame);
    const route = this.#library.route({
      source: view.source.address,
      destination: view.destination.address,
      protocol: protocolNumberOf(view.protocol, view.family),
      sourcePort: view.source.port,
      destinationPort: view.destination.port,
      ifindex: this.#entrance === null ? 0 : inputInterface(this.#entrance.hooked),
      mark: this.#mark,
    });
    this.#routeLeg(route, view);
    if (route.kind === "refused") return this.#outcome("unroutable", null);
    if (route.kind === "local") {
      this.#exit = null;
      return this.#outcome("delivered", null);
    }
    this.#exit = exitOf(this.#ground, route.ifindex);
    if (this.#exit === null) return this.#outcome("sent", null);
    return (await this.#hook("egress", this.#exit)) ?? this.#outcome("sent", null);
  }

  #routeLeg(route: Route, view: PacketView): void {
    this.legs.push({
      kind: "route",
      direction: this.#direction,
      to: view.destination.address.text,
      verdict: route.kind === "unicast" ? "forward" : route.kind,
      interface: route.kind === "unicast" ? this.#names.interface(route.ifindex) : null,
      gateway: route.kind === "refused" ? null : (route.gateway?.text ?? null),
      error: route.kind === "refused" ? getSystemErrorName(-route.errno) : null,
    });
  }

  /** Runs a hook's twin. Null: the packet goes on. */
  async #hook(kind: "ingress" | "egress", { hooked, why }: Entrance): Promise<Outcome | null> {
    const before = readFrame(this.#frame);
    const pod = hooked.role === "pod";
    const side = kind === "ingress" ? "in" : "out";
    const run = this.#twin.run(
      { direction: side, ifindex: hooked.link.ifindex, pod },
      this.#frame,
      this.#mark,
    );
    const verdict: Verdict = run.retval === TC_DROP ? "drop" : run.retval === TC_REDIRECT ? "answer" : "pass";
    const reason = verdictReason(run.records);
    const asks = kind === "ingress" && this.#direction === "forward" && verdict === "pass";
    const fresh = run.records.some((record) => reasonOf(record)?.key === "FLOW_NEW");
    const choice = asks ? await choiceOf(run.records, fresh, before.family, this.#kernel) : null;
    const passes = kind === "ingress" && verdict === "pass";
    const ingress = { before, records: run.records, fresh, translated: reason?.name === TRANSLATED };
    const forwarding = passes ? await forwardingOf(ingress, hooked, this.#ground, this.#kernel) : null;
    this.#choice = choice ?? this.#choice;
    this.#frame = run.data;
    this.#mark = run.mark;
    this.legs.push({
      kind,
      direction: this.#direction,
      interface: hooked.link.name,
      role: hooked.role,
      why: kind === "ingress" && hooked.xdp ? `${why}; ${XDP_FIRST}` : why,
      program: `ptl_${pod ? "pod" : "net"}_${side}`,
      before,
      after: readFrame(run.data),
      mark: run.mark,
      verdict,
      reason,
      choice,
      forwarding,
      steps: this.#steps(run.records),
      lost: run.lost,
    });
    if (verdict === "pass") return null;
    if (verdict === "drop") return this.#outcome("dropped", reason);
    return this.#outcome(reason?.name === RESET ? "reset" : "rejected", reason);
  }

  #steps(records: readonly TraceRecord[]): readonly Step[] {
    return records.map((record) => stepOf(record, this.#names, this.#twin.family));
  }

  #outcome(verdict: OutcomeVerdict, reason: Reason | null): Outcome {
    const choice = this.#choice;
    const service = choice === null || choice.service === null ? null : this.#names.service(choice.service);
    return { verdict, reason, packet: readFrame(this.#frame), choice, service };
  }
}

/** Beside how an interface was found. The decision is made by the same functions over the same maps. */
const XDP_FIRST =
  "it carries XDP, which decides alike before this program and may have finished the packet there";

/** Noted beside the verdict, which has a reason of its own. */
const ASIDE: readonly string[] = [
  "SOURCE_PORT_SHIFTED",
  "BACKEND_STALE",
  "PAIR_RESTORED",
  "READ_RETRIED",
  "AFFINITY_KEPT",
];
const RESET = "backend_removed";
const TRANSLATED = "translated";

/** The reason that goes with the verdict: the last that was counted. */
function verdictReason(records: readonly TraceRecord[]): Reason | null {
  const found = records.findLast((record) => {
    const key = reasonOf(record)?.key;
    return key !== undefined && !ASIDE.includes(key);
  });
  const reason = found === undefined ? null : reasonOf(found);
  return reason === null ? null : { name: reason.name, text: reason.text };
}

const SOCKET_VERDICTS: Readonly<Record<number, SocketLeg["verdict"]>> = {
  [TraceVerdict.TRACE_REFUSED]: "refused",
  [TraceVerdict.TRACE_TRANSLATED]: "translated",
};

/** `result` of choose(): a reason, or a negative number. */
function socketReason(verdict: number, result: number): Reason | null {
  const id =
    result >= 0
      ? result
      : verdict === TraceVerdict.TRACE_TRANSLATED
        ? ReasonId.SOCKET_TRANSLATED
        : verdict === TraceVerdict.TRACE_REFUSED
          ? ReasonId.REJECT_NO_PORT
          : ReasonId.PASS_NO_SERVICE;
  const { name, text } = REASONS[id] as (typeof REASONS)[number];
  return { name, text };
}
