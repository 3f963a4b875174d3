// SPDX-License-Identifier: Apache-2.0
/**
 * Takes frames apart into named fields, also those an ICMP error quotes, and recomputes every checksum whose bytes are
 * all there. Never throws: what it cannot follow becomes a field of raw bytes.
 */
import { PROTOCOL } from "./packet.js";
import { addressText, macText } from "./packet-address.js";
import { crc32c, internetChecksum, pseudoHeader } from "./packet-checksum.js";

export interface Field {
  /** Dotted path, such as `ip.dst` or `icmp.inner.tcp.sport`. */
  readonly name: string;
  readonly offset: number;
  readonly length: number;
  readonly text: string;
}

export interface ChecksumFinding {
  readonly name: string;
  readonly offset: number;
  /** How many hexadecimal digits the field has. */
  readonly digits: number;
  readonly found: number;
  readonly expected: number;
  readonly ok: boolean;
}

export interface Dissection {
  readonly fields: readonly Field[];
  readonly checksums: readonly ChecksumFinding[];
}

/** An Ethernet frame, field by field. */
export function dissectFrame(frame: Uint8Array): Dissection {
  const out = new Dissector(frame);
  out.frame();
  return out;
}

/** An IP packet without a link layer. */
export function dissectIp(packet: Uint8Array): Dissection {
  const out = new Dissector(packet);
  out.ip("", 0, packet.length, false);
  return out;
}

/** The value of one field as text; throws when the packet has none of that name. */
export function fieldText(dissection: Dissection, name: string): string {
  const field = dissection.fields.find((candidate) => candidate.name === name);
  if (field === undefined) {
    throw new Error(
      `The packet has no field "${name}"; it has ${dissection.fields.map((f) => f.name).join(", ")}`,
    );
  }
  return field.text;
}

/** One line for each wrong checksum of the frame. */
export function checksumProblems(frame: Uint8Array): string[] {
  return dissectFrame(frame)
    .checksums.filter((checksum) => !checksum.ok)
    .map((c) => `${c.name} is 0x${hex(c.found, c.digits)} and should be 0x${hex(c.expected, c.digits)}`);
}

type TransportKind = "tcp" | "udp" | "sctp" | "icmp" | "icmp6";

class Dissector implements Dissection {
  readonly fields: Field[] = [];
  readonly checksums: ChecksumFinding[] = [];
  readonly #data: Uint8Array;

  constructor(data: Uint8Array) {
    this.#data = data;
  }

  frame(): void {
    const data = this.#data;
    if (data.length < 14) {
      this.#raw("eth.data", 0, data.length);
      return;
    }
    this.#field("eth.dst", 0, 6, macText(data.subarray(0, 6)));
    this.#field("eth.src", 6, 6, macText(data.subarray(6, 12)));
    let type = this.#u16(12);
    let at = 14;
    this.#field("eth.type", 12, 2, `0x${hex16(type)}`);
    if (type === 0x8100 && data.length >= 18) {
      this.#number("vlan.tci", 14, 2);
      type = this.#u16(16);
      this.#field("vlan.type", 16, 2, `0x${hex16(type)}`);
      at = 18;
    }
    if (type === 0x0800 || type === 0x86dd) this.ip("", at, data.length, false);
    else this.#raw("eth.data", at, data.length);
  }

  /** The IP packet in [at, end). `quoted`: inside an ICMP error, where a cut is normal. */
  ip(prefix: string, at: number, end: number, quoted: boolean): void {
    const version = at < end ? this.#u8(at) >> 4 : 0;
    if (version === 4 && end - at >= 20) this.#ip4(prefix, at, end, quoted);
    else if (version === 6 && end - at >= 40) this.#ip6(prefix, at, end, quoted);
    else this.#raw(`${prefix}ip.data`, at, end);
  }

  #ip4(prefix: string, at: number, end: number, quoted: boolean): void {
    const headerLength = (this.#u8(at) & 15) * 4;
    this.#field(`${prefix}ip.version`, at, 1, `4, header ${headerLength} bytes`);
    this.#number(`${prefix}ip.tos`, at + 1, 1);
    this.#number(`${prefix}ip.length`, at + 2, 2);
    this.#number(`${prefix}ip.id`, at + 4, 2);
    const fragment = this.#u16(at + 6);
    this.#field(`${prefix}ip.fragment`, at + 6, 2, fragmentText(fragment));
    this.#number(`${prefix}ip.ttl`, at + 8, 1);
    this.#number(`${prefix}ip.protocol`, at + 9, 1);
    this.#field(`${prefix}ip.checksum`, at + 10, 2, `0x${hex16(this.#u16(at + 10))}`);
    this.#address(`${prefix}ip.src`, at + 12, 4);
    this.#address(`${prefix}ip.dst`, at + 16, 4);
    if (headerLength < 20 || at + headerLength > end) {
      this.#raw(`${prefix}ip.data`, at + 20, end);
      return;
    }
    this.#raw(`${prefix}ip.options`, at + 20, at + headerLength);
    this.#checksum(`${prefix}ip.checksum`, at + 10, new Uint8Array(), at, at + headerLength);

    const total = at + this.#u16(at + 2);
    const stop = Math.min(total, end);
    const whole = total <= end && (fragment & 0x3fff) === 0;
    const addresses = [at + 12, at + 16, 4] as const;
    if ((fragment & 0x1fff) === 0) {
      this.#transport(prefix, this.#u8(at + 9), at + headerLength, stop, addresses, whole, quoted);
    } else this.#raw(`${prefix}fragment.data`, at + headerLength, stop);
    this.#raw(`${prefix}trailer`, Math.max(stop, at + headerLength), end);
  }

  #ip6(prefix: string, at: number, end: number, quoted: boolean): void {
    const word = this.#u32(at);
    this.#field(`${prefix}ip.version`, at, 1, `6, class 0x${((word >>> 20) & 0xff).toString(16)}`);
    this.#field(`${prefix}ip.flow`, at + 1, 3, `0x${(word & 0xfffff).toString(16)}`);
    this.#number(`${prefix}ip.length`, at + 4, 2);
    this.#number(`${prefix}ip.protocol`, at + 6, 1);
    this.#number(`${prefix}ip.ttl`, at + 7, 1);
    this.#address(`${prefix}ip.src`, at + 8, 16);
    this.#address(`${prefix}ip.dst`, at + 24, 16);
    const total = at + 40 + this.#u16(at + 4);
    const stop = Math.min(total, end);
    const chain = this.#extensions(prefix, this.#u8(at + 6), at + 40, stop);
    const addresses = [at + 8, at + 24, 16] as const;
    if (chain.opaque) this.#raw(`${prefix}data`, chain.at, stop);
    else {
      const whole = total <= end && !chain.fragmented;
      this.#transport(prefix, chain.next, chain.at, stop, addresses, whole, quoted);
    }
    this.#raw(`${prefix}trailer`, stop, end);
  }

  #extensions(prefix: string, first: number, from: number, stop: number) {
    let next = first;
    let at = from;
    let fragmented = false;
    for (let index = 0; ; index++) {
      const name = EXTENSION_NAME[next];
      if (name === undefined) return { next, at, fragmented, opaque: false };
      const terminal = next === PROTOCOL.esp || next === PROTOCOL.none;
      if (terminal || at + 8 > stop) return { next, at, fragmented, opaque: true };
      const length =
        next === PROTOCOL.fragment
          ? 8
          : next === PROTOCOL.ah
            ? (this.#u8(at + 1) + 2) * 4
            : (this.#u8(at + 1) + 1) * 8;
      if (at + length > stop) return { next, at, fragmented, opaque: true };
      this.#field(`${prefix}ext${index}.${name}`, at, length, this.#hex(at, at + length));
      const piece = next === PROTOCOL.fragment ? this.#u16(at + 2) : 0;
      fragmented ||= (piece & 0xfff9) !== 0;
      next = this.#u8(at);
      at += length;
      if (piece >> 3 !== 0) return { next, at, fragmented, opaque: true };
    }
  }

  #transport(
    prefix: string,
    protocol: number,
    at: number,
    end: number,
    [src, dst, size]: readonly [number, number, number],
    whole: boolean,
    quoted: boolean,
  ): void {
    const kind = TRANSPORT[protocol];
    if (kind === undefined || end - at < 8) {
      this.#raw(`${prefix}data`, at, end);
      return;
    }
    const addresses = this.#data.subarray(src, src + size);
    const pseudo = (length: number) =>
      kind === "icmp"
        ? new Uint8Array()
        : pseudoHeader(addresses, this.#data.subarray(dst, dst + size), protocol, length);
    if (kind === "tcp") this.#tcp(`${prefix}tcp`, at, end, whole, pseudo);
    else if (kind === "udp") this.#udp(`${prefix}udp`, at, end, whole, pseudo);
    else if (kind === "sctp") this.#sctp(`${prefix}sctp`, at, end, whole);
    else this.#icmp(`${prefix}icmp`, kind, at, end, whole, quoted, pseudo);
  }

  #tcp(name: string, at: number, end: number, whole: boolean, pseudo: (length: number) => Uint8Array): void {
    this.#number(`${name}.sport`, at, 2);
    this.#number(`${name}.dport`, at + 2, 2);
    this.#number(`${name}.seq`, at + 4, 4);
    if (end - at < 20) {
      this.#raw(`${name}.data`, at + 8, end);
      return;
    }
    this.#number(`${name}.ack`, at + 8, 4);
    const flags = this.#u8(at + 13);
    const letters = [..."FSRPAU"].filter((_, bit) => (flags >> bit) & 1).join("");
    this.#field(`${name}.flags`, at + 12, 2, `${letters}, header ${(this.#u8(at + 12) >> 4) * 4} bytes`);
    this.#number(`${name}.window`, at + 14, 2);
    this.#field(`${name}.checksum`, at + 16, 2, `0x${hex16(this.#u16(at + 16))}`);
    this.#number(`${name}.urgent`, at + 18, 2);
    const dataAt = Math.min(end, Math.max(at + 20, at + (this.#u8(at + 12) >> 4) * 4));
    this.#raw(`${name}.options`, at + 20, dataAt);
    this.#raw(`${name}.data`, dataAt, end);
    if (whole) this.#checksum(`${name}.checksum`, at + 16, pseudo(end - at), at, end);
  }

  #udp(name: string, at: number, end: number, whole: boolean, pseudo: (length: number) => Uint8Array): void {
    this.#number(`${name}.sport`, at, 2);
    this.#number(`${name}.dport`, at + 2, 2);
    this.#number(`${name}.length`, at + 4, 2);
    const sum = this.#u16(at + 6);
    this.#field(`${name}.checksum`, at + 6, 2, `0x${hex16(sum)}`);
    this.#raw(`${name}.data`, at + 8, end);
    if (whole && sum !== 0) this.#checksum(`${name}.checksum`, at + 6, pseudo(end - at), at, end, 0xffff);
  }

  #sctp(name: string, at: number, end: number, whole: boolean): void {
    this.#number(`${name}.sport`, at, 2);
    this.#number(`${name}.dport`, at + 2, 2);
    this.#number(`${name}.tag`, at + 4, 4);
    if (end - at < 12) {
      this.#raw(`${name}.data`, at + 8, end);
      return;
    }
    const covered = this.#data.slice(at, end);
    const found = new DataView(covered.buffer).getUint32(8, true);
    this.#field(`${name}.checksum`, at + 8, 4, `0x${hex(found, 8)}`);
    let from = at + 12;
    for (let index = 0; end - from >= 4; index++) {
      const length = Math.max(4, this.#u16(from + 2));
      const stop = Math.min(end, from + Math.ceil(length / 4) * 4);
      this.#field(`${name}.chunk${index}.type`, from, 1, String(this.#u8(from)));
      this.#raw(`${name}.chunk${index}`, from + 1, stop);
      from = stop;
    }
    this.#raw(`${name}.data`, from, end);
    // Zero: the sum is still to be made.
    if (!whole || found === 0) return;
    covered.fill(0, 8, 12);
    const expected = crc32c(covered);
    const [offset, digits, ok] = [at + 8, 8, found === expected];
    this.checksums.push({ name: `${name}.checksum`, offset, digits, found, expected, ok });
  }

  #icmp(
    name: string,
    kind: TransportKind,
    at: number,
    end: number,
    whole: boolean,
    quoted: boolean,
    pseudo: (length: number) => Uint8Array,
  ): void {
    const type = this.#u8(at);
    this.#number(`${name}.type`, at, 1);
    this.#number(`${name}.code`, at + 1, 1);
    this.#field(`${name}.checksum`, at + 2, 2, `0x${hex16(this.#u16(at + 2))}`);
    this.#number(`${name}.rest`, at + 4, 4);
    const errors = kind === "icmp6" ? [1, 2, 3, 4] : [3, 5, 11, 12];
    if (!quoted && errors.includes(type)) this.ip(`${name}.inner.`, at + 8, end, true);
    else this.#raw(`${name}.data`, at + 8, end);
    if (whole) this.#checksum(`${name}.checksum`, at + 2, pseudo(end - at), at, end);
  }

  /** Compares the 16-bit field at `field` with the sum over `pseudo` and [from, to) without that field. */
  #checksum(name: string, field: number, pseudo: Uint8Array, from: number, to: number, zeroAs = 0): void {
    const covered = this.#data.slice(from, to);
    covered.set([0, 0], field - from);
    const expected = internetChecksum(pseudo, covered) || zeroAs;
    const found = this.#u16(field);
    this.checksums.push({ name, offset: field, digits: 4, found, expected, ok: found === expected });
  }

  #field(name: string, offset: number, length: number, text: string): void {
    this.fields.push({ name, offset, length, text });
  }

  #number(name: string, at: number, size: 1 | 2 | 4): void {
    const value = size === 1 ? this.#u8(at) : size === 2 ? this.#u16(at) : this.#u32(at);
    this.#field(name, at, size, String(value));
  }

  #address(name: string, at: number, size: number): void {
    this.#field(name, at, size, addressText(this.#data.subarray(at, at + size)));
  }

  #raw(name: string, from: number, to: number): void {
    if (to > from) this.#field(name, from, to - from, this.#hex(from, to));
  }

  #hex(from: number, to: number): string {
    return Buffer.from(this.#data.subarray(from, to)).toString("hex");
  }

  #u8(at: number): number {
    return this.#data[at] ?? 0;
  }

  #u16(at: number): number {
    return (this.#u8(at) << 8) | this.#u8(at + 1);
  }

  #u32(at: number): number {
    return ((this.#u16(at) << 16) | this.#u16(at + 2)) >>> 0;
  }
}

const TRANSPORT: Readonly<Record<number, TransportKind>> = {
  [PROTOCOL.tcp]: "tcp",
  [PROTOCOL.udp]: "udp",
  [PROTOCOL.sctp]: "sctp",
  [PROTOCOL.icmp]: "icmp",
  [PROTOCOL.icmp6]: "icmp6",
};

const EXTENSION_NAME: Readonly<Record<number, string>> = {
  [PROTOCOL.hopByHop]: "hop-by-hop",
  [PROTOCOL.routing]: "routing",
  [PROTOCOL.fragment]: "fragment",
  [PROTOCOL.destOpts]: "dest-opts",
  [PROTOCOL.ah]: "ah",
  [PROTOCOL.esp]: "esp",
  [PROTOCOL.none]: "none",
};

function fragmentText(word: number): string {
  const flags = [word & 0x4000 ? "DF" : "", word & 0x2000 ? "MF" : ""].filter(Boolean).join(" ");
  return `${flags || "-"}, offset ${(word & 0x1fff) * 8}`;
}

function hex16(value: number): string {
  return hex(value, 4);
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
