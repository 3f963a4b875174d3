// SPDX-License-Identifier: Apache-2.0
/** discovery.k8s.io/v1 EndpointSlice. */
import type { Endpoint, Origin, SlicePort } from "../../model/types.js";
import type { Family, IpAddress } from "../../net/ip.js";
import { parseIp, specialUse } from "../../net/ip.js";
import { PROTOCOLS } from "../../net/port.js";
import { frozenList } from "../../util/frozen-list.js";
import { SharedLists } from "../../util/shared-lists.js";
import type { Field } from "../fields.js";
import { describe, isDnsLabel, isDnsSubdomain } from "../fields.js";
import type { SliceObject } from "../objects.js";
import type { Metadata } from "./metadata.js";

/** 1.13. */
export const SERVICE_NAME_LABEL = "kubernetes.io/service-name";

/** Null when the slice is left out: `ignore` is told why. */
export function projectSlice(
  root: Field,
  metadata: Metadata,
  origin: Origin,
  ignore: (reason: string) => void,
): SliceObject | null {
  const addressType = root.get("addressType");
  if (!addressType.present) addressType.error("is missing");
  const type = addressType.oneOf(["IPv4", "IPv6", "FQDN"], "FQDN");
  if (type === "FQDN") {
    ignore("its addressType is FQDN (1.14)");
    return null;
  }
  const family = type === "IPv4" ? 4 : 6;
  const serviceName = metadata.labels[SERVICE_NAME_LABEL] ?? "";
  const ports = readSlicePorts(root.get("ports"));
  const endpoints = readEndpoints(root.get("endpoints"), family);
  if (serviceName === "") {
    root
      .get("metadata")
      .get("labels")
      .get(SERVICE_NAME_LABEL)
      .warn("is missing, so no Service uses this slice");
    ignore(`it has no label ${SERVICE_NAME_LABEL} (1.13)`);
    return null;
  }
  const { namespace, name } = metadata;
  return {
    kind: "EndpointSlice",
    namespace,
    name,
    origin,
    slice: Object.freeze({
      namespace,
      name,
      serviceName,
      family,
      ports,
      endpoints: frozenList(endpoints),
      origin,
    }),
  };
}

/** 2.7. A port without a number is left out; one without a name is called "", as the API server would have it. */
export function readSlicePorts(field: Field): readonly SlicePort[] {
  const ports: SlicePort[] = [];
  const seen = new Set<string>();
  for (const item of field.items()) {
    if (!item.requiredObject()) continue;
    const nameField = item.get("name");
    const name = nameField.string();
    if (name !== "" && !isDnsLabel(name)) nameField.error(`${describe(name)} is no valid port name`);
    if (seen.has(name)) nameField.error(`repeats the name ${describe(name)}`);
    seen.add(name);
    const port = item.get("port").integer(0, 65535, 0);
    const protocol = item.get("protocol").oneOf(PROTOCOLS, "TCP");
    if (port !== 0) ports.push(Object.freeze({ name, protocol, port }));
  }
  return PORTS.of(ports);
}

/** Nearly all are plain, and read at once; whatever is not is read field by field, so that it is said what is wrong with it. */
function readEndpoints(field: Field, family: Family): readonly Endpoint[] {
  const { value } = field;
  const plain = Array.isArray(value) ? plainEndpoints(value as readonly unknown[], family) : null;
  return plain ?? field.items().flatMap((item) => readEndpoint(item, family) ?? []);
}

/** Null: one of them is not plain. */
function plainEndpoints(values: readonly unknown[], family: Family): readonly Endpoint[] | null {
  const endpoints: Endpoint[] = [];
  for (const value of values) {
    const endpoint = plainEndpoint(value as RawEndpoint | null, family);
    if (endpoint === null) return null;
    endpoints.push(endpoint);
  }
  return endpoints;
}

/** As far as it is looked at here; whether it is so, is what is looked at. */
interface RawEndpoint {
  readonly addresses?: unknown;
  readonly conditions?: unknown;
  readonly nodeName?: unknown;
  readonly hints?: unknown;
}

/** An endpoint with nothing to say about it, by the rules of readEndpoint(); null: readEndpoint() is to look at it. */
function plainEndpoint(value: RawEndpoint | null, family: Family): Endpoint | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const { addresses, nodeName = null, hints = null } = value;
  const conditions = (value.conditions ?? NO_CONDITIONS) as typeof NO_CONDITIONS;
  if (hints !== null || !Array.isArray(addresses) || addresses.length !== 1) return null;
  if (typeof conditions !== "object" || Array.isArray(conditions)) return null;
  if (nodeName !== null && (typeof nodeName !== "string" || !knownNodeName(nodeName))) return null;
  const { ready = true, serving = true, terminating = false } = conditions;
  if (typeof ready !== "boolean" || typeof serving !== "boolean" || typeof terminating !== "boolean")
    return null;
  const text: unknown = addresses[0];
  const address = typeof text === "string" ? parseIp(text) : null;
  if (address === null || address.family !== family || specialUse(address) !== null) return null;
  const { zoneHints, nodeHints } = NO_HINTS_AT_ALL;
  return Object.freeze({ address, nodeName, ready, serving, terminating, zoneHints, nodeHints });
}

const NO_CONDITIONS: {
  readonly ready?: unknown;
  readonly serving?: unknown;
  readonly terminating?: unknown;
} = Object.freeze({});

/** Names that were found to be node names: each stands in hundreds of endpoints. */
const NODE_NAMES = new Set<string>();
const MOST_NODE_NAMES = 1 << 15;

function knownNodeName(name: string): boolean {
  if (NODE_NAMES.has(name)) return true;
  if (name === "" || !isDnsSubdomain(name)) return false;
  if (NODE_NAMES.size >= MOST_NODE_NAMES) NODE_NAMES.clear();
  NODE_NAMES.add(name);
  return true;
}

/** 2.8: the first address counts; without one the endpoint is left out. 3.1: conditions and their defaults. */
function readEndpoint(item: Field, family: Family): Endpoint | null {
  if (!item.requiredObject()) return null;
  const addresses = item.get("addresses");
  if (!addresses.present) addresses.warn("is missing, so this endpoint is left out");
  const read = addresses.items().map((field) => readEndpointAddress(field, family));
  const conditions = item.get("conditions");
  conditions.object();
  const nodeName = readNodeName(item.get("nodeName"));
  const ready = conditions.booleanAt("ready", true);
  const serving = conditions.booleanAt("serving", true);
  const terminating = conditions.booleanAt("terminating", false);
  const { zoneHints, nodeHints } = item.has("hints") ? readAllHints(item.get("hints")) : NO_HINTS_AT_ALL;
  const address = read[0] ?? null;
  if (address === null) return null;
  // Written out: there are a hundred thousand of them, and an object that another is spread into is larger.
  return Object.freeze({ address, nodeName, ready, serving, terminating, zoneHints, nodeHints });
}

/** What the API server refuses for an endpoint is refused here too; `family` null: any. */
export function readEndpointAddress(field: Field, family: Family | null): IpAddress | null {
  const address = field.address();
  if (address === null) {
    if (field.string() === "" && !field.present) field.error("must be an IP address, not nothing");
    else if (field.value === "") field.error('must be an IP address, not ""');
    return null;
  }
  if (family !== null && address.family !== family) {
    field.error(`${address.text} is IPv${address.family}, but the slice's addressType is IPv${family}`);
  }
  const special = specialUse(address);
  if (special !== null) field.error(`${address.text} is a ${special} address and cannot be an endpoint`);
  return address;
}

/** Null when absent or "" (3.3: then never local). */
export function readNodeName(field: Field): string | null {
  const name = field.string();
  if (name === "") return null;
  if (!isDnsSubdomain(name)) field.error(`${describe(name)} is no valid node name`);
  return name;
}

const NO_HINTS: readonly string[] = Object.freeze([]);

const HINTS = new SharedLists<string>((name) => name);
const PORTS = new SharedLists<SlicePort>(({ name, protocol, port }) => `${name}/${protocol}/${port}`);

const NO_HINTS_AT_ALL: Pick<Endpoint, "zoneHints" | "nodeHints"> = {
  zoneHints: NO_HINTS,
  nodeHints: NO_HINTS,
};

function readAllHints(hints: Field): Pick<Endpoint, "zoneHints" | "nodeHints"> {
  hints.object();
  return { zoneHints: readHints(hints.get("forZones")), nodeHints: readHints(hints.get("forNodes")) };
}

/** 3.5. */
function readHints(field: Field): readonly string[] {
  if (!field.present) return NO_HINTS;
  const names = field.items().flatMap((item) => {
    if (!item.requiredObject()) return [];
    const name = item.get("name");
    if (!name.present) name.error("is missing");
    return name.string();
  });
  return names.length === 0 ? NO_HINTS : HINTS.of(names);
}
