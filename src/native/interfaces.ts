// SPDX-License-Identifier: Apache-2.0
/** Interfaces and their addresses: a snapshot, and events as they change. All of the process's network namespace. */
import { Socket } from "node:net";
import type { Ffi } from "./ffi.js";
import {
  EventGroup,
  EventKind,
  ptlAddressCodec,
  ptlEventCodec,
  ptlLinkCodec,
  ptlLinksHeaderCodec,
} from "./portolan.gen.js";

export interface InterfaceAddress {
  readonly family: 4 | 6;
  /** 4 or 16 bytes, network order. */
  readonly address: Uint8Array;
  /** Length of the prefix. */
  readonly prefix: number;
  /** RT_SCOPE_*: 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** IFA_F_* (0x40: tentative, 0x80: permanent, 0x20: deprecated). */
  readonly flags: number;
}

export interface NetworkInterface {
  readonly ifindex: number;
  readonly name: string;
  /** "veth", "bridge", "vxlan" …; "" for hardware and the loopback. */
  readonly kind: string;
  /** ifindex of the bridge or bond that it belongs to; 0: none. */
  readonly master: number;
  /** "bridge" for a port of a bridge; "". */
  readonly masterKind: string;
  /** At its root; "noqueue": packets leave as they come. */
  readonly qdisc: string;
  /** IFF_*: 1 up, 8 loopback, 0x40 running. */
  readonly flags: number;
  readonly mtu: number;
  /** ARPHRD_*: 1 Ethernet, 772 loopback. */
  readonly arpType: number;
  /** IFLA_LINK: the other end of a veth, the device below a vxlan; 0: none. */
  readonly peer: number;
  /** Id of the namespace that `peer` is in; null: this one. */
  readonly peerNamespace: number | null;
  readonly addresses: readonly InterfaceAddress[];
}

export type InterfaceEvent =
  | {
      readonly kind: "link" | "link-gone";
      readonly ifindex: number;
      readonly name: string;
      readonly master: number;
      readonly flags: number;
    }
  | {
      readonly kind: "address" | "address-gone";
      readonly ifindex: number;
      readonly family: 4 | 6;
      readonly address: Uint8Array;
      readonly prefix: number;
    }
  | { readonly kind: "route" }
  /** Events were lost: dump again. */
  | { readonly kind: "resync" };

export type EventTopic = "link" | "address" | "route";

export interface InterfaceWatch {
  /** Stops the events. Idempotent. */
  close(): void;
}

const TOPICS: Readonly<Record<EventTopic, number>> = {
  link: EventGroup.GROUP_LINK,
  address: EventGroup.GROUP_ADDRESS,
  route: EventGroup.GROUP_ROUTE,
};

const familyOf = (number: number): 4 | 6 => (number === 4 ? 4 : 6);

function trimAddress(family: 4 | 6, address: Uint8Array): Uint8Array {
  return family === 4 ? address.slice(0, 4) : address;
}

/** All interfaces with their addresses, by ifindex. */
export function dumpInterfaces(ffi: Ffi): readonly NetworkInterface[] {
  let bytes = Buffer.alloc(64 * 1024);
  for (;;) {
    const needed = ffi.call("ptl_links_dump", bytes, bytes.length);
    if (needed <= bytes.length) return decodeInterfaces(bytes);
    // Interfaces may be added between the two calls.
    bytes = Buffer.alloc(needed + 16 * 1024);
  }
}

function decodeInterfaces(bytes: Uint8Array): NetworkInterface[] {
  const header = ptlLinksHeaderCodec.decode(bytes);
  const linksAt = ptlLinksHeaderCodec.size;
  const addressesAt = linksAt + header.links * ptlLinkCodec.size;
  const addresses = new Map<number, InterfaceAddress[]>();
  for (let i = 0; i < header.addresses; i++) {
    const entry = ptlAddressCodec.decode(bytes, addressesAt + i * ptlAddressCodec.size);
    const family = familyOf(entry.family);
    const { prefix, scope, flags } = entry;
    const list = addresses.get(entry.ifindex) ?? [];
    list.push({ family, address: trimAddress(family, entry.address), prefix, scope, flags });
    addresses.set(entry.ifindex, list);
  }
  return Array.from({ length: header.links }, (_, i) => {
    const link = ptlLinkCodec.decode(bytes, linksAt + i * ptlLinkCodec.size);
    const { peerNetns, ...rest } = link;
    return {
      ...rest,
      peerNamespace: peerNetns < 0 ? null : peerNetns,
      addresses: addresses.get(link.ifindex) ?? [],
    };
  });
}

/**
 * Calls `onEvent` for each change until closed; `onError` when the stream breaks (then dump and watch again). Watch first
 * and dump afterwards, so that nothing falls between the two.
 */
export function watchInterfaces(
  ffi: Ffi,
  topics: readonly EventTopic[],
  onEvent: (event: InterfaceEvent) => void,
  onError: (error: Error) => void,
): InterfaceWatch {
  const fd = Buffer.alloc(4);
  const groups = topics.reduce((bits, topic) => bits | TOPICS[topic], 0);
  const handle = ffi.call("ptl_events_open", groups, fd);
  const socket = new Socket({ fd: fd.readInt32LE(0), readable: true, writable: false });
  let open = true;
  let rest: Buffer = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    const { size } = ptlEventCodec;
    const all = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    const whole = all.length - (all.length % size);
    rest = Buffer.from(all.subarray(whole));
    for (let at = 0; at < whole && open; at += size) {
      const event = decodeEvent(all, at);
      if (event) onEvent(event);
    }
  });
  const broken = (error?: Error): void => {
    if (open) onError(error ?? new Error("The interface events have ended"));
  };
  socket.on("error", broken);
  socket.on("end", () => broken());
  return {
    close(): void {
      if (!open) return;
      open = false;
      socket.destroy();
      ffi.callRaw("ptl_events_close", handle);
    },
  };
}

function decodeEvent(bytes: Uint8Array, offset: number): InterfaceEvent | null {
  const event = ptlEventCodec.decode(bytes, offset);
  const { ifindex, name, master, flags, prefix } = event;
  switch (event.kind) {
    case EventKind.EVENT_LINK:
    case EventKind.EVENT_LINK_GONE:
      return {
        kind: event.kind === EventKind.EVENT_LINK ? "link" : "link-gone",
        ifindex,
        name,
        master,
        flags,
      };
    case EventKind.EVENT_ADDRESS:
    case EventKind.EVENT_ADDRESS_GONE: {
      const family = familyOf(event.family);
      const address = trimAddress(family, event.address);
      const kind = event.kind === EventKind.EVENT_ADDRESS ? "address" : "address-gone";
      return { kind, ifindex, family, address, prefix };
    }
    case EventKind.EVENT_ROUTE:
      return { kind: "route" };
    case EventKind.EVENT_RESYNC:
      return { kind: "resync" };
    default:
      return null;
  }
}
