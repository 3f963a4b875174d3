// SPDX-License-Identifier: Apache-2.0
/** The resources that the fixture serves, and by which fields each can be selected. */
import type { KubeObject } from "../manifests.js";

/** An object with what the server adds. */
export interface StoredObject extends KubeObject {
  readonly metadata: KubeObject["metadata"] & {
    readonly uid: string;
    readonly resourceVersion: string;
    readonly creationTimestamp: string;
    readonly deletionTimestamp?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly finalizers?: readonly string[];
  };
  readonly [field: string]: unknown;
}

export type ResourceName =
  | "services"
  | "nodes"
  | "endpointslices"
  | "servicecidrs"
  | "events"
  | "events.events.k8s.io";

export interface Resource {
  readonly name: ResourceName;
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Has a status of its own, which writes of the object itself do not change. */
  readonly status: boolean;
  /** Selectable fields beside metadata.name and metadata.namespace. */
  readonly fields: Readonly<Record<string, (object: StoredObject) => string>>;
}

function at(object: StoredObject, ...path: readonly string[]): string {
  let value: unknown = object;
  for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
  return value === undefined || value === null ? "" : String(value);
}

const EVENT_FIELDS = (about: string): Resource["fields"] => ({
  reason: (event) => at(event, "reason"),
  type: (event) => at(event, "type"),
  [`${about}.kind`]: (event) => at(event, about, "kind"),
  [`${about}.name`]: (event) => at(event, about, "name"),
  [`${about}.namespace`]: (event) => at(event, about, "namespace"),
  [`${about}.uid`]: (event) => at(event, about, "uid"),
});

const row = (
  name: ResourceName,
  kind: string,
  apiVersion: string,
  more: Partial<Pick<Resource, "namespaced" | "status" | "fields">> = {},
): Resource => {
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  const plural = name.split(".")[0] as string;
  const basics = { name, group: group as string, version: version as string, plural, kind };
  return { ...basics, namespaced: true, status: false, fields: {}, ...more };
};

export const RESOURCES: readonly Resource[] = [
  row("services", "Service", "v1", {
    status: true,
    fields: {
      "spec.clusterIP": (service) => at(service, "spec", "clusterIP"),
      "spec.type": (service) => at(service, "spec", "type"),
    },
  }),
  row("nodes", "Node", "v1", {
    namespaced: false,
    status: true,
    fields: { "spec.unschedulable": (node) => at(node, "spec", "unschedulable") || "false" },
  }),
  row("events", "Event", "v1", { fields: EVENT_FIELDS("involvedObject") }),
  row("events.events.k8s.io", "Event", "events.k8s.io/v1", { fields: EVENT_FIELDS("regarding") }),
  row("endpointslices", "EndpointSlice", "discovery.k8s.io/v1"),
  row("servicecidrs", "ServiceCIDR", "networking.k8s.io/v1", { namespaced: false, status: true }),
];

export const apiVersionOf = ({ group, version }: Resource): string =>
  group === "" ? version : `${group}/${version}`;

/** The resource that an object belongs to. @throws when none is served */
export function resourceOf(object: { readonly apiVersion: string; readonly kind: string }): Resource {
  const found = RESOURCES.find(
    (resource) => resource.kind === object.kind && apiVersionOf(resource) === object.apiVersion,
  );
  if (found === undefined) throw new Error(`the fixture serves no ${object.kind} of ${object.apiVersion}`);
  return found;
}

/** Names of all fields by which a resource can be selected. */
export function selectableFields(resource: Resource): string[] {
  return [
    "metadata.name",
    ...(resource.namespaced ? ["metadata.namespace"] : []),
    ...Object.keys(resource.fields),
  ];
}

/** The value that field selectors compare. */
export function fieldOf(resource: Resource, object: StoredObject, field: string): string {
  if (field === "metadata.name") return object.metadata.name;
  if (field === "metadata.namespace") return object.metadata.namespace ?? "";
  return resource.fields[field]?.(object) ?? "";
}
