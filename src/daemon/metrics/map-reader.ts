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
import { systemTimers, type Timers } from "../../util/timers.js";

/** LoadedObject is one. */
export interface ReadableMaps extends Pick<KernelMaps, "dump" | "info" | "stats"> {
  /** Capacity of all maps, and the entries of hashes, counted on a pool thread. */
  usage(): Promise<readonly NativeMapInfo[]>;
}

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
  readonly services: readonly ServiceTraffic[];
}

export interface MapReaderOptions {
  readonly log: Logger;
  readonly timers?: Timers;
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
  #failures = 0;
  #told = "";

  constructor({ log, timers = systemTimers, cacheMs = 1_000 }: MapReaderOptions) {
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
      reading = await readMaps(maps);
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

async function readMaps(maps: ReadableMaps): Promise<MapReading> {
  const usage = await maps.usage();
  const names = await maps.dump("services");
  const { size } = serviceNameCodec;
  const keys = viewOf(names.keys);
  const values = viewOf(names.values);
  const indexes = Array.from({ length: names.count }, (_, i) => keys.getUint32(i * 4, true));
  const end = indexes.reduce((most, index) => Math.max(most, index + 1), 0);
  const counters = await maps.dump("counters", Counters.SERVICE_BASE + end);
  const services = indexes.flatMap((index, i): ServiceTraffic[] => {
    const traffic = trafficAt(counters, Counters.SERVICE_BASE + index);
    if (traffic === null) return [];
    const {
      namespaceName: namespace,
      name,
      portName: port,
      protocol: number,
    } = serviceNameCodec.decodeFrom(values, i * size);
    const protocol = protocolOfNumber(number) ?? String(number);
    return [{ key: `${namespace}/${name}:${port}/${protocol}`, namespace, name, port, protocol, traffic }];
  });
  const reasons = Array.from({ length: Counters.SERVICE_BASE }, (_, id) => trafficAt(counters, id)).filter(
    (traffic) => traffic !== null,
  );
  return { usage, reasons, services };
}

function trafficAt({ values }: MapDump, cell: number): Traffic | null {
  const at = cell * trafficCodec.size;
  return at + trafficCodec.size <= values.byteLength ? trafficCodec.decodeFrom(viewOf(values), at) : null;
}
