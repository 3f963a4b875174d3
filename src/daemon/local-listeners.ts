// SPDX-License-Identifier: Apache-2.0
/**
 * The transport addresses that programs of this host have taken: frontends there would capture their clients. Of the process's
 * own network namespace.
 */
import { open, readFile } from "node:fs/promises";
import { endianness } from "node:os";
import type { ReservedAddress } from "../model/types.js";
import { type IpAddress, specialUse } from "../net/ip.js";
import { localPortRange } from "./host-facts.js";
import { type BoundSocket, parseUdpSockets, TcpListenerReader } from "./local-listeners-text.js";
import type { PortRange } from "./snat-ports.js";

/** A socket to leave out: one of our own. */
export interface ExcludedListener {
  /** null: every address. */
  readonly address: IpAddress | null;
  /** TCP. */
  readonly port: number;
}

export interface ListenerTables {
  readonly tcp: readonly BoundSocket[];
  readonly udp: readonly BoundSocket[];
  /** net.ipv4.ip_local_port_range; null when it is not known. */
  readonly ephemeral: PortRange | null;
}

const PIECE_BYTES = 64 << 10;

/** @throws nothing: what cannot be read (no IPv6 here) has no sockets */
export async function readListeners(
  exclude: readonly ExcludedListener[] = [],
): Promise<readonly ReservedAddress[]> {
  const [tcp4, tcp6, udp4, udp6] = await Promise.all([
    readTcp("/proc/net/tcp"),
    readTcp("/proc/net/tcp6"),
    readUdp("/proc/net/udp"),
    readUdp("/proc/net/udp6"),
  ]);
  const udp = [...udp4, ...udp6];
  return reservedAddresses({ tcp: [...tcp4, ...tcp6], udp, ephemeral: localPortRange() }, exclude);
}

/** In pieces, and no further than the listening sockets, which come first. */
async function readTcp(path: string): Promise<readonly BoundSocket[]> {
  const reader = new TcpListenerReader(endianness());
  try {
    const file = await open(path, "r");
    try {
      const piece = Buffer.alloc(PIECE_BYTES);
      for (;;) {
        const { bytesRead } = await file.read(piece, 0, PIECE_BYTES, null);
        if (bytesRead === 0 || !reader.push(piece.toString("latin1", 0, bytesRead))) break;
      }
    } finally {
      await file.close();
    }
  } catch {
    // Without this table: no sockets of this kind, or none that anybody could know of.
  }
  return reader.sockets;
}

async function readUdp(path: string): Promise<readonly BoundSocket[]> {
  try {
    return parseUdpSockets(await readFile(path, "latin1"), endianness());
  } catch {
    return [];
  }
}

const USES = { TCP: "a listening socket", UDP: "a bound UDP socket" } as const;

/**
 * What no frontend may capture. A socket that is bound to a wildcard stands for every local address of both families: one of
 * IPv6 takes IPv4 too unless it was told otherwise, which its line does not show. Left out are sockets that only this host
 * reaches (loopback), UDP sockets on ephemeral ports, which belong to clients, and `exclude`. Sorted by protocol, port and
 * address, without repetition.
 */
export function reservedAddresses(
  { tcp, udp, ephemeral }: ListenerTables,
  exclude: readonly ExcludedListener[] = [],
): readonly ReservedAddress[] {
  const isEphemeral = (port: number): boolean =>
    ephemeral !== null && port >= ephemeral.first && port <= ephemeral.last;
  const excluded = new Set(exclude.map(({ address, port }) => `TCP ${port} ${address?.text ?? "*"}`));
  const reserved = new Map<string, ReservedAddress>();
  const add = ({ address, port }: BoundSocket, protocol: "TCP" | "UDP"): void => {
    const kind = specialUse(address);
    if (kind === "loopback") return;
    const wildcard = kind === "unspecified";
    const key = `${protocol} ${port} ${wildcard ? "*" : address.text}`;
    if (excluded.has(key) || reserved.has(key)) return;
    reserved.set(key, { address: wildcard ? null : address, port, protocol, use: USES[protocol] });
  };
  for (const socket of tcp) add(socket, "TCP");
  for (const socket of udp) if (!isEphemeral(socket.port)) add(socket, "UDP");
  return Array.from(reserved.values()).sort(inOrder);
}

function inOrder(a: ReservedAddress, b: ReservedAddress): number {
  if (a.protocol !== b.protocol) return a.protocol < b.protocol ? -1 : 1;
  if (a.port !== b.port) return a.port - b.port;
  const [x, y] = [a.address?.text ?? "", b.address?.text ?? ""];
  return x < y ? -1 : x > y ? 1 : 0;
}
