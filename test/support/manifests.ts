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

/** A port of an EndpointSlice. */
export interface SlicePort {
  readonly name: string;
  readonly port: number;
  readonly protocol?: "TCP" | "UDP";
}

/** An EndpointSlice of a Service; its family is that of the addresses (IPv4 when there are none and none is told). */
export function endpointSlice(
  serviceName: string,
  addresses: readonly string[],
  ports: readonly SlicePort[],
  options: { family?: 4 | 6; name?: string } = {},
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
    endpoints: addresses.map((ip) => ({ addresses: [ip], conditions: { ready: true, serving: true } })),
    ports,
  } as KubeObject;
}

/** Several objects as one file. (JSON is YAML, too.) */
export function manifestText(objects: readonly object[]): string {
  return objects.map((object) => `${JSON.stringify(object)}\n`).join("---\n");
}
