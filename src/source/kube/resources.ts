// SPDX-License-Identifier: Apache-2.0
/** What is watched, and with which selectors (1.1, 1.3, 1.5, 1.6): one description for lists and watches, so that they agree. */
export type ResourceName = "services" | "endpointslices" | "nodes" | "servicecidrs";

export interface ResourceSpec {
  readonly name: ResourceName;
  readonly kind: string;
  readonly apiVersion: string;
  readonly path: string;
  readonly namespaced: boolean;
  /** "" for none. */
  readonly labelSelector: string;
  readonly fieldSelector: string;
  /** False: what the field selector leaves out does no harm either, where a server is too old for it. */
  readonly fieldsMatter: boolean;
  /** Without it the source works too: a server that does not serve it (404), or does not allow it (403), is no obstacle. */
  readonly optional: boolean;
}

export const RESOURCE_NAMES: readonly ResourceName[] = [
  "services",
  "endpointslices",
  "nodes",
  "servicecidrs",
];

/** The four resources of a node agent. Never Pods, Endpoints, or other Nodes (1.7). */
export function resourceSpecs(nodeName: string): Readonly<Record<ResourceName, ResourceSpec>> {
  return Object.freeze({
    services: {
      name: "services",
      kind: "Service",
      apiVersion: "v1",
      path: "/api/v1/services",
      namespaced: true,
      labelSelector: "!service.kubernetes.io/service-proxy-name",
      fieldSelector: "spec.clusterIP!=None",
      fieldsMatter: false,
      optional: false,
    },
    endpointslices: {
      name: "endpointslices",
      kind: "EndpointSlice",
      apiVersion: "discovery.k8s.io/v1",
      path: "/apis/discovery.k8s.io/v1/endpointslices",
      namespaced: true,
      labelSelector: "!service.kubernetes.io/headless",
      fieldSelector: "",
      fieldsMatter: true,
      optional: false,
    },
    nodes: {
      name: "nodes",
      kind: "Node",
      apiVersion: "v1",
      path: "/api/v1/nodes",
      namespaced: false,
      labelSelector: "",
      fieldSelector: `metadata.name=${nodeName}`,
      fieldsMatter: true,
      optional: false,
    },
    servicecidrs: {
      name: "servicecidrs",
      kind: "ServiceCIDR",
      apiVersion: "networking.k8s.io/v1",
      path: "/apis/networking.k8s.io/v1/servicecidrs",
      namespaced: false,
      labelSelector: "",
      fieldSelector: "",
      fieldsMatter: true,
      optional: true,
    },
  });
}

/** Both selectors, as every request for the resource has them. */
export function selectorQuery(spec: ResourceSpec): Record<string, string> {
  return {
    ...(spec.labelSelector === "" ? {} : { labelSelector: spec.labelSelector }),
    ...(spec.fieldSelector === "" ? {} : { fieldSelector: spec.fieldSelector }),
  };
}
