// SPDX-License-Identifier: Apache-2.0
/** From raw objects of the API to values of the model: the same projections as for manifests, and nothing kept beside. */
import { isDeepStrictEqual } from "node:util";
import type { EndpointSlice, NodeInfo, Origin, Problem, Service } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import type { SourceObject } from "../objects.js";
import { projectObject } from "../project/object.js";
import type { RawObject } from "./raw.js";
import type { Codec, Projection } from "./store.js";

/** Where every object of this source was read. */
export const API_ORIGIN: Origin = Object.freeze({ file: "api", line: null });

/** 11.5: when the change that led to the slice happened. */
const TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time";
/** 10.4: a node that will be taken away. */
const TO_BE_DELETED_TAINT = "ToBeDeletedByClusterAutoscaler";

export interface NodeValue {
  readonly info: NodeInfo;
  /** 10.4: no deletionTimestamp, and no taint that says that it will go. */
  readonly eligible: boolean;
}

const NO_LABELS: Readonly<Record<string, string>> = Object.freeze({});

interface Read<O> {
  readonly object: O | null;
  readonly problems: readonly Problem[];
}

function read<K extends SourceObject["kind"]>(
  raw: RawObject,
  kind: K,
): Read<Extract<SourceObject, { kind: K }>> {
  const { object, problems } = projectObject(raw.value, API_ORIGIN);
  return { object: object?.kind === kind ? (object as Extract<SourceObject, { kind: K }>) : null, problems };
}

/** Labels and selector are of no use to a proxy, and most of an object's memory. */
export const serviceCodec: Codec<Service> = {
  keepsLast: false,
  same: isDeepStrictEqual,
  project(raw) {
    const { object, problems } = read(raw, "Service");
    const value =
      object === null ? null : Object.freeze({ ...object.service, labels: NO_LABELS, selector: null });
    return { value, problems, triggeredAt: 0 };
  },
};

/** A few thousand names of nodes and zones, and of ports, that stand in a hundred thousand endpoints. */
export class Names {
  readonly #names = new Map<string, string>();

  of(name: string): string {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    // Names come and go with nodes; what is forgotten is only held twice for a while.
    if (this.#names.size >= 1 << 15) this.#names.clear();
    this.#names.set(name, name);
    return name;
  }
}

/** Texts that repeat are kept once. */
export function sliceCodec(names: Names): Codec<EndpointSlice> {
  return {
    keepsLast: false,
    same: isDeepStrictEqual,
    project(raw): Projection<EndpointSlice> {
      internTexts(raw, names);
      const { object, problems } = read(raw, "EndpointSlice");
      return { value: object?.slice ?? null, problems, triggeredAt: object === null ? 0 : triggerTime(raw) };
    },
  };
}

/** Before it is projected: the raw object is ours alone, and a copy of each endpoint later would cost twice the garbage. */
function internTexts({ value }: RawObject, names: Names): void {
  const endpoints: unknown = value.endpoints;
  for (const endpoint of Array.isArray(endpoints) ? (endpoints as (RawEndpoint | null)[]) : []) {
    if (typeof endpoint?.nodeName === "string") endpoint.nodeName = names.of(endpoint.nodeName);
    for (const hints of [endpoint?.hints?.forZones, endpoint?.hints?.forNodes]) {
      for (const hint of Array.isArray(hints) ? (hints as ({ name?: unknown } | null)[]) : []) {
        if (typeof hint?.name === "string") hint.name = names.of(hint.name);
      }
    }
  }
}

/** As far as it is looked at here; whether it is so, the projection finds out. */
interface RawEndpoint {
  nodeName?: unknown;
  hints?: { forZones?: unknown; forNodes?: unknown } | null;
}

/** Milliseconds since 1970; 0 when there is none, or none that can be read. */
function triggerTime(raw: RawObject): number {
  const metadata = raw.value.metadata as { annotations?: Record<string, unknown> | null };
  const text = metadata.annotations?.[TRIGGER_ANNOTATION];
  const time = typeof text === "string" ? Date.parse(text) : Number.NaN;
  return Number.isNaN(time) ? 0 : time;
}

export const nodeCodec: Codec<NodeValue> = {
  // 1.16: a Node of which no address can be read any more is ignored.
  keepsLast: true,
  same: isDeepStrictEqual,
  project(raw) {
    const { object, problems } = read(raw, "Node");
    const value = object === null ? null : Object.freeze({ info: object.node, eligible: isEligible(raw) });
    return { value, problems, triggeredAt: 0 };
  },
};

function isEligible(raw: RawObject): boolean {
  const { metadata, spec } = raw.value as {
    metadata: { deletionTimestamp?: unknown };
    spec?: { taints?: unknown } | null;
  };
  if (typeof metadata.deletionTimestamp === "string") return false;
  const taints: readonly unknown[] = Array.isArray(spec?.taints) ? spec.taints : [];
  return !taints.some((taint) => (taint as { key?: unknown } | null)?.key === TO_BE_DELETED_TAINT);
}

export const serviceCidrCodec: Codec<readonly Cidr[]> = {
  keepsLast: false,
  same: (a, b) => a.length === b.length && a.every(({ text }, i) => text === b[i]?.text),
  project(raw) {
    const { object, problems } = read(raw, "ServiceCIDR");
    return { value: object?.cidrs ?? null, problems, triggeredAt: 0 };
  },
};
