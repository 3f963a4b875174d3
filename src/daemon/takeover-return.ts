// SPDX-License-Identifier: Apache-2.0
/**
 * The way back to kube-proxy: flows that our programs translate are handed to the kernel's conntrack before the programs are
 * taken off, so that they keep their backends. Without that the kernel would take the next packet of each for the first of a new
 * flow, and kube-proxy's rules would send it to any backend.
 *
 * Nothing may pass half handed over: with both translations at work conntrack would change the client's port, with none of them
 * the flow would be lost. So for that moment a flow's packets are sent to an address at which the kernel drops them; TCP sends
 * them again.
 */
import { viewOf } from "../abi/codec.js";
import { Direction, NatFlag, NatState, TICK_SHIFT } from "../abi/enums.gen.js";
import { FAMILY_CODECS, type NatKey4, type NatValue4 } from "../abi/layout.gen.js";
import {
  type TrackedFlow,
  type TrackedResult,
  TrackedStatus,
  TrackedTcpState,
  type TransportAddress,
} from "../native/conntrack.js";
import type { KernelMaps, MapDump, MapWrite } from "../native/kernel.js";
import { type Family, ipFromBytes } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";
import { inSlices, type Sliced } from "../util/slices.js";
import { DEFAULT_TIMEOUTS } from "./kernel-config.js";
import { MOST_FLOWS, passEntries, type Tracker } from "./takeover.js";

export interface ReturnDependencies {
  readonly maps: KernelMaps;
  readonly tracker: Pick<Tracker, "sealNat" | "trackedFlows"> & {
    createTracked(flows: readonly TrackedFlow[]): Promise<TrackedResult>;
  };
  /** Nanoseconds of CLOCK_MONOTONIC. */
  readonly nowNs?: () => bigint;
}

/** In flows. */
export interface Returned {
  readonly handedOver: number;
  readonly failed: number;
  /** Of the first that failed; 0: none did. */
  readonly errno: number;
}

const TCP = protocolNumber("TCP");
const UDP = protocolNumber("UDP");
/** Few, for they wait for each other: some 10 ms. */
const BATCH = 256;
const STEP = 2048;
/** What the kernel's own default is for a UDP flow that has seen both directions. */
const UDP_STREAM_SECONDS = 120;
/** Addresses that the kernel drops whatever arrives for them from outside. */
const NOWHERE = {
  4: Uint8Array.of(0, 0, 0, 1),
  6: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
} as const;

/**
 * Hands the live TCP and UDP flows of these families over to conntrack. The namespace must have a NAT chain.
 *
 * @throws when the maps cannot be read; what could not be handed over is in the result
 */
export async function returnFlows(
  { maps, tracker, nowNs = process.hrtime.bigint }: ReturnDependencies,
  families: readonly Family[],
): Promise<Returned> {
  let result: Returned = { handedOver: 0, failed: 0, errno: 0 };
  const byHost = await hostMasquerades(tracker);
  for (const family of families) {
    const { keys, values, count } = await maps.dump(`nat${family}`);
    const flows = await inSlices(readOwn(family, { keys, values, count }, byHost, nowNs()));
    for (let i = 0; i < flows.length; i += BATCH) {
      const batch = flows.slice(i, i + BATCH);
      await maps.apply([
        sealed(
          tracker,
          family,
          batch.map(({ held }) => held),
        ),
      ]);
      const { done, failed, errno } = await tracker.createTracked(batch.map(({ flow }) => flow));
      await maps.apply(released(tracker, family, batch, nowNs()));
      result = {
        handedOver: result.handedOver + done,
        failed: result.failed + failed,
        errno: result.errno || errno,
      };
    }
  }
  return result;
}

interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

interface OwnFlow {
  readonly flow: TrackedFlow;
  /** The client's entry, changed so that its packets are dropped. */
  readonly held: Entry;
  /** Keys of its entries. */
  readonly keys: readonly Uint8Array[];
}

interface Decoded {
  readonly key: NatKey4;
  readonly value: NatValue4;
}

const at = (address: Uint8Array, port: number): TransportAddress => ({ address: ipFromBytes(address), port });
const pairText = (from: TransportAddress, to: TransportAddress, protocol: number): string =>
  `${protocol} ${from.address.text} ${from.port} ${to.address.text} ${to.port}`;

/** Flows of ours that the host's own rules have masqueraded behind us, as flannel's do: by their tuple as it passed. */
async function hostMasquerades(
  tracker: Pick<Tracker, "trackedFlows">,
): Promise<ReadonlyMap<string, TransportAddress>> {
  const found = new Map<string, TransportAddress>();
  for (const protocol of [TCP, UDP]) {
    const { flows } = await tracker.trackedFlows(protocol, TrackedStatus.SRC_NAT, MOST_FLOWS);
    for (const { client, service, seenAs } of flows) found.set(pairText(client, service, protocol), seenAs);
  }
  return found;
}

/** The live flows of Services. */
function* readOwn(
  family: Family,
  { keys, values, count }: MapDump,
  byHost: ReadonlyMap<string, TransportAddress>,
  nowNs: bigint,
): Sliced<OwnFlow[]> {
  const { natKey, natValue } = FAMILY_CODECS[family];
  const [keyView, valueView] = [viewOf(keys), viewOf(values)];
  const now = Number((nowNs >> BigInt(TICK_SHIFT)) & 0xffffffffn);
  const leading: Decoded[] = [];
  const masquerades = new Map<string, TransportAddress>();
  for (let i = 0; i < count; i += 1) {
    if (i % STEP === STEP - 1) yield;
    const key = natKey.decodeFrom(keyView, i * natKey.size);
    const value = natValue.decodeFrom(valueView, i * natValue.size);
    if (value.flags & (NatFlag.NAT_REPLY | NatFlag.NAT_DIRECT)) continue;
    if (key.direction === Direction.IN) leading.push({ key, value });
    else if (value.flags & NatFlag.NAT_MASQUERADE && !(value.flags & NatFlag.NAT_PENDING)) {
      const [from, to] = [at(key.src, key.sport), at(key.dst, key.dport)];
      masquerades.set(pairText(from, to, key.protocol), at(value.addr, value.port));
    }
  }
  const flows: OwnFlow[] = [];
  for (const [i, entry] of leading.entries()) {
    if (i % STEP === STEP - 1) yield;
    const flow = ownFlow(family, entry, { own: masquerades, byHost }, now);
    if (flow !== null) flows.push(flow);
  }
  return flows;
}

function ownFlow(
  family: Family,
  { key, value }: Decoded,
  { own, byHost }: Readonly<Record<"own" | "byHost", ReadonlyMap<string, TransportAddress>>>,
  now: number,
): OwnFlow | null {
  const { natKey, natValue } = FAMILY_CODECS[family];
  const { protocol } = key;
  const idle = Math.max(0, (((now - value.lastSeen) | 0) * 2 ** TICK_SHIFT) / 1e9);
  const secondsLeft = Math.floor(lifeOf(protocol, value.state) - idle);
  if (secondsLeft <= 0) return null;
  const client = at(key.src, key.sport);
  const backend = at(value.addr, value.port);
  const sent = at(key.src, value.peerPort);
  const passed = pairText(sent, backend, protocol);
  const masquerade = own.get(passed) ?? null;
  const seenAs = masquerade ?? byHost.get(passed) ?? sent;
  const replied = (value.state & NatState.SEEN_REPLY) !== 0;
  const bytes = (direction: Direction, from: TransportAddress, to: TransportAddress): Uint8Array =>
    natKey.encode({
      src: from.address.bytes,
      dst: to.address.bytes,
      sport: from.port,
      dport: to.port,
      protocol,
      direction,
    });
  return {
    flow: {
      family,
      protocol,
      status: replied ? TrackedStatus.SEEN_REPLY | TrackedStatus.ASSURED : 0,
      tcpState: protocol === TCP ? TrackedTcpState.ESTABLISHED : TrackedTcpState.NONE,
      secondsLeft,
      client,
      service: at(key.dst, key.dport),
      backend,
      seenAs,
    },
    held: { key: natKey.encode(key), value: natValue.encode({ ...value, addr: NOWHERE[family], check: 0 }) },
    keys: [
      natKey.encode(key),
      bytes(Direction.OUT, backend, sent),
      bytes(Direction.OUT, sent, backend), // also one that still waits for its masquerade
      ...(masquerade === null ? [] : [bytes(Direction.IN, backend, seenAs)]),
    ],
  };
}

/** Seconds that conntrack is to keep a silent flow; 0: it is over, or none that can be handed over. */
function lifeOf(protocol: number, state: number): number {
  if (protocol === UDP)
    return state & NatState.SEEN_REPLY ? UDP_STREAM_SECONDS : DEFAULT_TIMEOUTS.udpUnreplied;
  if (protocol !== TCP || !(state & NatState.ESTABLISHED)) return 0;
  if (state & (NatState.RST_FORWARD | NatState.RST_REPLY)) return 0;
  const ends = state & (NatState.FIN_FORWARD | NatState.FIN_REPLY);
  if (ends === (NatState.FIN_FORWARD | NatState.FIN_REPLY)) return 0;
  return ends === 0 ? DEFAULT_TIMEOUTS.tcpEstablished : DEFAULT_TIMEOUTS.tcpHalfClosed;
}

function sealed(tracker: Pick<Tracker, "sealNat">, family: Family, entries: readonly Entry[]): MapWrite {
  const keys = Buffer.concat(entries.map(({ key }) => key));
  const values = Buffer.concat(entries.map(({ value }) => value));
  tracker.sealNat(family, keys, values, entries.length);
  return { map: `nat${family}`, kind: "update", count: entries.length, keys, values };
}

/** From now on the kernel translates: TCP without an entry passes; UDP needs one that lets it pass. */
function released(
  tracker: Pick<Tracker, "sealNat">,
  family: Family,
  flows: readonly OwnFlow[],
  nowNs: bigint,
): MapWrite[] {
  const passing = flows
    .filter(({ flow }) => flow.protocol === UDP)
    .flatMap(({ flow }) => passEntries(flow, nowNs));
  const kept = new Set(passing.map(({ key }) => Buffer.from(key).toString("latin1")));
  const gone = flows
    .flatMap(({ keys }) => keys)
    .filter((key) => !kept.has(Buffer.from(key).toString("latin1")));
  const none = new Uint8Array(0);
  return [
    sealed(tracker, family, passing),
    { map: `nat${family}`, kind: "delete", count: gone.length, keys: Buffer.concat(gone), values: none },
  ];
}
