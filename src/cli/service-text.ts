// SPDX-License-Identifier: Apache-2.0
/** How Services, addresses and traffic are shown, the same in every command. */
import type { Command } from "commander";
import { Option } from "commander";
import type { Traffic } from "../abi/layout.gen.js";
import type { ServiceId, Tables } from "../dataplane/view.js";
import { UserError } from "../util/errors.js";
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

/** Which Services a command was asked for. */
export interface ServiceScope {
  /** "name", or "namespace/name". */
  readonly service?: string;
  readonly namespace?: string;
  readonly allNamespaces?: true;
}

/** Whether a Service is one of those that were asked for. Null: what belongs to none, which only those ask for who ask for all. */
export type ServiceTest = (service: Pick<ServiceId, "namespace" | "name"> | null) => boolean;

/** `-n` and `-A`, for a command that lists by Service. All namespaces are the default: it is a node that is looked at. */
export function withNamespaces(command: Command): Command {
  return command
    .option("-n, --namespace <ns>", "only those of Services in this namespace (default: all namespaces)")
    .addOption(new Option("-A, --all-namespaces", "of all namespaces, as by default").conflicts("namespace"));
}

/** `-s`, `-n` and `-A`: which rows by their Service. */
export function withServiceScope(command: Command): Command {
  return withNamespaces(
    command.option("-s, --service <name>", 'only those of this Service: "name" or "namespace/name"'),
  );
}

/**
 * What withServiceScope()'s options ask for, as a test of a row's Service.
 *
 * @throws UserError when an option is empty, as an unset shell variable makes it, or two of them name different namespaces
 */
export function inScope({ service: wanted, namespace }: ServiceScope): ServiceTest {
  if (namespace === "") throw new UserError("--namespace is empty");
  if (wanted === "") throw new UserError("the name of the Service is empty");
  const [before, after] = wanted?.split("/") ?? [];
  if (namespace !== undefined && after !== undefined && before !== namespace) {
    throw new UserError(`Service "${wanted}" is not in namespace "${namespace}"`, {
      hint: "Give the namespace once: in the name, or with -n.",
    });
  }
  return (service) =>
    isService(service, wanted) && (namespace === undefined || service?.namespace === namespace);
}

/** The names that were asked for, for a note: `Service "web" in namespace "shop"`. */
function scopeText({ service, namespace }: ServiceScope): string {
  const where = namespace === undefined ? "" : ` in namespace "${namespace}"`;
  return service === undefined ? `Service${where}` : `Service "${service}"${where}`;
}

/**
 * The exit status of a command that was asked for some Services. When the maps have none of them that is a finding, and is
 * said: a mistyped name shall not look like a Service without traffic.
 */
export function scopeStatus(tables: Tables, scope: ServiceScope, printer: Printer): ExitCode {
  if (scope.service === undefined && scope.namespace === undefined) return ExitCode.ok;
  const isWanted = inScope(scope);
  for (const service of tables.services.values()) if (isWanted(service)) return ExitCode.ok;
  printer.note(`no ${scopeText(scope)} in the maps\n  ${nextStep(tables, scope)}`);
  return ExitCode.finding;
}

/** Where to look for a Service that was not found: most often it is in another namespace, or there under another name. */
function nextStep(tables: Tables, { service }: ServiceScope): string {
  const bare = service?.split("/").at(-1);
  const elsewhere = Array.from(tables.services.values()).filter(({ name }) => name === bare);
  const names = Array.from(new Set(elsewhere.map(serviceName)));
  if (names.length > 0) return `There is ${names.join(", ")}.`;
  return "`portolan services -o name` lists those that are; `portolan compile` says what a manifest comes to.";
}

/**
 * scopeStatus() of a command that has listed something.
 *
 * @param none said when there was nothing to list, though the Services that were asked for are there
 */
export function listStatus(
  tables: Tables,
  scope: ServiceScope,
  printer: Printer,
  count: number,
  none: string,
): ExitCode {
  const status = scopeStatus(tables, scope, printer);
  if (count === 0 && status === ExitCode.ok) printer.note(none);
  return status;
}

/** For `-o name`: "service/default/web", or "backend/default/web/10.1.0.1:8080". */
export function serviceId(service: ServiceId, kind = "service", ...more: readonly string[]): string {
  return [kind, serviceName(service), ...more].join("/");
}

/** An address and a port, IPv6 in brackets. */
export function peerText({ address, port }: { readonly address: string; readonly port: number }): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** What is said of the two scopes of an address: once where it is the same. */
export function bothScopes(inside: string, outside: string): string {
  return inside === outside ? inside : `${inside} (from outside: ${outside})`;
}

/** A Service as a JSON object. */
export function serviceJson({ namespace, name, portName, protocol, index }: ServiceId): object {
  return { namespace, name, portName, protocol, index };
}

/** Counters as JSON numbers. */
export function trafficJson({ flows, packets, bytes }: Traffic): object {
  return { flows, packets, bytes };
}
