// SPDX-License-Identifier: Apache-2.0
/** How an event is shown: a line of a table that grows as it goes, or a JSON object. Pure but for the Printer. */
import type { EventView } from "../../../dataplane/view.js";
import type { Column } from "../../output.js";
import { peerText, serviceJson, serviceName } from "../../service-text.js";

/** An event with what only this machine knows about it. */
export interface TimedEvent {
  readonly event: EventView;
  readonly at: Date;
  /** Seconds since the monitor began to listen. */
  readonly since: number;
  /** "" when no interface of this namespace has its index. */
  readonly interfaceName: string;
}

const TCP_FLAGS: readonly (readonly [number, string])[] = [
  [2, "S"],
  [16, "A"],
  [1, "F"],
  [4, "R"],
  [8, "P"],
  [32, "U"],
];

export function flagsText({ protocol, tcpFlags }: EventView): string {
  if (protocol !== "TCP") return "";
  return TCP_FLAGS.flatMap(([bit, letter]) => (tcpFlags & bit ? [letter] : [])).join("");
}

/** The reason, except where the type says it all; of a new flow why it has its backend. */
function whyText({ type, reason, why }: EventView): string {
  if (type === "new") return why.join(",");
  return type === "translated" && reason === "translated" ? "" : reason;
}

function clientText({ client, seenAs, hook }: EventView): string {
  if (client === null) return hook === "socket" ? "(socket)" : "";
  return seenAs === null ? textOf(client) : `${textOf(client)} as ${textOf(seenAs)}`;
}

/** ICMP has no ports. */
function textOf(peer: { readonly address: string; readonly port: number }): string {
  return peer.port === 0 ? peer.address : peerText(peer);
}

function serviceText({ service }: EventView): string {
  if (service === null) return "";
  return service.portName === "" ? serviceName(service) : `${serviceName(service)}:${service.portName}`;
}

/** @param sinceStart times from when the monitor began, instead of by the clock */
export function eventColumns(sinceStart: boolean): readonly Column<TimedEvent>[] {
  const clock = (at: Date): string =>
    `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return [
    { header: "TIME", value: ({ at, since }) => (sinceStart ? `+${since.toFixed(3)}` : clock(at)) },
    { header: "EVENT", value: ({ event }) => event.type },
    { header: "PROTOCOL", value: ({ event }) => event.protocol },
    { header: "CLIENT", value: ({ event }) => clientText(event) },
    { header: "", value: ({ event }) => (event.reply ? "<-" : "->") },
    { header: "SERVICE", value: ({ event }) => serviceText(event) },
    {
      header: "DESTINATION",
      value: ({ event }) => (event.destination === null ? "" : textOf(event.destination)),
    },
    { header: "BACKEND", value: ({ event }) => (event.backend === null ? "" : textOf(event.backend)) },
    { header: "WHY", value: ({ event }) => whyText(event) },
    { header: "HOOK", value: ({ event, interfaceName }) => hookText(event, interfaceName), wide: true },
    { header: "FLAGS", value: ({ event }) => flagsText(event), wide: true },
    { header: "BYTES", value: ({ event }) => event.bytes || "", align: "right", wide: true },
  ];
}

function hookText({ hook, ifindex }: EventView, name: string): string {
  return hook === "socket" ? hook : `${hook} ${name === "" ? `#${ifindex}` : name}`;
}

export function eventJson({ event, at, since, interfaceName }: TimedEvent): object {
  const { type, reason, family, protocol, hook, ifindex, service, client, destination, backend } = event;
  return {
    time: at.toISOString(),
    sinceStart: Math.round(since * 1e6) / 1e6,
    type,
    reason,
    why: event.why,
    family,
    protocol,
    hook,
    interface: interfaceName === "" ? null : interfaceName,
    ifindex,
    service: service === null ? null : serviceJson(service),
    client,
    destination,
    backend,
    seenAs: event.seenAs,
    reply: event.reply,
    bytes: event.bytes,
    tcpFlags: flagsText(event),
    cookie: event.cookie === null ? null : String(event.cookie),
  };
}
