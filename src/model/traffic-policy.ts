// SPDX-License-Identifier: Apache-2.0
/** Which sets of endpoints a service port needs (4.1, 4.2). */
import type { Family } from "../net/ip.js";
import type { Service, ServicePortSpec } from "./types.js";

export interface TrafficPolicy {
  /** ClusterIP traffic goes to local endpoints only (2.17, 4.10). */
  readonly internalLocal: boolean;
  /** Traffic from outside goes to local endpoints only (2.16, 4.12). */
  readonly externalLocal: boolean;
  readonly usesCluster: boolean;
  readonly usesLocal: boolean;
}

/** Any NodePort, externalIP or load-balancer VIP of the port in this family: what can be reached from outside. */
export function hasExternalFrontend(service: Service, port: ServicePortSpec, family: Family): boolean {
  return (
    port.nodePort !== 0 ||
    service.externalIPs.some((address) => address.family === family) ||
    service.loadBalancerIPs.some((address) => address.family === family)
  );
}

/** 4.1: with an external frontend the cluster set is needed too, for senders that are short-circuited (4.12). 4.2. */
export function trafficPolicy(service: Service, port: ServicePortSpec, family: Family): TrafficPolicy {
  const internalLocal = service.internalTrafficPolicyLocal;
  const externalLocal = service.externalTrafficPolicyLocal;
  const external = hasExternalFrontend(service, port, family);
  return {
    internalLocal,
    externalLocal,
    usesCluster: !internalLocal || external,
    usesLocal: internalLocal || (externalLocal && external),
  };
}
