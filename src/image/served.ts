// SPDX-License-Identifier: Apache-2.0
/** Which addresses and ports of a Service are served at all, and what is said of those that are not. Pure. */
import type { NodeInfo, Problem, Service, ServicePortSpec } from "../model/types.js";
import type { IpAddress } from "../net/ip.js";
import { servicePortKey } from "./service-port.js";

/** "namespace/name". */
export function nameOf(service: Service): string {
  return `${service.namespace}/${service.name}`;
}

/** Its ClusterIPs without those that are addresses of this node. Of a family without one nothing exists (2.3). */
export function servedClusterIPs(
  service: Service,
  node: NodeInfo,
  problems: Problem[],
): readonly IpAddress[] {
  if (node.addresses.length === 0) return service.clusterIPs;
  return service.clusterIPs.filter((address) => {
    if (!isNodeAddress(address, node)) return true;
    problems.push(nodeAddressProblem(service, address, node));
    return false;
  });
}

/**
 * Its ports. The API server refuses Services that repeat themselves; a hand-made one must not overwrite its own earlier
 * port: that is left out, and so is a NodePort that an earlier one has.
 */
export function servedPorts(service: Service, problems: Problem[]): readonly ServicePortSpec[] {
  if (service.ports.length < 2) return service.ports;
  const ports: ServicePortSpec[] = [];
  const seen = new Set<string>();
  for (const [index, spec] of service.ports.entries()) {
    const key = servicePortKey(service, spec);
    const number = `${spec.port}/${spec.protocol}`;
    if (seen.has(key) || seen.has(number)) {
      problems.push(duplicatePortProblem(service, index));
      continue;
    }
    const nodePort = `NodePort ${spec.nodePort}/${spec.protocol}`;
    const repeated = spec.nodePort !== 0 && seen.has(nodePort);
    if (repeated) problems.push(duplicateNodePortProblem(service, index, nodePort));
    seen.add(key).add(number).add(nodePort);
    ports.push(repeated ? { ...spec, nodePort: 0 } : spec);
  }
  return ports;
}

function isNodeAddress(address: IpAddress, node: NodeInfo): boolean {
  return node.addresses.some((own) => own.text === address.text);
}

function nodeAddressProblem(service: Service, address: IpAddress, node: NodeInfo): Problem {
  return {
    severity: "warning",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: "spec.clusterIPs",
    message: `${address.text} is an address of node ${node.name}; a frontend there would capture the node's own traffic and is left out`,
  };
}

function duplicateNodePortProblem(service: Service, index: number, text: string): Problem {
  return {
    severity: "warning",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: `spec.ports[${index}].nodePort`,
    message: `${text} is an earlier port's already and is left out`,
  };
}

function duplicatePortProblem(service: Service, index: number): Problem {
  return {
    severity: "warning",
    origin: service.origin,
    object: `Service ${nameOf(service)}`,
    field: `spec.ports[${index}]`,
    message: "repeats the name or the number of an earlier port with the same protocol and is left out",
  };
}
