// SPDX-License-Identifier: Apache-2.0
// GENERATED from bpf/include/*.h by scripts/gen-abi.ts (make abi). Do not edit.
import { type Codec, codec, getBytes, getText, putBytes, putText } from "./codec.js";

/** struct addr_port4, 8 bytes. */
export interface AddrPort4 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly protocol: number;
}

export const addrPort4Codec: Codec<AddrPort4> = codec<AddrPort4>({
  name: "addr_port4",
  size: 8,
  offsets: { addr: 0, port: 4, protocol: 6, pad: 7 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 4, fields.addr, "addr_port4.addr");
    view.setUint16(offset + 4, fields.port, false);
    view.setUint8(offset + 6, fields.protocol);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 4),
    port: view.getUint16(offset + 4, false),
    protocol: view.getUint8(offset + 6),
  }),
});

/** struct addr_port6, 20 bytes. */
export interface AddrPort6 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly protocol: number;
}

export const addrPort6Codec: Codec<AddrPort6> = codec<AddrPort6>({
  name: "addr_port6",
  size: 20,
  offsets: { addr: 0, port: 16, protocol: 18, pad: 19 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.addr, "addr_port6.addr");
    view.setUint16(offset + 16, fields.port, false);
    view.setUint8(offset + 18, fields.protocol);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 16),
    port: view.getUint16(offset + 16, false),
    protocol: view.getUint8(offset + 18),
  }),
});

/** struct affinity, 16 bytes. */
export interface Affinity {
  readonly backend: number;
  readonly generation: number;
  readonly lastNew: bigint;
}

export const affinityCodec: Codec<Affinity> = codec<Affinity>({
  name: "affinity",
  size: 16,
  offsets: { backend: 0, generation: 4, lastNew: 8 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.backend, true);
    view.setUint32(offset + 4, fields.generation, true);
    view.setBigUint64(offset + 8, fields.lastNew, true);
  },
  decodeFrom: (view, offset) => ({
    backend: view.getUint32(offset, true),
    generation: view.getUint32(offset + 4, true),
    lastNew: view.getBigUint64(offset + 8, true),
  }),
});

/** struct affinity_key4, 8 bytes. */
export interface AffinityKey4 {
  readonly client: Uint8Array;
  readonly service: number;
}

export const affinityKey4Codec: Codec<AffinityKey4> = codec<AffinityKey4>({
  name: "affinity_key4",
  size: 8,
  offsets: { client: 0, service: 4 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 4, fields.client, "affinity_key4.client");
    view.setUint32(offset + 4, fields.service, true);
  },
  decodeFrom: (view, offset) => ({
    client: getBytes(view, offset, 4),
    service: view.getUint32(offset + 4, true),
  }),
});

/** struct affinity_key6, 20 bytes. */
export interface AffinityKey6 {
  readonly client: Uint8Array;
  readonly service: number;
}

export const affinityKey6Codec: Codec<AffinityKey6> = codec<AffinityKey6>({
  name: "affinity_key6",
  size: 20,
  offsets: { client: 0, service: 16 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.client, "affinity_key6.client");
    view.setUint32(offset + 16, fields.service, true);
  },
  decodeFrom: (view, offset) => ({
    client: getBytes(view, offset, 16),
    service: view.getUint32(offset + 16, true),
  }),
});

/** struct backend4, 16 bytes. */
export interface Backend4 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly state: number;
  readonly flags: number;
  readonly generation: number;
  readonly service: number;
}

export const backend4Codec: Codec<Backend4> = codec<Backend4>({
  name: "backend4",
  size: 16,
  offsets: { addr: 0, port: 4, state: 6, flags: 7, generation: 8, service: 12 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 4, fields.addr, "backend4.addr");
    view.setUint16(offset + 4, fields.port, false);
    view.setUint8(offset + 6, fields.state);
    view.setUint8(offset + 7, fields.flags);
    view.setUint32(offset + 8, fields.generation, true);
    view.setUint32(offset + 12, fields.service, true);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 4),
    port: view.getUint16(offset + 4, false),
    state: view.getUint8(offset + 6),
    flags: view.getUint8(offset + 7),
    generation: view.getUint32(offset + 8, true),
    service: view.getUint32(offset + 12, true),
  }),
});

/** struct backend6, 28 bytes. */
export interface Backend6 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly state: number;
  readonly flags: number;
  readonly generation: number;
  readonly service: number;
}

export const backend6Codec: Codec<Backend6> = codec<Backend6>({
  name: "backend6",
  size: 28,
  offsets: { addr: 0, port: 16, state: 18, flags: 19, generation: 20, service: 24 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.addr, "backend6.addr");
    view.setUint16(offset + 16, fields.port, false);
    view.setUint8(offset + 18, fields.state);
    view.setUint8(offset + 19, fields.flags);
    view.setUint32(offset + 20, fields.generation, true);
    view.setUint32(offset + 24, fields.service, true);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 16),
    port: view.getUint16(offset + 16, false),
    state: view.getUint8(offset + 18),
    flags: view.getUint8(offset + 19),
    generation: view.getUint32(offset + 20, true),
    service: view.getUint32(offset + 24, true),
  }),
});

/** struct flow_event, 104 bytes. */
export interface FlowEvent {
  readonly time: bigint;
  readonly cookie: bigint;
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly addr: Uint8Array;
  readonly sport: number;
  readonly dport: number;
  readonly port: number;
  readonly family: number;
  readonly protocol: number;
  readonly kind: number;
  readonly direction: number;
  readonly reason: number;
  readonly ifindex: number;
  readonly length: number;
  readonly service: number;
  readonly backend: number;
  readonly generation: number;
  readonly natFlags: number;
  readonly frontendFlags: number;
  readonly why: number;
  readonly tcpFlags: number;
}

export const flowEventCodec: Codec<FlowEvent> = codec<FlowEvent>({
  name: "flow_event",
  size: 104,
  offsets: { time: 0, cookie: 8, src: 16, dst: 32, addr: 48, sport: 64, dport: 66, port: 68, family: 70, protocol: 71, kind: 72, direction: 73, reason: 74, ifindex: 76, length: 80, service: 84, backend: 88, generation: 92, natFlags: 96, frontendFlags: 98, why: 100, tcpFlags: 102, pad: 103 },
  encodeInto(view, offset, fields) {
    view.setBigUint64(offset, fields.time, true);
    view.setBigUint64(offset + 8, fields.cookie, true);
    putBytes(view, offset + 16, 16, fields.src, "flow_event.src");
    putBytes(view, offset + 32, 16, fields.dst, "flow_event.dst");
    putBytes(view, offset + 48, 16, fields.addr, "flow_event.addr");
    view.setUint16(offset + 64, fields.sport, false);
    view.setUint16(offset + 66, fields.dport, false);
    view.setUint16(offset + 68, fields.port, false);
    view.setUint8(offset + 70, fields.family);
    view.setUint8(offset + 71, fields.protocol);
    view.setUint8(offset + 72, fields.kind);
    view.setUint8(offset + 73, fields.direction);
    view.setUint16(offset + 74, fields.reason, true);
    view.setUint32(offset + 76, fields.ifindex, true);
    view.setUint32(offset + 80, fields.length, true);
    view.setUint32(offset + 84, fields.service, true);
    view.setUint32(offset + 88, fields.backend, true);
    view.setUint32(offset + 92, fields.generation, true);
    view.setUint16(offset + 96, fields.natFlags, true);
    view.setUint16(offset + 98, fields.frontendFlags, true);
    view.setUint16(offset + 100, fields.why, true);
    view.setUint8(offset + 102, fields.tcpFlags);
  },
  decodeFrom: (view, offset) => ({
    time: view.getBigUint64(offset, true),
    cookie: view.getBigUint64(offset + 8, true),
    src: getBytes(view, offset + 16, 16),
    dst: getBytes(view, offset + 32, 16),
    addr: getBytes(view, offset + 48, 16),
    sport: view.getUint16(offset + 64, false),
    dport: view.getUint16(offset + 66, false),
    port: view.getUint16(offset + 68, false),
    family: view.getUint8(offset + 70),
    protocol: view.getUint8(offset + 71),
    kind: view.getUint8(offset + 72),
    direction: view.getUint8(offset + 73),
    reason: view.getUint16(offset + 74, true),
    ifindex: view.getUint32(offset + 76, true),
    length: view.getUint32(offset + 80, true),
    service: view.getUint32(offset + 84, true),
    backend: view.getUint32(offset + 88, true),
    generation: view.getUint32(offset + 92, true),
    natFlags: view.getUint16(offset + 96, true),
    frontendFlags: view.getUint16(offset + 98, true),
    why: view.getUint16(offset + 100, true),
    tcpFlags: view.getUint8(offset + 102),
  }),
});

/** struct fragment, 4 bytes. */
export interface Fragment {
  readonly sport: number;
  readonly dport: number;
}

export const fragmentCodec: Codec<Fragment> = codec<Fragment>({
  name: "fragment",
  size: 4,
  offsets: { sport: 0, dport: 2 },
  encodeInto(view, offset, fields) {
    view.setUint16(offset, fields.sport, false);
    view.setUint16(offset + 2, fields.dport, false);
  },
  decodeFrom: (view, offset) => ({
    sport: view.getUint16(offset, false),
    dport: view.getUint16(offset + 2, false),
  }),
});

/** struct fragment_key4, 16 bytes. */
export interface FragmentKey4 {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly id: number;
  readonly protocol: number;
  readonly direction: number;
}

export const fragmentKey4Codec: Codec<FragmentKey4> = codec<FragmentKey4>({
  name: "fragment_key4",
  size: 16,
  offsets: { src: 0, dst: 4, id: 8, protocol: 12, direction: 13, pad: 14 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 4, fields.src, "fragment_key4.src");
    putBytes(view, offset + 4, 4, fields.dst, "fragment_key4.dst");
    view.setUint32(offset + 8, fields.id, true);
    view.setUint8(offset + 12, fields.protocol);
    view.setUint8(offset + 13, fields.direction);
  },
  decodeFrom: (view, offset) => ({
    src: getBytes(view, offset, 4),
    dst: getBytes(view, offset + 4, 4),
    id: view.getUint32(offset + 8, true),
    protocol: view.getUint8(offset + 12),
    direction: view.getUint8(offset + 13),
  }),
});

/** struct fragment_key6, 40 bytes. */
export interface FragmentKey6 {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly id: number;
  readonly protocol: number;
  readonly direction: number;
}

export const fragmentKey6Codec: Codec<FragmentKey6> = codec<FragmentKey6>({
  name: "fragment_key6",
  size: 40,
  offsets: { src: 0, dst: 16, id: 32, protocol: 36, direction: 37, pad: 38 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.src, "fragment_key6.src");
    putBytes(view, offset + 16, 16, fields.dst, "fragment_key6.dst");
    view.setUint32(offset + 32, fields.id, true);
    view.setUint8(offset + 36, fields.protocol);
    view.setUint8(offset + 37, fields.direction);
  },
  decodeFrom: (view, offset) => ({
    src: getBytes(view, offset, 16),
    dst: getBytes(view, offset + 16, 16),
    id: view.getUint32(offset + 32, true),
    protocol: view.getUint8(offset + 36),
    direction: view.getUint8(offset + 37),
  }),
});

/** struct frontend, 32 bytes. */
export interface Frontend {
  readonly internal: bigint;
  readonly external: bigint;
  readonly service: number;
  readonly affinitySeconds: number;
  readonly flags: number;
}

export const frontendCodec: Codec<Frontend> = codec<Frontend>({
  name: "frontend",
  size: 32,
  offsets: { internal: 0, external: 8, service: 16, affinitySeconds: 20, flags: 24, pad: 28 },
  encodeInto(view, offset, fields) {
    view.setBigUint64(offset, fields.internal, true);
    view.setBigUint64(offset + 8, fields.external, true);
    view.setUint32(offset + 16, fields.service, true);
    view.setUint32(offset + 20, fields.affinitySeconds, true);
    view.setUint32(offset + 24, fields.flags, true);
  },
  decodeFrom: (view, offset) => ({
    internal: view.getBigUint64(offset, true),
    external: view.getBigUint64(offset + 8, true),
    service: view.getUint32(offset + 16, true),
    affinitySeconds: view.getUint32(offset + 20, true),
    flags: view.getUint32(offset + 24, true),
  }),
});

/** struct interface, 28 bytes. */
export interface Interface {
  readonly role: number;
  readonly mtu: number;
  readonly masquerade4: Uint8Array;
  readonly masquerade6: Uint8Array;
  readonly flags: number;
}

export const interfaceCodec: Codec<Interface> = codec<Interface>({
  name: "interface",
  size: 28,
  offsets: { role: 0, mtu: 2, masquerade4: 4, masquerade6: 8, flags: 24 },
  encodeInto(view, offset, fields) {
    view.setUint16(offset, fields.role, true);
    view.setUint16(offset + 2, fields.mtu, true);
    putBytes(view, offset + 4, 4, fields.masquerade4, "interface.masquerade4");
    putBytes(view, offset + 8, 16, fields.masquerade6, "interface.masquerade6");
    view.setUint32(offset + 24, fields.flags, true);
  },
  decodeFrom: (view, offset) => ({
    role: view.getUint16(offset, true),
    mtu: view.getUint16(offset + 2, true),
    masquerade4: getBytes(view, offset + 4, 4),
    masquerade6: getBytes(view, offset + 8, 16),
    flags: view.getUint32(offset + 24, true),
  }),
});

/** struct listener, 24 bytes. */
export interface Listener {
  readonly until: bigint;
  readonly kinds: number;
  readonly sample: number;
  readonly pid: number;
}

export const listenerCodec: Codec<Listener> = codec<Listener>({
  name: "listener",
  size: 24,
  offsets: { until: 0, kinds: 8, sample: 12, pid: 16, pad: 20 },
  encodeInto(view, offset, fields) {
    view.setBigUint64(offset, fields.until, true);
    view.setUint32(offset + 8, fields.kinds, true);
    view.setUint32(offset + 12, fields.sample, true);
    view.setUint32(offset + 16, fields.pid, true);
  },
  decodeFrom: (view, offset) => ({
    until: view.getBigUint64(offset, true),
    kinds: view.getUint32(offset + 8, true),
    sample: view.getUint32(offset + 12, true),
    pid: view.getUint32(offset + 16, true),
  }),
});

/** struct nat_key4, 16 bytes. */
export interface NatKey4 {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly sport: number;
  readonly dport: number;
  readonly protocol: number;
  readonly direction: number;
}

export const natKey4Codec: Codec<NatKey4> = codec<NatKey4>({
  name: "nat_key4",
  size: 16,
  offsets: { src: 0, dst: 4, sport: 8, dport: 10, protocol: 12, direction: 13, pad: 14 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 4, fields.src, "nat_key4.src");
    putBytes(view, offset + 4, 4, fields.dst, "nat_key4.dst");
    view.setUint16(offset + 8, fields.sport, false);
    view.setUint16(offset + 10, fields.dport, false);
    view.setUint8(offset + 12, fields.protocol);
    view.setUint8(offset + 13, fields.direction);
  },
  decodeFrom: (view, offset) => ({
    src: getBytes(view, offset, 4),
    dst: getBytes(view, offset + 4, 4),
    sport: view.getUint16(offset + 8, false),
    dport: view.getUint16(offset + 10, false),
    protocol: view.getUint8(offset + 12),
    direction: view.getUint8(offset + 13),
  }),
});

/** struct nat_key6, 40 bytes. */
export interface NatKey6 {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly sport: number;
  readonly dport: number;
  readonly protocol: number;
  readonly direction: number;
}

export const natKey6Codec: Codec<NatKey6> = codec<NatKey6>({
  name: "nat_key6",
  size: 40,
  offsets: { src: 0, dst: 16, sport: 32, dport: 34, protocol: 36, direction: 37, pad: 38 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.src, "nat_key6.src");
    putBytes(view, offset + 16, 16, fields.dst, "nat_key6.dst");
    view.setUint16(offset + 32, fields.sport, false);
    view.setUint16(offset + 34, fields.dport, false);
    view.setUint8(offset + 36, fields.protocol);
    view.setUint8(offset + 37, fields.direction);
  },
  decodeFrom: (view, offset) => ({
    src: getBytes(view, offset, 16),
    dst: getBytes(view, offset + 16, 16),
    sport: view.getUint16(offset + 32, false),
    dport: view.getUint16(offset + 34, false),
    protocol: view.getUint8(offset + 36),
    direction: view.getUint8(offset + 37),
  }),
});

/** struct nat_value4, 32 bytes. */
export interface NatValue4 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly peerPort: number;
  readonly check: number;
  readonly backend: number;
  readonly generation: number;
  readonly lastSeen: number;
  readonly state: number;
  readonly flags: number;
  readonly service: number;
}

export const natValue4Codec: Codec<NatValue4> = codec<NatValue4>({
  name: "nat_value4",
  size: 32,
  offsets: { addr: 0, port: 4, peerPort: 6, check: 8, backend: 12, generation: 16, lastSeen: 20, state: 24, flags: 26, service: 28 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 4, fields.addr, "nat_value4.addr");
    view.setUint16(offset + 4, fields.port, false);
    view.setUint16(offset + 6, fields.peerPort, false);
    view.setUint32(offset + 8, fields.check, true);
    view.setUint32(offset + 12, fields.backend, true);
    view.setUint32(offset + 16, fields.generation, true);
    view.setUint32(offset + 20, fields.lastSeen, true);
    view.setUint16(offset + 24, fields.state, true);
    view.setUint16(offset + 26, fields.flags, true);
    view.setUint32(offset + 28, fields.service, true);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 4),
    port: view.getUint16(offset + 4, false),
    peerPort: view.getUint16(offset + 6, false),
    check: view.getUint32(offset + 8, true),
    backend: view.getUint32(offset + 12, true),
    generation: view.getUint32(offset + 16, true),
    lastSeen: view.getUint32(offset + 20, true),
    state: view.getUint16(offset + 24, true),
    flags: view.getUint16(offset + 26, true),
    service: view.getUint32(offset + 28, true),
  }),
});

/** struct nat_value6, 44 bytes. */
export interface NatValue6 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly peerPort: number;
  readonly check: number;
  readonly backend: number;
  readonly generation: number;
  readonly lastSeen: number;
  readonly state: number;
  readonly flags: number;
  readonly service: number;
}

export const natValue6Codec: Codec<NatValue6> = codec<NatValue6>({
  name: "nat_value6",
  size: 44,
  offsets: { addr: 0, port: 16, peerPort: 18, check: 20, backend: 24, generation: 28, lastSeen: 32, state: 36, flags: 38, service: 40 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.addr, "nat_value6.addr");
    view.setUint16(offset + 16, fields.port, false);
    view.setUint16(offset + 18, fields.peerPort, false);
    view.setUint32(offset + 20, fields.check, true);
    view.setUint32(offset + 24, fields.backend, true);
    view.setUint32(offset + 28, fields.generation, true);
    view.setUint32(offset + 32, fields.lastSeen, true);
    view.setUint16(offset + 36, fields.state, true);
    view.setUint16(offset + 38, fields.flags, true);
    view.setUint32(offset + 40, fields.service, true);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 16),
    port: view.getUint16(offset + 16, false),
    peerPort: view.getUint16(offset + 18, false),
    check: view.getUint32(offset + 20, true),
    backend: view.getUint32(offset + 24, true),
    generation: view.getUint32(offset + 28, true),
    lastSeen: view.getUint32(offset + 32, true),
    state: view.getUint16(offset + 36, true),
    flags: view.getUint16(offset + 38, true),
    service: view.getUint32(offset + 40, true),
  }),
});

/** struct network4, 8 bytes. */
export interface Network4 {
  readonly prefixLength: number;
  readonly addr: Uint8Array;
}

export const network4Codec: Codec<Network4> = codec<Network4>({
  name: "network4",
  size: 8,
  offsets: { prefixLength: 0, addr: 4 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.prefixLength, true);
    putBytes(view, offset + 4, 4, fields.addr, "network4.addr");
  },
  decodeFrom: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    addr: getBytes(view, offset + 4, 4),
  }),
});

/** struct network6, 20 bytes. */
export interface Network6 {
  readonly prefixLength: number;
  readonly addr: Uint8Array;
}

export const network6Codec: Codec<Network6> = codec<Network6>({
  name: "network6",
  size: 20,
  offsets: { prefixLength: 0, addr: 4 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.prefixLength, true);
    putBytes(view, offset + 4, 16, fields.addr, "network6.addr");
  },
  decodeFrom: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    addr: getBytes(view, offset + 4, 16),
  }),
});

/** struct ptl_config, 100 bytes. */
export interface PtlConfig {
  readonly snatPortBase: readonly [number, number];
  readonly snatPortCount: readonly [number, number];
  readonly timeoutTcpOpening: number;
  readonly timeoutTcpEstablished: number;
  readonly timeoutTcpHalfClosed: number;
  readonly timeoutTcpClosed: number;
  readonly timeoutUdpUnreplied: number;
  readonly timeoutUdpReplied: number;
  readonly mark: number;
  readonly masqueradeMark: number;
  readonly options: number;
  readonly hostNetns: readonly [number, number];
  readonly detector4: number;
  readonly detector6: number;
  readonly localNetwork4: Uint8Array;
  readonly localMask4: Uint8Array;
  readonly localNetwork6: Uint8Array;
  readonly localMask6: Uint8Array;
}

export const ptlConfigCodec: Codec<PtlConfig> = codec<PtlConfig>({
  name: "ptl_config",
  size: 100,
  offsets: { snatPortBase: 0, snatPortCount: 4, timeoutTcpOpening: 8, timeoutTcpEstablished: 12, timeoutTcpHalfClosed: 16, timeoutTcpClosed: 20, timeoutUdpUnreplied: 24, timeoutUdpReplied: 28, mark: 32, masqueradeMark: 36, options: 40, hostNetns: 44, detector4: 52, detector6: 56, localNetwork4: 60, localMask4: 64, localNetwork6: 68, localMask6: 84 },
  encodeInto(view, offset, fields) {
    view.setUint16(offset, fields.snatPortBase[0], true);
    view.setUint16(offset + 2, fields.snatPortBase[1], true);
    view.setUint16(offset + 4, fields.snatPortCount[0], true);
    view.setUint16(offset + 6, fields.snatPortCount[1], true);
    view.setUint32(offset + 8, fields.timeoutTcpOpening, true);
    view.setUint32(offset + 12, fields.timeoutTcpEstablished, true);
    view.setUint32(offset + 16, fields.timeoutTcpHalfClosed, true);
    view.setUint32(offset + 20, fields.timeoutTcpClosed, true);
    view.setUint32(offset + 24, fields.timeoutUdpUnreplied, true);
    view.setUint32(offset + 28, fields.timeoutUdpReplied, true);
    view.setUint32(offset + 32, fields.mark, true);
    view.setUint32(offset + 36, fields.masqueradeMark, true);
    view.setUint32(offset + 40, fields.options, true);
    view.setUint32(offset + 44, fields.hostNetns[0], true);
    view.setUint32(offset + 48, fields.hostNetns[1], true);
    view.setUint32(offset + 52, fields.detector4, true);
    view.setUint32(offset + 56, fields.detector6, true);
    putBytes(view, offset + 60, 4, fields.localNetwork4, "ptl_config.local_network4");
    putBytes(view, offset + 64, 4, fields.localMask4, "ptl_config.local_mask4");
    putBytes(view, offset + 68, 16, fields.localNetwork6, "ptl_config.local_network6");
    putBytes(view, offset + 84, 16, fields.localMask6, "ptl_config.local_mask6");
  },
  decodeFrom: (view, offset) => ({
    snatPortBase: [view.getUint16(offset, true), view.getUint16(offset + 2, true)],
    snatPortCount: [view.getUint16(offset + 4, true), view.getUint16(offset + 6, true)],
    timeoutTcpOpening: view.getUint32(offset + 8, true),
    timeoutTcpEstablished: view.getUint32(offset + 12, true),
    timeoutTcpHalfClosed: view.getUint32(offset + 16, true),
    timeoutTcpClosed: view.getUint32(offset + 20, true),
    timeoutUdpUnreplied: view.getUint32(offset + 24, true),
    timeoutUdpReplied: view.getUint32(offset + 28, true),
    mark: view.getUint32(offset + 32, true),
    masqueradeMark: view.getUint32(offset + 36, true),
    options: view.getUint32(offset + 40, true),
    hostNetns: [view.getUint32(offset + 44, true), view.getUint32(offset + 48, true)],
    detector4: view.getUint32(offset + 52, true),
    detector6: view.getUint32(offset + 56, true),
    localNetwork4: getBytes(view, offset + 60, 4),
    localMask4: getBytes(view, offset + 64, 4),
    localNetwork6: getBytes(view, offset + 68, 16),
    localMask6: getBytes(view, offset + 84, 16),
  }),
});

/** struct service_name, 160 bytes. */
export interface ServiceName {
  readonly namespaceName: string;
  readonly name: string;
  readonly portName: string;
  readonly protocol: number;
}

export const serviceNameCodec: Codec<ServiceName> = codec<ServiceName>({
  name: "service_name",
  size: 160,
  offsets: { namespaceName: 0, name: 64, portName: 128, protocol: 152, pad: 153 },
  encodeInto(view, offset, fields) {
    putText(view, offset, 64, fields.namespaceName, "service_name.namespace_name");
    putText(view, offset + 64, 64, fields.name, "service_name.name");
    putText(view, offset + 128, 24, fields.portName, "service_name.port_name");
    view.setUint8(offset + 152, fields.protocol);
  },
  decodeFrom: (view, offset) => ({
    namespaceName: getText(view, offset, 64),
    name: getText(view, offset + 64, 64),
    portName: getText(view, offset + 128, 24),
    protocol: view.getUint8(offset + 152),
  }),
});

/** struct socket_key4, 16 bytes. */
export interface SocketKey4 {
  readonly cookie: readonly [number, number];
  readonly addr: Uint8Array;
  readonly port: number;
  readonly protocol: number;
  readonly direction: number;
}

export const socketKey4Codec: Codec<SocketKey4> = codec<SocketKey4>({
  name: "socket_key4",
  size: 16,
  offsets: { cookie: 0, addr: 8, port: 12, protocol: 14, direction: 15 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.cookie[0], true);
    view.setUint32(offset + 4, fields.cookie[1], true);
    putBytes(view, offset + 8, 4, fields.addr, "socket_key4.addr");
    view.setUint16(offset + 12, fields.port, false);
    view.setUint8(offset + 14, fields.protocol);
    view.setUint8(offset + 15, fields.direction);
  },
  decodeFrom: (view, offset) => ({
    cookie: [view.getUint32(offset, true), view.getUint32(offset + 4, true)],
    addr: getBytes(view, offset + 8, 4),
    port: view.getUint16(offset + 12, false),
    protocol: view.getUint8(offset + 14),
    direction: view.getUint8(offset + 15),
  }),
});

/** struct socket_key6, 28 bytes. */
export interface SocketKey6 {
  readonly cookie: readonly [number, number];
  readonly addr: Uint8Array;
  readonly port: number;
  readonly protocol: number;
  readonly direction: number;
}

export const socketKey6Codec: Codec<SocketKey6> = codec<SocketKey6>({
  name: "socket_key6",
  size: 28,
  offsets: { cookie: 0, addr: 8, port: 24, protocol: 26, direction: 27 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.cookie[0], true);
    view.setUint32(offset + 4, fields.cookie[1], true);
    putBytes(view, offset + 8, 16, fields.addr, "socket_key6.addr");
    view.setUint16(offset + 24, fields.port, false);
    view.setUint8(offset + 26, fields.protocol);
    view.setUint8(offset + 27, fields.direction);
  },
  decodeFrom: (view, offset) => ({
    cookie: [view.getUint32(offset, true), view.getUint32(offset + 4, true)],
    addr: getBytes(view, offset + 8, 16),
    port: view.getUint16(offset + 24, false),
    protocol: view.getUint8(offset + 26),
    direction: view.getUint8(offset + 27),
  }),
});

/** struct socket_value4, 16 bytes. */
export interface SocketValue4 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly backend: number;
  readonly generation: number;
}

export const socketValue4Codec: Codec<SocketValue4> = codec<SocketValue4>({
  name: "socket_value4",
  size: 16,
  offsets: { addr: 0, port: 4, pad: 6, backend: 8, generation: 12 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 4, fields.addr, "socket_value4.addr");
    view.setUint16(offset + 4, fields.port, false);
    view.setUint32(offset + 8, fields.backend, true);
    view.setUint32(offset + 12, fields.generation, true);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 4),
    port: view.getUint16(offset + 4, false),
    backend: view.getUint32(offset + 8, true),
    generation: view.getUint32(offset + 12, true),
  }),
});

/** struct socket_value6, 28 bytes. */
export interface SocketValue6 {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly backend: number;
  readonly generation: number;
}

export const socketValue6Codec: Codec<SocketValue6> = codec<SocketValue6>({
  name: "socket_value6",
  size: 28,
  offsets: { addr: 0, port: 16, pad: 18, backend: 20, generation: 24 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.addr, "socket_value6.addr");
    view.setUint16(offset + 16, fields.port, false);
    view.setUint32(offset + 20, fields.backend, true);
    view.setUint32(offset + 24, fields.generation, true);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 16),
    port: view.getUint16(offset + 16, false),
    backend: view.getUint32(offset + 20, true),
    generation: view.getUint32(offset + 24, true),
  }),
});

/** struct source_range4, 12 bytes. */
export interface SourceRange4 {
  readonly prefixLength: number;
  readonly service: number;
  readonly addr: Uint8Array;
}

export const sourceRange4Codec: Codec<SourceRange4> = codec<SourceRange4>({
  name: "source_range4",
  size: 12,
  offsets: { prefixLength: 0, service: 4, addr: 8 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.prefixLength, true);
    view.setUint32(offset + 4, fields.service, true);
    putBytes(view, offset + 8, 4, fields.addr, "source_range4.addr");
  },
  decodeFrom: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    service: view.getUint32(offset + 4, true),
    addr: getBytes(view, offset + 8, 4),
  }),
});

/** struct source_range6, 24 bytes. */
export interface SourceRange6 {
  readonly prefixLength: number;
  readonly service: number;
  readonly addr: Uint8Array;
}

export const sourceRange6Codec: Codec<SourceRange6> = codec<SourceRange6>({
  name: "source_range6",
  size: 24,
  offsets: { prefixLength: 0, service: 4, addr: 8 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.prefixLength, true);
    view.setUint32(offset + 4, fields.service, true);
    putBytes(view, offset + 8, 16, fields.addr, "source_range6.addr");
  },
  decodeFrom: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    service: view.getUint32(offset + 4, true),
    addr: getBytes(view, offset + 8, 16),
  }),
});

/** struct trace_answer, 24 bytes. */
export interface TraceAnswer {
  readonly addr: Uint8Array;
  readonly port: number;
  readonly verdict: number;
  readonly result: number;
}

export const traceAnswerCodec: Codec<TraceAnswer> = codec<TraceAnswer>({
  name: "trace_answer",
  size: 24,
  offsets: { addr: 0, port: 16, verdict: 18, pad: 19, result: 20 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.addr, "trace_answer.addr");
    view.setUint16(offset + 16, fields.port, false);
    view.setUint8(offset + 18, fields.verdict);
    view.setInt32(offset + 20, fields.result, true);
  },
  decodeFrom: (view, offset) => ({
    addr: getBytes(view, offset, 16),
    port: view.getUint16(offset + 16, false),
    verdict: view.getUint8(offset + 18),
    result: view.getInt32(offset + 20, true),
  }),
});

/** struct trace_record, 96 bytes. */
export interface TraceRecord {
  readonly op: number;
  readonly map: number;
  readonly found: number;
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

export const traceRecordCodec: Codec<TraceRecord> = codec<TraceRecord>({
  name: "trace_record",
  size: 96,
  offsets: { op: 0, map: 1, found: 2, pad: 3, key: 8, value: 48 },
  encodeInto(view, offset, fields) {
    view.setUint8(offset, fields.op);
    view.setUint8(offset + 1, fields.map);
    view.setUint8(offset + 2, fields.found);
    putBytes(view, offset + 8, 40, fields.key, "trace_record.key");
    putBytes(view, offset + 48, 48, fields.value, "trace_record.value");
  },
  decodeFrom: (view, offset) => ({
    op: view.getUint8(offset),
    map: view.getUint8(offset + 1),
    found: view.getUint8(offset + 2),
    key: getBytes(view, offset + 8, 40),
    value: getBytes(view, offset + 48, 48),
  }),
});

/** struct trace_request, 40 bytes. */
export interface TraceRequest {
  readonly wanted: Uint8Array;
  readonly bound: Uint8Array;
  readonly port: number;
  readonly boundPort: number;
  readonly protocol: number;
  readonly host: number;
  readonly pod: number;
}

export const traceRequestCodec: Codec<TraceRequest> = codec<TraceRequest>({
  name: "trace_request",
  size: 40,
  offsets: { wanted: 0, bound: 16, port: 32, boundPort: 34, protocol: 36, host: 37, pod: 38, pad: 39 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 16, fields.wanted, "trace_request.wanted");
    putBytes(view, offset + 16, 16, fields.bound, "trace_request.bound");
    view.setUint16(offset + 32, fields.port, false);
    view.setUint16(offset + 34, fields.boundPort, false);
    view.setUint8(offset + 36, fields.protocol);
    view.setUint8(offset + 37, fields.host);
    view.setUint8(offset + 38, fields.pod);
  },
  decodeFrom: (view, offset) => ({
    wanted: getBytes(view, offset, 16),
    bound: getBytes(view, offset + 16, 16),
    port: view.getUint16(offset + 32, false),
    boundPort: view.getUint16(offset + 34, false),
    protocol: view.getUint8(offset + 36),
    host: view.getUint8(offset + 37),
    pod: view.getUint8(offset + 38),
  }),
});

/** struct traffic, 24 bytes. */
export interface Traffic {
  readonly flows: bigint;
  readonly packets: bigint;
  readonly bytes: bigint;
}

export const trafficCodec: Codec<Traffic> = codec<Traffic>({
  name: "traffic",
  size: 24,
  offsets: { flows: 0, packets: 8, bytes: 16 },
  encodeInto(view, offset, fields) {
    view.setBigUint64(offset, fields.flows, true);
    view.setBigUint64(offset + 8, fields.packets, true);
    view.setBigUint64(offset + 16, fields.bytes, true);
  },
  decodeFrom: (view, offset) => ({
    flows: view.getBigUint64(offset, true),
    packets: view.getBigUint64(offset + 8, true),
    bytes: view.getBigUint64(offset + 16, true),
  }),
});

/** struct xdp_device, 8 bytes. */
export interface XdpDevice {
  readonly address: Uint8Array;
}

export const xdpDeviceCodec: Codec<XdpDevice> = codec<XdpDevice>({
  name: "xdp_device",
  size: 8,
  offsets: { address: 0, pad: 6 },
  encodeInto(view, offset, fields) {
    putBytes(view, offset, 6, fields.address, "xdp_device.address");
  },
  decodeFrom: (view, offset) => ({
    address: getBytes(view, offset, 6),
  }),
});

/** The codecs that exist once per family; the field types are the same in both. */
export interface FamilyCodecs {
  readonly addrPort: Codec<AddrPort4>;
  readonly affinityKey: Codec<AffinityKey4>;
  readonly backend: Codec<Backend4>;
  readonly fragmentKey: Codec<FragmentKey4>;
  readonly natKey: Codec<NatKey4>;
  readonly natValue: Codec<NatValue4>;
  readonly network: Codec<Network4>;
  readonly socketKey: Codec<SocketKey4>;
  readonly socketValue: Codec<SocketValue4>;
  readonly sourceRange: Codec<SourceRange4>;
}

export const FAMILY_CODECS: Readonly<Record<4 | 6, FamilyCodecs>> = {
  4: { addrPort: addrPort4Codec, affinityKey: affinityKey4Codec, backend: backend4Codec, fragmentKey: fragmentKey4Codec, natKey: natKey4Codec, natValue: natValue4Codec, network: network4Codec, socketKey: socketKey4Codec, socketValue: socketValue4Codec, sourceRange: sourceRange4Codec },
  6: { addrPort: addrPort6Codec, affinityKey: affinityKey6Codec, backend: backend6Codec, fragmentKey: fragmentKey6Codec, natKey: natKey6Codec, natValue: natValue6Codec, network: network6Codec, socketKey: socketKey6Codec, socketValue: socketValue6Codec, sourceRange: sourceRange6Codec },
};

export interface StructLayout {
  readonly name: string;
  readonly size: number;
  /** Name, offset and size of each field, padding included. */
  readonly fields: readonly (readonly [string, number, number])[];
}

/** What a loaded object is compared with. */
export const STRUCT_LAYOUTS: readonly StructLayout[] = [
  { name: "addr_port4", size: 8, fields: [["addr", 0, 4], ["port", 4, 2], ["protocol", 6, 1], ["pad", 7, 1]] },
  { name: "addr_port6", size: 20, fields: [["addr", 0, 16], ["port", 16, 2], ["protocol", 18, 1], ["pad", 19, 1]] },
  { name: "affinity", size: 16, fields: [["backend", 0, 4], ["generation", 4, 4], ["last_new", 8, 8]] },
  { name: "affinity_key4", size: 8, fields: [["client", 0, 4], ["service", 4, 4]] },
  { name: "affinity_key6", size: 20, fields: [["client", 0, 16], ["service", 16, 4]] },
  { name: "backend4", size: 16, fields: [["addr", 0, 4], ["port", 4, 2], ["state", 6, 1], ["flags", 7, 1], ["generation", 8, 4], ["service", 12, 4]] },
  { name: "backend6", size: 28, fields: [["addr", 0, 16], ["port", 16, 2], ["state", 18, 1], ["flags", 19, 1], ["generation", 20, 4], ["service", 24, 4]] },
  { name: "flow_event", size: 104, fields: [["time", 0, 8], ["cookie", 8, 8], ["src", 16, 16], ["dst", 32, 16], ["addr", 48, 16], ["sport", 64, 2], ["dport", 66, 2], ["port", 68, 2], ["family", 70, 1], ["protocol", 71, 1], ["kind", 72, 1], ["direction", 73, 1], ["reason", 74, 2], ["ifindex", 76, 4], ["length", 80, 4], ["service", 84, 4], ["backend", 88, 4], ["generation", 92, 4], ["nat_flags", 96, 2], ["frontend_flags", 98, 2], ["why", 100, 2], ["tcp_flags", 102, 1], ["pad", 103, 1]] },
  { name: "fragment", size: 4, fields: [["sport", 0, 2], ["dport", 2, 2]] },
  { name: "fragment_key4", size: 16, fields: [["src", 0, 4], ["dst", 4, 4], ["id", 8, 4], ["protocol", 12, 1], ["direction", 13, 1], ["pad", 14, 2]] },
  { name: "fragment_key6", size: 40, fields: [["src", 0, 16], ["dst", 16, 16], ["id", 32, 4], ["protocol", 36, 1], ["direction", 37, 1], ["pad", 38, 2]] },
  { name: "frontend", size: 32, fields: [["internal", 0, 8], ["external", 8, 8], ["service", 16, 4], ["affinity_seconds", 20, 4], ["flags", 24, 4], ["pad", 28, 4]] },
  { name: "interface", size: 28, fields: [["role", 0, 2], ["mtu", 2, 2], ["masquerade4", 4, 4], ["masquerade6", 8, 16], ["flags", 24, 4]] },
  { name: "listener", size: 24, fields: [["until", 0, 8], ["kinds", 8, 4], ["sample", 12, 4], ["pid", 16, 4], ["pad", 20, 4]] },
  { name: "nat_key4", size: 16, fields: [["src", 0, 4], ["dst", 4, 4], ["sport", 8, 2], ["dport", 10, 2], ["protocol", 12, 1], ["direction", 13, 1], ["pad", 14, 2]] },
  { name: "nat_key6", size: 40, fields: [["src", 0, 16], ["dst", 16, 16], ["sport", 32, 2], ["dport", 34, 2], ["protocol", 36, 1], ["direction", 37, 1], ["pad", 38, 2]] },
  { name: "nat_value4", size: 32, fields: [["addr", 0, 4], ["port", 4, 2], ["peer_port", 6, 2], ["check", 8, 4], ["backend", 12, 4], ["generation", 16, 4], ["last_seen", 20, 4], ["state", 24, 2], ["flags", 26, 2], ["service", 28, 4]] },
  { name: "nat_value6", size: 44, fields: [["addr", 0, 16], ["port", 16, 2], ["peer_port", 18, 2], ["check", 20, 4], ["backend", 24, 4], ["generation", 28, 4], ["last_seen", 32, 4], ["state", 36, 2], ["flags", 38, 2], ["service", 40, 4]] },
  { name: "network4", size: 8, fields: [["prefix_length", 0, 4], ["addr", 4, 4]] },
  { name: "network6", size: 20, fields: [["prefix_length", 0, 4], ["addr", 4, 16]] },
  { name: "ptl_config", size: 100, fields: [["snat_port_base", 0, 4], ["snat_port_count", 4, 4], ["timeout_tcp_opening", 8, 4], ["timeout_tcp_established", 12, 4], ["timeout_tcp_half_closed", 16, 4], ["timeout_tcp_closed", 20, 4], ["timeout_udp_unreplied", 24, 4], ["timeout_udp_replied", 28, 4], ["mark", 32, 4], ["masquerade_mark", 36, 4], ["options", 40, 4], ["host_netns", 44, 8], ["detector4", 52, 4], ["detector6", 56, 4], ["local_network4", 60, 4], ["local_mask4", 64, 4], ["local_network6", 68, 16], ["local_mask6", 84, 16]] },
  { name: "service_name", size: 160, fields: [["namespace_name", 0, 64], ["name", 64, 64], ["port_name", 128, 24], ["protocol", 152, 1], ["pad", 153, 7]] },
  { name: "socket_key4", size: 16, fields: [["cookie", 0, 8], ["addr", 8, 4], ["port", 12, 2], ["protocol", 14, 1], ["direction", 15, 1]] },
  { name: "socket_key6", size: 28, fields: [["cookie", 0, 8], ["addr", 8, 16], ["port", 24, 2], ["protocol", 26, 1], ["direction", 27, 1]] },
  { name: "socket_value4", size: 16, fields: [["addr", 0, 4], ["port", 4, 2], ["pad", 6, 2], ["backend", 8, 4], ["generation", 12, 4]] },
  { name: "socket_value6", size: 28, fields: [["addr", 0, 16], ["port", 16, 2], ["pad", 18, 2], ["backend", 20, 4], ["generation", 24, 4]] },
  { name: "source_range4", size: 12, fields: [["prefix_length", 0, 4], ["service", 4, 4], ["addr", 8, 4]] },
  { name: "source_range6", size: 24, fields: [["prefix_length", 0, 4], ["service", 4, 4], ["addr", 8, 16]] },
  { name: "trace_answer", size: 24, fields: [["addr", 0, 16], ["port", 16, 2], ["verdict", 18, 1], ["pad", 19, 1], ["result", 20, 4]] },
  { name: "trace_record", size: 96, fields: [["op", 0, 1], ["map", 1, 1], ["found", 2, 1], ["pad", 3, 5], ["key", 8, 40], ["value", 48, 48]] },
  { name: "trace_request", size: 40, fields: [["wanted", 0, 16], ["bound", 16, 16], ["port", 32, 2], ["bound_port", 34, 2], ["protocol", 36, 1], ["host", 37, 1], ["pod", 38, 1], ["pad", 39, 1]] },
  { name: "traffic", size: 24, fields: [["flows", 0, 8], ["packets", 8, 8], ["bytes", 16, 8]] },
  { name: "xdp_device", size: 8, fields: [["address", 0, 6], ["pad", 6, 2]] },
];
