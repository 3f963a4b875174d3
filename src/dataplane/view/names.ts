// SPDX-License-Identifier: Apache-2.0
/** How the views name Services and addresses, and in which order they come. */
import { ipFromBytes, type Protocol } from "../../net/ip.js";
import { protocolOfNumber } from "../../net/port.js";

export interface ServiceId {
  /** Service index; names are empty when the index has none. */
  readonly index: number;
  readonly namespace: string;
  readonly name: string;
  /** A name of more than 23 bytes is stored as its beginning, "~" and a hash. */
  readonly portName: string;
  readonly protocol: Protocol | "";
}

export interface Peer {
  readonly address: string;
  readonly port: number;
}

export function peerOf(address: Uint8Array, port: number): Peer {
  return { address: ipFromBytes(address).text, port };
}

/** "" when it is none of ours. */
export function protocolName(protocol: number): Protocol | "" {
  return protocolOfNumber(protocol) ?? "";
}

/** "namespace/name:port/PROTOCOL", as ServicePortImage.key; "#12" for an index without a name. */
export function serviceKey({ index, namespace, name, portName, protocol }: ServiceId): string {
  return name === "" ? `#${index}` : `${namespace}/${name}:${portName}/${protocol}`;
}

/** A service port whose index has no name. */
export function unnamed(index: number): ServiceId {
  return { index, namespace: "", name: "", portName: "", protocol: "" };
}

/** Negative when `a` goes first. */
export function compareServices(a: ServiceId, b: ServiceId): number {
  return (
    compareText(a.namespace, b.namespace) ||
    compareText(a.name, b.name) ||
    compareText(a.portName, b.portName) ||
    compareText(a.protocol, b.protocol) ||
    a.index - b.index
  );
}

/** Digits compare as numbers, so that 10.0.0.9 comes before 10.0.0.10. */
const collator = new Intl.Collator("en", { numeric: true });

export function compareText(a: string, b: string): number {
  return collator.compare(a, b);
}
