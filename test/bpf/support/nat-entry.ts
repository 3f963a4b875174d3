// SPDX-License-Identifier: Apache-2.0
/**
 * Entries of `nat4/6` as lines of text that are the same in both families:
 *
 *     IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply [reply]
 *
 * The key before the arrow, what is written into the packet after it, then what the flow has shown, then the flags.
 */
import { Direction, NatFlag, NatState } from "../../../src/abi/enums.gen.js";
import {
  type NatKey4,
  type NatValue4,
  natKey4Codec,
  natKey6Codec,
  natValue4Codec,
  natValue6Codec,
} from "../../../src/abi/layout.gen.js";
import { addressBytes } from "../../support/packet-address.js";
import { type Addresses, addressesOf, type Family, type Host, hostName } from "./addresses.js";

/** NatKey4 and NatKey6 have the same fields; so do the values. */
export interface NatEntry {
  readonly key: NatKey4;
  readonly value: NatValue4;
}

const PROTOCOLS: readonly (readonly [string, number])[] = [
  ["tcp", 6],
  ["udp", 17],
  ["sctp", 132],
];

const STATES: readonly (readonly [string, number])[] = [
  ["forward", NatState.SEEN_FORWARD],
  ["reply", NatState.SEEN_REPLY],
  ["established", NatState.ESTABLISHED],
  ["fin-forward", NatState.FIN_FORWARD],
  ["fin-reply", NatState.FIN_REPLY],
  ["rst-forward", NatState.RST_FORWARD],
  ["rst-reply", NatState.RST_REPLY],
];

const FLAGS: readonly (readonly [string, number])[] = [
  ["reply", NatFlag.NAT_REPLY],
  ["pending", NatFlag.NAT_PENDING],
  ["direct", NatFlag.NAT_DIRECT],
  ["masquerade", NatFlag.NAT_MASQUERADE],
  ["xdp", NatFlag.NAT_XDP],
  ["shortcut", NatFlag.NAT_SHORTCUT],
];

export function decodeNat(family: Family, key: Uint8Array, value: Uint8Array): NatEntry {
  return family === 4
    ? { key: natKey4Codec.decode(key), value: natValue4Codec.decode(value) }
    : { key: natKey6Codec.decode(key), value: natValue6Codec.decode(value) };
}

/** Key and value bytes; the check is computed here. */
export function encodeNat(family: Family, entry: NatEntry): { key: Uint8Array; value: Uint8Array } {
  const key = (family === 4 ? natKey4Codec : natKey6Codec).encode(entry.key);
  const codec = family === 4 ? natValue4Codec : natValue6Codec;
  const unchecked = codec.encode({ ...entry.value, check: 0 });
  const covered = unchecked.subarray(0, codec.offsets.check);
  return { key, value: codec.encode({ ...entry.value, check: natCheck(key, covered) }) };
}

/** ptl_nat_check() of abi.h over the bytes of a key and of the address and ports of a value. */
export function natCheck(key: Uint8Array, rewrite: Uint8Array): number {
  let sum = 0x2545f491;
  const add = (bytes: Uint8Array, factor: number) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < bytes.length / 4; i++) {
      sum = (sum + Math.imul(view.getUint32(i * 4, true) ^ i, Math.imul(factor, 2 * i + 1))) | 0;
    }
  };
  add(key, 0x9e3779b1);
  add(rewrite, 0x85ebca6b);
  return (sum ^ (sum >>> 15)) >>> 0;
}

export function natText({ key, value }: NatEntry): string {
  const direction = key.direction === Direction.IN ? "IN" : "OUT";
  const protocol = PROTOCOLS.find(([, number]) => number === key.protocol)?.[0] ?? String(key.protocol);
  const flags = bitsText(value.flags, FLAGS);
  return (
    `${direction} ${protocol} ${hostName(key.src)}:${key.sport} > ${hostName(key.dst)}:${key.dport}` +
    ` => ${hostName(value.addr)}:${value.port}, peer ${value.peerPort}, ${bitsText(value.state, STATES)}` +
    (flags === "" ? "" : ` [${flags}]`)
  );
}

/** What a line does not say. */
export interface NatRest {
  readonly backend: number;
  readonly generation: number;
  readonly lastSeen: number;
  readonly service: number;
}

const LINE =
  /^(IN|OUT) (\w+) (\w+):(\d+) > (\w+):(\d+) => (\w+):(\d+), peer (\d+), ([a-z -]*?)(?: \[([a-z ]+)\])?$/;

/** The inverse of natText(). Throws on a line it does not understand. */
export function parseNat(family: Family, line: string, rest: NatRest): NatEntry {
  const match = LINE.exec(line);
  if (match === null) throw new SyntaxError(`Not a nat entry: "${line}"`);
  const [, direction, protocol, src, sport, dst, dport, to, toPort, peer, states, flags] = match;
  const at = addressesOf(family);
  const address = (name: string | undefined) => addressBytes(hostAddress(at, name ?? ""));
  return {
    key: {
      src: address(src),
      dst: address(dst),
      sport: Number(sport),
      dport: Number(dport),
      protocol: bits(protocol ?? "", PROTOCOLS),
      direction: direction === "IN" ? Direction.IN : Direction.OUT,
    },
    value: {
      addr: address(to),
      port: Number(toPort),
      peerPort: Number(peer),
      check: 0,
      state: bits(states ?? "", STATES),
      flags: bits(flags ?? "", FLAGS),
      ...rest,
    },
  };
}

function hostAddress(at: Addresses, name: string): string {
  const address = at[name as Host];
  if (address === undefined) throw new RangeError(`No host is called "${name}"`);
  return address;
}

function bitsText(value: number, names: readonly (readonly [string, number])[]): string {
  return names
    .filter(([, bit]) => (value & bit) !== 0)
    .map(([name]) => name)
    .join(" ");
}

function bits(words: string, names: readonly (readonly [string, number])[]): number {
  let value = 0;
  for (const word of words.split(" ").filter(Boolean)) {
    const bit = names.find(([name]) => name === word)?.[1];
    if (bit === undefined) throw new SyntaxError(`Not one of ${names.map(([n]) => n).join(", ")}: "${word}"`);
    value |= bit;
  }
  return value;
}
