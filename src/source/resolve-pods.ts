// SPDX-License-Identifier: Apache-2.0
/** A Service's selector over Pods, resolved as the endpointslice controller does it. Pure. */
import type { Endpoint, EndpointSlice, SlicePort } from "../model/types.js";
import type { Family } from "../net/ip.js";
import type { PodObject, ServiceObject } from "./objects.js";

/** Pods by namespace and label, so that a Service looks at few of them. */
export class PodIndex {
  readonly #byLabel = new Map<string, PodObject[]>();
  readonly #namespaces = new Set<string>();

  constructor(pods: Iterable<PodObject>) {
    for (const pod of pods) {
      this.#namespaces.add(pod.namespace);
      for (const [label, value] of Object.entries(pod.labels)) {
        const key = labelKey(pod.namespace, label, value);
        const list = this.#byLabel.get(key);
        if (list === undefined) this.#byLabel.set(key, [pod]);
        else list.push(pod);
      }
    }
  }

  hasNamespace(namespace: string): boolean {
    return this.#namespaces.has(namespace);
  }

  /** In the order given to the constructor. An empty selector selects nothing here (the model calls it null). */
  select(namespace: string, selector: Readonly<Record<string, string>>): readonly PodObject[] {
    const wanted = Object.entries(selector);
    let fewest: readonly PodObject[] | null = null;
    for (const [label, value] of wanted) {
      const list = this.#byLabel.get(labelKey(namespace, label, value)) ?? [];
      if (fewest === null || list.length < fewest.length) fewest = list;
    }
    return (fewest ?? []).filter((pod) => wanted.every(([label, value]) => pod.labels[label] === value));
  }
}

function labelKey(namespace: string, label: string, value: string): string {
  return `${namespace}\n${label}\n${value}`;
}

/**
 * The slices that the controller would make of these Pods (in order by name), one per family of the Service and set of
 * port numbers: a named targetPort may have another number in each Pod. Finished Pods and Pods without an address are left
 * out; terminating ones stay, not ready.
 */
export function slicesOfPods(object: ServiceObject, pods: readonly PodObject[]): readonly EndpointSlice[] {
  const slices: EndpointSlice[] = [];
  const families = object.service.clusterIPs.map((address) => address.family);
  for (const family of families.sort()) {
    const groups = new Map<string, { ports: readonly SlicePort[]; endpoints: Endpoint[] }>();
    for (const pod of pods) {
      const endpoint = endpointOfPod(object, pod, family);
      if (endpoint === null) continue;
      const ports = portsOfPod(object, pod);
      const key = ports.map((port) => `${port.name}:${port.port}/${port.protocol}`).join(",");
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { ports, endpoints: [endpoint] });
      else group.endpoints.push(endpoint);
    }
    const sorted = Array.from(groups).sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [index, [, { ports, endpoints }]] of sorted.entries()) {
      slices.push(podSlice(object, family, index, ports, endpoints));
    }
  }
  return Object.freeze(slices);
}

function podSlice(
  { namespace, name, origin }: ServiceObject,
  family: Family,
  index: number,
  ports: readonly SlicePort[],
  endpoints: readonly Endpoint[],
): EndpointSlice {
  return Object.freeze({
    namespace,
    name: `${name}-pods-ipv${family}-${String(index).padStart(4, "0")}`,
    serviceName: name,
    family,
    ports,
    endpoints: Object.freeze(endpoints),
    origin,
  });
}

/** 2.19: publishNotReadyAddresses makes every endpoint ready; otherwise a terminating Pod is not. */
function endpointOfPod(object: ServiceObject, pod: PodObject, family: Family): Endpoint | null {
  const address = pod.addresses.find((candidate) => candidate.family === family);
  if (address === undefined || pod.finished) return null;
  return Object.freeze({
    address,
    nodeName: pod.nodeName,
    ready: object.publishNotReadyAddresses || (pod.ready && !pod.terminating),
    serving: pod.ready,
    terminating: pod.terminating,
    zoneHints: [],
    nodeHints: [],
  });
}

/** A port that the Pod does not have by that name and protocol is left out for this Pod. */
function portsOfPod(object: ServiceObject, pod: PodObject): readonly SlicePort[] {
  const ports = object.service.ports.flatMap(({ name, protocol, port }, index) => {
    const number = numberOfTarget(object.targetPorts[index] ?? null, port, protocol, pod);
    return number === null ? [] : Object.freeze({ name, protocol, port: number });
  });
  return Object.freeze(ports);
}

function numberOfTarget(
  target: number | string | null,
  own: number,
  protocol: string,
  pod: PodObject,
): number | null {
  if (target === null) return own;
  if (typeof target === "number") return target;
  return pod.ports.find((port) => port.name === target && port.protocol === protocol)?.port ?? null;
}
