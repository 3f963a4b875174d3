// SPDX-License-Identifier: Apache-2.0
/** How Services, addresses and traffic are shown, the same in every command. */
import type { Traffic } from "../abi/layout.gen.js";
import type { ServiceId } from "../dataplane/view.js";

/** A Service's name as `kubectl` knows it; "#12" for an index that has no name. */
export function serviceName({ namespace, name, index }: ServiceId): string {
  return name === "" ? `#${index}` : `${namespace}/${name}`;
}

/** Whether a row belongs to the Service that was asked for: "name", or "namespace/name". */
export function isService(service: ServiceId | null, wanted: string | undefined): boolean {
  if (wanted === undefined) return true;
  if (service === null) return false;
  return wanted.includes("/") ? wanted === `${service.namespace}/${service.name}` : wanted === service.name;
}

/** An address and a port, IPv6 in brackets. */
export function peerText({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** A Service as a JSON object. */
export function serviceJson({ namespace, name, portName, protocol, index }: ServiceId): object {
  return { namespace, name, portName, protocol, index };
}

/** Counters as JSON numbers. */
export function trafficJson({ flows, packets, bytes }: Traffic): object {
  return { flows, packets, bytes };
}
