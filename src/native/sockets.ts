// SPDX-License-Identifier: Apache-2.0
/** Types of the socket hooks of a cgroup, and the end of UDP sockets whose backend is gone. */
import type { IpAddress } from "../net/ip.js";
import type { Ffi } from "./ffi.js";
import { ptlDestroyResultCodec, ptlSocketLinkCodec, ptlUdpTargetCodec } from "./portolan.gen.js";

/** Names of the programs without "ptl_", in the order of attaching: what translates back comes first. */
export const SOCKET_HOOKS = [
  "recvmsg4",
  "recvmsg6",
  "peername4",
  "peername6",
  "sendmsg4",
  "sendmsg6",
  "connect4",
  "connect6",
] as const;
export type SocketHook = (typeof SOCKET_HOOKS)[number];

/** Numbers of hooks; the three add up to eight. */
export interface AttachedSockets {
  readonly cgroupId: bigint;
  readonly added: number;
  /** A program of an earlier life was exchanged without a gap. */
  readonly replaced: number;
  /** Was attached to another cgroup. */
  readonly moved: number;
}

/** One hook that is attached. */
export interface SocketLink {
  readonly hook: SocketHook;
  /**
   * Compare with `cgroupId(directory)` of paths.ts. 0n: the cgroup is gone, and the link does nothing any more; a removed one
   * goes when the last of its sockets does.
   */
  readonly cgroupId: bigint;
  readonly linkId: number;
  readonly programId: number;
  readonly name: string;
  /** Hash of the program's instructions, 16 hex digits. */
  readonly tag: string;
}

/** A connected UDP socket, by its remote end. */
export interface UdpTarget {
  /** bpf_get_socket_cookie() of the one socket that is meant; 0n: every socket with this remote end. */
  readonly cookie: bigint;
  /** An IPv4 one is found in IPv6 sockets too, where it is v4-mapped. */
  readonly address: IpAddress;
  /** Host byte order. */
  readonly port: number;
}

export interface DestroyedSockets {
  /** How many such sockets there were. */
  readonly matched: number;
  /** Fewer: some went away by themselves meanwhile, or the kernel cannot do it. */
  readonly destroyed: number;
  /** The kernel cannot destroy sockets (CONFIG_INET_DIAG_DESTROY, CONFIG_INET_UDP_DIAG). */
  readonly unsupported: boolean;
}

const isHook = (name: string): name is SocketHook => (SOCKET_HOOKS as readonly string[]).includes(name);

export function socketLinks(ffi: Ffi, pins: string): SocketLink[] {
  const { size } = ptlSocketLinkCodec;
  const out = Buffer.alloc(SOCKET_HOOKS.length * size);
  const count = ffi.call("ptl_socket_links", pins, out, SOCKET_HOOKS.length);
  return Array.from({ length: count }, (_, i) => ptlSocketLinkCodec.decode(out, i * size)).flatMap((link) => {
    const { hook, cgroupId, linkId, programId, name } = link;
    if (!isHook(hook)) return [];
    return [{ hook, cgroupId, linkId, programId, name, tag: Buffer.from(link.tag).toString("hex") }];
  });
}

export async function destroyUdpSockets(ffi: Ffi, targets: readonly UdpTarget[]): Promise<DestroyedSockets> {
  if (targets.length === 0) return { matched: 0, destroyed: 0, unsupported: false };
  const { size } = ptlUdpTargetCodec;
  const packed = Buffer.alloc(targets.length * size);
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  for (const [i, { cookie, address, port }] of targets.entries())
    ptlUdpTargetCodec.encodeInto(view, i * size, {
      cookie,
      address: mapped(address.bytes),
      port: Uint8Array.of(port >> 8, port),
    });
  const out = Buffer.alloc(ptlDestroyResultCodec.size);
  await ffi.callAsync("ptl_destroy_udp", packed, targets.length, out);
  const { matched, destroyed, unsupported } = ptlDestroyResultCodec.decode(out);
  return { matched, destroyed, unsupported: unsupported !== 0 };
}

/** Sixteen bytes: IPv4 as ::ffff:a.b.c.d. */
function mapped(address: Uint8Array): Uint8Array {
  if (address.length === 16) return address;
  const out = new Uint8Array(16);
  out.fill(0xff, 10, 12);
  out.set(address, 12);
  return out;
}
