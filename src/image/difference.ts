// SPDX-License-Identifier: Apache-2.0
/** How two images differ, by service port, in words and figures that people know. Pure. */

import { formatAddressPort } from "../net/port.js";
import type { DescribedChoice, DescribedFrontend } from "./describe.js";
import { describeFrontend, frontendName, sortedFrontends } from "./describe.js";
import type { Image, ServicePortImage } from "./types.js";

export type ChangeKind = "added" | "removed" | "changed";

export interface FrontendDifference {
  /** frontendName(). */
  readonly frontend: string;
  readonly change: ChangeKind;
  readonly before: DescribedFrontend | null;
  readonly after: DescribedFrontend | null;
}

export interface BackendDifference {
  readonly backend: string;
  /** "changed": whether it is on this node, or whether it serves. */
  readonly change: ChangeKind;
  readonly local: boolean;
  readonly serving: boolean;
}

export interface PortDifference {
  readonly key: string;
  readonly change: ChangeKind;
  readonly frontends: readonly FrontendDifference[];
  readonly backends: readonly BackendDifference[];
  readonly affinitySeconds: { readonly before: number; readonly after: number } | null;
}

export interface ListDifference {
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

export interface ImageDifference {
  /** By key. */
  readonly servicePorts: readonly PortDifference[];
  readonly nodePortAddresses: ListDifference;
  readonly serviceNetworks: ListDifference;
}

export function imageDifference(before: Image, after: Image): ImageDifference {
  const keys = Array.from(new Set([...before.servicePorts.keys(), ...after.servicePorts.keys()])).sort();
  return {
    servicePorts: keys.flatMap((key) =>
      portDifference(key, before.servicePorts.get(key) ?? null, after.servicePorts.get(key) ?? null),
    ),
    nodePortAddresses: listDifference(before.nodePortAddresses, after.nodePortAddresses),
    serviceNetworks: listDifference(before.serviceNetworks, after.serviceNetworks),
  };
}

function changeOf(before: unknown, after: unknown): ChangeKind {
  if (before === null) return "added";
  return after === null ? "removed" : "changed";
}

function portDifference(
  key: string,
  before: ServicePortImage | null,
  after: ServicePortImage | null,
): PortDifference[] {
  const frontends = pairs(frontendsOf(before), frontendsOf(after)).map(
    ([frontend, a, b]): FrontendDifference => ({ frontend, change: changeOf(a, b), before: a, after: b }),
  );
  const backends = pairs(backendsOf(before), backendsOf(after)).map(
    ([backend, a, b]): BackendDifference => ({
      backend,
      change: changeOf(a, b),
      local: (b ?? a)?.local === true,
      serving: (b ?? a)?.serving === true,
    }),
  );
  const [a, b] = [before?.affinitySeconds ?? 0, after?.affinitySeconds ?? 0];
  const affinitySeconds = a === b ? null : { before: a, after: b };
  if (frontends.length + backends.length === 0 && affinitySeconds === null) return [];
  return [{ key, change: changeOf(before, after), frontends, backends, affinitySeconds }];
}

/** What is in one of two only, or otherwise in each; null: it is not there. */
function pairs<T>(
  before: ReadonlyMap<string, T>,
  after: ReadonlyMap<string, T>,
): readonly (readonly [key: string, before: T | null, after: T | null])[] {
  return Array.from(new Set([...before.keys(), ...after.keys()])).flatMap((key) => {
    const [a, b] = [before.get(key) ?? null, after.get(key) ?? null];
    return JSON.stringify(a) === JSON.stringify(b) ? [] : [[key, a, b] as const];
  });
}

function frontendsOf(port: ServicePortImage | null): ReadonlyMap<string, DescribedFrontend> {
  if (port === null) return new Map();
  return new Map(
    sortedFrontends(port).map((frontend) => {
      const described = describeFrontend(port, frontend);
      return [frontendName(described), described];
    }),
  );
}

function backendsOf(
  port: ServicePortImage | null,
): ReadonlyMap<string, { readonly local: boolean; readonly serving: boolean }> {
  return new Map(
    port?.backends.map(({ address, port: number, local, serving }) => [
      formatAddressPort(address, number),
      { local, serving },
    ]),
  );
}

interface Text {
  readonly text: string;
}

function listDifference(before: readonly Text[], after: readonly Text[]): ListDifference {
  const [a, b] = [new Set(before.map(({ text }) => text)), new Set(after.map(({ text }) => text))];
  // Maps hold them in no order.
  const only = (these: ReadonlySet<string>, others: ReadonlySet<string>): string[] =>
    [...these].filter((text) => !others.has(text)).sort();
  return { added: only(b, a), removed: only(a, b) };
}

/** What new flows are given: "10.1.0.1:8080,10.2.0.1:8080", "REJECT", "DROP". */
export function offerText({ backends, whenEmpty }: DescribedChoice): string {
  return backends.length === 0 ? whenEmpty.toUpperCase() : backends.join(",");
}
