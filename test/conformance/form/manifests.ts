// SPDX-License-Identifier: Apache-2.0
/** From a case's abbreviations to the objects that an API server would show. */
import { canonical, familyOf } from "./address.js";
import type { NamedSlice, ObjectState } from "./state.js";
import type { ConditionName, ConfigForm, EndpointForm, NodeForm, PortForm, ServiceForm } from "./types.js";

const ZONE_LABEL = "topology.kubernetes.io/zone";
const SERVICE_LABEL = "kubernetes.io/service-name";

/** All objects of a state: the Node, Services, EndpointSlices. */
export function manifestsOf(state: ObjectState, config: ConfigForm): readonly object[] {
  return [
    nodeObject(state.node, config),
    ...state.services.map((service) => serviceObject(service)),
    ...state.slices.map((slice) => sliceObject(slice)),
  ];
}

function nodeObject(node: NodeForm, config: ConfigForm): object {
  const zone = node.zone === "" ? {} : { [ZONE_LABEL]: node.zone };
  const cidrs =
    config.podCIDRs.length === 0 ? {} : { podCIDR: config.podCIDRs[0], podCIDRs: config.podCIDRs };
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: node.name, uid: `uid-${node.name}`, labels: { ...zone, ...node.labels } },
    spec: { ...cidrs, ...(node.taints.length === 0 ? {} : { taints: node.taints }) },
    status: { addresses: node.ips.map((address) => ({ type: "InternalIP", address })) },
  };
}

function serviceObject(service: ServiceForm & { readonly ns: string }): object {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: {
      name: service.name,
      namespace: service.ns,
      uid: `uid-${service.ns}-${service.name}`,
      ...(service.labels === undefined ? {} : { labels: service.labels }),
      ...(service.annotations === undefined ? {} : { annotations: service.annotations }),
      creationTimestamp: service.created ?? "2026-01-01T00:00:00Z",
    },
    spec: serviceSpec(service),
    status: {
      loadBalancer: service.lb === undefined || service.lb.length === 0 ? {} : { ingress: service.lb },
    },
  };
}

function serviceSpec(service: ServiceForm): object {
  const pairs: Readonly<Record<string, unknown>> = {
    type: service.type ?? "ClusterIP",
    externalName: service.externalName,
    ...clusterAddresses(service),
    ipFamilyPolicy: service.ipFamilyPolicy,
    externalTrafficPolicy: service.eTP,
    internalTrafficPolicy: service.iTP,
    externalIPs: service.externalIPs,
    loadBalancerIP: service.lbIP,
    loadBalancerClass: service.lbClass,
    loadBalancerSourceRanges: service.ranges,
    healthCheckNodePort: service.hcPort,
    publishNotReadyAddresses: service.publishNotReady,
    allocateLoadBalancerNodePorts: service.allocateNodePorts,
    trafficDistribution: service.trafficDistribution,
    selector: service.selector,
    ...affinityFields(service.affinity ?? null),
    ports: (service.ports ?? []).map(portObject),
  };
  return present(pairs);
}

/** `families: []` is an object of before dual stack: then only `clusterIP` says which family it has (2.2). */
function clusterAddresses(service: ServiceForm): object {
  const all = service.clusterIPs ?? (service.clusterIP === undefined ? [] : [service.clusterIP]);
  const clusterIP = service.clusterIP ?? all[0];
  const families = service.families ?? all.filter((ip) => canonical(ip) !== undefined).map(familyName);
  const legacy = service.families?.length === 0 && service.clusterIPs === undefined;
  if (legacy || all.length === 0) return { clusterIP };
  return { clusterIP, clusterIPs: all, ...(families.length === 0 ? {} : { ipFamilies: families }) };
}

const familyName = (address: string): string => (familyOf(address) === 6 ? "IPv6" : "IPv4");

function affinityFields(affinity: number | "default" | null): object {
  if (affinity === null) return { sessionAffinity: "None" };
  if (affinity === "default") return { sessionAffinity: "ClientIP" };
  return { sessionAffinity: "ClientIP", sessionAffinityConfig: { clientIP: { timeoutSeconds: affinity } } };
}

function portObject(port: PortForm): object {
  return present({
    name: port.name === "" || port.name === null ? undefined : port.name,
    protocol: port.proto,
    port: port.port,
    targetPort: port.targetPort,
    nodePort: port.nodePort,
    appProtocol: port.appProtocol,
  });
}

function sliceObject(slice: NamedSlice): object {
  const service = slice.serviceName === null ? {} : { [SERVICE_LABEL]: slice.serviceName };
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: { name: slice.name, namespace: slice.ns, labels: { ...service, ...slice.labels } },
    addressType: slice.addressType,
    endpoints: slice.endpoints.map(endpointObject),
    ports: slice.ports.map((port) =>
      present({
        name: port.name ?? undefined,
        port: port.port ?? undefined,
        protocol: port.proto ?? undefined,
      }),
    ),
  };
}

const CONDITIONS: Readonly<Record<ConditionName, object>> = {
  R: { ready: true, serving: true, terminating: false },
  nil: {},
  NR: { ready: false, serving: false, terminating: false },
  S: { ready: false, serving: true, terminating: false },
  ST: { ready: false, serving: true, terminating: true },
  T: { ready: false, serving: false, terminating: true },
};

function endpointObject(endpoint: EndpointForm): object {
  const hints = present({
    forZones: endpoint.zones?.map((name) => ({ name })),
    forNodes: endpoint.nodes?.map((name) => ({ name })),
  });
  return present({
    addresses: endpoint.addresses,
    conditions: CONDITIONS[endpoint.condition],
    nodeName: endpoint.node,
    hints: Object.keys(hints).length === 0 ? undefined : hints,
  });
}

function present(pairs: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(pairs).filter(([, value]) => value !== undefined));
}
