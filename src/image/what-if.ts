// SPDX-License-Identifier: Apache-2.0
/**
 * What would become of a Service's frontends if something about it were otherwise. Each answer is a compile of the changed
 * snapshot, compared with a compile of the snapshot as it is: nothing is concluded by other means. Pure.
 */
import type { Masquerade } from "../model/masquerade.js";
import type { Endpoint, EndpointSlice, HostFacts, Service, Snapshot } from "../model/types.js";
import type { Compiler } from "./compile.js";
import type { DescribedChoice } from "./describe.js";
import { describeFrontend, frontendName } from "./describe.js";
import type { Image } from "./types.js";

export type WhatIfCode =
  | "local-gone"
  | "all-terminating"
  | "all-unready"
  | "all-gone"
  | "external-policy"
  | "internal-policy"
  | "hints-complete"
  | "hints-gone";

/** What new flows are given, before and after: addresses, or "reject" or "drop". */
export interface WhatIfChange {
  /** frontendName(). */
  readonly frontend: string;
  readonly portKey: string;
  readonly from: "anyone" | "inside" | "outside";
  readonly before: readonly string[] | "reject" | "drop";
  readonly after: readonly string[] | "reject" | "drop";
}

/** Whose flows are given an address of the node, before and after. */
export interface MasqueradeChange {
  readonly frontend: string;
  readonly portKey: string;
  readonly before: Masquerade;
  readonly after: Masquerade;
}

export interface WhatIf {
  readonly code: WhatIfCode;
  /** "the last endpoint on this node went". */
  readonly if: string;
  /** Both empty: nothing would change. */
  readonly changes: readonly WhatIfChange[];
  readonly masquerades: readonly MasqueradeChange[];
}

interface Question {
  readonly code: WhatIfCode;
  readonly if: string;
  readonly snapshot: Snapshot;
}

/**
 * The questions that make sense for this Service, answered. `key`: "namespace/name" of a Service of the snapshot.
 *
 * @param compiler that has compiled the snapshot before does not do it again
 */
export function whatIfs(
  key: string,
  snapshot: Snapshot,
  compiler: Compiler,
  host: HostFacts,
): readonly WhatIf[] {
  const service = snapshot.services.get(key);
  if (service === undefined) return [];
  const before = offersOf(compiler.compile(snapshot, host), service);
  return questions(key, service, snapshot).map(({ code, if: text, snapshot: changed }) => {
    const after = offersOf(compiler.compile(changed, host), service);
    return {
      code,
      if: text,
      changes: changesBetween(before, after),
      masquerades: masqueradesBetween(before, after),
    };
  });
}

function questions(key: string, service: Service, snapshot: Snapshot): readonly Question[] {
  const slices = snapshot.slices.get(key) ?? [];
  const all = slices.flatMap(({ endpoints }) => endpoints);
  const { name, zone } = snapshot.node;
  const withEndpoints = (change: (endpoint: Endpoint) => Endpoint | null): Snapshot => ({
    ...snapshot,
    slices: new Map(snapshot.slices).set(key, changeEndpoints(slices, change)),
  });
  const withService = (fields: Partial<Service>): Snapshot => ({
    ...snapshot,
    services: new Map(snapshot.services).set(key, { ...service, ...fields }),
  });
  const isLocal = (endpoint: Endpoint): boolean => endpoint.nodeName === name;
  const locals = all.filter(isLocal).length;
  const ready = all.some((endpoint) => endpoint.ready);
  const asked: (Question | null)[] = [
    locals > 0 && locals < all.length
      ? {
          code: "local-gone",
          if: `${locals === 1 ? "the last endpoint" : `the last of ${locals} endpoints`} on this node went`,
          snapshot: withEndpoints((endpoint) => (isLocal(endpoint) ? null : endpoint)),
        }
      : null,
    ready
      ? {
          code: "all-terminating",
          if: "every ready endpoint began to terminate and still served",
          snapshot: withEndpoints((endpoint) =>
            endpoint.ready ? { ...endpoint, ready: false, serving: true, terminating: true } : endpoint,
          ),
        }
      : null,
    ready
      ? {
          code: "all-unready",
          if: "every ready endpoint became unready",
          snapshot: withEndpoints((endpoint) =>
            endpoint.ready ? { ...endpoint, ready: false, serving: false } : endpoint,
          ),
        }
      : null,
    all.length > 0
      ? { code: "all-gone", if: "every endpoint went", snapshot: withEndpoints(() => null) }
      : null,
    canBeExternal(service)
      ? {
          code: "external-policy",
          if: `externalTrafficPolicy were ${service.externalTrafficPolicyLocal ? "Cluster" : "Local"}`,
          snapshot: withService({ externalTrafficPolicyLocal: !service.externalTrafficPolicyLocal }),
        }
      : null,
    {
      code: "internal-policy",
      if: `internalTrafficPolicy were ${service.internalTrafficPolicyLocal ? "Cluster" : "Local"}`,
      snapshot: withService({ internalTrafficPolicyLocal: !service.internalTrafficPolicyLocal }),
    },
    zone !== "" && all.some(({ zoneHints }) => zoneHints.length > 0) && all.some(lacksHint)
      ? {
          code: "hints-complete",
          if: `every endpoint had a zone hint (those without: ${zone})`,
          snapshot: withEndpoints((endpoint) =>
            lacksHint(endpoint) ? { ...endpoint, zoneHints: [zone] } : endpoint,
          ),
        }
      : null,
    all.some(({ zoneHints, nodeHints }) => zoneHints.length + nodeHints.length > 0)
      ? {
          code: "hints-gone",
          if: "the endpoints had no topology hints",
          snapshot: withEndpoints((endpoint) => ({ ...endpoint, zoneHints: [], nodeHints: [] })),
        }
      : null,
  ];
  return asked.filter((question) => question !== null);
}

function lacksHint({ zoneHints }: Endpoint): boolean {
  return zoneHints.length === 0;
}

/** 2.16: of the others externalTrafficPolicy says nothing. */
function canBeExternal({ type, externalIPs, ports, loadBalancerIPs }: Service): boolean {
  const exposed =
    externalIPs.length + loadBalancerIPs.length > 0 || ports.some(({ nodePort }) => nodePort > 0);
  return exposed && type !== "ExternalName";
}

/** Null from `change`: the endpoint is left out. */
function changeEndpoints(
  slices: readonly EndpointSlice[],
  change: (endpoint: Endpoint) => Endpoint | null,
): readonly EndpointSlice[] {
  return slices.map((slice) => ({
    ...slice,
    endpoints: slice.endpoints.flatMap((endpoint) => change(endpoint) ?? []),
  }));
}

type Offer = WhatIfChange["before"];

interface Offers {
  readonly portKey: string;
  readonly frontend: string;
  readonly inside: Offer;
  readonly outside: Offer;
  readonly masquerade: Masquerade;
}

/** What each frontend of the Service gives to new flows. */
function offersOf(image: Image, service: Service): ReadonlyMap<string, Offers> {
  const offers = new Map<string, Offers>();
  for (const port of image.servicePorts.values()) {
    if (port.namespace !== service.namespace || port.name !== service.name) continue;
    for (const frontend of port.frontends) {
      const described = describeFrontend(port, frontend);
      const { internal, external, masquerade } = described;
      const name = frontendName(described);
      offers.set(`${port.key} ${name}`, {
        portKey: port.key,
        frontend: name,
        inside: offerOf(internal),
        outside: offerOf(external),
        masquerade,
      });
    }
  }
  return offers;
}

function offerOf({ backends, whenEmpty }: DescribedChoice): Offer {
  return backends.length === 0 ? whenEmpty : backends;
}

const same = (a: Offer, b: Offer): boolean => String(a) === String(b);

function changesBetween(
  before: ReadonlyMap<string, Offers>,
  after: ReadonlyMap<string, Offers>,
): readonly WhatIfChange[] {
  const changes: WhatIfChange[] = [];
  for (const [key, old] of before) {
    const now = after.get(key);
    if (now === undefined) continue;
    const { frontend, portKey } = old;
    const change = (from: WhatIfChange["from"], a: Offer, b: Offer): void => {
      if (!same(a, b)) changes.push({ frontend, portKey, from, before: a, after: b });
    };
    if (same(old.inside, old.outside) && same(now.inside, now.outside))
      change("anyone", old.inside, now.inside);
    else {
      change("inside", old.inside, now.inside);
      change("outside", old.outside, now.outside);
    }
  }
  return changes;
}

function masqueradesBetween(
  before: ReadonlyMap<string, Offers>,
  after: ReadonlyMap<string, Offers>,
): readonly MasqueradeChange[] {
  return Array.from(before).flatMap(([key, { frontend, portKey, masquerade }]) => {
    const now = after.get(key)?.masquerade ?? masquerade;
    return now === masquerade ? [] : { frontend, portKey, before: masquerade, after: now };
  });
}
