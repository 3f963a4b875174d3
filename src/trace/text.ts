// SPDX-License-Identifier: Apache-2.0
/** A trace as text for people: one paragraph a hook, one line an access. */
import { formatAddressPort } from "../net/port.js";
import type { Choice } from "./choice.js";
import { FORWARDING_TEXT } from "./forwarding.js";
import { hasPorts, type PacketView } from "./packet.js";
import type { Step } from "./steps.js";
import type { HookLeg, Leg, Outcome, RouteLeg, SocketLeg, TraceResult } from "./trace.js";

/** "tcp 10.244.1.5:40000 > 10.96.0.10:80 [syn]". */
export function packetText({ protocol, source, destination, flags, icmp }: PacketView): string {
  const end = ({ address, port }: PacketView["source"]): string =>
    hasPorts(protocol) ? formatAddressPort(address, port) : address.text;
  const what = icmp === null ? (flags.length > 0 ? ` [${flags.join(" ")}]` : "") : ` ${icmp.name}`;
  return `${protocol} ${end(source)} > ${end(destination)}${what}`;
}

const LISTED = 6;

/** Why that backend. */
export function choiceText({ kind, backend, candidates }: Choice): string {
  const others = candidates.slice(0, LISTED).join(", ");
  const more = candidates.length > LISTED ? ` and ${candidates.length - LISTED} more` : "";
  const of = candidates.length === 1 ? "the only backend" : `one of ${candidates.length}: ${others}${more}`;
  if (kind === "random")
    return candidates.length === 1 ? `${backend}: the only backend` : `${backend}, at random, ${of}`;
  if (kind === "affinity-new") return `${backend}: this client's first by session affinity, ${of}`;
  if (kind === "affinity") return `${backend}: session affinity keeps this client there`;
  return kind === "flow"
    ? `${backend}: the flow that this packet belongs to goes there`
    : `${backend}: the client names it itself`;
}

const VERBS: Readonly<Record<Step["kind"], string>> = {
  "look-up": "look up",
  update: "write",
  delete: "delete",
  count: "count",
};

function stepLine({ kind, map, key, value, found }: Step): string {
  const shown = value ?? (kind === "look-up" ? "none" : "");
  const failed = kind !== "look-up" && !found ? " (failed)" : "";
  return `  ${VERBS[kind].padEnd(7)} ${map}[${key}]${shown === "" ? "" : ` = ${shown}`}${failed}`;
}

function reasonText(reason: { readonly name: string; readonly text: string } | null): string {
  return reason === null ? "" : `: ${reason.text} (${reason.name})`;
}

function hookLines(leg: HookLeg): string[] {
  const side = leg.kind === "ingress" ? "comes in by" : "leaves by";
  const changed = packetText(leg.before) !== packetText(leg.after);
  return [
    `${leg.kind} hook: ${side} ${leg.interface} (${leg.role}; ${leg.why}), ${leg.program}`,
    `  packet  ${packetText(leg.before)}`,
    ...leg.steps.map(stepLine),
    ...(leg.lost > 0 ? [`  … and ${leg.lost} more`] : []),
    ...(leg.choice === null ? [] : [`  choice  ${choiceText(leg.choice)}`]),
    ...(leg.forwarding === null || leg.forwarding === "stack"
      ? []
      : [`  way     ${FORWARDING_TEXT[leg.forwarding]}`]),
    ...(changed ? [`  now     ${packetText(leg.after)}`] : []),
    `  verdict ${leg.verdict}${reasonText(leg.reason)}`,
  ];
}

function routeLines(leg: RouteLeg): string[] {
  if (leg.verdict === "local") return [`kernel: ${leg.to} is this node's own`];
  if (leg.verdict === "refused") return [`kernel: no way to ${leg.to} (${leg.error})`];
  return [
    `kernel: routes ${leg.to} out by ${leg.interface}${leg.gateway === null ? "" : `, via ${leg.gateway}`}`,
  ];
}

function socketLines(leg: SocketLeg): string[] {
  return [
    `socket hook: a socket asks for ${leg.wanted}`,
    ...leg.steps.map(stepLine),
    ...(leg.choice === null ? [] : [`  choice  ${choiceText(leg.choice)}`]),
    `  verdict ${leg.verdict}${reasonText(leg.reason)}`,
  ];
}

function legLines(leg: Leg): string[] {
  if (leg.kind === "route") return routeLines(leg);
  return leg.kind === "socket" ? socketLines(leg) : hookLines(leg);
}

const OUTCOMES: Readonly<Record<Outcome["verdict"], string>> = {
  delivered: "delivered on this node",
  sent: "sent",
  rejected: "REJECTED",
  reset: "RESET",
  dropped: "DROPPED",
  refused: "REFUSED at the socket",
  unroutable: "UNROUTABLE",
};

/** "packet: sent as tcp …, of default/web:http/TCP". */
export function outcomeText(what: string, { verdict, reason, packet, service }: Outcome): string {
  const went = verdict === "sent" || verdict === "delivered";
  const answered = verdict === "rejected" || verdict === "reset";
  return [
    `${what}: ${OUTCOMES[verdict]}`,
    went ? ` as ${packetText(packet)}` : reasonText(reason),
    answered ? `, answered with ${packetText(packet)}` : "",
    went && service !== null ? `, of ${service}` : "",
  ].join("");
}

/** The whole trace, without a line end at its end. */
export function traceLines(result: TraceResult): string[] {
  const lines = [`packet: ${packetText(result.packet)}, from ${result.from}`];
  let direction: Leg["direction"] = "forward";
  for (const leg of result.legs) {
    if (leg.direction !== direction) {
      lines.push("", outcomeText("packet", result.outcome), "", "reply:");
      direction = leg.direction;
    } else lines.push("");
    lines.push(...legLines(leg));
  }
  lines.push(
    "",
    outcomeText(
      direction === "reply" ? "reply" : "packet",
      direction === "reply" && result.reply !== null ? result.reply : result.outcome,
    ),
  );
  return lines;
}
