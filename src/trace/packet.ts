// SPDX-License-Identifier: Apache-2.0
/** The packets that `portolan trace` sends through the programs: built whole, with right lengths and checksums, and read again. */
import { type Family, type IpAddress, ipFromBytes } from "../net/ip.js";
import { crc32c, internetSum } from "./checksum.js";

export const TRACE_PROTOCOLS = ["tcp", "udp", "sctp", "icmp"] as const;
export type TraceProtocol = (typeof TRACE_PROTOCOLS)[number];

export const TCP_FLAGS = ["fin", "syn", "rst", "psh", "ack", "urg"] as const;
/** Of SCTP the first chunk in TCP's words: syn is INIT, syn and ack INIT ACK, rst ABORT, ack DATA. */
export type TcpFlag = (typeof TCP_FLAGS)[number];

export interface Endpoint {
  readonly address: IpAddress;
  /** 0 of ICMP. */
  readonly port: number;
}

export interface Packet {
  readonly protocol: TraceProtocol;
  readonly source: Endpoint;
  readonly destination: Endpoint;
  /** Of TCP and SCTP. */
  readonly flags: readonly TcpFlag[];
  /** Of ICMP: an echo reply instead of a request. */
  readonly reply?: boolean;
}

/** An ICMP message beyond an echo. */
export interface IcmpText {
  readonly type: number;
  readonly code: number;
  /** "port unreachable", "echo request", or the numbers. */
  readonly name: string;
}

/** A packet as it is read back. */
export interface PacketView extends Packet {
  readonly family: Family;
  readonly ttl: number;
  /** Of the network packet, in bytes. */
  readonly length: number;
  readonly icmp: IcmpText | null;
}

const ETHERNET = 14;
const TTL = 64;
const PROTOCOL_NUMBERS = { tcp: 6, udp: 17, sctp: 132 } as const;
const ICMP_NUMBERS: Readonly<Record<Family, number>> = { 4: 1, 6: 58 };
const ETHERTYPES: Readonly<Record<Family, number>> = { 4: 0x0800, 6: 0x86dd };
const PAYLOAD = new TextEncoder().encode("portolan");
const WINDOW = 64240;
const SCTP_CHUNKS = { data: 0, init: 1, initAck: 2, abort: 6 } as const;
/** Type of an echo request and of its reply. */
const ECHO: Readonly<Record<Family, readonly [number, number]>> = { 4: [8, 0], 6: [128, 129] };

/** IANA protocol number of a packet of that family. */
export function protocolNumberOf(protocol: TraceProtocol, family: Family): number {
  return protocol === "icmp" ? ICMP_NUMBERS[family] : PROTOCOL_NUMBERS[protocol];
}

export const hasPorts = (protocol: TraceProtocol): boolean => protocol !== "icmp";
export const hasFlags = (protocol: TraceProtocol): boolean => protocol === "tcp" || protocol === "sctp";

/** An Ethernet frame with this packet. Both addresses must be of one family. */
export function buildFrame(packet: Packet): Uint8Array {
  const { family } = packet.destination.address;
  const transport = buildTransport(packet, family);
  const network = family === 4 ? header4(packet, transport.length) : header6(packet, transport.length);
  const frame = new Uint8Array(ETHERNET + network.length + transport.length);
  // locally administered, and not multicast: what the programs do not look at
  frame.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
  new DataView(frame.buffer).setUint16(12, ETHERTYPES[family]);
  frame.set(network, ETHERNET);
  frame.set(transport, ETHERNET + network.length);
  return frame;
}

function header4({ protocol, source, destination }: Packet, length: number): Uint8Array {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  view.setUint16(2, bytes.length + length);
  view.setUint16(6, 0x4000); // don't fragment
  bytes[8] = TTL;
  bytes[9] = protocolNumberOf(protocol, 4);
  bytes.set(source.address.bytes, 12);
  bytes.set(destination.address.bytes, 16);
  view.setUint16(10, ~internetSum(bytes) & 0xffff);
  return bytes;
}

function header6({ protocol, source, destination }: Packet, length: number): Uint8Array {
  const bytes = new Uint8Array(40);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x60;
  view.setUint16(4, length);
  bytes[6] = protocolNumberOf(protocol, 6);
  bytes[7] = TTL;
  bytes.set(source.address.bytes, 8);
  bytes.set(destination.address.bytes, 24);
  return bytes;
}

function buildTransport(packet: Packet, family: Family): Uint8Array {
  if (packet.protocol === "sctp") return buildSctp(packet);
  const [bytes, checksumAt] =
    packet.protocol === "tcp"
      ? buildTcp(packet)
      : packet.protocol === "udp"
        ? buildUdp(packet)
        : buildEcho(packet, family);
  const pseudo = packet.protocol === "icmp" && family === 4 ? 0 : pseudoSum(packet, family, bytes.length);
  const sum = ~internetSum(bytes, pseudo) & 0xffff;
  new DataView(bytes.buffer).setUint16(checksumAt, sum === 0 && packet.protocol === "udp" ? 0xffff : sum);
  return bytes;
}

function pseudoSum({ protocol, source, destination }: Packet, family: Family, length: number): number {
  const addresses = internetSum(destination.address.bytes, internetSum(source.address.bytes));
  return addresses + protocolNumberOf(protocol, family) + length;
}

function buildTcp({ source, destination, flags }: Packet): [Uint8Array, number] {
  const bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint32(4, 1);
  view.setUint32(8, flags.includes("ack") ? 1 : 0);
  bytes[12] = (bytes.length / 4) << 4;
  bytes[13] = flags.reduce((bits, flag) => bits | (1 << TCP_FLAGS.indexOf(flag)), 0);
  view.setUint16(14, WINDOW);
  return [bytes, 16];
}

function buildUdp({ source, destination }: Packet): [Uint8Array, number] {
  const bytes = new Uint8Array(8 + PAYLOAD.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint16(4, bytes.length);
  bytes.set(PAYLOAD, 8);
  return [bytes, 6];
}

function buildEcho({ reply = false }: Packet, family: Family): [Uint8Array, number] {
  const bytes = new Uint8Array(8 + PAYLOAD.length);
  bytes[0] = ECHO[family][reply ? 1 : 0];
  new DataView(bytes.buffer).setUint32(4, 0x00010001); // identifier and sequence number
  bytes.set(PAYLOAD, 8);
  return [bytes, 2];
}

function sctpChunk(flags: readonly TcpFlag[]): number {
  if (flags.includes("rst")) return SCTP_CHUNKS.abort;
  if (!flags.includes("syn")) return SCTP_CHUNKS.data;
  return flags.includes("ack") ? SCTP_CHUNKS.initAck : SCTP_CHUNKS.init;
}

function buildSctp({ source, destination, flags }: Packet): Uint8Array {
  const chunk = sctpChunk(flags);
  const bytes = new Uint8Array(12 + 20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint32(4, chunk === SCTP_CHUNKS.init ? 0 : 1); // the verification tag: an INIT has none
  bytes[12] = chunk;
  bytes[13] = chunk === SCTP_CHUNKS.data ? 3 : 0; // all of its message
  view.setUint16(14, 20);
  view.setUint32(16, 1); // initiate tag, or sequence number
  view.setUint32(20, WINDOW);
  view.setUint16(24, 1);
  view.setUint16(26, 1);
  view.setUint32(28, 1);
  view.setUint32(8, crc32c(bytes), true);
  return bytes;
}

const ICMP_NAMES: Readonly<Record<Family, Readonly<Record<string, string>>>> = {
  4: { "8.0": "echo request", "0.0": "echo reply", "3.3": "port unreachable" },
  6: { "128.0": "echo request", "129.0": "echo reply", "1.4": "port unreachable" },
};

/** Reads a frame of ours, or one that a program has made of it. Extension headers are not followed: we build none. */
export function readFrame(frame: Uint8Array): PacketView {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const family: Family = view.getUint16(12) === ETHERTYPES[4] ? 4 : 6;
  const at = (offset: number, size: number): Uint8Array =>
    frame.subarray(ETHERNET + offset, ETHERNET + offset + size);
  const header = family === 4 ? ((frame[ETHERNET] as number) & 15) * 4 : 40;
  const number = (family === 4 ? at(9, 1) : at(6, 1))[0] as number;
  const protocol = TRACE_PROTOCOLS.find((name) => protocolNumberOf(name, family) === number) ?? "icmp";
  const l4 = ETHERNET + header;
  const ported = hasPorts(protocol);
  const icmp = ported ? null : icmpText(family, view.getUint8(l4), view.getUint8(l4 + 1));
  return {
    family,
    protocol,
    source: {
      address: ipFromBytes(family === 4 ? at(12, 4) : at(8, 16)),
      port: ported ? view.getUint16(l4) : 0,
    },
    destination: {
      address: ipFromBytes(family === 4 ? at(16, 4) : at(24, 16)),
      port: ported ? view.getUint16(l4 + 2) : 0,
    },
    flags: readFlags(protocol, view, l4),
    ttl: (family === 4 ? at(8, 1) : at(7, 1))[0] as number,
    length: frame.length - ETHERNET,
    icmp,
    ...(icmp?.name === "echo reply" ? { reply: true } : {}),
  };
}

function icmpText(family: Family, type: number, code: number): IcmpText {
  return { type, code, name: ICMP_NAMES[family][`${type}.${code}`] ?? `type ${type} code ${code}` };
}

function readFlags(protocol: TraceProtocol, view: DataView, l4: number): readonly TcpFlag[] {
  if (protocol === "tcp") {
    const bits = view.getUint8(l4 + 13);
    return TCP_FLAGS.filter((_, i) => bits & (1 << i));
  }
  if (protocol !== "sctp") return [];
  const chunk = view.getUint8(l4 + 12);
  if (chunk === SCTP_CHUNKS.init) return ["syn"];
  if (chunk === SCTP_CHUNKS.initAck) return ["syn", "ack"];
  return chunk === SCTP_CHUNKS.abort ? ["rst"] : ["ack"];
}

/** What the receiver of a packet answers: an accepted connection, a datagram, an echo. */
export function replyTo({ protocol, source, destination, flags }: Packet): Packet {
  const opens = flags.includes("syn") && !flags.includes("ack");
  return {
    protocol,
    source: destination,
    destination: source,
    flags: !hasFlags(protocol) ? [] : opens ? ["syn", "ack"] : ["ack"],
    reply: true,
  };
}
