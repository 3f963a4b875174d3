// SPDX-License-Identifier: Apache-2.0
// GENERATED from native/include/portolan.h by scripts/gen-abi.ts (make abi). Do not edit.
import { type Codec, codec, getBytes, getText, putBytes, putText } from "../abi/codec.js";

/** enum ptl_attach_change */
export const AttachChange = {
  CHANGE_NONE: 0,
  CHANGE_NEW: 1,
  CHANGE_REPLACED: 2,
} as const;
export type AttachChange = (typeof AttachChange)[keyof typeof AttachChange];

/** enum ptl_attach_mode */
export const AttachMode = {
  MODE_AUTO: 0,
  MODE_TCX: 1,
  MODE_CLSACT: 2,
} as const;
export type AttachMode = (typeof AttachMode)[keyof typeof AttachMode];

/** enum ptl_cursor_state */
export const CursorState = {
  CURSOR_START: 0,
  CURSOR_MORE: 1,
  CURSOR_DONE: 2,
} as const;
export type CursorState = (typeof CursorState)[keyof typeof CursorState];

/** enum ptl_event_group */
export const EventGroup = {
  GROUP_LINK: 1,
  GROUP_ADDRESS: 2,
  GROUP_ROUTE: 4,
} as const;
export type EventGroup = (typeof EventGroup)[keyof typeof EventGroup];

/** enum ptl_event_kind */
export const EventKind = {
  EVENT_LINK: 1,
  EVENT_LINK_GONE: 2,
  EVENT_ADDRESS: 3,
  EVENT_ADDRESS_GONE: 4,
  EVENT_ROUTE: 5,
  EVENT_RESYNC: 6,
} as const;
export type EventKind = (typeof EventKind)[keyof typeof EventKind];

/** enum ptl_open_flag */
export const OpenFlag = {
  OPEN_NO_SOCKETS: 1,
  OPEN_NO_XDP: 2,
} as const;
export type OpenFlag = (typeof OpenFlag)[keyof typeof OpenFlag];

/** enum ptl_run_kind */
export const RunKind = {
  RUN_UPDATE: 1,
  RUN_DELETE: 2,
  RUN_CREATE: 3,
} as const;
export type RunKind = (typeof RunKind)[keyof typeof RunKind];

/** enum ptl_xdp_mode */
export const XdpMode = {
  XDP_NONE: 0,
  XDP_GENERIC: 1,
  XDP_NATIVE: 2,
  XDP_OTHER: 3,
} as const;
export type XdpMode = (typeof XdpMode)[keyof typeof XdpMode];

/** struct ptl_address, 32 bytes. */
export interface PtlAddress {
  readonly ifindex: number;
  readonly flags: number;
  readonly family: number;
  readonly prefix: number;
  readonly scope: number;
  readonly address: Uint8Array;
}

export const ptlAddressCodec: Codec<PtlAddress> = codec<PtlAddress>({
  name: "ptl_address",
  size: 32,
  offsets: { ifindex: 0, flags: 4, family: 8, prefix: 9, scope: 10, pad: 11, address: 16 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.ifindex, true);
    view.setUint32(offset + 4, fields.flags, true);
    view.setUint8(offset + 8, fields.family);
    view.setUint8(offset + 9, fields.prefix);
    view.setUint8(offset + 10, fields.scope);
    putBytes(view, offset + 16, 16, fields.address, "ptl_address.address");
  },
  decodeFrom: (view, offset) => ({
    ifindex: view.getUint32(offset, true),
    flags: view.getUint32(offset + 4, true),
    family: view.getUint8(offset + 8),
    prefix: view.getUint8(offset + 9),
    scope: view.getUint8(offset + 10),
    address: getBytes(view, offset + 16, 16),
  }),
});

/** struct ptl_apply_result, 32 bytes. */
export interface PtlApplyResult {
  readonly applied: bigint;
  readonly systemCalls: bigint;
  readonly failedRun: number;
  readonly failedEntry: number;
  readonly error: number;
}

export const ptlApplyResultCodec: Codec<PtlApplyResult> = codec<PtlApplyResult>({
  name: "ptl_apply_result",
  size: 32,
  offsets: { applied: 0, systemCalls: 8, failedRun: 16, failedEntry: 20, error: 24, pad: 28 },
  encodeInto(view, offset, fields) {
    view.setBigUint64(offset, fields.applied, true);
    view.setBigUint64(offset + 8, fields.systemCalls, true);
    view.setUint32(offset + 16, fields.failedRun, true);
    view.setUint32(offset + 20, fields.failedEntry, true);
    view.setUint32(offset + 24, fields.error, true);
  },
  decodeFrom: (view, offset) => ({
    applied: view.getBigUint64(offset, true),
    systemCalls: view.getBigUint64(offset + 8, true),
    failedRun: view.getUint32(offset + 16, true),
    failedEntry: view.getUint32(offset + 20, true),
    error: view.getUint32(offset + 24, true),
  }),
});

/** struct ptl_attach_request, 16 bytes. */
export interface PtlAttachRequest {
  readonly ifindex: number;
  readonly role: number;
  readonly mode: number;
}

export const ptlAttachRequestCodec: Codec<PtlAttachRequest> = codec<PtlAttachRequest>({
  name: "ptl_attach_request",
  size: 16,
  offsets: { ifindex: 0, role: 4, mode: 8, pad: 12 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.ifindex, true);
    view.setUint32(offset + 4, fields.role, true);
    view.setUint32(offset + 8, fields.mode, true);
  },
  decodeFrom: (view, offset) => ({
    ifindex: view.getUint32(offset, true),
    role: view.getUint32(offset + 4, true),
    mode: view.getUint32(offset + 8, true),
  }),
});

/** struct ptl_attach_result, 40 bytes. */
export interface PtlAttachResult {
  readonly error: number;
  readonly mode: number;
  readonly change: number;
  readonly code: string;
}

export const ptlAttachResultCodec: Codec<PtlAttachResult> = codec<PtlAttachResult>({
  name: "ptl_attach_result",
  size: 40,
  offsets: { error: 0, mode: 4, change: 8, pad: 12, code: 16 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.error, true);
    view.setUint32(offset + 4, fields.mode, true);
    view.setUint32(offset + 8, fields.change, true);
    putText(view, offset + 16, 24, fields.code, "ptl_attach_result.code");
  },
  decodeFrom: (view, offset) => ({
    error: view.getUint32(offset, true),
    mode: view.getUint32(offset + 4, true),
    change: view.getUint32(offset + 8, true),
    code: getText(view, offset + 16, 24),
  }),
});

/** struct ptl_attachment, 52 bytes. */
export interface PtlAttachment {
  readonly ifindex: number;
  readonly out: number;
  readonly mode: number;
  readonly ours: number;
  readonly position: number;
  readonly programId: number;
  readonly linkId: number;
  readonly priority: number;
  readonly handle: number;
  readonly name: string;
  readonly tag: Uint8Array;
}

export const ptlAttachmentCodec: Codec<PtlAttachment> = codec<PtlAttachment>({
  name: "ptl_attachment",
  size: 52,
  offsets: { ifindex: 0, out: 4, mode: 5, ours: 6, pad: 7, position: 8, programId: 12, linkId: 16, priority: 20, handle: 24, name: 28, tag: 44 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.ifindex, true);
    view.setUint8(offset + 4, fields.out);
    view.setUint8(offset + 5, fields.mode);
    view.setUint8(offset + 6, fields.ours);
    view.setUint32(offset + 8, fields.position, true);
    view.setUint32(offset + 12, fields.programId, true);
    view.setUint32(offset + 16, fields.linkId, true);
    view.setUint32(offset + 20, fields.priority, true);
    view.setUint32(offset + 24, fields.handle, true);
    putText(view, offset + 28, 16, fields.name, "ptl_attachment.name");
    putBytes(view, offset + 44, 8, fields.tag, "ptl_attachment.tag");
  },
  decodeFrom: (view, offset) => ({
    ifindex: view.getUint32(offset, true),
    out: view.getUint8(offset + 4),
    mode: view.getUint8(offset + 5),
    ours: view.getUint8(offset + 6),
    position: view.getUint32(offset + 8, true),
    programId: view.getUint32(offset + 12, true),
    linkId: view.getUint32(offset + 16, true),
    priority: view.getUint32(offset + 20, true),
    handle: view.getUint32(offset + 24, true),
    name: getText(view, offset + 28, 16),
    tag: getBytes(view, offset + 44, 8),
  }),
});

/** struct ptl_cursor, 72 bytes. */
export interface PtlCursor {
  readonly state: number;
  readonly seen: number;
  readonly token: Uint8Array;
}

export const ptlCursorCodec: Codec<PtlCursor> = codec<PtlCursor>({
  name: "ptl_cursor",
  size: 72,
  offsets: { state: 0, seen: 4, token: 8 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.state, true);
    view.setUint32(offset + 4, fields.seen, true);
    putBytes(view, offset + 8, 64, fields.token, "ptl_cursor.token");
  },
  decodeFrom: (view, offset) => ({
    state: view.getUint32(offset, true),
    seen: view.getUint32(offset + 4, true),
    token: getBytes(view, offset + 8, 64),
  }),
});

/** struct ptl_destroy_result, 16 bytes. */
export interface PtlDestroyResult {
  readonly matched: number;
  readonly destroyed: number;
  readonly unsupported: number;
}

export const ptlDestroyResultCodec: Codec<PtlDestroyResult> = codec<PtlDestroyResult>({
  name: "ptl_destroy_result",
  size: 16,
  offsets: { matched: 0, destroyed: 4, unsupported: 8, pad: 12 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.matched, true);
    view.setUint32(offset + 4, fields.destroyed, true);
    view.setUint32(offset + 8, fields.unsupported, true);
  },
  decodeFrom: (view, offset) => ({
    matched: view.getUint32(offset, true),
    destroyed: view.getUint32(offset + 4, true),
    unsupported: view.getUint32(offset + 8, true),
  }),
});

/** struct ptl_event, 64 bytes. */
export interface PtlEvent {
  readonly kind: number;
  readonly ifindex: number;
  readonly flags: number;
  readonly master: number;
  readonly family: number;
  readonly prefix: number;
  readonly address: Uint8Array;
  readonly name: string;
}

export const ptlEventCodec: Codec<PtlEvent> = codec<PtlEvent>({
  name: "ptl_event",
  size: 64,
  offsets: { kind: 0, ifindex: 4, flags: 8, master: 12, family: 16, prefix: 17, pad: 18, address: 24, name: 40, pad2: 56 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.kind, true);
    view.setUint32(offset + 4, fields.ifindex, true);
    view.setUint32(offset + 8, fields.flags, true);
    view.setUint32(offset + 12, fields.master, true);
    view.setUint8(offset + 16, fields.family);
    view.setUint8(offset + 17, fields.prefix);
    putBytes(view, offset + 24, 16, fields.address, "ptl_event.address");
    putText(view, offset + 40, 16, fields.name, "ptl_event.name");
  },
  decodeFrom: (view, offset) => ({
    kind: view.getUint32(offset, true),
    ifindex: view.getUint32(offset + 4, true),
    flags: view.getUint32(offset + 8, true),
    master: view.getUint32(offset + 12, true),
    family: view.getUint8(offset + 16),
    prefix: view.getUint8(offset + 17),
    address: getBytes(view, offset + 24, 16),
    name: getText(view, offset + 40, 16),
  }),
});

/** struct ptl_feature, 32 bytes. */
export interface PtlFeature {
  readonly name: string;
  readonly value: number;
}

export const ptlFeatureCodec: Codec<PtlFeature> = codec<PtlFeature>({
  name: "ptl_feature",
  size: 32,
  offsets: { name: 0, value: 24, pad: 28 },
  encodeInto(view, offset, fields) {
    putText(view, offset, 24, fields.name, "ptl_feature.name");
    view.setInt32(offset + 24, fields.value, true);
  },
  decodeFrom: (view, offset) => ({
    name: getText(view, offset, 24),
    value: view.getInt32(offset + 24, true),
  }),
});

/** struct ptl_link, 96 bytes. */
export interface PtlLink {
  readonly ifindex: number;
  readonly master: number;
  readonly flags: number;
  readonly mtu: number;
  readonly arpType: number;
  readonly peer: number;
  readonly peerNetns: number;
  readonly name: string;
  readonly kind: string;
  readonly masterKind: string;
  readonly qdisc: string;
}

export const ptlLinkCodec: Codec<PtlLink> = codec<PtlLink>({
  name: "ptl_link",
  size: 96,
  offsets: { ifindex: 0, master: 4, flags: 8, mtu: 12, arpType: 16, peer: 20, peerNetns: 24, pad: 28, name: 32, kind: 48, masterKind: 64, qdisc: 80 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.ifindex, true);
    view.setUint32(offset + 4, fields.master, true);
    view.setUint32(offset + 8, fields.flags, true);
    view.setUint32(offset + 12, fields.mtu, true);
    view.setUint32(offset + 16, fields.arpType, true);
    view.setUint32(offset + 20, fields.peer, true);
    view.setInt32(offset + 24, fields.peerNetns, true);
    putText(view, offset + 32, 16, fields.name, "ptl_link.name");
    putText(view, offset + 48, 16, fields.kind, "ptl_link.kind");
    putText(view, offset + 64, 16, fields.masterKind, "ptl_link.master_kind");
    putText(view, offset + 80, 16, fields.qdisc, "ptl_link.qdisc");
  },
  decodeFrom: (view, offset) => ({
    ifindex: view.getUint32(offset, true),
    master: view.getUint32(offset + 4, true),
    flags: view.getUint32(offset + 8, true),
    mtu: view.getUint32(offset + 12, true),
    arpType: view.getUint32(offset + 16, true),
    peer: view.getUint32(offset + 20, true),
    peerNetns: view.getInt32(offset + 24, true),
    name: getText(view, offset + 32, 16),
    kind: getText(view, offset + 48, 16),
    masterKind: getText(view, offset + 64, 16),
    qdisc: getText(view, offset + 80, 16),
  }),
});

/** struct ptl_links_header, 8 bytes. */
export interface PtlLinksHeader {
  readonly links: number;
  readonly addresses: number;
}

export const ptlLinksHeaderCodec: Codec<PtlLinksHeader> = codec<PtlLinksHeader>({
  name: "ptl_links_header",
  size: 8,
  offsets: { links: 0, addresses: 4 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.links, true);
    view.setUint32(offset + 4, fields.addresses, true);
  },
  decodeFrom: (view, offset) => ({
    links: view.getUint32(offset, true),
    addresses: view.getUint32(offset + 4, true),
  }),
});

/** struct ptl_map_info, 64 bytes. */
export interface PtlMapInfo {
  readonly name: string;
  readonly index: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly id: number;
  readonly bytes: bigint;
  readonly used: bigint;
}

export const ptlMapInfoCodec: Codec<PtlMapInfo> = codec<PtlMapInfo>({
  name: "ptl_map_info",
  size: 64,
  offsets: { name: 0, index: 16, type: 20, keySize: 24, valueSize: 28, maxEntries: 32, flags: 36, id: 40, pad: 44, bytes: 48, used: 56 },
  encodeInto(view, offset, fields) {
    putText(view, offset, 16, fields.name, "ptl_map_info.name");
    view.setUint32(offset + 16, fields.index, true);
    view.setUint32(offset + 20, fields.type, true);
    view.setUint32(offset + 24, fields.keySize, true);
    view.setUint32(offset + 28, fields.valueSize, true);
    view.setUint32(offset + 32, fields.maxEntries, true);
    view.setUint32(offset + 36, fields.flags, true);
    view.setUint32(offset + 40, fields.id, true);
    view.setBigUint64(offset + 48, fields.bytes, true);
    view.setBigInt64(offset + 56, fields.used, true);
  },
  decodeFrom: (view, offset) => ({
    name: getText(view, offset, 16),
    index: view.getUint32(offset + 16, true),
    type: view.getUint32(offset + 20, true),
    keySize: view.getUint32(offset + 24, true),
    valueSize: view.getUint32(offset + 28, true),
    maxEntries: view.getUint32(offset + 32, true),
    flags: view.getUint32(offset + 36, true),
    id: view.getUint32(offset + 40, true),
    bytes: view.getBigUint64(offset + 48, true),
    used: view.getBigInt64(offset + 56, true),
  }),
});

/** struct ptl_program, 32 bytes. */
export interface PtlProgram {
  readonly name: string;
  readonly id: number;
  readonly tag: Uint8Array;
}

export const ptlProgramCodec: Codec<PtlProgram> = codec<PtlProgram>({
  name: "ptl_program",
  size: 32,
  offsets: { name: 0, id: 16, pad: 20, tag: 24 },
  encodeInto(view, offset, fields) {
    putText(view, offset, 16, fields.name, "ptl_program.name");
    view.setUint32(offset + 16, fields.id, true);
    putBytes(view, offset + 24, 8, fields.tag, "ptl_program.tag");
  },
  decodeFrom: (view, offset) => ({
    name: getText(view, offset, 16),
    id: view.getUint32(offset + 16, true),
    tag: getBytes(view, offset + 24, 8),
  }),
});

/** struct ptl_route, 40 bytes. */
export interface PtlRoute {
  readonly type: number;
  readonly oif: number;
  readonly gateway: Uint8Array;
  readonly source: Uint8Array;
}

export const ptlRouteCodec: Codec<PtlRoute> = codec<PtlRoute>({
  name: "ptl_route",
  size: 40,
  offsets: { type: 0, oif: 4, gateway: 8, source: 24 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.type, true);
    view.setUint32(offset + 4, fields.oif, true);
    putBytes(view, offset + 8, 16, fields.gateway, "ptl_route.gateway");
    putBytes(view, offset + 24, 16, fields.source, "ptl_route.source");
  },
  decodeFrom: (view, offset) => ({
    type: view.getUint32(offset, true),
    oif: view.getUint32(offset + 4, true),
    gateway: getBytes(view, offset + 8, 16),
    source: getBytes(view, offset + 24, 16),
  }),
});

/** struct ptl_route_request, 48 bytes. */
export interface PtlRouteRequest {
  readonly family: number;
  readonly protocol: number;
  readonly iif: number;
  readonly mark: number;
  readonly sport: number;
  readonly dport: number;
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
}

export const ptlRouteRequestCodec: Codec<PtlRouteRequest> = codec<PtlRouteRequest>({
  name: "ptl_route_request",
  size: 48,
  offsets: { family: 0, protocol: 1, pad: 2, iif: 4, mark: 8, sport: 12, dport: 14, src: 16, dst: 32 },
  encodeInto(view, offset, fields) {
    view.setUint8(offset, fields.family);
    view.setUint8(offset + 1, fields.protocol);
    view.setUint32(offset + 4, fields.iif, true);
    view.setUint32(offset + 8, fields.mark, true);
    view.setUint16(offset + 12, fields.sport, false);
    view.setUint16(offset + 14, fields.dport, false);
    putBytes(view, offset + 16, 16, fields.src, "ptl_route_request.src");
    putBytes(view, offset + 32, 16, fields.dst, "ptl_route_request.dst");
  },
  decodeFrom: (view, offset) => ({
    family: view.getUint8(offset),
    protocol: view.getUint8(offset + 1),
    iif: view.getUint32(offset + 4, true),
    mark: view.getUint32(offset + 8, true),
    sport: view.getUint16(offset + 12, false),
    dport: view.getUint16(offset + 14, false),
    src: getBytes(view, offset + 16, 16),
    dst: getBytes(view, offset + 32, 16),
  }),
});

/** struct ptl_run, 16 bytes. */
export interface PtlRun {
  readonly map: number;
  readonly kind: number;
  readonly count: number;
}

export const ptlRunCodec: Codec<PtlRun> = codec<PtlRun>({
  name: "ptl_run",
  size: 16,
  offsets: { map: 0, kind: 4, count: 8, pad: 12 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.map, true);
    view.setUint32(offset + 4, fields.kind, true);
    view.setUint32(offset + 8, fields.count, true);
  },
  decodeFrom: (view, offset) => ({
    map: view.getUint32(offset, true),
    kind: view.getUint32(offset + 4, true),
    count: view.getUint32(offset + 8, true),
  }),
});

/** struct ptl_size, 24 bytes. */
export interface PtlSize {
  readonly map: string;
  readonly maxEntries: number;
}

export const ptlSizeCodec: Codec<PtlSize> = codec<PtlSize>({
  name: "ptl_size",
  size: 24,
  offsets: { map: 0, maxEntries: 16, pad: 20 },
  encodeInto(view, offset, fields) {
    putText(view, offset, 16, fields.map, "ptl_size.map");
    view.setUint32(offset + 16, fields.maxEntries, true);
  },
  decodeFrom: (view, offset) => ({
    map: getText(view, offset, 16),
    maxEntries: view.getUint32(offset + 16, true),
  }),
});

/** struct ptl_socket_link, 56 bytes. */
export interface PtlSocketLink {
  readonly hook: string;
  readonly cgroupId: bigint;
  readonly linkId: number;
  readonly programId: number;
  readonly name: string;
  readonly tag: Uint8Array;
}

export const ptlSocketLinkCodec: Codec<PtlSocketLink> = codec<PtlSocketLink>({
  name: "ptl_socket_link",
  size: 56,
  offsets: { hook: 0, cgroupId: 16, linkId: 24, programId: 28, name: 32, tag: 48 },
  encodeInto(view, offset, fields) {
    putText(view, offset, 16, fields.hook, "ptl_socket_link.hook");
    view.setBigUint64(offset + 16, fields.cgroupId, true);
    view.setUint32(offset + 24, fields.linkId, true);
    view.setUint32(offset + 28, fields.programId, true);
    putText(view, offset + 32, 16, fields.name, "ptl_socket_link.name");
    putBytes(view, offset + 48, 8, fields.tag, "ptl_socket_link.tag");
  },
  decodeFrom: (view, offset) => ({
    hook: getText(view, offset, 16),
    cgroupId: view.getBigUint64(offset + 16, true),
    linkId: view.getUint32(offset + 24, true),
    programId: view.getUint32(offset + 28, true),
    name: getText(view, offset + 32, 16),
    tag: getBytes(view, offset + 48, 8),
  }),
});

/** struct ptl_sockets_result, 24 bytes. */
export interface PtlSocketsResult {
  readonly cgroupId: bigint;
  readonly added: number;
  readonly replaced: number;
  readonly moved: number;
}

export const ptlSocketsResultCodec: Codec<PtlSocketsResult> = codec<PtlSocketsResult>({
  name: "ptl_sockets_result",
  size: 24,
  offsets: { cgroupId: 0, added: 8, replaced: 12, moved: 16, pad: 20 },
  encodeInto(view, offset, fields) {
    view.setBigUint64(offset, fields.cgroupId, true);
    view.setUint32(offset + 8, fields.added, true);
    view.setUint32(offset + 12, fields.replaced, true);
    view.setUint32(offset + 16, fields.moved, true);
  },
  decodeFrom: (view, offset) => ({
    cgroupId: view.getBigUint64(offset, true),
    added: view.getUint32(offset + 8, true),
    replaced: view.getUint32(offset + 12, true),
    moved: view.getUint32(offset + 16, true),
  }),
});

/** struct ptl_test_result, 16 bytes. */
export interface PtlTestResult {
  readonly retval: number;
  readonly durationNs: number;
  readonly dataOutSize: number;
  readonly ctxOutSize: number;
}

export const ptlTestResultCodec: Codec<PtlTestResult> = codec<PtlTestResult>({
  name: "ptl_test_result",
  size: 16,
  offsets: { retval: 0, durationNs: 4, dataOutSize: 8, ctxOutSize: 12 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.retval, true);
    view.setUint32(offset + 4, fields.durationNs, true);
    view.setUint32(offset + 8, fields.dataOutSize, true);
    view.setUint32(offset + 12, fields.ctxOutSize, true);
  },
  decodeFrom: (view, offset) => ({
    retval: view.getUint32(offset, true),
    durationNs: view.getUint32(offset + 4, true),
    dataOutSize: view.getUint32(offset + 8, true),
    ctxOutSize: view.getUint32(offset + 12, true),
  }),
});

/** struct ptl_tracked, 84 bytes. */
export interface PtlTracked {
  readonly family: number;
  readonly protocol: number;
  readonly tcpState: number;
  readonly status: number;
  readonly timeout: number;
  readonly sport: number;
  readonly dport: number;
  readonly replySport: number;
  readonly replyDport: number;
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly replySrc: Uint8Array;
  readonly replyDst: Uint8Array;
}

export const ptlTrackedCodec: Codec<PtlTracked> = codec<PtlTracked>({
  name: "ptl_tracked",
  size: 84,
  offsets: { family: 0, protocol: 1, tcpState: 2, pad: 3, status: 4, timeout: 8, sport: 12, dport: 14, replySport: 16, replyDport: 18, src: 20, dst: 36, replySrc: 52, replyDst: 68 },
  encodeInto(view, offset, fields) {
    view.setUint8(offset, fields.family);
    view.setUint8(offset + 1, fields.protocol);
    view.setUint8(offset + 2, fields.tcpState);
    view.setUint32(offset + 4, fields.status, true);
    view.setUint32(offset + 8, fields.timeout, true);
    view.setUint16(offset + 12, fields.sport, false);
    view.setUint16(offset + 14, fields.dport, false);
    view.setUint16(offset + 16, fields.replySport, false);
    view.setUint16(offset + 18, fields.replyDport, false);
    putBytes(view, offset + 20, 16, fields.src, "ptl_tracked.src");
    putBytes(view, offset + 36, 16, fields.dst, "ptl_tracked.dst");
    putBytes(view, offset + 52, 16, fields.replySrc, "ptl_tracked.reply_src");
    putBytes(view, offset + 68, 16, fields.replyDst, "ptl_tracked.reply_dst");
  },
  decodeFrom: (view, offset) => ({
    family: view.getUint8(offset),
    protocol: view.getUint8(offset + 1),
    tcpState: view.getUint8(offset + 2),
    status: view.getUint32(offset + 4, true),
    timeout: view.getUint32(offset + 8, true),
    sport: view.getUint16(offset + 12, false),
    dport: view.getUint16(offset + 14, false),
    replySport: view.getUint16(offset + 16, false),
    replyDport: view.getUint16(offset + 18, false),
    src: getBytes(view, offset + 20, 16),
    dst: getBytes(view, offset + 36, 16),
    replySrc: getBytes(view, offset + 52, 16),
    replyDst: getBytes(view, offset + 68, 16),
  }),
});

/** struct ptl_tracked_result, 16 bytes. */
export interface PtlTrackedResult {
  readonly done: number;
  readonly failed: number;
  readonly error: number;
}

export const ptlTrackedResultCodec: Codec<PtlTrackedResult> = codec<PtlTrackedResult>({
  name: "ptl_tracked_result",
  size: 16,
  offsets: { done: 0, failed: 4, error: 8, pad: 12 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.done, true);
    view.setUint32(offset + 4, fields.failed, true);
    view.setUint32(offset + 8, fields.error, true);
  },
  decodeFrom: (view, offset) => ({
    done: view.getUint32(offset, true),
    failed: view.getUint32(offset + 4, true),
    error: view.getUint32(offset + 8, true),
  }),
});

/** struct ptl_udp_target, 32 bytes. */
export interface PtlUdpTarget {
  readonly cookie: bigint;
  readonly address: Uint8Array;
  readonly port: Uint8Array;
}

export const ptlUdpTargetCodec: Codec<PtlUdpTarget> = codec<PtlUdpTarget>({
  name: "ptl_udp_target",
  size: 32,
  offsets: { cookie: 0, address: 8, port: 24, pad: 26 },
  encodeInto(view, offset, fields) {
    view.setBigUint64(offset, fields.cookie, true);
    putBytes(view, offset + 8, 16, fields.address, "ptl_udp_target.address");
    putBytes(view, offset + 24, 2, fields.port, "ptl_udp_target.port");
  },
  decodeFrom: (view, offset) => ({
    cookie: view.getBigUint64(offset, true),
    address: getBytes(view, offset + 8, 16),
    port: getBytes(view, offset + 24, 2),
  }),
});

/** struct ptl_xdp_state, 44 bytes. */
export interface PtlXdpState {
  readonly ifindex: number;
  readonly mode: number;
  readonly programId: number;
  readonly address: Uint8Array;
  readonly ours: number;
  readonly name: string;
  readonly tag: Uint8Array;
}

export const ptlXdpStateCodec: Codec<PtlXdpState> = codec<PtlXdpState>({
  name: "ptl_xdp_state",
  size: 44,
  offsets: { ifindex: 0, mode: 4, programId: 8, address: 12, ours: 18, pad: 19, name: 20, tag: 36 },
  encodeInto(view, offset, fields) {
    view.setUint32(offset, fields.ifindex, true);
    view.setUint32(offset + 4, fields.mode, true);
    view.setUint32(offset + 8, fields.programId, true);
    putBytes(view, offset + 12, 6, fields.address, "ptl_xdp_state.address");
    view.setUint8(offset + 18, fields.ours);
    putText(view, offset + 20, 16, fields.name, "ptl_xdp_state.name");
    putBytes(view, offset + 36, 8, fields.tag, "ptl_xdp_state.tag");
  },
  decodeFrom: (view, offset) => ({
    ifindex: view.getUint32(offset, true),
    mode: view.getUint32(offset + 4, true),
    programId: view.getUint32(offset + 8, true),
    address: getBytes(view, offset + 12, 6),
    ours: view.getUint8(offset + 18),
    name: getText(view, offset + 20, 16),
    tag: getBytes(view, offset + 36, 8),
  }),
});
