// SPDX-License-Identifier: Apache-2.0
/** An image as stable JSON and as text lines: the same image gives the same bytes. */
import { originText } from "../model/origin.js";
import type { Problem } from "../model/types.js";
import { compareIp } from "../net/ip.js";
import { formatAddressPort } from "../net/port.js";
import type { BackendImage, ChoiceImage, FrontendImage, Image, ServicePortImage } from "./types.js";

export interface DescribedBackend {
  /** "10.244.0.2:6379". */
  readonly address: string;
  readonly local: boolean;
}

export interface DescribedChoice {
  /** Addresses of the backends that a new flow may go to. */
  readonly backends: readonly string[];
  readonly whenEmpty: "reject" | "drop";
}

export interface DescribedFrontend {
  readonly kind: string;
  readonly address: string;
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
  readonly problems: readonly Problem[];
}

/** For `-o json`: service ports by key, frontends by kind, address and port. */
export function describeImage(image: Image): ImageDescription {
  const ports = Array.from(image.servicePorts.values()).sort((a, b) => (a.key < b.key ? -1 : 1));
  return { servicePorts: ports.map(describePort), problems: image.problems };
}

function describePort(port: ServicePortImage): DescribedServicePort {
  return {
    key: port.key,
    namespace: port.namespace,
    name: port.name,
    portName: port.portName,
    protocol: port.protocol,
    affinitySeconds: port.affinitySeconds,
    backends: port.backends.map((backend) => ({ address: textOf(backend), local: backend.local })),
    frontends: sortedFrontends(port).map((frontend) => ({
      kind: frontend.kind,
      address: textOf(frontend),
      internal: describeChoice(port, frontend.internal),
      external: describeChoice(port, frontend.external),
    })),
  };
}

function describeChoice(port: ServicePortImage, choice: ChoiceImage): DescribedChoice {
  return { backends: chosen(port, choice).map(textOf), whenEmpty: choice.whenEmpty };
}

function textOf(value: BackendImage | FrontendImage): string {
  return formatAddressPort(value.address, value.port);
}

function sortedFrontends(port: ServicePortImage): readonly FrontendImage[] {
  return [...port.frontends].sort(
    (a, b) =>
      (a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : 0) || compareIp(a.address, b.address) || a.port - b.port,
  );
}

function chosen(port: ServicePortImage, choice: ChoiceImage): readonly BackendImage[] {
  return choice.backends.flatMap((index) => port.backends[index] ?? []);
}

/**
 * One line per frontend, and two where the scopes of senders differ; one per backend that serves but is offered to nobody:
 *
 *     10.96.65.65:6379/TCP ClusterIP default/redis -> 10.244.0.2:6379 (local) 10.244.1.2:6379
 *     10.96.65.66:80/TCP ClusterIP default/web:http -> reject
 */
export function imageLines(image: Image): string[] {
  const lines: string[] = [];
  for (const port of Array.from(image.servicePorts.values()).sort((a, b) => (a.key < b.key ? -1 : 1))) {
    const name = `${port.namespace}/${port.name}${port.portName === "" ? "" : `:${port.portName}`}`;
    for (const frontend of sortedFrontends(port)) {
      const head = `${textOf(frontend)}/${port.protocol} ${frontend.kind} ${name}`;
      const internal = choiceText(port, frontend.internal);
      const external = choiceText(port, frontend.external);
      if (internal === external) lines.push(`${head} -> ${internal}`);
      else lines.push(`${head} internal -> ${internal}`, `${head} external -> ${external}`);
    }
    const offered = new Set(port.frontends.flatMap((f) => [...f.internal.backends, ...f.external.backends]));
    for (const [index, backend] of port.backends.entries()) {
      if (!offered.has(index)) lines.push(`${textOf(backend)}/${port.protocol} unchosen backend of ${name}`);
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
