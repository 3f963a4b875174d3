// SPDX-License-Identifier: Apache-2.0
/** The outermost layer of what an API server sends: enough to know what it is about. Never kept. */
import { ApiError } from "./errors.js";
import type { ResourceSpec } from "./resources.js";

/** An object that can be told from others. */
export interface RawObject {
  /** "namespace/name", or the name alone. */
  readonly key: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly value: Readonly<Record<string, unknown>>;
}

export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: Readonly<Record<string, unknown>>;
}

type Bag = Readonly<Record<string, unknown>>;

const EVENT_TYPES: readonly string[] = ["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"];
/** On the bookmark that ends a streaming list. */
const INITIAL_EVENTS_END = "k8s.io/initial-events-end";

const isBag = (value: unknown): value is Bag =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** @throws ApiError "garbage" when the bytes are no JSON. */
export function parseJson(bytes: Buffer, what: string): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new ApiError("garbage", `${what} is no JSON`, { cause, fields: { bytes: bytes.length } });
  }
}

/** @throws ApiError "garbage" when it is no event. */
export function readEvent(value: unknown): WatchEvent {
  const { type, object } = isBag(value) ? value : {};
  if (typeof type !== "string" || !EVENT_TYPES.includes(type) || !isBag(object)) {
    throw new ApiError("garbage", "a line of the watch is no event");
  }
  return { type: type as WatchEvent["type"], object };
}

/** Items of a list do not say what they are; objects of a watch must, and say the right thing. */
function refuseOtherKinds(value: Bag, spec: ResourceSpec, inList: boolean): void {
  const { kind, apiVersion } = value;
  const absent = inList && kind === undefined && apiVersion === undefined;
  if (absent || (kind === spec.kind && apiVersion === spec.apiVersion)) return;
  throw new ApiError("garbage", `${String(apiVersion)} ${String(kind)} among ${spec.name}`);
}

/** @throws ApiError "garbage" when it is none of this resource, or has no name, uid or resource version. */
export function readObject(value: unknown, spec: ResourceSpec, inList: boolean): RawObject {
  if (!isBag(value)) throw new ApiError("garbage", `something that is no object among ${spec.name}`);
  refuseOtherKinds(value, spec, inList);
  const metadata = isBag(value.metadata) ? value.metadata : {};
  const name = text(metadata.name);
  const namespace = text(metadata.namespace);
  const uid = text(metadata.uid);
  const resourceVersion = text(metadata.resourceVersion);
  if (name === "" || uid === "" || resourceVersion === "" || (spec.namespaced && namespace === "")) {
    throw new ApiError("garbage", `${spec.kind} without its metadata`, { fields: { name, namespace } });
  }
  return {
    key: spec.namespaced ? `${namespace}/${name}` : name,
    uid,
    resourceVersion,
    value: value.kind === undefined ? { ...value, kind: spec.kind, apiVersion: spec.apiVersion } : value,
  };
}

/** @throws ApiError "garbage" when there is no resource version. */
export function readBookmark(object: Bag, spec: ResourceSpec): { resourceVersion: string; ends: boolean } {
  refuseOtherKinds(object, spec, false);
  const metadata = isBag(object.metadata) ? object.metadata : {};
  const resourceVersion = text(metadata.resourceVersion);
  if (resourceVersion === "") throw new ApiError("garbage", "a bookmark without a resource version");
  const annotations = isBag(metadata.annotations) ? metadata.annotations : {};
  return { resourceVersion, ends: annotations[INITIAL_EVENTS_END] === "true" };
}

export interface ListHead {
  readonly resourceVersion: string;
  /** "": this was the last page. */
  readonly next: string;
}

/** @throws ApiError "garbage" when it is no list of this resource. */
export function readListHead(value: unknown, spec: ResourceSpec): ListHead {
  const kind = `${spec.kind}List`;
  if (!isBag(value) || value.kind !== kind || value.apiVersion !== spec.apiVersion) {
    throw new ApiError("garbage", `the answer is no ${spec.apiVersion} ${kind}`);
  }
  const { items } = value;
  if (items !== null && items !== undefined && !Array.isArray(items)) {
    throw new ApiError("garbage", `the items of the ${kind} are no list`);
  }
  const metadata = isBag(value.metadata) ? value.metadata : {};
  const resourceVersion = text(metadata.resourceVersion);
  if (resourceVersion === "") throw new ApiError("garbage", `the ${kind} has no resource version`);
  return { resourceVersion, next: text(metadata.continue) };
}
