// SPDX-License-Identifier: Apache-2.0
/** Kubernetes objects as the tests need them, without the fields that nothing reads. */

/** Any object of a manifest. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
  };
}

/** A port of a Service. */
export interface ServicePortSpec {
  readonly name: string;
  readonly port: number;
  readonly protocol?: "TCP" | "UDP";
  readonly targetPort?: number | string;
  readonly nodePort?: number;
}

/** A Service of type ClusterIP, dual-stack when it is given two addresses. */
export function service(
  name: string,
  clusterIPs: readonly string[],
  ports: readonly ServicePortSpec[],
  selector?: Readonly<Record<string, string>>,
): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "default" },
    spec: {
      type: "ClusterIP",
      clusterIP: clusterIPs[0],
      clusterIPs,
      ipFamilies: clusterIPs.map((ip) => (ip.includes(":") ? "IPv6" : "IPv4")),
      ipFamilyPolicy: clusterIPs.length > 1 ? "PreferDualStack" : "SingleStack",
      ports,
      ...(selector === undefined ? {} : { selector }),
    },
  } as KubeObject;
}

/** A port of a Service of any type. */
export interface AnyServicePort extends ServicePortSpec {
  readonly nodePort?: number;
}

/** What a Service may say beside its addresses and ports: the names are those of `spec`. */
export interface ServiceExtras {
  readonly type?: "ClusterIP" | "NodePort" | "LoadBalancer";
  readonly externalTrafficPolicy?: "Cluster" | "Local";
  readonly internalTrafficPolicy?: "Cluster" | "Local";
  readonly externalIPs?: readonly string[];
  readonly loadBalancerSourceRanges?: readonly string[];
  readonly sessionAffinity?: "None" | "ClientIP";
  /** Of a LoadBalancer with the external policy Local (6.20). */
  readonly healthCheckNodePort?: number;
  /** Addresses of `status.loadBalancer.ingress`. */
  readonly ingress?: readonly string[];
}

/** A Service of any type; NodePort when a port has one and no type is told. */
export function anyService(
  name: string,
  clusterIPs: readonly string[],
  ports: readonly AnyServicePort[],
  { ingress, ...extras }: ServiceExtras = {},
): KubeObject {
  const plain = service(name, clusterIPs, ports) as KubeObject & { readonly spec: object };
  const type = ports.some((port) => port.nodePort !== undefined) ? "NodePort" : "ClusterIP";
  return {
    ...plain,
    spec: { ...plain.spec, type, ...extras },
    ...(ingress === undefined
      ? {}
      : { status: { loadBalancer: { ingress: ingress.map((ip) => ({ ip, ipMode: "VIP" })) } } }),
  } as KubeObject;
}

/** One endpoint: a pod's address of each family, its node, and what of its conditions is not the usual. */
export interface EndpointSpec {
  readonly ip4: string;
  readonly ip6: string;
  readonly nodeName?: string;
  /** @default ready and serving, not terminating */
  readonly conditions?: {
    readonly ready?: boolean;
    readonly serving?: boolean;
    readonly terminating?: boolean;
  };
}

/** The two EndpointSlices (one of each family) of a Service whose endpoints say where they are and how they do. */
export function slicesOf(
  serviceName: string,
  endpoints: readonly EndpointSpec[],
  ports: readonly SlicePort[],
): KubeObject[] {
  return ([4, 6] as const).map(
    (family) =>
      ({
        ...endpointSlice(serviceName, [], ports, { family }),
        endpoints: endpoints.map(({ ip4, ip6, nodeName, conditions }) => ({
          addresses: [family === 4 ? ip4 : ip6],
          ...(nodeName === undefined ? {} : { nodeName }),
          conditions: { ready: true, serving: true, terminating: false, ...conditions },
        })),
      }) as KubeObject,
  );
}

/** A Node object: what the agent takes from it are its addresses. */
export function nodeObject(name: string, addresses: readonly string[]): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name },
    status: { addresses: addresses.map((address) => ({ type: "InternalIP", address })) },
  } as KubeObject;
}

/** A port of an EndpointSlice. */
export interface SlicePort {
  readonly name: string;
  readonly port: number;
  readonly protocol?: "TCP" | "UDP";
}

/** A Service with more in its spec (such as its type or its affinity), and the addresses of its load balancer. */
export function withSpec(
  object: KubeObject,
  spec: object,
  loadBalancerIPs: readonly string[] = [],
): KubeObject {
  const { spec: before } = object as KubeObject & { spec: object };
  const status = { loadBalancer: { ingress: loadBalancerIPs.map((ip) => ({ ip })) } };
  return {
    ...object,
    spec: { ...before, ...spec },
    ...(loadBalancerIPs.length > 0 ? { status } : {}),
  } as KubeObject;
}

/** `sessionAffinity: ClientIP` that lasts so many seconds, for {@link withSpec}. */
export function clientIPAffinity(timeoutSeconds: number): object {
  return { sessionAffinity: "ClientIP", sessionAffinityConfig: { clientIP: { timeoutSeconds } } };
}

/**
 * An EndpointSlice of a Service; its family is that of the addresses (IPv4 when there are none and none is told).
 * `endpoint` adds to an endpoint, or replaces, what is not the same for all: its node, its conditions.
 */
export function endpointSlice(
  serviceName: string,
  addresses: readonly string[],
  ports: readonly SlicePort[],
  options: { family?: 4 | 6; name?: string; endpoint?: (address: string) => object } = {},
): KubeObject {
  const family = options.family ?? (addresses[0]?.includes(":") ? 6 : 4);
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: options.name ?? `${serviceName}-${family}`,
      namespace: "default",
      labels: { "kubernetes.io/service-name": serviceName },
    },
    addressType: family === 6 ? "IPv6" : "IPv4",
    endpoints: addresses.map((ip) => ({
      addresses: [ip],
      conditions: { ready: true, serving: true },
      ...options.endpoint?.(ip),
    })),
    ports,
  } as KubeObject;
}

/** Several objects as one file. (JSON is YAML, too.) */
export function manifestText(objects: readonly object[]): string {
  return objects.map((object) => `${JSON.stringify(object)}\n`).join("---\n");
}
