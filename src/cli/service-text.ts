// SPDX-License-Identifier: Apache-2.0
/** How Services, addresses and traffic are shown, the same in every command. */
import type { Traffic } from "../abi/layout.gen.js";
import type { ServiceId, Tables } from "../dataplane/view.js";
import { ExitCode } from "./exit-codes.js";
import type { Printer } from "./output.js";

/** A Service's name as `kubectl` knows it; "#12" for an index that has no name. */
export function serviceName({ namespace, name, index }: ServiceId): string {
  return name === "" ? `#${index}` : `${namespace}/${name}`;
}

/** Whether a row belongs to the Service that was asked for: "name", or "namespace/name". */
export function isService(
  service: Pick<ServiceId, "namespace" | "name"> | null,
  wanted: string | undefined,
): boolean {
  if (wanted === undefined) return true;
  if (service === null) return false;
  return wanted.includes("/") ? wanted === `${service.namespace}/${service.name}` : wanted === service.name;
}

/**
 * The exit status of a command that was asked for one Service. One that the maps do not have is a finding, and is said:
 * a mistyped name shall not look like a Service without traffic.
 */
export function serviceStatus(tables: Tables, wanted: string | undefined, printer: Printer): ExitCode {
  if (wanted === undefined) return ExitCode.ok;
  for (const service of tables.services.values()) if (isService(service, wanted)) return ExitCode.ok;
  printer.note(`no Service "${wanted}" in the maps`);
  return ExitCode.finding;
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
