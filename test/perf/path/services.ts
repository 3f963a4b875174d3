// SPDX-License-Identifier: Apache-2.0
/** The Services of one world: as objects for an agent, and as kube-proxy sees them. The tested one is the last. */
import type { Family } from "../../../src/net/ip.js";
import { nthAddress } from "../../support/big-image.js";
import type { ProxiedPort } from "../../support/kube-proxy-rules.js";
import { endpointSlice, type KubeObject, service, withSpec } from "../../support/manifests.js";

/** Where the server is, as the client's node sees it. */
export type Place = "same node" | "other node";

/** Ports on which the servers listen. */
export const SERVED = { tcp: 9080, udp: 9053 } as const;

/** Outside of the pods', the nodes' and the Services' networks: nothing is ever sent there. */
const ELSEWHERE = 12;
const OTHERS = 11;
const VIP = { 4: "10.96.255.254", 6: "fd00:10:96::fffe" } as const;
const PORTS = {
  "same node": { name: "near", node: "n1", tcp: 80, udp: 53, nodeTcp: 30_080, nodeUdp: 30_053 },
  "other node": { name: "far", node: "n2", tcp: 81, udp: 54, nodeTcp: 30_081, nodeUdp: 30_054 },
} as const;

/** What the tested Service is made of. */
export interface Tested {
  readonly family: Family;
  /** Addresses of the servers. */
  readonly servers: ReadonlyMap<Place, string>;
  readonly nodePorts: boolean;
}

/** Where one asks for the server of a place. */
export interface Target {
  readonly address: string;
  readonly tcp: number;
  readonly udp: number;
}

export function clusterIpTarget(family: Family, place: Place): Target {
  const { tcp, udp } = PORTS[place];
  return { address: VIP[family], tcp, udp };
}

export function nodePortTarget(node: string, place: Place): Target {
  const { nodeTcp, nodeUdp } = PORTS[place];
  return { address: node, tcp: nodeTcp, udp: nodeUdp };
}

function otherService(i: number, family: Family): { name: string; vip: string; endpoint: string } {
  return {
    name: `service-${i}`,
    vip: nthAddress(family, OTHERS, i).text,
    endpoint: nthAddress(family, ELSEWHERE, i).text,
  };
}

/** As the API server would have them: `count` Services. */
export function serviceObjects(count: number, { family, servers, nodePorts }: Tested): KubeObject[] {
  const others = Array.from({ length: count - 1 }, (_, i) => {
    const { name, vip, endpoint } = otherService(i, family);
    return [
      service(name, [vip], [{ name: "http", port: 80 }]),
      endpointSlice(name, [endpoint], [{ name: "http", port: 8080 }]),
    ];
  }).flat();
  const places = [...servers];
  const ports = places.flatMap(([place]) => {
    const { name, tcp, udp, nodeTcp, nodeUdp } = PORTS[place];
    return [
      { name, port: tcp, ...(nodePorts ? { nodePort: nodeTcp } : {}) },
      {
        name: `${name}-udp`,
        port: udp,
        protocol: "UDP" as const,
        ...(nodePorts ? { nodePort: nodeUdp } : {}),
      },
    ];
  });
  const tested = service("tested", [VIP[family]], ports);
  const slices = places.map(([place, address]) => {
    const { name, node } = PORTS[place];
    const served = [
      { name, port: SERVED.tcp },
      { name: `${name}-udp`, port: SERVED.udp, protocol: "UDP" as const },
    ];
    return endpointSlice("tested", [address], served, {
      name: `tested-${name}`,
      endpoint: () => ({ nodeName: node }),
    });
  });
  return [...others, nodePorts ? withSpec(tested, { type: "NodePort" }) : tested, ...slices];
}

/** The same as kube-proxy would have them. */
export function proxiedPorts(count: number, { family, servers, nodePorts }: Tested): ProxiedPort[] {
  const others = Array.from({ length: count - 1 }, (_, i): ProxiedPort => {
    const { name, vip, endpoint } = otherService(i, family);
    const endpoints = [{ ip: endpoint, port: 8080 }];
    return { name: `default/${name}:http`, protocol: "tcp", clusterIP: vip, port: 80, endpoints };
  });
  const tested = [...servers].flatMap(([place, ip]): ProxiedPort[] => {
    const { name, tcp, udp, nodeTcp, nodeUdp } = PORTS[place];
    const clusterIP = VIP[family];
    return [
      {
        ...{ name: `default/tested:${name}`, protocol: "tcp", clusterIP, port: tcp },
        ...(nodePorts ? { nodePort: nodeTcp } : {}),
        endpoints: [{ ip, port: SERVED.tcp }],
      },
      {
        ...{ name: `default/tested:${name}-udp`, protocol: "udp", clusterIP, port: udp },
        ...(nodePorts ? { nodePort: nodeUdp } : {}),
        endpoints: [{ ip, port: SERVED.udp }],
      },
    ];
  });
  return [...others, ...tested];
}
