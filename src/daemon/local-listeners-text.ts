// SPDX-License-Identifier: Apache-2.0
/** Reads the text of /proc/net/{tcp,tcp6,udp,udp6}. Pure. */
import { type IpAddress, ipFromBytes } from "../net/ip.js";

/** A local address and port that a socket has. */
export interface BoundSocket {
  readonly address: IpAddress;
  /** Host order. */
  readonly port: number;
}

/** How the kernel prints an address: 32-bit words in the machine's byte order. */
export type Endianness = "LE" | "BE";

/**
 * One line of a socket without a peer: number, local address, no remote address, state. All of a table's text is matched at
 * once; what does not look like this (the heading, other sockets, anything else) is passed over.
 */
function socketLines(state: "07" | "0A"): RegExp {
  return new RegExp(`^ *\\d+: ([0-9A-F]{8}(?:[0-9A-F]{24})?):([0-9A-F]{4}) 0+:0000 ${state} `, "gm");
}

const LISTEN = socketLines("0A");
const UNCONNECTED = socketLines("07");

/** Sockets in LISTEN, in the text of /proc/net/tcp or tcp6. */
export function parseTcpListeners(text: string, endianness: Endianness): readonly BoundSocket[] {
  return parseSockets(text, LISTEN, endianness);
}

/** Sockets that are bound and not connected, in the text of /proc/net/udp or udp6. */
export function parseUdpSockets(text: string, endianness: Endianness): readonly BoundSocket[] {
  return parseSockets(text, UNCONNECTED, endianness);
}

function parseSockets(text: string, lines: RegExp, endianness: Endianness): readonly BoundSocket[] {
  const sockets: BoundSocket[] = [];
  // Thousands of sockets have few addresses.
  const known = new Map<string, IpAddress>();
  for (const [, words = "", portText = ""] of text.matchAll(lines)) {
    const port = Number.parseInt(portText, 16);
    if (port === 0) continue;
    let address = known.get(words);
    if (address === undefined) {
      address = ipFromBytes(addressBytes(words, endianness));
      known.set(words, address);
    }
    sockets.push({ address, port });
  }
  return sockets;
}

function addressBytes(words: string, endianness: Endianness): Uint8Array {
  const bytes = Uint8Array.from(Buffer.from(words, "hex"));
  if (endianness === "LE") for (let i = 0; i < bytes.length; i += 4) bytes.subarray(i, i + 4).reverse();
  return bytes;
}

/**
 * The same, one piece of text after the other, of a table in which the kernel prints the sockets in LISTEN before all others
 * (as it does in tcp and tcp6). So a node with a million connections is not asked for all of them.
 */
export class TcpListenerReader {
  readonly #endianness: Endianness;
  readonly #sockets: BoundSocket[] = [];
  #rest = "";
  #done = false;

  constructor(endianness: Endianness) {
    this.#endianness = endianness;
  }

  /** What was found so far. */
  get sockets(): readonly BoundSocket[] {
    return this.#sockets;
  }

  /** @returns whether more text is wanted: false once a socket in another state has come */
  push(piece: string): boolean {
    if (this.#done) return false;
    const text = this.#rest + piece;
    const end = text.lastIndexOf("\n") + 1;
    const whole = text.slice(0, end);
    this.#rest = text.slice(end);
    // A line is 150 bytes: what is longer is no table.
    if (this.#rest.length > LONGEST_LINE) this.#done = true;
    for (const socket of parseTcpListeners(whole, this.#endianness)) this.#sockets.push(socket);
    if (OTHER_STATE.test(whole)) this.#done = true;
    return !this.#done;
  }
}

const LONGEST_LINE = 4096;
const OTHER_STATE = /^ *\d+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} (?!0A)[0-9A-F]{2} /m;
