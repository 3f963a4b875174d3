// SPDX-License-Identifier: Apache-2.0
/**
 * What Kubernetes says, in our words: the dozen fields that a Service dataplane reads. Every source (YAML files, the API
 * server) projects its objects to these at once; nothing above knows Kubernetes' own types. All values are frozen.
 */
import type { Cidr } from "../net/cidr.js";
import type { Family, IpAddress, Protocol } from "../net/ip.js";

/** Where an object was read, for messages: a file and document, or "api". */
export interface Origin {
  readonly file: string;
  /** 1-based line of the object's first key, when known. */
  readonly line: number | null;
}

export interface ServicePortSpec {
  /** "" for an unnamed port (2.7). */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** 0: none (2.15). */
  readonly nodePort: number;
}

export type ServiceType = "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName";

export interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  /** RFC 3339; "" when absent. Decides conflicts: the oldest Service wins (2.22). */
  readonly creationTimestamp: string;
  readonly type: ServiceType;
  /** One per family at most; none for headless and ExternalName (2.1, 2.2). */
  readonly clusterIPs: readonly IpAddress[];
  /** null: no selector; endpoints are made by hand. */
  readonly selector: Readonly<Record<string, string>> | null;
  readonly ports: readonly ServicePortSpec[];
  readonly sessionAffinitySeconds: number; // 0: None
  readonly externalTrafficPolicyLocal: boolean;
  readonly internalTrafficPolicyLocal: boolean;
  readonly externalIPs: readonly IpAddress[];
  /** status.loadBalancer.ingress entries that count: an ip, and ipMode VIP or absent (2.10). */
  readonly loadBalancerIPs: readonly IpAddress[];
  readonly loadBalancerSourceRanges: readonly string[];
  readonly healthCheckNodePort: number;
  readonly origin: Origin;
}

export interface SlicePort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface Endpoint {
  readonly address: IpAddress;
  readonly nodeName: string | null;
  readonly ready: boolean; // 3.1: absent counts as true
  readonly serving: boolean; // 3.1: absent counts as true
  readonly terminating: boolean; // 3.1: absent counts as false
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
}

/** An EndpointSlice, or what a v1 Endpoints object or a selector over Pods gives in the same form. */
export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** kubernetes.io/service-name (1.13). */
  readonly serviceName: string;
  readonly family: 4 | 6;
  readonly ports: readonly SlicePort[];
  readonly endpoints: readonly Endpoint[];
  readonly origin: Origin;
}

export interface NodeInfo {
  readonly name: string;
  /** topology.kubernetes.io/zone, "" when absent (1.17). */
  readonly zone: string;
  /** InternalIPs in order, then ExternalIPs; the first of a family is its primary address (13.1). */
  readonly addresses: readonly IpAddress[];
  /** spec.podCIDRs: what detectLocalMode NodeCIDR takes for local (8.3). */
  readonly podCIDRs: readonly Cidr[];
}

/** The part of kube-proxy's configuration that a compile depends on. Fixed for the life of an agent. */
export interface ProxyConfig {
  /** 8.2, 8.8: every flow to a ClusterIP is masqueraded. */
  readonly masqueradeAll: boolean;
  /** Families in which a local detector is configured (8.2, 8.3, 8.6). */
  readonly localDetector: Readonly<Record<Family, boolean>>;
  /**
   * On which local addresses NodePorts are served (6.1 to 6.4): "primary" is the Node's first address of each family; of
   * ranges, a family without any is served on every address (6.2). No ranges: on every address.
   */
  readonly nodePortAddresses: "primary" | readonly Cidr[];
  /** spec.externalIPs is served (2.23). */
  readonly externalIPs: boolean;
}

/** A transport address that a process of this node uses: no frontend may capture it. */
export interface ReservedAddress {
  /** null: every local address. */
  readonly address: IpAddress | null;
  readonly port: number;
  readonly protocol: Protocol;
  /** For the message: "the API server", "a listening socket". */
  readonly use: string;
  /**
   * Not even a NodePort may capture it: this node's way to the API server. Absent, a NodePort may: it goes before a socket
   * that listens on its number, as with kube-proxy (6.10).
   */
  readonly refusesNodePorts?: boolean;
}

/** What a compile must know of the host that it is for, beside the Node object. */
export interface HostFacts {
  /** Every address of this host's interfaces, loopback and link-local ones left out. */
  readonly localAddresses: readonly IpAddress[];
  readonly reserved: readonly ReservedAddress[];
}

/** Everything a compile needs, and nothing else. */
export interface Snapshot {
  /** Keyed by "namespace/name". */
  readonly services: ReadonlyMap<string, Service>;
  /** Slices by the "namespace/name" of their Service. An unchanged list keeps its identity between snapshots. */
  readonly slices: ReadonlyMap<string, readonly EndpointSlice[]>;
  readonly node: NodeInfo;
  /** The union of all ServiceCIDR objects' spec.cidrs, and of the agent's --service-cidr (1.6, 6.13). */
  readonly serviceCIDRs: readonly Cidr[];
}

/** Something in the input that was left out or decided, with the object's name in the text. */
export interface Problem {
  readonly severity: "error" | "warning";
  /** file, API object … */
  readonly origin: Origin | null;
  /** "Service default/redis", "" when no object can be named. */
  readonly object: string;
  /** Path of the field, e.g. "spec.ports[0].port"; "" when it is the object itself. */
  readonly field: string;
  readonly message: string;
}
