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
import { NativeError } from "../../../src/native/errors.js";
import type { MapWrite } from "../../../src/native/kernel.js";
import type { LoadedObject } from "../../../src/native/object.js";
import { buildFrame, type Packet } from "../../support/packet.js";
import { addressBytes } from "../../support/packet-address.js";
import { assertSameFrame, describeFrame } from "../../support/packet-diff.js";
import { type Addresses, addressesOf, type Family, type Host } from "./addresses.js";
import { isolate } from "./isolate.js";
import { decodeNat, encodeNat, type NatEntry, natText, parseNat } from "./nat-entry.js";
import { openTestKernel, type ProgramName } from "./test-kernel.js";

export type ReasonName = Exclude<keyof typeof Reason, "COUNT">;
export type Verdict = "pass" | "drop" | "redirect";
export type ProtocolName = "tcp" | "udp" | "sctp";

const VERDICTS: ReadonlyMap<number, Verdict> = new Map([
  [-1, "pass"],
  [2, "drop"],
  [7, "redirect"],
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
}

export interface ServiceSpec {
  readonly vip: Host;
  readonly port: number;
  readonly protocol: ProtocolName;
  readonly endpoints: readonly Endpoint[];
  /** What happens without endpoints. */
  readonly whenEmpty?: "reject" | "drop";
}

export interface Service {
  readonly spec: ServiceSpec;
  readonly index: number;
  /** Backend cells, in the order of the endpoints. */
  readonly cells: readonly number[];
}

export interface Outcome {
  readonly verdict: Verdict;
  readonly frame: Uint8Array;
  /** Packets counted, by reason; zero is left out. */
  readonly reasons: Readonly<Partial<Record<ReasonName, number>>>;
}

export interface RunOptions {
  readonly ifindex?: number;
  readonly checksumComplete?: boolean;
  /** The packet is a bulk of segments of this many bytes of data each (GSO). */
  readonly gsoSize?: number;
}

export interface Expectation {
  readonly verdict?: Verdict;
  /** What leaves; the very bytes that came in unless said otherwise. */
  readonly packet?: Packet | Uint8Array;
  /** Exactly these reasons are counted, once each. */
  readonly reasons: readonly ReasonName[];
}

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
export async function openBench(config: Partial<PtlConfig> = {}, object?: string): Promise<Bench> {
  isolate();
  const kernel = await openTestKernel(config, object);
  after(() => kernel.close());
  return new Bench(kernel);
}

/** Registers one test for IPv4 and one for IPv6, each on empty maps. */
export function twins(bench: Bench, title: string, body: (lab: Lab) => Promise<void>): void {
  for (const family of [4, 6] as const) {
    test(`${title} (IPv${family})`, async () => {
      const lab = new Lab(bench, family);
      await lab.reset();
      await body(lab);
    });
  }
}

export class Lab {
  readonly family: Family;
  readonly at: Addresses;
  readonly #bench: Bench;

  constructor(bench: Bench, family: Family) {
    this.#bench = bench;
    this.family = family;
    this.at = addressesOf(family);
  }

  get kernel(): LoadedObject {
    return this.#bench.kernel;
  }

  /** `frontends` becomes `frontends4` or `frontends6`. */
  map(
    name: "frontends" | "slots" | "backends" | "backend_stats" | "nat" | "addresses" | "fragments",
  ): MapName {
    return `${name}${this.family}`;
  }

  /** A packet between hosts. */
  packet(src: Host, dst: Host, payload: Packet["payload"], more: Partial<Packet> = {}): Packet {
    return { src: this.at[src], dst: this.at[dst], payload, ...more };
  }

  /** Empties the maps that tests fill. Cells, slots and service indexes are never used twice. */
  async reset(): Promise<void> {
    for (const name of ["nat", "frontends", "addresses", "fragments"] as const) {
      const dump = await this.kernel.dump(this.map(name));
      await this.write([
        { map: this.map(name), kind: "delete", count: dump.count, keys: dump.keys, values: none },
      ]);
    }
    await this.interface({ masquerade: true });
  }

  async write(writes: readonly MapWrite[]): Promise<void> {
    const result = await this.kernel.apply(writes.filter((write) => write.count > 0));
    assert.equal(result.failure, null, `a map write failed: ${JSON.stringify(result.failure)}`);
  }

  async #set(map: MapName, key: Uint8Array, value: Uint8Array): Promise<void> {
    await this.write([{ map, kind: "update", count: 1, keys: key, values: value }]);
  }

  async #delete(map: MapName, key: Uint8Array): Promise<void> {
    await this.write([{ map, kind: "delete", count: 1, keys: key, values: none }]);
  }

  /** Describes the interface of the packets, with or without addresses to masquerade with. */
  async interface({ masquerade }: { masquerade: boolean }): Promise<void> {
    const [four, six] = masquerade ? [addressesOf(4), addressesOf(6)] : [null, null];
    const value = interfaceCodec.encode({
      role: Role.POD,
      masquerade4: addressBytes(four?.node ?? "0.0.0.0"),
      masquerade6: addressBytes(six?.node ?? "::"),
      flags: 0,
    });
    await this.#set("interfaces", u32(IFINDEX), value);
  }

  async forgetInterface(): Promise<void> {
    await this.#delete("interfaces", u32(IFINDEX));
  }

  /** Publishes a Service port: cells, slots, address classes, then the choice word. */
  async service(spec: ServiceSpec): Promise<Service> {
    const service = { spec, index: this.#bench.nextService++ % MAX_SERVICES, cells: [] };
    await this.#class(spec.vip, 0, 0, AddressClass.CLASS_VIP);
    return await this.publish(service, spec.endpoints);
  }

  /**
   * Replaces the endpoints of a Service by one write of its choice words, and retires the cells it had. `external`: what
   * senders outside the cluster get, the same unless given.
   */
  async publish(
    service: Service,
    endpoints: readonly Endpoint[],
    external?: readonly Endpoint[],
  ): Promise<Service> {
    const { spec, index } = service;
    const key = this.#addrPort(spec.vip, spec.port, PROTOCOL_NUMBER[spec.protocol]);
    const inside = await this.#slots(spec, index, key, endpoints);
    const outside = external === undefined ? inside : await this.#slots(spec, index, key, external);
    const value = frontendCodec.encode({
      internal: inside.word,
      external: outside.word,
      service: index,
      affinitySeconds: 0,
      flags: FrontendFlag.FRONTEND_CLUSTER_IP,
    });
    await this.#set(this.map("frontends"), key, value);
    for (const cell of service.cells) await this.retire(cell, index, { host: "unspecified", port: 0 });
    return { spec, index, cells: inside.cells };
  }

  /** Fills cells and slots for endpoints, and returns the choice word that leads to them. */
  async #slots(spec: ServiceSpec, index: number, key: Uint8Array, endpoints: readonly Endpoint[]) {
    const bench = this.#bench;
    const base = bench.nextSlot;
    const cells: number[] = [];
    for (const endpoint of endpoints) {
      const cell = bench.nextCell++;
      cells.push(cell);
      await this.setBackend(cell, index, endpoint);
      await this.#set(this.map("slots"), u32(bench.nextSlot++), u32(cell));
      await this.#class(endpoint.host, 0, 0, AddressClass.CLASS_BACKEND);
      const number = PROTOCOL_NUMBER[spec.protocol];
      await this.#class(endpoint.host, endpoint.port, number, AddressClass.CLASS_BACKEND_PORT);
    }
    const tag = choiceTag(key);
    const word =
      cells.length === 0
        ? encodeEmptyChoice(tag, spec.whenEmpty ?? "reject")
        : encodeChoice({ tag, count: cells.length, base });
    return { cells, word };
  }

  /** A live cell, of the first generation unless told otherwise. */
  async setBackend(cell: number, service: number, endpoint: Endpoint, generation: number = 1): Promise<void> {
    await this.#backend(cell, service, endpoint, BackendState.BACKEND_LIVE, generation);
  }

  /** A free cell of the next generation, as the reconciler leaves one. */
  async retire(cell: number, service: number, endpoint: Endpoint): Promise<void> {
    await this.#backend(cell, service, endpoint, BackendState.BACKEND_FREE, 2);
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
    const value = codec.encode({ addr, port: endpoint.port, state, flags: 0, generation, service });
    await this.#set(this.map("backends"), u32(cell), value);
  }

  async deleteFrontend(spec: ServiceSpec): Promise<void> {
    const key = this.#addrPort(spec.vip, spec.port, PROTOCOL_NUMBER[spec.protocol]);
    await this.#delete(this.map("frontends"), key);
  }

  async #class(host: Host, port: number, protocol: number, value: number): Promise<void> {
    await this.#set(this.map("addresses"), this.#addrPort(host, port, protocol), u32(value));
  }

  #addrPort(host: Host, port: number, protocol: number): Uint8Array {
    const codec = this.family === 4 ? addrPort4Codec : addrPort6Codec;
    return codec.encode({ addr: addressBytes(this.at[host]), port, protocol });
  }

  /** Runs a program on a packet and reports what came of it. */
  async run(
    program: ProgramName,
    packet: Packet | Uint8Array,
    { ifindex = IFINDEX, checksumComplete = false, gsoSize = 0 }: RunOptions = {},
  ): Promise<Outcome> {
    const before = await this.#reasons();
    const result = this.kernel.testRun(program, {
      data: frameOf(packet),
      ifindex,
      checksumComplete,
      gsoSize,
      gsoSegs: gsoSize === 0 ? 0 : 2,
    });
    const verdict = VERDICTS.get(result.retval);
    assert.ok(verdict !== undefined, `${program} returned ${result.retval}, which is no verdict of ours`);
    const after = await this.#reasons();
    const reasons: Partial<Record<ReasonName, number>> = {};
    for (const [name, index] of REASONS) {
      const packets = Number((after[index] ?? 0n) - (before[index] ?? 0n));
      if (packets !== 0) reasons[name] = packets;
    }
    return { verdict, frame: result.data, reasons };
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
  async expect(program: ProgramName, packet: Packet | Uint8Array, expected: Expectation): Promise<Outcome> {
    const outcome = await this.run(program, packet);
    const what = `${program} on IPv${this.family}\n${describeFrame(frameOf(packet))}\n`;
    assert.equal(
      outcome.verdict,
      expected.verdict ?? "pass",
      `${what}: verdict (${JSON.stringify(outcome.reasons)})`,
    );
    assertSameFrame(outcome.frame, frameOf(expected.packet ?? packet), what);
    const reasons = Object.fromEntries(expected.reasons.map((name) => [name, 1]));
    assert.deepEqual(outcome.reasons, reasons, `${what}: counted reasons`);
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
    await this.#set(this.map("nat"), key, value);
  }

  /** Changes entries in place; null deletes. */
  async editNat(edit: (entry: NatEntry, line: string) => NatEntry | null): Promise<void> {
    for (const entry of await this.natEntries()) {
      const edited = edit(entry, natText(entry));
      const { key, value } = encodeNat(this.family, edited ?? entry);
      if (edited === null) await this.#delete(this.map("nat"), key);
      else await this.#set(this.map("nat"), key, value);
    }
  }

  /** Gives every entry the rewrite of some other key, as a reader of a recycled element would see it. */
  async corruptNat(): Promise<void> {
    for (const entry of await this.natEntries()) {
      const { key } = encodeNat(this.family, entry);
      const other = { key: { ...entry.key, sport: entry.key.sport ^ 1 }, value: entry.value };
      await this.#set(this.map("nat"), key, encodeNat(this.family, other).value);
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
const none = new Uint8Array();
const EINVAL = 22;

function frameOf(packet: Packet | Uint8Array): Uint8Array {
  return packet instanceof Uint8Array ? packet : buildFrame(packet);
}

function decodeTraffic(values: Uint8Array): Traffic[] {
  const count = Math.floor(values.length / trafficCodec.size);
  return Array.from({ length: count }, (_, i) => trafficCodec.decode(values, i * trafficCodec.size));
}

function u32(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value, true);
  return out;
}
