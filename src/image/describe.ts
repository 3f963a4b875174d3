// SPDX-License-Identifier: Apache-2.0
/** An image as stable JSON and as text lines: the same image gives the same bytes. */

import type { Masquerade } from "../model/masquerade.js";
import { originText } from "../model/origin.js";
import type { Problem } from "../model/types.js";
import { compareIp } from "../net/ip.js";
import { formatAddressPort } from "../net/port.js";
import type { BackendImage, ChoiceImage, FrontendImage, Image, ServicePortImage } from "./types.js";

export interface DescribedBackend {
  /** "10.244.0.2:6379". */
  readonly address: string;
  readonly local: boolean;
  /** False: it keeps the TCP flows that it has, and is in a slice for no other reason. */
  readonly serving: boolean;
}

export interface DescribedChoice {
  /** Addresses of the backends that a new flow may go to. */
  readonly backends: readonly string[];
  readonly whenEmpty: "reject" | "drop";
  readonly set: "cluster" | "local";
}

export interface DescribedFrontend {
  readonly kind: string;
  readonly family: 4 | 6;
  /** "10.96.65.65:6379"; of a NodePort "*:30080", which is each of the image's NodePort addresses. */
  readonly address: string;
  readonly masquerade: Masquerade;
  /** Who may send to it; null: everybody. */
  readonly sourceRanges: readonly string[] | null;
  readonly internal: DescribedChoice;
  readonly external: DescribedChoice;
}

export interface DescribedServicePort {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly portName: string;
  readonly protocol: string;
  readonly affinitySeconds: number;
  readonly backends: readonly DescribedBackend[];
  readonly frontends: readonly DescribedFrontend[];
}

export interface ImageDescription {
  readonly servicePorts: readonly DescribedServicePort[];
  /** Addresses of the node on which NodePorts are served. */
  readonly nodePortAddresses: readonly string[];
  /** Where ClusterIPs come from. */
  readonly serviceNetworks: readonly string[];
  readonly problems: readonly Problem[];
}

/** In order of their keys. */
export function portsInOrder({ servicePorts }: Pick<Image, "servicePorts">): ServicePortImage[] {
  return Array.from(servicePorts.values()).sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** For `-o json`: service ports by key, frontends by kind, address and port. */
export function describeImage(image: Image): ImageDescription {
  return {
    servicePorts: portsInOrder(image).map(describePort),
    nodePortAddresses: image.nodePortAddresses.map(({ text }) => text),
    serviceNetworks: image.serviceNetworks.map(({ text }) => text),
    problems: image.problems,
  };
}

function describePort(port: ServicePortImage): DescribedServicePort {
  return {
    key: port.key,
    namespace: port.namespace,
    name: port.name,
    portName: port.portName,
    protocol: port.protocol,
    affinitySeconds: port.affinitySeconds,
    backends: port.backends.map((backend) => ({
      address: textOf(backend),
      local: backend.local,
      serving: backend.serving,
    })),
    frontends: sortedFrontends(port).map((frontend) => describeFrontend(port, frontend)),
  };
}

/** One of its frontends. */
export function describeFrontend(port: ServicePortImage, frontend: FrontendImage): DescribedFrontend {
  return {
    kind: frontend.kind,
    family: frontend.address.family,
    address: frontend.kind === "NodePort" ? `*:${frontend.port}` : textOf(frontend),
    masquerade: frontend.masquerade,
    sourceRanges: sourceRangeTexts(port, frontend),
    internal: describeChoice(port, frontend.internal),
    external: describeChoice(port, frontend.external),
  };
}

/** What a frontend is called: "ClusterIP 10.96.0.1:80", "IPv6 NodePort *:30080". */
export function frontendName({ kind, family, address }: DescribedFrontend): string {
  return `${kind === "NodePort" ? `IPv${family} ` : ""}${kind} ${address}`;
}

function describeChoice(port: ServicePortImage, choice: ChoiceImage): DescribedChoice {
  return { backends: chosen(port, choice).map(textOf), whenEmpty: choice.whenEmpty, set: choice.set };
}

function sourceRangeTexts(port: ServicePortImage, { sourceRanged, address }: FrontendImage): string[] | null {
  if (!sourceRanged) return null;
  return port.sourceRanges.filter(({ family }) => family === address.family).map(({ text }) => text);
}

function textOf(value: BackendImage | FrontendImage): string {
  return formatAddressPort(value.address, value.port);
}

/** By kind, address and port: maps hold them in no order. */
export function sortedFrontends(port: ServicePortImage): readonly FrontendImage[] {
  return [...port.frontends].sort(
    (a, b) =>
      (a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : 0) || compareIp(a.address, b.address) || a.port - b.port,
  );
}

function chosen(port: ServicePortImage, choice: ChoiceImage): readonly BackendImage[] {
  return choice.backends.flatMap((index) => port.backends[index] ?? []);
}

/**
 * One line per frontend, and two where the scopes of senders differ; one per backend that is offered to nobody:
 *
 *     10.96.65.65:6379/TCP ClusterIP default/redis -> 10.244.0.2:6379 (local) 10.244.1.2:6379
 *     10.96.65.66:80/TCP ClusterIP default/web:http -> reject
 *     0.0.0.0:30080/TCP NodePort default/web:http masquerade always -> reject
 */
export function imageLines(image: Image): string[] {
  const lines: string[] = [];
  for (const port of portsInOrder(image)) {
    const name = `${port.namespace}/${port.name}${port.portName === "" ? "" : `:${port.portName}`}`;
    for (const frontend of sortedFrontends(port)) {
      const masquerade = frontend.masquerade === "never" ? "" : ` masquerade ${frontend.masquerade}`;
      const ranges = sourceRangeTexts(port, frontend);
      const from = ranges === null ? "" : ` from ${ranges.join(",")}`;
      const head = `${textOf(frontend)}/${port.protocol} ${frontend.kind} ${name}${masquerade}${from}`;
      const internal = choiceText(port, frontend.internal);
      const external = choiceText(port, frontend.external);
      if (internal === external) lines.push(`${head} -> ${internal}`);
      else lines.push(`${head} internal -> ${internal}`, `${head} external -> ${external}`);
    }
    const offered = new Set(port.frontends.flatMap((f) => [...f.internal.backends, ...f.external.backends]));
    for (const [index, backend] of port.backends.entries()) {
      if (offered.has(index)) continue;
      const serving = backend.serving ? "unchosen" : "not serving";
      lines.push(`${textOf(backend)}/${port.protocol} ${serving} backend of ${name}`);
    }
  }
  return lines;
}

function choiceText(port: ServicePortImage, choice: ChoiceImage): string {
  const backends = chosen(port, choice);
  if (backends.length === 0) return choice.whenEmpty;
  return backends.map((backend) => `${textOf(backend)}${backend.local ? " (local)" : ""}`).join(" ");
}

/** "web.yaml:12: Service default/web: spec.ports[0].port: must be …", the parts that are known. */
export function problemLine(problem: Problem): string {
  const { origin } = problem;
  const place = origin === null ? "" : originText(origin);
  return [place, problem.object, problem.field, problem.message].filter((part) => part !== "").join(": ");
}
