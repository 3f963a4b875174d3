// SPDX-License-Identifier: Apache-2.0
/** Writes that come over HTTP: create, update, patch, delete, with what a real server refuses. */
import { isDeepStrictEqual } from "node:util";
import type { KubeObject } from "../manifests.js";
import { apiVersionOf, type Resource } from "./resources.js";
import { ApiError, badRequest } from "./status.js";
import type { Store, Stored } from "./store.js";

type Json = Record<string, unknown>;

/** What a write is about. */
export interface Target {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

/** @throws ApiError 400, 409, 415, 422 */
export function createFrom(store: Store, target: Target, body: string): Stored {
  const object = named(checked(target, parse(body)));
  if (target.resource.name === "services") delete object.status;
  if (target.resource.name === "events.events.k8s.io") validateEvent(object);
  return store.create(target.resource, object as unknown as KubeObject);
}

/** @throws ApiError 400, 404, 409, 422 */
export function updateFrom(store: Store, target: Target, body: string): Stored {
  return replace(store, target, checked(target, parse(body)));
}

/** @throws ApiError 400, 404, 409, 415, 422 */
export function patchFrom(store: Store, target: Target, body: string, contentType: string): Stored {
  const current = existing(store, target);
  const patch = parse(body);
  const copy = JSON.parse(current.text) as Json;
  switch (contentType) {
    case "application/merge-patch+json":
      return replace(store, target, merge(copy, patch as Json));
    case "application/strategic-merge-patch+json":
      refuseLists(patch, "");
      return replace(store, target, merge(copy, patch as Json));
    case "application/json-patch+json":
      return replace(store, target, jsonPatch(copy, patch as unknown as readonly JsonPatchStep[]));
    default:
      throw new ApiError(
        415,
        "UnsupportedMediaType",
        `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json; got ${contentType}`,
      );
  }
}

export function deleteFrom(store: Store, target: Target, body: string): Stored {
  const { preconditions } = (body === "" ? {} : parse(body)) as { preconditions?: { uid?: string } };
  return store.delete(target.resource, keyIn(target), preconditions?.uid);
}

function keyIn({ namespace, name }: Target): string {
  return namespace === undefined ? (name ?? "") : `${namespace}/${name}`;
}

function existing(store: Store, target: Target): Stored {
  const found = store.get(target.resource, keyIn(target));
  if (found === undefined)
    throw new ApiError(404, "NotFound", `${target.resource.plural} "${target.name}" not found`);
  return found;
}

function replace(store: Store, target: Target, given: Json): Stored {
  const before = JSON.parse(existing(store, target).text) as Json;
  if (target.resource.name === "events.events.k8s.io") validateEventUpdate(before, given);
  let object = given;
  if (target.subresource === "status")
    object = { ...before, metadata: { ...(given.metadata as Json) }, status: given.status };
  else if (target.resource.status) object = { ...given, status: before.status };
  if (object.status === undefined) delete object.status;
  return store.update(target.resource, object as unknown as KubeObject);
}

function parse(body: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    throw badRequest(`the object provided is unrecognized: ${(error as Error).message}`);
  }
  if (typeof value !== "object" || value === null) throw badRequest("the object provided is unrecognized");
  return value as Json;
}

function checked({ resource, namespace, name }: Target, object: Json): Json {
  const apiVersion = apiVersionOf(resource);
  if (object.kind !== undefined && object.kind !== resource.kind)
    throw badRequest(
      `${object.kind} in version "${object.apiVersion}" cannot be handled as a ${resource.kind}`,
    );
  if (object.apiVersion !== undefined && object.apiVersion !== apiVersion)
    throw badRequest(
      `the API version in the data (${object.apiVersion}) does not match the expected API version (${apiVersion})`,
    );
  const metadata = { ...(object.metadata as Json | undefined) };
  metadata.namespace ??= namespace;
  if (metadata.namespace !== namespace)
    throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
  if (metadata.namespace === undefined) delete metadata.namespace;
  if (name !== undefined && metadata.name !== name)
    throw badRequest(
      `the name of the object (${metadata.name}) does not match the name on the URL (${name})`,
    );
  return { ...object, kind: resource.kind, apiVersion, metadata };
}

function named(object: Json): Json {
  const metadata = object.metadata as Json;
  if (!metadata.name && metadata.generateName)
    metadata.name = `${metadata.generateName}${Math.random().toString(36).slice(2, 7)}`;
  if (!metadata.name)
    throw invalid(object, "metadata.name: Required value: name or generateName is required");
  return object;
}

function invalid(object: Json, why: string): ApiError {
  const name = (object.metadata as Json | undefined)?.name ?? "";
  return new ApiError(422, "Invalid", `${object.kind} "${name}" is invalid: ${why}`);
}

/** RFC 3339 with six digits, no more and no fewer: what a MicroTime is parsed with. */
const MICRO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(?:Z|[+-]\d\d:\d\d)$/;
const DEPRECATED = [
  "deprecatedSource",
  "deprecatedFirstTimestamp",
  "deprecatedLastTimestamp",
  "deprecatedCount",
];

function microTime(field: string, value: unknown): void {
  if (value !== undefined && value !== null && !MICRO_TIME.test(String(value)))
    throw badRequest(
      `Event in version "v1" cannot be handled as a Event: ${field}: parsing time ${JSON.stringify(value)} as "2006-01-02T15:04:05.000000Z07:00"`,
    );
}

/** What events.k8s.io/v1 requires of a new Event. */
function validateEvent(event: Json): void {
  const series = event.series as Json | undefined;
  microTime("eventTime", event.eventTime);
  microTime("series.lastObservedTime", series?.lastObservedTime);
  if (!event.eventTime) throw invalid(event, "eventTime: Required value");
  for (const [field, longest] of [
    ["reportingController", 253],
    ["reportingInstance", 128],
    ["action", 128],
    ["reason", 128],
  ] as const) {
    const value = event[field];
    if (typeof value !== "string" || value === "") throw invalid(event, `${field}: Required value`);
    if (value.length > longest)
      throw invalid(event, `${field}: Invalid value: can have at most ${longest} characters`);
  }
  if (!/^([a-z0-9.-]+\/)?[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?$/.test(String(event.reportingController)))
    throw invalid(event, "reportingController: Invalid value: must be a qualified name");
  if (Buffer.byteLength(String(event.note ?? "")) > 1024)
    throw invalid(event, "message: Invalid value: can have at most 1024 characters");
  if (event.type !== "Normal" && event.type !== "Warning")
    throw invalid(event, `type: Invalid value: ${JSON.stringify(event.type ?? "")}`);
  for (const field of DEPRECATED)
    if (event[field]) throw invalid(event, `${field}: Invalid value: needs to be unset`);
  const { namespace } = event.metadata as { namespace: string };
  const about = (event.regarding as Json | undefined)?.namespace;
  // An object without a namespace (a Node) is reported in "default" or "kube-system".
  const allowed = about ? namespace === about : namespace === "default" || namespace === "kube-system";
  if (!allowed)
    throw invalid(event, "involvedObject.namespace: Invalid value: does not match event.namespace");
}

/** An Event that is there may be counted on (series), nothing else. */
function validateEventUpdate(before: Json, now: Json): void {
  microTime("series.lastObservedTime", (now.series as Json | undefined)?.lastObservedTime);
  for (const field of new Set([...Object.keys(before), ...Object.keys(now)])) {
    if (["metadata", "series", "kind", "apiVersion"].includes(field)) continue;
    if (!isDeepStrictEqual(before[field], now[field]))
      throw invalid(now, `${field}: Invalid value: field is immutable`);
  }
}

/** RFC 7386. */
function merge(base: Json, patch: Json): Json {
  const result: Json = { ...base };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else if (typeof value === "object" && !Array.isArray(value)) {
      const below = result[key];
      const plain = typeof below === "object" && below !== null && !Array.isArray(below);
      result[key] = merge(plain ? (below as Json) : {}, value as Json);
    } else result[key] = value;
  }
  return result;
}

/** Lists merge by keys in a strategic patch, which is not made here; replacing them would be a lie. */
function refuseLists(value: unknown, path: string): void {
  if (Array.isArray(value))
    throw new ApiError(415, "UnsupportedMediaType", `the fixture merges no lists (${path})`);
  if (typeof value !== "object" || value === null) return;
  for (const [key, below] of Object.entries(value)) refuseLists(below, `${path}.${key}`);
}

interface JsonPatchStep {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

/** RFC 6902: add, replace, remove, test. */
function jsonPatch(object: Json, steps: readonly JsonPatchStep[]): Json {
  for (const { op, path, value } of steps) {
    const keys = path
      .split("/")
      .slice(1)
      .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
    const last = keys.pop() ?? "";
    let parent: unknown = object;
    for (const key of keys) parent = (parent as Json | undefined)?.[key];
    if (typeof parent !== "object" || parent === null) throw unprocessable(`${op} ${path}: no such path`);
    const holder = parent as Json;
    if (op !== "add" && !(last in holder)) throw unprocessable(`${op} ${path}: no such path`);
    if (op === "test") {
      if (!isDeepStrictEqual(holder[last], value)) throw unprocessable(`testing ${path} failed`);
    } else if (Array.isArray(parent)) {
      const index = last === "-" ? parent.length : Number(last);
      parent.splice(index, op === "add" ? 0 : 1, ...(op === "remove" ? [] : [value]));
    } else if (op === "remove") delete holder[last];
    else if (op === "add" || op === "replace") holder[last] = value;
    else throw unprocessable(`the fixture knows no ${op}`);
  }
  return object;
}

const unprocessable = (message: string): ApiError =>
  new ApiError(422, "Invalid", `the server rejected our request due to an error in our request: ${message}`);
