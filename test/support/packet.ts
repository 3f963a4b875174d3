// SPDX-License-Identifier: Apache-2.0
/**
 * Packets for tests, described by their fields and built to bytes. Everything a sender would compute (lengths,
 * checksums, next-header chains) is computed here unless the description overrides it, so that a test says only what
 * matters to it and a malformed packet is a well-formed one with one lie. The family follows from the addresses.
 */
import { addressBytes, macBytes } from "./packet-address.js";
import { crc32c, internetChecksum, onesComplementSum, pseudoHeader } from "./packet-checksum.js";

export const PROTOCOL = {
  hopByHop: 0,
  icmp: 1,
  tcp: 6,
  udp: 17,
  routing: 43,
  fragment: 44,
  esp: 50,
  ah: 51,
  icmp6: 58,
  none: 59,
  destOpts: 60,
  sctp: 132,
} as const;

/**
 * What a checksum field holds: the right sum, `partial` (the folded pseudo-header sum only, as a sender leaves it when
 * the device is to finish it), `zero` (UDP: none), or a number as it is.
 */
export type Checksum = "full" | "partial" | "zero" | number;

export interface Tcp {
  readonly kind: "tcp";
  readonly sport: number;
  readonly dport: number;
  /** Letters of FSRPAU. */
  readonly flags: string;
  readonly seq?: number;
  readonly ack?: number;
  readonly window?: number;
  /** Padded with end-of-options to a multiple of 4. */
  readonly options?: Uint8Array;
  readonly data?: Uint8Array;
  readonly checksum?: Checksum;
  /** Overrides the header length, in 32-bit words. */
  readonly dataOffset?: number;
}

export interface Udp {
  readonly kind: "udp";
  readonly sport: number;
  readonly dport: number;
  readonly data?: Uint8Array;
  readonly checksum?: Checksum;
  /** Overrides the length field. */
  readonly length?: number;
}

/** Types of SCTP chunks (RFC 9260 section 3.2). */
export const CHUNK = {
  data: 0,
  init: 1,
  initAck: 2,
  sack: 3,
  heartbeat: 4,
  abort: 6,
  shutdown: 7,
  shutdownAck: 8,
  cookieEcho: 10,
  cookieAck: 11,
  shutdownComplete: 14,
} as const;

export type ChunkName = keyof typeof CHUNK;

export interface Chunk {
  readonly type: ChunkName | number;
  readonly flags?: number;
  /** What follows the chunk's header; padded with zeroes to a multiple of 4, which its length does not count. */
  readonly value?: Uint8Array;
}

export interface Sctp {
  readonly kind: "sctp";
  readonly sport: number;
  readonly dport: number;
  /** The verification tag. */
  readonly tag?: number;
  readonly chunks: readonly Chunk[];
  /** `full` is the CRC32c; there is no `partial` but `zero`; a number is its 32 bits as crc32c() gives them. */
  readonly checksum?: Exclude<Checksum, "partial">;
  /** The header and chunks are cut or padded with zeroes to this many bytes, and the checksum is made for that. */
  readonly size?: number;
}

/** Any ICMP or ICMPv6 message: type, code, the 4 bytes after the checksum, and the rest. */
export interface Icmp {
  readonly kind: "icmp";
  readonly type: number;
  readonly code: number;
  readonly rest?: Uint8Array;
  readonly body?: Uint8Array;
  readonly checksum?: Checksum;
}

export interface Raw {
  readonly kind: "raw";
  readonly protocol: number;
  readonly data: Uint8Array;
}

export type Payload = Tcp | Udp | Sctp | Icmp | Raw;

/** IPv6 extension headers. `esp` and `none` end the chain: what follows is opaque. */
export type Extension =
  | { readonly kind: "hop-by-hop" | "dest-opts"; readonly data?: Uint8Array }
  | {
      readonly kind: "routing";
      readonly type: number;
      readonly segmentsLeft: number;
      readonly data?: Uint8Array;
    }
  | { readonly kind: "fragment"; readonly offset: number; readonly more: boolean; readonly id?: number }
  | { readonly kind: "ah"; readonly data?: Uint8Array }
  | { readonly kind: "esp" | "none" };

export interface Packet {
  readonly src: string;
  readonly dst: string;
  readonly payload: Payload;
  readonly eth?: { readonly src?: string; readonly dst?: string; readonly type?: number };
  /** 802.1Q tag control information, in the frame itself. */
  readonly vlan?: number;
  readonly ttl?: number;
  readonly tos?: number;
  readonly flowLabel?: number;
  /** IPv4 only. */
  readonly id?: number;
  readonly dontFragment?: boolean;
  /** IPv4 only; offset in units of 8 bytes. */
  readonly fragment?: { readonly offset: number; readonly more: boolean };
  /** IPv4 options, padded with end-of-options to a multiple of 4. */
  readonly options?: Uint8Array;
  readonly extensions?: readonly Extension[];
  /** Lies: field values that contradict the rest of the packet. */
  readonly lie?: {
    readonly version?: number;
    readonly headerWords?: number;
    readonly length?: number;
    readonly checksum?: number;
    readonly protocol?: number;
  };
  /** Bytes after the end of the IP packet, as Ethernet padding is. */
  readonly trailer?: Uint8Array;
  /** Keep only the first bytes of the frame. */
  readonly truncate?: number;
}

/** `tcp()` fills in what most tests do not care about. */
export function tcp(sport: number, dport: number, flags = "S", more: Partial<Tcp> = {}): Tcp {
  return { kind: "tcp", sport, dport, flags, ...more };
}

export function udp(sport: number, dport: number, data = "datagram", more: Partial<Udp> = {}): Udp {
  return { kind: "udp", sport, dport, data: text(data), ...more };
}

/** An SCTP packet with one chunk, of the fields that its type needs at least. */
export function sctp(sport: number, dport: number, type: ChunkName = "init", more: Partial<Sctp> = {}): Sctp {
  const opens = type === "init";
  const value = SCTP_VALUE[type] ?? bytes();
  return { kind: "sctp", sport, dport, tag: opens ? 0 : 0x1a2b3c4d, chunks: [{ type, value }], ...more };
}

/** INIT: tag, window, 10 streams each way, first TSN. DATA: TSN, stream, number in it, protocol, and data. */
const SCTP_VALUE: Readonly<Partial<Record<ChunkName, Uint8Array>>> = {
  init: join(u32(0xdeadbeef), u32(106496), u16(10), u16(10), u32(7)),
  initAck: join(u32(0xcafef00d), u32(106496), u16(10), u16(10), u32(9), u16(7), u16(8), u32(0x5eed)),
  data: join(u32(7), u16(1), u16(2), u32(0), text("some data of odd length")),
  sack: join(u32(7), u32(106496), u16(0), u16(0)),
  heartbeat: join(u16(1), u16(8), u32(0x77)),
  shutdown: u32(7),
  cookieEcho: u32(0x5eed),
};

export function text(value: string): Uint8Array {
  return Uint8Array.from(Buffer.from(value, "utf8"));
}

/** ICMP errors by what they mean: [IPv4 type, code, IPv6 type, code]. */
const ICMP_ERRORS = {
  "port-unreachable": [3, 3, 1, 4],
  "host-unreachable": [3, 1, 1, 3],
  "admin-prohibited": [3, 13, 1, 1],
  "too-big": [3, 4, 2, 0],
  "time-exceeded": [11, 0, 3, 0],
  "parameter-problem": [12, 0, 4, 0],
} as const;

export type IcmpErrorName = keyof typeof ICMP_ERRORS;
export const ICMP_ERROR_NAMES: readonly IcmpErrorName[] = Object.keys(ICMP_ERRORS) as IcmpErrorName[];

/**
 * An ICMP error about `inner`, quoting its IP packet (at most `quote` bytes of it). `word` is the second header word
 * (the MTU of too-big).
 */
export function icmpError(
  name: IcmpErrorName,
  inner: Packet,
  more: { readonly quote?: number; readonly word?: number } = {},
): Icmp {
  const [type4, code4, type6, code6] = ICMP_ERRORS[name];
  const v6 = familyOf(inner) === 6;
  return {
    kind: "icmp",
    type: v6 ? type6 : type4,
    code: v6 ? code6 : code4,
    rest: u32(more.word ?? 0),
    body: buildIp(inner).subarray(0, more.quote),
  };
}

/** A redirect (ICMP type 5, ICMPv6 type 137 with its Redirected Header option) that quotes `inner`. */
export function icmpRedirect(gateway: string, inner: Packet): Icmp {
  const quoted = buildIp(inner);
  if (familyOf(inner) === 4) {
    return { kind: "icmp", type: 5, code: 1, rest: addressBytes(gateway), body: quoted };
  }
  const padded = padTo(quoted, 8);
  const linkLayer = bytes(2, 1, 2, 0, 0, 0, 0, 9);
  const option = join(bytes(4, (padded.length + 8) / 8, 0, 0, 0, 0, 0, 0), padded);
  const body = join(addressBytes(gateway), addressBytes(inner.dst), linkLayer, option);
  return { kind: "icmp", type: 137, code: 0, body };
}

/** An echo request or reply. */
export function echo(family: 4 | 6, reply = false, data = "ping"): Icmp {
  const type = family === 6 ? (reply ? 129 : 128) : reply ? 0 : 8;
  return { kind: "icmp", type, code: 0, rest: u32(0x12340001), body: text(data) };
}

/** A neighbour solicitation (ICMPv6 135) with a source link-layer address. */
export function neighbourSolicitation(target: string): Icmp {
  return {
    kind: "icmp",
    type: 135,
    code: 0,
    body: join(addressBytes(target), bytes(1, 1, 2, 0, 0, 0, 0, 1)),
  };
}

export function familyOf(packet: Packet): 4 | 6 {
  return addressBytes(packet.src).length === 16 ? 6 : 4;
}

/** The whole Ethernet frame. */
export function buildFrame(packet: Packet): Uint8Array {
  const type = packet.eth?.type ?? (familyOf(packet) === 6 ? 0x86dd : 0x0800);
  const frame = join(
    macBytes(packet.eth?.dst ?? "02:00:00:00:00:02"),
    macBytes(packet.eth?.src ?? "02:00:00:00:00:01"),
    packet.vlan === undefined ? u16(type) : join(u16(0x8100), u16(packet.vlan), u16(type)),
    buildIp(packet),
    packet.trailer ?? bytes(),
  );
  return frame.slice(0, packet.truncate);
}

/** The IP packet without link layer and trailer. */
export function buildIp(packet: Packet): Uint8Array {
  return familyOf(packet) === 6 ? buildIp6(packet) : buildIp4(packet);
}

function buildIp4(packet: Packet): Uint8Array {
  const src = addressBytes(packet.src);
  const dst = addressBytes(packet.dst);
  const options = padTo(packet.options ?? bytes(), 4);
  const payload = buildPayload(packet.payload, src, dst);
  const header = new Uint8Array(20 + options.length);
  const view = new DataView(header.buffer);
  const words = packet.lie?.headerWords ?? header.length / 4;
  header[0] = ((packet.lie?.version ?? 4) << 4) | words;
  header[1] = packet.tos ?? 0;
  view.setUint16(2, packet.lie?.length ?? header.length + payload.length);
  view.setUint16(4, packet.id ?? 0x1234);
  const fragment = packet.fragment ?? { offset: 0, more: false };
  const dontFragment = packet.dontFragment ?? packet.fragment === undefined;
  view.setUint16(6, (dontFragment ? 0x4000 : 0) | (fragment.more ? 0x2000 : 0) | fragment.offset);
  header[8] = packet.ttl ?? 64;
  header[9] = packet.lie?.protocol ?? protocolOf(packet.payload, 4);
  header.set(src, 12);
  header.set(dst, 16);
  header.set(options, 20);
  view.setUint16(10, packet.lie?.checksum ?? internetChecksum(header));
  return join(header, payload);
}

function buildIp6(packet: Packet): Uint8Array {
  const src = addressBytes(packet.src);
  const dst = addressBytes(packet.dst);
  const payload = buildPayload(packet.payload, src, dst);
  const chain = buildExtensions(packet.extensions ?? [], protocolOf(packet.payload, 6));
  const header = new Uint8Array(40);
  const view = new DataView(header.buffer);
  const trafficClass = packet.tos ?? 0;
  view.setUint32(
    0,
    (((packet.lie?.version ?? 6) << 28) | (trafficClass << 20) | (packet.flowLabel ?? 0x12345)) >>> 0,
  );
  view.setUint16(4, packet.lie?.length ?? chain.bytes.length + payload.length);
  header[6] = packet.lie?.protocol ?? chain.first;
  header[7] = packet.ttl ?? 64;
  header.set(src, 8);
  header.set(dst, 24);
  return join(header, chain.bytes, payload);
}

const EXTENSION_PROTOCOL = {
  "hop-by-hop": PROTOCOL.hopByHop,
  "dest-opts": PROTOCOL.destOpts,
  routing: PROTOCOL.routing,
  fragment: PROTOCOL.fragment,
  ah: PROTOCOL.ah,
  esp: PROTOCOL.esp,
  none: PROTOCOL.none,
} as const;

function buildExtensions(
  extensions: readonly Extension[],
  upper: number,
): { first: number; bytes: Uint8Array } {
  let next: number = upper;
  let out = bytes();
  for (const extension of [...extensions].reverse()) {
    out = join(buildExtension(extension, next), out);
    next = EXTENSION_PROTOCOL[extension.kind];
  }
  return { first: next, bytes: out };
}

function buildExtension(extension: Extension, next: number): Uint8Array {
  switch (extension.kind) {
    case "hop-by-hop":
    case "dest-opts": {
      // PadN fills the header up: option type 1, its length, zeroes.
      const data = extension.data ?? bytes(1, 4, 0, 0, 0, 0);
      const body = padTo(join(bytes(next, 0), data), 8);
      body[1] = body.length / 8 - 1;
      return body;
    }
    case "routing": {
      const data = extension.data ?? bytes(0, 0, 0, 0);
      const body = padTo(join(bytes(next, 0, extension.type, extension.segmentsLeft), data), 8);
      body[1] = body.length / 8 - 1;
      return body;
    }
    case "fragment":
      return join(
        bytes(next, 0),
        u16((extension.offset << 3) | (extension.more ? 1 : 0)),
        u32(extension.id ?? 0xabcd),
      );
    case "ah": {
      const body = padTo(
        join(bytes(next, 0, 0, 0), u32(0x100), u32(1), extension.data ?? new Uint8Array(12)),
        8,
      );
      body[1] = body.length / 4 - 2;
      return body;
    }
    case "esp":
      return join(u32(0x200), u32(1));
    case "none":
      return bytes();
  }
}

function protocolOf(payload: Payload, family: 4 | 6): number {
  switch (payload.kind) {
    case "tcp":
      return PROTOCOL.tcp;
    case "udp":
      return PROTOCOL.udp;
    case "sctp":
      return PROTOCOL.sctp;
    case "icmp":
      return family === 6 ? PROTOCOL.icmp6 : PROTOCOL.icmp;
    case "raw":
      return payload.protocol;
  }
}

function buildPayload(payload: Payload, src: Uint8Array, dst: Uint8Array): Uint8Array {
  switch (payload.kind) {
    case "tcp":
      return buildTcp(payload, src, dst);
    case "udp":
      return buildUdp(payload, src, dst);
    case "sctp":
      return buildSctp(payload);
    case "icmp":
      return buildIcmp(payload, src, dst);
    case "raw":
      return payload.data;
  }
}

const TCP_FLAGS: Readonly<Record<string, number>> = { F: 1, S: 2, R: 4, P: 8, A: 16, U: 32 };

function buildTcp(segment: Tcp, src: Uint8Array, dst: Uint8Array): Uint8Array {
  const options = padTo(segment.options ?? bytes(), 4);
  const header = new Uint8Array(20 + options.length);
  const view = new DataView(header.buffer);
  view.setUint16(0, segment.sport);
  view.setUint16(2, segment.dport);
  view.setUint32(4, segment.seq ?? 1000);
  view.setUint32(8, segment.ack ?? (segment.flags.includes("A") ? 2000 : 0));
  header[12] = (segment.dataOffset ?? header.length / 4) << 4;
  for (const letter of segment.flags) {
    const bit = TCP_FLAGS[letter];
    if (bit === undefined) throw new RangeError(`Not a TCP flag: "${letter}"`);
    header[13] = (header[13] ?? 0) | bit;
  }
  view.setUint16(14, segment.window ?? 64240);
  header.set(options, 20);
  const out = join(header, segment.data ?? bytes());
  return withChecksum(out, 16, segment.checksum ?? "full", pseudoHeader(src, dst, PROTOCOL.tcp, out.length));
}

function buildUdp(datagram: Udp, src: Uint8Array, dst: Uint8Array): Uint8Array {
  const data = datagram.data ?? bytes();
  const length = datagram.length ?? 8 + data.length;
  const out = join(u16(datagram.sport), u16(datagram.dport), u16(length), u16(0), data);
  withChecksum(out, 6, datagram.checksum ?? "full", pseudoHeader(src, dst, PROTOCOL.udp, out.length));
  // RFC 768: a computed sum of zero is sent as all ones, since zero means "none".
  const computed = (datagram.checksum ?? "full") === "full";
  if (computed && out[6] === 0 && out[7] === 0) out.set([0xff, 0xff], 6);
  return out;
}

function buildSctp(packet: Sctp): Uint8Array {
  const chunks = packet.chunks.map(({ type, flags = 0, value = bytes() }) => {
    const number = typeof type === "number" ? type : CHUNK[type];
    return padTo(join(bytes(number, flags), u16(4 + value.length), value), 4);
  });
  const whole = join(u16(packet.sport), u16(packet.dport), u32(packet.tag ?? 0), u32(0), ...chunks);
  const out = new Uint8Array(packet.size ?? whole.length);
  out.set(whole.subarray(0, out.length));
  if (out.length < 12) return out;
  const checksum = packet.checksum ?? "full";
  const value = checksum === "full" ? crc32c(out) : checksum === "zero" ? 0 : checksum;
  new DataView(out.buffer).setUint32(8, value, true);
  return out;
}

function buildIcmp(message: Icmp, src: Uint8Array, dst: Uint8Array): Uint8Array {
  const out = join(bytes(message.type, message.code, 0, 0), message.rest ?? u32(0), message.body ?? bytes());
  const pseudo = src.length === 16 ? pseudoHeader(src, dst, PROTOCOL.icmp6, out.length) : bytes();
  return withChecksum(out, 2, message.checksum ?? "full", pseudo);
}

/** Writes the checksum field of `out` in place (it is zero now) and returns `out`. */
function withChecksum(out: Uint8Array, at: number, checksum: Checksum, pseudo: Uint8Array): Uint8Array {
  const value =
    checksum === "full"
      ? internetChecksum(pseudo, out)
      : checksum === "partial"
        ? onesComplementSum(pseudo)
        : checksum === "zero"
          ? 0
          : checksum;
  out.set(u16(value), at);
  return out;
}

export function bytes(...values: readonly number[]): Uint8Array {
  return Uint8Array.from(values);
}

export function join(...chunks: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

function u16(value: number): Uint8Array {
  return bytes((value >> 8) & 0xff, value & 0xff);
}

function u32(value: number): Uint8Array {
  return bytes((value >>> 24) & 0xff, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

function padTo(data: Uint8Array, unit: number): Uint8Array {
  const out = new Uint8Array(Math.ceil(data.length / unit) * unit);
  out.set(data);
  return out;
}
