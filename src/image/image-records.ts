// SPDX-License-Identifier: Apache-2.0
/**
 * An image as records that JSON can hold, one for each service port and one for what is the node's, and back. Nothing is lost
 * but the problems. Two images are the same exactly when their records are, in order of their keys.
 */
import { type Cidr, parseCidr } from "../net/cidr.js";
import { type IpAddress, parseIp } from "../net/ip.js";
import { PROTOCOLS } from "../net/port.js";
import type { Sliced } from "../util/slices.js";
import { portsInOrder } from "./describe.js";
import type { BackendImage, ChoiceImage, FrontendImage, Image, ServicePortImage } from "./types.js";

interface BackendRecord extends Omit<BackendImage, "address"> {
  readonly address: string;
}

interface FrontendRecord extends Omit<FrontendImage, "address"> {
  readonly address: string;
}

export interface ServicePortRecord extends Omit<ServicePortImage, "backends" | "frontends" | "sourceRanges"> {
  readonly backends: readonly BackendRecord[];
  readonly frontends: readonly FrontendRecord[];
  readonly sourceRanges: readonly string[];
}

export interface NodeRecord {
  readonly nodePortAddresses: readonly string[];
  readonly serviceNetworks: readonly string[];
}

const STRIDE = 64;

export function nodeRecord({ nodePortAddresses, serviceNetworks }: Image): NodeRecord {
  return {
    nodePortAddresses: nodePortAddresses.map(({ text }) => text),
    serviceNetworks: serviceNetworks.map(({ text }) => text),
  };
}

export function servicePortRecord(port: ServicePortImage): ServicePortRecord {
  const { key, namespace, name, portName, protocol, affinitySeconds } = port;
  return {
    key,
    namespace,
    name,
    portName,
    protocol,
    affinitySeconds,
    backends: port.backends.map(({ address, port: number, local, serving, clusterSet, localSet }) => {
      return { address: address.text, port: number, local, serving, clusterSet, localSet };
    }),
    frontends: port.frontends.map((frontend) => {
      const { kind, address, port: number, internal, external, masquerade, sourceRanged } = frontend;
      const offered = { internal: choiceRecord(internal), external: choiceRecord(external) };
      return { kind, address: address.text, port: number, ...offered, masquerade, sourceRanged };
    }),
    sourceRanges: port.sourceRanges.map(({ text }) => text),
  };
}

function choiceRecord({ backends, whenEmpty, set }: ChoiceImage): ChoiceImage {
  return { backends, whenEmpty, set };
}

/** Service ports in order of their keys. */
export function* servicePortRecords(image: Image): Generator<ServicePortRecord> {
  for (const port of portsInOrder(image)) yield servicePortRecord(port);
}

/**
 * @throws SyntaxError when the records are none
 */
export function* imageOfRecords(node: NodeRecord, ports: Iterable<ServicePortRecord>): Sliced<Image> {
  const servicePorts = new Map<string, ServicePortImage>();
  for (const record of ports) {
    servicePorts.set(record.key, servicePortOf(record));
    if (servicePorts.size % STRIDE === 0) yield;
  }
  return {
    servicePorts,
    problems: [],
    nodePortAddresses: node.nodePortAddresses.map(ip),
    serviceNetworks: node.serviceNetworks.map(range),
  };
}

function servicePortOf(record: ServicePortRecord): ServicePortImage {
  const { key, namespace, name, portName, affinitySeconds } = record;
  const protocol = PROTOCOLS.find((each) => each === record.protocol);
  if (typeof key !== "string" || protocol === undefined) throw new SyntaxError("no service port");
  return {
    key,
    namespace,
    name,
    portName,
    protocol,
    affinitySeconds,
    backends: record.backends.map((backend) => ({ ...backend, address: ip(backend.address) })),
    frontends: record.frontends.map((frontend) => ({
      ...frontend,
      address: ip(frontend.address),
    })),
    sourceRanges: record.sourceRanges.map(range),
  };
}

function ip(text: string): IpAddress {
  const address = parseIp(text);
  if (address === null) throw new SyntaxError(`"${text}" is no IP address`);
  return address;
}

function range(text: string): Cidr {
  const found = parseCidr(text);
  if (found === null) throw new SyntaxError(`"${text}" is no range of addresses`);
  return found;
}
