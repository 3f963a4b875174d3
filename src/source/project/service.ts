// SPDX-License-Identifier: Apache-2.0
/** v1 Service (section 2 of the rules). */
import type { Origin, ServicePortSpec, ServiceType } from "../../model/types.js";
import { parseCidr } from "../../net/cidr.js";
import type { Family, IpAddress } from "../../net/ip.js";
import { parseIp, specialUse } from "../../net/ip.js";
import { PROTOCOLS } from "../../net/port.js";
import { frozenList } from "../../util/frozen-list.js";
import { SharedLists } from "../../util/shared-lists.js";
import type { Field } from "../fields.js";
import { describe, isDnsLabel, isPortName } from "../fields.js";
import type { ServiceObject } from "../objects.js";
import type { Metadata } from "./metadata.js";

const TYPES: readonly ServiceType[] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
/** 2.21. */
const DEFAULT_AFFINITY_SECONDS = 10_800;
const LONGEST_AFFINITY_SECONDS = 86_400;

export function projectService(root: Field, metadata: Metadata, origin: Origin): ServiceObject | null {
  const spec = root.get("spec");
  if (!spec.requiredObject()) return null;
  const type = spec.get("type").oneOf(TYPES, "ClusterIP");
  const clusterIPs = readClusterIPs(spec, type);
  const selector = spec.get("selector").labels();
  const { ports, targetPorts } = readPorts(spec, type === "ExternalName" || clusterIPs.length === 0);
  const externalIPs = readExternalIPs(spec.get("externalIPs"));
  const external = spec.get("externalTrafficPolicy").oneOf(["Cluster", "Local"], "Cluster");
  const internal = spec.get("internalTrafficPolicy").oneOf(["Cluster", "Local"], "Cluster");
  return {
    kind: "Service",
    namespace: metadata.namespace,
    name: metadata.name,
    origin,
    service: Object.freeze({
      namespace: metadata.namespace,
      name: metadata.name,
      uid: metadata.uid,
      labels: metadata.labels,
      creationTimestamp: metadata.creationTimestamp,
      type,
      clusterIPs,
      // An empty selector does not survive a round trip through the API: it is none.
      selector: Object.keys(selector).length === 0 ? null : selector,
      ports,
      sessionAffinitySeconds: readAffinity(spec),
      externalTrafficPolicyLocal: external === "Local" && hasExternalTraffic(type, externalIPs),
      internalTrafficPolicyLocal: internal === "Local",
      externalIPs,
      loadBalancerIPs: readLoadBalancerIPs(root.get("status")),
      loadBalancerSourceRanges: readSourceRanges(spec.get("loadBalancerSourceRanges")),
      healthCheckNodePort: spec.get("healthCheckNodePort").integer(0, 65535, 0),
      origin,
    }),
    targetPorts,
    publishNotReadyAddresses: spec.get("publishNotReadyAddresses").boolean(false),
  };
}

/** 2.16. */
function hasExternalTraffic(type: ServiceType, externalIPs: readonly IpAddress[]): boolean {
  return type === "LoadBalancer" || type === "NodePort" || (type === "ClusterIP" && externalIPs.length > 0);
}

/**
 * 2.1, 2.2: none for headless Services, ExternalName, and Services that no API server has given an address. Without
 * ipFamilies the addresses say which families there are, as the API server's defaults would.
 */
function readClusterIPs(spec: Field, type: ServiceType): readonly IpAddress[] {
  const single = spec.get("clusterIP");
  const text = single.string();
  const list = spec.get("clusterIPs");
  const given = single.present && single.value !== "";
  const fields = list.items().length > 0 ? list.items() : given ? [single] : [];
  const families = readFamilies(spec.get("ipFamilies"));
  if (fields.length > 2) list.error("has more than two addresses");
  if (type === "ExternalName" || fields.some((field) => field.string() === "None")) return [];
  const addresses = fields.map((field) => readClusterIP(field));
  if (list.items().length > 0 && text !== "" && parseIp(text)?.text !== addresses[0]?.text) {
    single.error(`must be the first of clusterIPs, ${describe(list.items()[0]?.value)}`);
  }
  if (fields.length === 0) {
    single.warn("is not set, so the Service has no address here; an API server would have given it one");
  }
  return usedAddresses(addresses, fields, families);
}

function usedAddresses(
  addresses: readonly (IpAddress | null)[],
  fields: readonly Field[],
  families: readonly Family[],
): readonly IpAddress[] {
  const used: IpAddress[] = [];
  for (const [index, address] of addresses.entries()) {
    if (address === null) continue;
    const family = families[index];
    if (families.length > 0 && family === undefined) continue;
    if (family !== undefined && family !== address.family) {
      fields[index]?.error(`is IPv${address.family}, but ipFamilies[${index}] says IPv${family}`);
    } else if (used.some((other) => other.family === address.family)) {
      fields[index]?.error(`is a second IPv${address.family} address; a Service has one per family`);
    } else used.push(address);
  }
  return frozenList(used);
}

function readClusterIP(field: Field): IpAddress | null {
  const address = field.address();
  if (address === null) {
    if (!field.present || field.value === "") field.error("must be an IP address, not nothing");
    return null;
  }
  const special = specialUse(address);
  if (special !== null && special !== "link-local") {
    field.error(`${address.text} is a ${special} address and cannot be a VIP`);
  }
  return address;
}

function readFamilies(field: Field): readonly Family[] {
  const families: Family[] = [];
  for (const item of field.items()) {
    const family = item.oneOf(["IPv4", "IPv6"], "IPv4") === "IPv6" ? 6 : 4;
    if (families.includes(family)) item.error(`repeats IPv${family}`);
    families.push(family);
  }
  return families;
}

const PORTS = new SharedLists<ServicePortSpec>(
  ({ name, protocol, port, nodePort }) => `${name}/${protocol}/${port}/${nodePort}`,
);

type TargetPort = number | string | null;

function readPorts(
  spec: Field,
  mayBeEmpty: boolean,
): { ports: readonly ServicePortSpec[]; targetPorts: readonly TargetPort[] } {
  const field = spec.get("ports");
  const items = field.items();
  if (items.length === 0 && !mayBeEmpty) field.error("is empty: a Service with an address needs a port");
  const ports: ServicePortSpec[] = [];
  const targetPorts: TargetPort[] = [];
  const seen = new Set<string>();
  for (const item of items) {
    if (!item.requiredObject()) continue;
    const port = readPort(item, items.length > 1);
    refuseRepeats(item, port, seen);
    ports.push(port);
    targetPorts.push(readTargetPort(item.get("targetPort")));
  }
  return { ports: PORTS.of(ports), targetPorts: Object.freeze(targetPorts) };
}

function readPort(item: Field, needsName: boolean): ServicePortSpec {
  const nameField = item.get("name");
  const name = nameField.string();
  if (name === "" && needsName) nameField.error("is missing: with more than one port each needs a name");
  if (name !== "" && !isDnsLabel(name)) nameField.error(`${describe(name)} is no valid port name`);
  const portField = item.get("port");
  if (!portField.present) portField.error("is missing");
  return Object.freeze({
    name,
    protocol: item.get("protocol").oneOf(PROTOCOLS, "TCP"),
    port: portField.integer(1, 65535, 0),
    nodePort: item.get("nodePort").integer(0, 65535, 0),
  });
}

/** Names are unique, and so are number and protocol together (2.4). */
function refuseRepeats(item: Field, port: ServicePortSpec, seen: Set<string>): void {
  const name = `name ${port.name}`;
  const number = `${port.port}/${port.protocol}`;
  if (port.name !== "" && seen.has(name)) item.get("name").error(`repeats the name ${describe(port.name)}`);
  if (port.port !== 0 && seen.has(number)) item.get("port").error(`repeats ${number}`);
  seen.add(name).add(number);
}

/** Never read by a proxy (2.6): it is the selector's resolution that needs it. */
function readTargetPort(field: Field): TargetPort {
  if (typeof field.value === "number") return field.integer(0, 65535, 0) || null;
  const text = field.string();
  if (text === "") return null;
  if (!isPortName(text)) field.error(`${describe(text)} is neither a port number nor a port name`);
  return text;
}

/** 2.21. Zero means none. */
function readAffinity(spec: Field): number {
  const config = spec.get("sessionAffinityConfig");
  const clientIP = config.get("clientIP");
  config.object();
  clientIP.object();
  const seconds = clientIP
    .get("timeoutSeconds")
    .integer(1, LONGEST_AFFINITY_SECONDS, DEFAULT_AFFINITY_SECONDS);
  return spec.get("sessionAffinity").oneOf(["None", "ClientIP"], "None") === "ClientIP" ? seconds : 0;
}

/** 2.9: an entry that cannot be read costs that entry only; a blank one is not worth a word. */
function readExternalIPs(field: Field): readonly IpAddress[] {
  const addresses: IpAddress[] = [];
  for (const item of field.items()) {
    const text = item.string().trim();
    if (text === "") continue;
    const address = parseIp(text);
    if (address === null) item.warn(`${describe(text)} is no IP address and is left out`);
    else if (specialUse(address) !== null)
      item.warn(`${address.text} is ${specialUse(address)} and is left out`);
    else if (!addresses.some((other) => other.text === address.text)) addresses.push(address);
  }
  return frozenList(addresses);
}

/** 2.10, 2.11: entries with an address that the proxy is to serve. */
function readLoadBalancerIPs(status: Field): readonly IpAddress[] {
  const addresses: IpAddress[] = [];
  if (!status.object() || !status.get("loadBalancer").object()) return addresses;
  for (const item of status.get("loadBalancer").get("ingress").items()) {
    if (!item.object()) continue;
    const text = item.get("ip").string();
    if (text === "" || item.get("ipMode").oneOf(["VIP", "Proxy"], "VIP") === "Proxy") continue;
    const address = parseIp(text);
    const special = address === null ? null : specialUse(address);
    if (address === null) item.get("ip").warn(`${describe(text)} is no IP address and is left out`);
    // Unlike externalIPs, which anyone may set, these come from a cloud provider: some use link-local addresses.
    else if (special !== null && special !== "link-local")
      item.get("ip").warn(`${address.text} is ${special} and is left out`);
    else if (!addresses.some((other) => other.text === address.text)) addresses.push(address);
  }
  return frozenList(addresses);
}

/** 2.12. A range that cannot be read is an error: leaving it out would open the VIP to more senders, or to all. */
function readSourceRanges(field: Field): readonly string[] {
  const ranges: string[] = [];
  for (const item of field.items()) {
    const text = item.string().trim();
    const cidr = parseCidr(text);
    if (cidr === null) item.error(`must be an address range such as 10.0.0.0/8, not ${describe(text)}`);
    else ranges.push(cidr.text);
  }
  return frozenList(ranges);
}
