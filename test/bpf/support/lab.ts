// SPDX-License-Identifier: Apache-2.0
/**
 * A bench for packets: the real programs, loaded with maps of their own, run on one packet at a time. Every step compares
 * the verdict, every byte of the resulting frame and every counter that moved, so a test cannot overlook a side effect.
 */
import assert from "node:assert/strict";
import test, { after } from "node:test";
import {
  AddressClass,
  BackendState,
  Counters,
  FrontendFlag,
  InterfaceFlag,
  Reason,
  Role,
} from "../../../src/abi/enums.gen.js";
import { choiceTag, encodeChoice, encodeEmptyChoice } from "../../../src/abi/hash.js";
import {
  addrPort4Codec,
  addrPort6Codec,
  backend4Codec,
  backend6Codec,
  frontendCodec,
  interfaceCodec,
  type PtlConfig,
  type Traffic,
  trafficCodec,
} from "../../../src/abi/layout.gen.js";
import { MAPS, type MapName } from "../../../src/abi/maps.gen.js";
import { markCells, missingMarks } from "../../../src/dataplane/flow-marks.js";
import { NativeError } from "../../../src/native/errors.js";
import type { MapWrite } from "../../../src/native/kernel.js";
import type { LoadedObject } from "../../../src/native/object.js";
import { undisturbed } from "../../support/awake.js";
import { buildFrame, type Packet } from "../../support/packet.js";
import { addressBytes } from "../../support/packet-address.js";
import { assertSameFrame, describeFrame } from "../../support/packet-diff.js";
import { type Addresses, addressesOf, type Family, type Host } from "./addresses.js";
import { isolate } from "./isolate.js";
import { decodeNat, encodeNat, type NatEntry, natText, parseNat } from "./nat-entry.js";
import { openTestKernel, type ProgramName, type TestKernelOptions } from "./test-kernel.js";

export type ReasonName = Exclude<keyof typeof Reason, "COUNT">;
/** `tx`: back by the interface it came in by (XDP). */
export type Verdict = "pass" | "drop" | "redirect" | "tx";
export type ProtocolName = "tcp" | "udp" | "sctp";

const VERDICTS: ReadonlyMap<number, Verdict> = new Map([
  [-1, "pass"],
  [2, "drop"],
  [7, "redirect"],
]);
/** Of the XDP hook: enum xdp_action. */
const XDP_VERDICTS: ReadonlyMap<number, Verdict> = new Map([
  [1, "drop"],
  [2, "pass"],
  [3, "tx"],
  [4, "redirect"],
]);

export const PROTOCOL_NUMBER: Readonly<Record<ProtocolName, number>> = {
  tcp: 6,
  udp: 17,
  sctp: 132,
};

/** The interface that test packets come in by and leave by: the loopback of the test's namespace, which is down. */
export const IFINDEX = 1;
/** Service indexes of one bench; their counters are looked at. */
const MAX_SERVICES = 64;

export interface Endpoint {
  readonly host: Host;
  readonly port: number;
  /** Bits of enum ptl_backend_flag; none unless given. */
  readonly sets?: number;
}

/** An address that a Service port is reached by. A NodePort has none: it is on every address of class NODE. */
export interface FrontendSpec {
  readonly vip: Host;
  readonly port: number;
  readonly protocol: ProtocolName;
  /** Default: cluster-ip. */
  readonly kind?: FrontendKind;
  /** Further bits of enum ptl_frontend_flag. */
  readonly flags?: number;
  readonly affinitySeconds?: number;
  /** What happens without endpoints. */
  readonly whenEmpty?: WhenEmpty;
  /** The same for senders outside the cluster; default whenEmpty. */
  readonly whenEmptyOutside?: WhenEmpty;
}

export type FrontendKind = "cluster-ip" | "external" | "node-port";
export type WhenEmpty = "reject" | "drop";

export interface ServiceSpec extends FrontendSpec {
  readonly endpoints: readonly Endpoint[];
  /** What senders outside the cluster are offered; default: the same cells. */
  readonly outside?: readonly Endpoint[];
}

export interface Service {
  readonly spec: FrontendSpec;
  readonly index: number;
  /** Backend cells, in the order of the endpoints. */
  readonly cells: readonly number[];
  readonly inside: Offer;
  readonly outside: Offer;
}

/** Slots, and the cells in them. */
export interface Offer {
  readonly base: number;
  readonly cells: readonly number[];
  readonly endpoints: readonly Endpoint[];
}

export interface Outcome {
  readonly verdict: Verdict;
  readonly frame: Uint8Array;
  /** The packet's mark afterwards. */
  readonly mark: number;
  /** Packets counted, by reason; zero is left out. */
  readonly reasons: Readonly<Partial<Record<ReasonName, number>>>;
}

export interface RunOptions {
  readonly ifindex?: number;
  /** The packet's mark when it comes; default 0. */
  readonly mark?: number;
  readonly checksumComplete?: boolean;
  /** The packet is a bulk of segments of this many bytes of data each (GSO). */
  readonly gsoSize?: number;
}

export interface Expectation {
  readonly verdict?: Verdict;
  /** What leaves; the very bytes that came in unless said otherwise. */
  readonly packet?: Packet | Uint8Array;
  /** The mark with which it leaves; the one it came with unless said otherwise. */
  readonly mark?: number;
  /** Exactly these reasons are counted, once each. */
  readonly reasons: readonly ReasonName[];
}

/** A map of which there are two, `frontends` for `frontends4` and `frontends6`. */
export type FamilyMap =
  | "frontends"
  | "slots"
  | "backends"
  | "backend_stats"
  | "nat"
  | "addresses"
  | "fragments"
  | "affinity"
  | "source_ranges"
  | "service_nets";

/** Maps that a test finds empty. */
const EMPTIED = [
  "nat",
  "frontends",
  "addresses",
  "fragments",
  "affinity",
  "source_ranges",
  "service_nets",
] as const satisfies readonly FamilyMap[];

/** Loaded programs and maps, shared by the tests of one file. */
export class Bench {
  readonly kernel: LoadedObject;
  nextService = 0;
  nextCell = 1;
  nextSlot = 1;

  constructor(kernel: LoadedObject) {
    this.kernel = kernel;
  }
}

/** Loads the programs for the tests of this file and unloads them when those have run. */
export async function openBench(
  config: Partial<PtlConfig> = {},
  object?: string,
  options: TestKernelOptions = {},
): Promise<Bench> {
  isolate();
  const kernel = await openTestKernel(config, object, options);
  after(() => kernel.close());
  return new Bench(kernel);
}

/** Registers one test for IPv4 and one for IPv6, each on empty maps. What ages in them does so while the machine stands still, too. */
export function twins(bench: Bench, title: string, body: (lab: Lab) => Promise<void>): void {
  for (const family of [4, 6] as const) {
    test(`${title} (IPv${family})`, (t) =>
      undisturbed(t, async () => {
        const lab = new Lab(bench, family);
        await lab.reset();
        await body(lab);
      }));
  }
}

export class Lab {
  readonly family: Family;
  readonly at: Addresses;
  readonly #bench: Bench;
  /** What addClass() has written, by the key's bytes. */
  readonly #classes: Map<string, number> = new Map();

  constructor(bench: Bench, family: Family) {
    this.#bench = bench;
    this.family = family;
    this.at = addressesOf(family);
  }

  get kernel(): LoadedObject {
    return this.#bench.kernel;
  }

  /** `frontends` becomes `frontends4` or `frontends6`. */
  map(name: FamilyMap): MapName {
    return `${name}${this.family}`;
  }

  /** A packet between hosts. */
  packet(src: Host, dst: Host, payload: Packet["payload"], more: Partial<Packet> = {}): Packet {
    return { src: this.at[src], dst: this.at[dst], payload, ...more };
  }

  /** Empties the maps that tests fill. Cells, slots and service indexes are never used twice. */
  async reset(): Promise<void> {
    for (const name of EMPTIED) await this.empty(this.map(name));
    this.#classes.clear();
    await this.interface({ masquerade: true });
  }

  /** Deletes every entry of a hash. */
  async empty(map: MapName): Promise<void> {
    const { count, keys } = await this.kernel.dump(map);
    await this.write([{ map, kind: "delete", count, keys, values: none }]);
  }

  async write(writes: readonly MapWrite[]): Promise<void> {
    const result = await this.kernel.apply(writes.filter((write) => write.count > 0));
    assert.equal(result.failure, null, `a map write failed: ${JSON.stringify(result.failure)}`);
  }

  async set(map: MapName, key: Uint8Array, value: Uint8Array): Promise<void> {
    await this.write([{ map, kind: "update", count: 1, keys: key, values: value }]);
  }

  async #delete(map: MapName, key: Uint8Array): Promise<void> {
    await this.write([{ map, kind: "delete", count: 1, keys: key, values: none }]);
  }

  /**
   * Describes an interface: with the addresses of a host to masquerade with (`true`: of the node), or with none; whether what
   * comes in there is a local pod's; and what the shortcut needs to know. Default: the interface of the packets, a pod's.
   */
  async interface(description: {
    masquerade: boolean | Host;
    localPods?: boolean;
    ifindex?: number;
    role?: Role;
    mtu?: number;
    /** Further bits of enum ptl_interface_flag. */
    flags?: number;
  }): Promise<void> {
    const {
      masquerade,
      localPods = false,
      ifindex = IFINDEX,
      role = Role.POD,
      mtu = 0,
      flags = 0,
    } = description;
    const host = masquerade === true ? "node" : masquerade === false ? "unspecified" : masquerade;
    const value = interfaceCodec.encode({
      role,
      mtu,
      masquerade4: addressBytes(addressesOf(4)[host]),
      masquerade6: addressBytes(addressesOf(6)[host]),
      flags: flags | (localPods ? InterfaceFlag.INTERFACE_LOCAL_PODS : 0),
    });
    await this.set("interfaces", u32(ifindex), value);
  }

  async forgetInterface(): Promise<void> {
    await this.#delete("interfaces", u32(IFINDEX));
  }

  /** Publishes a Service port: cells, slots, address classes, then the choice words. */
  async service(spec: ServiceSpec): Promise<Service> {
    const index = this.#bench.nextService++ % MAX_SERVICES;
    return await this.publish({ spec, index, cells: [] }, spec.endpoints, spec.outside);
  }

  /**
   * Replaces the endpoints of a Service by one write of its choice words, and retires the cells it had. `external`: what
   * senders outside the cluster get, the same unless given.
   */
  async publish(
    service: Pick<Service, "spec" | "index" | "cells">,
    endpoints: readonly Endpoint[],
    external?: readonly Endpoint[],
  ): Promise<Service> {
    const { spec, index } = service;
    const inside = await this.#slots(spec, index, endpoints);
    const outside = external === undefined ? inside : await this.#slots(spec, index, external);
    const published = { spec, index, cells: inside.cells, inside, outside };
    await this.frontend(published, spec);
    for (const cell of service.cells) await this.retire(cell, index, { host: "unspecified", port: 0 });
    return published;
  }

  /** One more frontend of a Service port, on the same cells. */
  async frontend(service: Service, spec: FrontendSpec): Promise<void> {
    const kind = spec.kind ?? "cluster-ip";
    const key = this.#frontendKey(spec);
    const tag = choiceTag(key);
    const word = ({ base, cells }: Offer, empty: WhenEmpty) =>
      cells.length === 0 ? encodeEmptyChoice(tag, empty) : encodeChoice({ tag, count: cells.length, base });
    const empty = spec.whenEmpty ?? "reject";
    const value = frontendCodec.encode({
      internal: word(service.inside, empty),
      external: word(service.outside, spec.whenEmptyOutside ?? empty),
      service: service.index,
      affinitySeconds: spec.affinitySeconds ?? 0,
      flags: KIND_FLAGS[kind] | (spec.flags ?? 0),
    });
    if (kind !== "node-port") await this.addClass(spec.vip, KIND_CLASSES[kind]);
    await this.set(this.map("frontends"), key, value);
  }

  #frontendKey(spec: FrontendSpec): Uint8Array {
    const host = spec.kind === "node-port" ? "unspecified" : spec.vip;
    return this.addrPort(host, spec.port, PROTOCOL_NUMBER[spec.protocol]);
  }

  /** Fills cells and slots for endpoints. */
  async #slots(spec: FrontendSpec, index: number, endpoints: readonly Endpoint[]): Promise<Offer> {
    const bench = this.#bench;
    const base = bench.nextSlot;
    const cells: number[] = [];
    for (const endpoint of endpoints) {
      const cell = bench.nextCell++;
      cells.push(cell);
      await this.setBackend(cell, index, endpoint);
      await this.set(this.map("slots"), u32(bench.nextSlot++), u32(cell));
      await this.addClass(endpoint.host, AddressClass.CLASS_BACKEND);
      const number = PROTOCOL_NUMBER[spec.protocol];
      await this.addClass(endpoint.host, AddressClass.CLASS_BACKEND_PORT, endpoint.port, number);
    }
    return { base, cells, endpoints };
  }

  /** A live cell, of the first generation unless told otherwise. */
  async setBackend(cell: number, service: number, endpoint: Endpoint, generation: number = 1): Promise<void> {
    await this.#backend(cell, service, endpoint, BackendState.BACKEND_LIVE, generation);
  }

  /** A cell whose backend is still in a slice but no longer serves (9.3). */
  async drain(cell: number, service: number, endpoint: Endpoint, generation: number = 1): Promise<void> {
    await this.#backend(cell, service, endpoint, BackendState.BACKEND_DRAINING, generation);
  }

  /** A free cell of the next generation, as the reconciler leaves one. */
  async retire(cell: number, service: number, endpoint: Endpoint, generation: number = 2): Promise<void> {
    await this.#backend(cell, service, endpoint, BackendState.BACKEND_FREE, generation);
  }

  async #backend(
    cell: number,
    service: number,
    endpoint: Endpoint,
    state: number,
    generation: number,
  ): Promise<void> {
    const codec = this.family === 4 ? backend4Codec : backend6Codec;
    const addr = addressBytes(this.at[endpoint.host]);
    const { port, sets = 0 } = endpoint;
    const value = codec.encode({ addr, port, state, flags: sets, generation, service });
    await this.set(this.map("backends"), u32(cell), value);
  }

  async deleteFrontend(spec: FrontendSpec): Promise<void> {
    await this.#delete(this.map("frontends"), this.#frontendKey(spec));
  }

  /** Adds bits to the classes of an address, or of an address with port and protocol. */
  async addClass(host: Host, bits: number, port: number = 0, protocol: number = 0): Promise<void> {
    const key = this.addrPort(host, port, protocol);
    const name = Buffer.from(key).toString("hex");
    const value = (this.#classes.get(name) ?? 0) | bits;
    this.#classes.set(name, value);
    await this.set(this.map("addresses"), key, u32(value));
  }

  addrPort(host: Host, port: number, protocol: number): Uint8Array {
    const codec = this.family === 4 ? addrPort4Codec : addrPort6Codec;
    return codec.encode({ addr: addressBytes(this.at[host]), port, protocol });
  }

  /** Runs a program on a packet and reports what came of it. */
  async run(
    program: ProgramName,
    packet: Packet | Uint8Array,
    { ifindex = IFINDEX, mark = 0, checksumComplete = false, gsoSize = 0 }: RunOptions = {},
  ): Promise<Outcome> {
    const before = await this.#reasons();
    const result = this.kernel.testRun(program, {
      data: frameOf(packet),
      ifindex,
      xdp: program === "ptl_xdp",
      mark,
      checksumComplete,
      gsoSize,
      gsoSegs: gsoSize === 0 ? 0 : 2,
    });
    const verdict = (program === "ptl_xdp" ? XDP_VERDICTS : VERDICTS).get(result.retval);
    assert.ok(verdict !== undefined, `${program} returned ${result.retval}, which is no verdict of ours`);
    const after = await this.#reasons();
    const reasons: Partial<Record<ReasonName, number>> = {};
    for (const [name, index] of REASONS) {
      const packets = Number((after[index] ?? 0n) - (before[index] ?? 0n));
      if (packets !== 0) reasons[name] = packets;
    }
    return { verdict, frame: result.data, mark: result.mark, reasons };
  }

  /** The same, with a network card's sum over all of the packet. Throws when the program leaves a sum that does not fit. */
  async runComplete(program: ProgramName, packet: Packet | Uint8Array): Promise<Outcome> {
    return await this.run(program, packet, { checksumComplete: true });
  }

  assertFrame(outcome: Outcome, expected: Packet): void {
    assertSameFrame(outcome.frame, frameOf(expected), JSON.stringify(outcome.reasons));
  }

  /** The same, or null when the kernel's test-run takes no such packet (it wants a whole network header). */
  async tryRun(program: ProgramName, frame: Uint8Array): Promise<Outcome | null> {
    try {
      return await this.run(program, frame);
    } catch (error) {
      if (error instanceof NativeError && error.errno === EINVAL) return null;
      throw error;
    }
  }

  /** One packet through one program, with everything that is to come of it. */
  async expect(
    program: ProgramName,
    packet: Packet | Uint8Array,
    expected: Expectation,
    options: RunOptions = {},
  ): Promise<Outcome> {
    const outcome = await this.run(program, packet, options);
    const what = `${program} on IPv${this.family}\n${describeFrame(frameOf(packet))}\n`;
    assert.equal(
      outcome.verdict,
      expected.verdict ?? "pass",
      `${what}: verdict (${JSON.stringify(outcome.reasons)})`,
    );
    assertSameFrame(outcome.frame, frameOf(expected.packet ?? packet), what);
    const reasons = Object.fromEntries(expected.reasons.map((name) => [name, 1]));
    assert.deepEqual(outcome.reasons, reasons, `${what}: counted reasons`);
    assert.equal(outcome.mark, expected.mark ?? options.mark ?? 0, `${what}: mark`);
    return outcome;
  }

  /** Packets by reason. */
  async #reasons(): Promise<readonly bigint[]> {
    const { values } = await this.kernel.dump("counters", Reason.COUNT);
    const view = new DataView(values.buffer, values.byteOffset, values.byteLength);
    return Array.from({ length: Reason.COUNT }, (_, i) => {
      return view.getBigUint64(i * trafficCodec.size + (trafficCodec.offsets.packets ?? 0), true);
    });
  }

  async #counters(): Promise<readonly Traffic[]> {
    return decodeTraffic((await this.kernel.dump("counters", Counters.SERVICE_BASE + MAX_SERVICES)).values);
  }

  /** What a Service's counters say. */
  async serviceTraffic(service: Service): Promise<Traffic> {
    return (await this.#counters())[Counters.SERVICE_BASE + service.index] as Traffic;
  }

  /** What a backend's counters say. */
  async backendTraffic(cell: number): Promise<Traffic> {
    const dump = await this.kernel.dump(this.map("backend_stats"), cell + 1);
    return decodeTraffic(dump.values)[cell] as Traffic;
  }

  async natEntries(): Promise<NatEntry[]> {
    const { keySize, valueSize } = MAPS[this.map("nat")];
    const dump = await this.kernel.dump(this.map("nat"));
    return Array.from({ length: dump.count }, (_, i) =>
      decodeNat(
        this.family,
        dump.keys.subarray(i * keySize, (i + 1) * keySize),
        dump.values.subarray(i * valueSize, (i + 1) * valueSize),
      ),
    );
  }

  /** The entry with this text; undefined when there is none. */
  async natEntry(line: string): Promise<NatEntry | undefined> {
    return (await this.natEntries()).find((entry) => natText(entry) === line);
  }

  /** The nat map holds exactly these entries (see nat-entry.ts), in any order. */
  async expectNat(...lines: readonly string[]): Promise<void> {
    const found = (await this.natEntries()).map(natText);
    assert.deepEqual(found.sort(), [...lines].sort(), `nat${this.family}`);
  }

  /** Puts an entry, last seen `age` ticks ago. `state`: bits instead of the line's words. */
  async setNat(
    line: string,
    rest: { cell: number; generation?: number; age?: number; service?: number; state?: number },
  ): Promise<void> {
    const entry = parseNat(this.family, line, {
      backend: rest.cell,
      generation: rest.generation ?? 1,
      lastSeen: (this.now() - (rest.age ?? 0)) >>> 0,
      service: rest.service ?? 0,
    });
    const state = rest.state ?? entry.value.state;
    const { key, value } = encodeNat(this.family, { key: entry.key, value: { ...entry.value, state } });
    await this.set(this.map("nat"), key, value);
    await this.#mark();
  }

  /** Entries that no program has written lack their marks. */
  async #mark(): Promise<void> {
    const missing = await missingMarks(this.kernel);
    if (missing !== null) await markCells(this.kernel, missing);
  }

  /** Changes entries in place; null deletes. */
  async editNat(edit: (entry: NatEntry, line: string) => NatEntry | null): Promise<void> {
    for (const entry of await this.natEntries()) {
      const edited = edit(entry, natText(entry));
      const { key, value } = encodeNat(this.family, edited ?? entry);
      if (edited === null) await this.#delete(this.map("nat"), key);
      else await this.set(this.map("nat"), key, value);
    }
    await this.#mark();
  }

  /** Gives every entry the rewrite of some other key, as a reader of a recycled element would see it. */
  async corruptNat(): Promise<void> {
    for (const entry of await this.natEntries()) {
      const { key } = encodeNat(this.family, entry);
      const other = { key: { ...entry.key, sport: entry.key.sport ^ 1 }, value: entry.value };
      await this.set(this.map("nat"), key, encodeNat(this.family, other).value);
    }
  }

  /** Makes every entry look as if nothing had been seen for `ticks` longer. */
  async age(ticks: number): Promise<void> {
    await this.editNat(({ key, value }) => ({
      key,
      value: { ...value, lastSeen: (value.lastSeen - ticks) >>> 0 },
    }));
  }

  /** The time as nat entries have it: ticks of 2^30 ns of CLOCK_MONOTONIC. */
  now(): number {
    return Number(process.hrtime.bigint() >> 30n);
  }
}

const REASONS = (Object.entries(Reason) as [ReasonName | "COUNT", number][]).filter(
  (entry): entry is [ReasonName, number] => entry[0] !== "COUNT",
);
const KIND_FLAGS: Readonly<Record<FrontendKind, number>> = {
  "cluster-ip": FrontendFlag.FRONTEND_CLUSTER_IP,
  external: 0,
  "node-port": FrontendFlag.FRONTEND_NODE_PORT,
};
const KIND_CLASSES = {
  "cluster-ip": AddressClass.CLASS_VIP | AddressClass.CLASS_CLUSTER_IP,
  external: AddressClass.CLASS_VIP,
} as const;
const none = new Uint8Array();
const EINVAL = 22;

function frameOf(packet: Packet | Uint8Array): Uint8Array {
  return packet instanceof Uint8Array ? packet : buildFrame(packet);
}

function decodeTraffic(values: Uint8Array): Traffic[] {
  const count = Math.floor(values.length / trafficCodec.size);
  return Array.from({ length: count }, (_, i) => trafficCodec.decode(values, i * trafficCodec.size));
}

export function u32(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value, true);
  return out;
}
