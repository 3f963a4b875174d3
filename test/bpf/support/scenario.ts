// SPDX-License-Identifier: Apache-2.0
/** Services and flows that many packet tests start from. */
import { AddressClass } from "../../../src/abi/enums.gen.js";
import { type Sctp, sctp, type Tcp, tcp, type Udp, udp } from "../../support/packet.js";
import type { Host } from "./addresses.js";
import type { Lab, ProtocolName, Service, ServiceSpec } from "./lab.js";

/** vip:80 on backend:8080. */
export function web(lab: Lab, more: Partial<ServiceSpec> = {}): Promise<Service> {
  const endpoints = [{ host: "backend", port: 8080 }] as const;
  return lab.service({ vip: "vip", port: 80, protocol: "tcp", endpoints, ...more });
}

/** vip:53 on backend:5353, UDP. */
export function dns(lab: Lab, more: Partial<ServiceSpec> = {}): Promise<Service> {
  const endpoints = [{ host: "backend", port: 5353 }] as const;
  return lab.service({ vip: "vip", port: 53, protocol: "udp", endpoints, ...more });
}

/** A first packet: a SYN, an INIT or a datagram. */
export function opening(protocol: ProtocolName, sport: number, dport: number): Tcp | Udp | Sctp {
  if (protocol === "sctp") return sctp(sport, dport, "init");
  return protocol === "tcp" ? tcp(sport, dport, "S") : udp(sport, dport);
}

/** An answer to it: a SYN-ACK, an INIT ACK or a datagram. */
export function answer(protocol: ProtocolName, sport: number, dport: number): Tcp | Udp | Sctp {
  if (protocol === "sctp") return sctp(sport, dport, "initAck");
  return protocol === "tcp" ? tcp(sport, dport, "SA") : udp(sport, dport, "answer");
}

/** Ends of a flow as they stand in packets before and after translation. */
export interface Flow {
  readonly client: Host;
  readonly clientPort: number;
  readonly vip: Host;
  readonly port: number;
  readonly backend: Host;
  readonly backendPort: number;
}

export const WEB_FLOW: Flow = {
  client: "client",
  clientPort: 40000,
  vip: "vip",
  port: 80,
  backend: "backend",
  backendPort: 8080,
};

export const DNS_FLOW: Flow = { ...WEB_FLOW, port: 53, backendPort: 5353 };

/** A TCP segment from client to Service, expected at the backend. */
export async function clientSends(
  lab: Lab,
  flow: Flow,
  flags: string,
  first: boolean = flags === "S",
): Promise<void> {
  await lab.expect("ptl_pod_in", lab.packet(flow.client, flow.vip, tcp(flow.clientPort, flow.port, flags)), {
    packet: lab.packet(flow.client, flow.backend, tcp(flow.clientPort, flow.backendPort, flags)),
    reasons: [first ? "FLOW_NEW" : "TRANSLATED"],
  });
}

/** A TCP segment from the backend, expected at the client as the Service's. */
export async function backendSends(lab: Lab, flow: Flow, flags: string): Promise<void> {
  await lab.expect(
    "ptl_pod_out",
    lab.packet(flow.backend, flow.client, tcp(flow.backendPort, flow.clientPort, flags)),
    {
      packet: lab.packet(flow.vip, flow.client, tcp(flow.port, flow.clientPort, flags)),
      reasons: ["TRANSLATED"],
    },
  );
}

/** A datagram from client to Service, expected at the backend. */
export async function clientAsks(lab: Lab, flow: Flow, first: boolean): Promise<void> {
  await lab.expect("ptl_pod_in", lab.packet(flow.client, flow.vip, udp(flow.clientPort, flow.port)), {
    packet: lab.packet(flow.client, flow.backend, udp(flow.clientPort, flow.backendPort)),
    reasons: [first ? "FLOW_NEW" : "TRANSLATED"],
  });
}

/** A datagram from the backend, expected at the client as the Service's. */
export async function backendAnswers(lab: Lab, flow: Flow): Promise<void> {
  await lab.expect(
    "ptl_pod_out",
    lab.packet(flow.backend, flow.client, udp(flow.backendPort, flow.clientPort)),
    {
      packet: lab.packet(flow.vip, flow.client, udp(flow.port, flow.clientPort)),
      reasons: ["TRANSLATED"],
    },
  );
}

/** SYN, SYN-ACK, ACK. */
export async function establish(lab: Lab, flow: Flow = WEB_FLOW): Promise<void> {
  await clientSends(lab, flow, "S");
  await backendSends(lab, flow, "SA");
  await clientSends(lab, flow, "A");
}

/** NodePort 30080 on backend:8080, with `nodeip` as an address of the node. */
export async function nodePort(lab: Lab, more: Partial<ServiceSpec> = {}): Promise<Service> {
  const endpoints = [{ host: "backend", port: 8080 }] as const;
  await lab.addClass("nodeip", AddressClass.CLASS_NODE);
  return await lab.service({
    vip: "nodeip",
    kind: "node-port",
    port: 30080,
    protocol: "tcp",
    endpoints,
    ...more,
  });
}

/** lb:80 on backend:8080: the address of a load balancer, or an external one. */
export function balancer(lab: Lab, more: Partial<ServiceSpec> = {}): Promise<Service> {
  const endpoints = [{ host: "backend", port: 8080 }] as const;
  return lab.service({ vip: "lb", kind: "external", port: 80, protocol: "tcp", endpoints, ...more });
}

/** A packet in the middle of a flow. */
export function further(protocol: ProtocolName, sport: number, dport: number): Tcp | Udp | Sctp {
  if (protocol === "sctp") return sctp(sport, dport, "data");
  return protocol === "tcp" ? tcp(sport, dport, "PA") : udp(sport, dport, "more");
}
