// SPDX-License-Identifier: Apache-2.0
/**
 * What the health check ports of this node's Services answer (6.20 to 6.26), out of the same snapshot and by the same rules
 * of selection as the maps. Pure.
 */
import { endpointsOfPort, inSliceOrder, isReady } from "../model/endpoints.js";
import { changedServices } from "../model/snapshot-changes.js";
import type { EndpointSlice, NodeInfo, Problem, Service, Snapshot } from "../model/types.js";
import { FAMILIES, type Family } from "../net/ip.js";

/** The health check port of one Service. */
export interface HealthCheck {
  readonly namespace: string;
  readonly name: string;
  /** spec.healthCheckNodePort: 1 to 65535. */
  readonly port: number;
  /**
   * Per family, how many distinct addresses the Service's Ready endpoints on this node have, over all of its ports (6.23,
   * 6.25). Null: the Service has no ClusterIP in that family, so nothing listens there.
   */
  readonly localEndpoints: Readonly<Record<Family, number | null>>;
}

const NO_SLICES: readonly EndpointSlice[] = [];

/** 2.18: of type LoadBalancer with externalTrafficPolicy Local, and a Service that is served at all (2.1, 2.2). */
function wantsHealthCheck(service: Service): boolean {
  return (
    service.type === "LoadBalancer" && service.externalTrafficPolicyLocal && service.clusterIPs.length > 0
  );
}

/** In the order of the snapshot. Other Services cost one look at their type. */
export function healthChecks(snapshot: Snapshot): readonly HealthCheck[] {
  return Array.from(snapshot.services.keys()).flatMap((key) => healthCheck(snapshot, key) ?? []);
}

/** The same from one snapshot to the next, at the cost of what has changed. The same list as long as it says the same. */
export class HealthCheckList {
  #snapshot: Snapshot | null = null;
  readonly #checks = new Map<string, HealthCheck>();
  #list: readonly HealthCheck[] = Object.freeze([]);

  of(snapshot: Snapshot): readonly HealthCheck[] {
    const before = this.#snapshot;
    const changed = before?.node === snapshot.node ? changedServices(before, snapshot) : null;
    this.#snapshot = snapshot;
    let same = changed !== null;
    if (changed === null) this.#checks.clear();
    for (const key of changed ?? snapshot.services.keys()) {
      const check = healthCheck(snapshot, key);
      if (check !== null) this.#checks.set(key, check);
      else if (!this.#checks.delete(key)) continue;
      same = false;
    }
    if (!same) this.#list = Object.freeze([...this.#checks.values()]);
    return this.#list;
  }
}

/** Null: the Service has no such port, or is not there. */
function healthCheck({ services, slices, node }: Snapshot, key: string): HealthCheck | null {
  const service = services.get(key);
  if (service === undefined || !wantsHealthCheck(service) || service.healthCheckNodePort === 0) return null;
  const ordered = inSliceOrder(slices.get(key) ?? NO_SLICES);
  const count = (family: Family): number | null =>
    service.clusterIPs.some((address) => address.family === family)
      ? localReadyAddresses(service, ordered, family, node)
      : null;
  const { namespace, name, healthCheckNodePort: port } = service;
  return { namespace, name, port, localEndpoints: { 4: count(4), 6: count(6) } };
}

/** 6.23: two ports of one pod count once; who is terminating does not count, though it may still be chosen (4.7). */
function localReadyAddresses(
  service: Service,
  slices: readonly EndpointSlice[],
  family: Family,
  node: NodeInfo,
): number {
  const addresses = new Set<string>();
  for (const { name, protocol } of service.ports) {
    for (const endpoint of endpointsOfPort(slices, family, name, protocol, node.name)) {
      if (endpoint.local && isReady(endpoint)) addresses.add(endpoint.address.text);
    }
  }
  return addresses.size;
}

/** 2.18: a Service that should have a health check port and has none, for the list of problems; else null. */
export function healthCheckProblem(service: Service): Problem | null {
  if (!wantsHealthCheck(service) || service.healthCheckNodePort !== 0) return null;
  return {
    severity: "error",
    origin: service.origin,
    object: `Service ${service.namespace}/${service.name}`,
    field: "spec.healthCheckNodePort",
    message:
      "is missing: a LoadBalancer with externalTrafficPolicy Local needs one, or load balancers cannot tell which nodes have endpoints; nothing listens",
  };
}

/** The families in which anything listens for this Service. */
export function healthCheckFamilies({ localEndpoints }: HealthCheck): readonly Family[] {
  return FAMILIES.filter((family) => localEndpoints[family] !== null);
}
