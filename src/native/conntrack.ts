// SPDX-License-Identifier: Apache-2.0
/** Flows that the kernel's conntrack translates: kube-proxy's before we take over, ours after we give back. */
import type { Family, IpAddress } from "../net/ip.js";
import { inSlices, type Sliced } from "../util/slices.js";
import type { Ffi } from "./ffi.js";
import { type PtlTracked, ptlTrackedCodec, ptlTrackedResultCodec } from "./portolan.gen.js";
import { fromSixteen, toSixteen } from "./sixteen.js";

/** Bits of a flow's status (IPS_* of linux/netfilter/nf_conntrack_common.h). */
export const TrackedStatus = { SEEN_REPLY: 2, ASSURED: 4, SRC_NAT: 16, DST_NAT: 32 } as const;

/** TCP_CONNTRACK_* of linux/netfilter/nf_conntrack_tcp.h, those that are used. */
export const TrackedTcpState = { NONE: 0, ESTABLISHED: 3 } as const;

export interface TransportAddress {
  readonly address: IpAddress;
  readonly port: number;
}

/** A flow as its two ends see it. */
export interface TrackedFlow {
  readonly family: Family;
  /** IPPROTO_*. */
  readonly protocol: number;
  /** TRACKED_* bits. */
  readonly status: number;
  readonly tcpState: number;
  /** Seconds until the kernel forgets it, when it stays silent. */
  readonly secondsLeft: number;
  readonly client: TransportAddress;
  /** What the client talks to. */
  readonly service: TransportAddress;
  /** Who answers. */
  readonly backend: TransportAddress;
  /** The client as the backend sees it: its own address, or that of a masquerade. */
  readonly seenAs: TransportAddress;
}

export interface TrackedFlows {
  readonly flows: readonly TrackedFlow[];
  /** How many there are; more than `flows` when those were too many. */
  readonly total: number;
}

export interface TrackedResult {
  readonly done: number;
  readonly failed: number;
  /** Of the first that failed; 0: none did. */
  readonly errno: number;
}

/** The flows of a protocol with all these status bits, of both families; at most `most`. */
export async function dumpTracked(
  ffi: Ffi,
  protocol: number,
  status: number,
  most: number,
): Promise<TrackedFlows> {
  const { size } = ptlTrackedCodec;
  for (let capacity = Math.min(most, FIRST_CAPACITY); ; ) {
    const out = Buffer.allocUnsafeSlow(capacity * size);
    const total = await ffi.callAsync("ptl_tracked_dump", protocol, status, out, capacity);
    if (total > capacity && capacity < most) {
      capacity = Math.min(most, total + FIRST_CAPACITY); // some more may have come since
      continue;
    }
    const count = Math.min(total, capacity);
    return { total, flows: await inSlices(decodeAll(out, count)) };
  }
}

/** Makes the kernel forget flows; those that it does not know are neither done nor failed. */
export const deleteTracked = (ffi: Ffi, flows: readonly TrackedFlow[]): Promise<TrackedResult> =>
  each(ffi, "ptl_tracked_delete", flows);

/** Makes the kernel translate flows from now on. */
export const createTracked = (ffi: Ffi, flows: readonly TrackedFlow[]): Promise<TrackedResult> =>
  each(ffi, "ptl_tracked_create", flows);

/** Fills in `check` of packed values of the map nat4 or nat6. */
export function sealNat(ffi: Ffi, family: Family, keys: Uint8Array, values: Uint8Array, count: number): void {
  if (count > 0) ffi.call("ptl_nat_seal", family, keys, values, count);
}

const FIRST_CAPACITY = 4096;
const STEP = 256;

async function each(
  ffi: Ffi,
  symbol: "ptl_tracked_delete" | "ptl_tracked_create",
  flows: readonly TrackedFlow[],
): Promise<TrackedResult> {
  if (flows.length === 0) return { done: 0, failed: 0, errno: 0 };
  const { size } = ptlTrackedCodec;
  const packed = Buffer.alloc(flows.length * size);
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  for (const [i, flow] of flows.entries()) ptlTrackedCodec.encodeInto(view, i * size, encoded(flow));
  const out = Buffer.alloc(ptlTrackedResultCodec.size);
  await ffi.callAsync(symbol, packed, flows.length, out);
  const { done, failed, error } = ptlTrackedResultCodec.decode(out);
  return { done, failed, errno: error };
}

function* decodeAll(bytes: Buffer, count: number): Sliced<TrackedFlow[]> {
  const flows: TrackedFlow[] = [];
  for (let i = 0; i < count; i += 1) {
    if (i % STEP === STEP - 1) yield;
    flows.push(decode(bytes, i * ptlTrackedCodec.size));
  }
  return flows;
}

function decode(bytes: Buffer, offset: number): TrackedFlow {
  const raw = ptlTrackedCodec.decode(bytes, offset);
  const family = raw.family === 4 ? 4 : 6;
  const at = (address: Uint8Array, port: number): TransportAddress => ({
    address: fromSixteen(address, family),
    port,
  });
  return {
    family,
    protocol: raw.protocol,
    status: raw.status,
    tcpState: raw.tcpState,
    secondsLeft: raw.timeout,
    client: at(raw.src, raw.sport),
    service: at(raw.dst, raw.dport),
    backend: at(raw.replySrc, raw.replySport),
    seenAs: at(raw.replyDst, raw.replyDport),
  };
}

function encoded(flow: TrackedFlow): PtlTracked {
  const { family, protocol, status, tcpState, secondsLeft, client, service, backend, seenAs } = flow;
  return {
    family,
    protocol,
    status,
    tcpState,
    timeout: secondsLeft,
    sport: client.port,
    dport: service.port,
    replySport: backend.port,
    replyDport: seenAs.port,
    src: toSixteen(client.address),
    dst: toSixteen(service.address),
    replySrc: toSixteen(backend.address),
    replyDst: toSixteen(seenAs.address),
  };
}
