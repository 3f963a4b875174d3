// SPDX-License-Identifier: Apache-2.0
/** Reads from the kernel's maps what a scrape shows: three FFI calls, once a second at most, whoever asks how often. */
import { viewOf } from "../../abi/codec.js";
import { Counters } from "../../abi/enums.gen.js";
import { serviceNameCodec, type Traffic, trafficCodec } from "../../abi/layout.gen.js";
import type { KernelMaps, MapDump } from "../../native/kernel.js";
import type { NativeMapInfo } from "../../native/maps.js";
import { protocolOfNumber } from "../../net/port.js";
import { errorMessage } from "../../util/errors.js";
import type { Logger } from "../../util/log.js";
import { inSlices, type Sliced } from "../../util/slices.js";
import { systemTimers, type Timers } from "../../util/timers.js";
import { TopTraffic, type TopTrafficResult } from "./top-traffic.js";

/** LoadedObject is one. */
export interface ReadableMaps extends Pick<KernelMaps, "dump" | "info" | "stats"> {
  /** Capacity of all maps, and the entries of hashes, counted on a pool thread. */
  usage(): Promise<readonly NativeMapInfo[]>;
}

/** Entries handled between two chances to pause. */
const STRIDE = 256;

export interface ServiceTraffic {
  /** "namespace/name:port/PROTOCOL": the identity of rule 2.4. */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly port: string;
  readonly protocol: string;
  readonly traffic: Traffic;
}

export interface MapReading {
  readonly usage: readonly NativeMapInfo[];
  /** By reason id. */
  readonly reasons: readonly Traffic[];
  readonly traffic: TopTrafficResult;
}

export interface MapReaderOptions {
  readonly log: Logger;
  readonly timers?: Timers;
  /** How many service ports have traffic of their own. */
  readonly topServices: number;
  /** Milliseconds for which a reading serves. @default 1000 */
  readonly cacheMs?: number;
}

export class MapReader {
  readonly #log: Logger;
  readonly #timers: Timers;
  readonly #cacheMs: number;
  #maps: ReadableMaps | null = null;
  #running: Promise<MapReading | null> | null = null;
  #last: { readonly reading: MapReading | null; readonly at: number } | null = null;
  readonly #traffic: TopTraffic;
  readonly #names: KnownNames = new Map();
  #failures = 0;
  #told = "";

  constructor({ log, timers = systemTimers, cacheMs = 1_000, topServices }: MapReaderOptions) {
    this.#traffic = new TopTraffic(topServices);
    this.#log = log;
    this.#timers = timers;
    this.#cacheMs = cacheMs;
  }

  /** The maps, from when they are open until they are closed. */
  setMaps(maps: ReadableMaps | null): void {
    this.#maps = maps;
    this.#last = null;
  }

  get maps(): ReadableMaps | null {
    return this.#maps;
  }

  /** Reads that did not succeed. */
  get failures(): number {
    return this.#failures;
  }

  /** Null: there are no maps, or they cannot be read now. Never rejects. */
  read(): Promise<MapReading | null> {
    if (this.#running !== null) return this.#running;
    const last = this.#last;
    if (last !== null && this.#timers.now() - last.at < this.#cacheMs) return Promise.resolve(last.reading);
    const maps = this.#maps;
    if (maps === null) return Promise.resolve(null);
    this.#running = this.#read(maps).finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #read(maps: ReadableMaps): Promise<MapReading | null> {
    let reading: MapReading | null = null;
    try {
      const usage = await maps.usage();
      const names = await maps.dump("services");
      const counters = await maps.dump("counters", Counters.SERVICE_BASE + lastIndex(names) + 1);
      const services = await inSlices(servicesIn({ names, counters }, this.#names));
      const traffic = await inSlices(this.#traffic.update(services));
      reading = { usage, reasons: reasonsIn(counters), traffic };
      this.#told = "";
    } catch (error) {
      this.#failures += 1;
      const reason = errorMessage(error);
      if (this.#told !== reason) this.#log.warn({ reason }, "maps cannot be read for metrics");
      this.#told = reason;
    }
    if (this.#maps === maps) this.#last = { reading, at: this.#timers.now() };
    return reading;
  }
}

interface Raw {
  readonly names: MapDump;
  readonly counters: MapDump;
}

/** The names that were decoded, by service index: they seldom change, and ten thousand of them take a while. */
type KnownNames = Map<number, { readonly bytes: string; readonly id: Omit<ServiceTraffic, "traffic"> }>;

function lastIndex({ count, keys }: MapDump): number {
  const view = viewOf(keys);
  let last = -1;
  for (let i = 0; i < count; i += 1) last = Math.max(last, view.getUint32(i * 4, true));
  return last;
}

/** Changes `known` to what the maps hold. */
function* servicesIn({ names, counters }: Raw, known: KnownNames): Sliced<readonly ServiceTraffic[]> {
  const { size } = serviceNameCodec;
  const bytes = Buffer.from(names.values.buffer, names.values.byteOffset, names.values.byteLength);
  const keys = viewOf(names.keys);
  const counted = viewOf(counters.values);
  const services: ServiceTraffic[] = [];
  const before = new Map(known);
  known.clear();
  for (let i = 0; i < names.count; i += 1) {
    if (i % STRIDE === STRIDE - 1) yield;
    const index = keys.getUint32(i * 4, true);
    const at = (Counters.SERVICE_BASE + index) * trafficCodec.size;
    if (at + trafficCodec.size > counted.byteLength) continue;
    const text = bytes.toString("latin1", i * size, (i + 1) * size);
    const old = before.get(index);
    const name = old?.bytes === text ? old : { bytes: text, id: decodeName(viewOf(bytes), i * size) };
    known.set(index, name);
    services.push({ ...name.id, traffic: trafficCodec.decodeFrom(counted, at) });
  }
  return services;
}

function decodeName(view: DataView, at: number): Omit<ServiceTraffic, "traffic"> {
  const {
    namespaceName: namespace,
    name,
    portName: port,
    protocol: number,
  } = serviceNameCodec.decodeFrom(view, at);
  const protocol = protocolOfNumber(number) ?? String(number);
  return { key: `${namespace}/${name}:${port}/${protocol}`, namespace, name, port, protocol };
}

function reasonsIn({ values }: MapDump): readonly Traffic[] {
  const view = viewOf(values);
  return Array.from({ length: Counters.SERVICE_BASE }, (_, id) =>
    trafficCodec.decodeFrom(view, id * trafficCodec.size),
  );
}
