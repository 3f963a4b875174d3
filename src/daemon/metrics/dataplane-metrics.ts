// SPDX-License-Identifier: Apache-2.0
/** What the kernel's maps say, read when somebody asks: use and capacity, reasons, traffic of Services. */
import { Counter, type CounterConfiguration, Gauge, type Registry } from "prom-client";
import { REASONS, type ReasonInfo } from "../../abi/enums.gen.js";
import type { NativeMapInfo } from "../../native/maps.js";
import type { Family } from "../../net/ip.js";
import type { Logger } from "../../util/log.js";
import type { Timers } from "../../util/timers.js";
import type { ImageMetrics } from "./image-metrics.js";
import { MapReader, type MapReading, type ReadableMaps } from "./map-reader.js";
import type { Amounts } from "./top-traffic.js";

export interface DataplaneMetricsOptions {
  readonly registry: Registry;
  readonly image: ImageMetrics;
  readonly log: Logger;
  readonly timers: Timers;
  /** How many service ports have traffic series of their own. @default 50 */
  readonly topServices?: number;
}

const TOP_SERVICES = 50;
const SERVICE_LABELS = ["namespace", "service", "port", "protocol"] as const;
type ServiceLabel = (typeof SERVICE_LABELS)[number];

/** What became of a packet; "noted" happens beside one of the others. */
export type Verdict = "translated" | "passed" | "rejected" | "dropped" | "noted";

const ANSWERED: readonly string[] = ["TRANSLATED", "FLOW_NEW", "ICMP_TRANSLATED"];

export function verdictOf({ key }: Pick<ReasonInfo, "key">): Verdict {
  if (key.startsWith("DROP_")) return "dropped";
  if (key.startsWith("REJECT_")) return "rejected";
  if (key.startsWith("PASS_")) return "passed";
  return ANSWERED.includes(key) ? "translated" : "noted";
}

export class DataplaneMetrics {
  readonly #registry: Registry;
  readonly #image: ImageMetrics;
  readonly #reader: MapReader;
  #slotsTaken: (family: Family) => number | null = () => null;

  constructor({ registry, image, log, timers, topServices = TOP_SERVICES }: DataplaneMetricsOptions) {
    this.#registry = registry;
    this.#image = image;
    this.#reader = new MapReader({ log, timers, topServices });
    this.#mapGauges();
    this.#reasons();
    this.#services();
    this.#calls();
  }

  /** From when the maps are open until just before they are closed (then null). */
  setMaps(maps: ReadableMaps | null): void {
    this.#reader.setMaps(maps);
  }

  /** How many places of slots4 and 6 are taken: the reconciler alone knows. Null: not known now. */
  setSlots(taken: (family: Family) => number | null): void {
    this.#slotsTaken = taken;
  }

  #mapGauges(): void {
    const gauge = (name: string, help: string, read: (info: NativeMapInfo) => number | null): void => {
      const reading = (): Promise<MapReading | null> => this.#reader.read();
      new Gauge({
        name,
        help,
        labelNames: ["map"],
        registers: [this.#registry],
        async collect() {
          const now = await reading();
          this.reset();
          for (const info of now?.usage ?? []) {
            const value = read(info);
            if (value !== null) this.set({ map: info.name }, value);
          }
        },
      });
    };
    gauge(
      "portolan_map_entries",
      "Entries in use of a map; of backends4 and 6 those of the published state; of slots4 and 6 with those that wait to be used again",
      (info) => this.#entries(info),
    );
    gauge("portolan_map_capacity_entries", "How many entries a map can hold", ({ maxEntries }) => maxEntries);
    gauge("portolan_map_memory_bytes", "Memory that the kernel charges for a map", ({ bytes }) => bytes);
  }

  /** An array has no entries to count; which of its cells are in use is known for backends and slots. */
  #entries({ name, used }: NativeMapInfo): number | null {
    if (name === "backends4") return this.#image.counts.backends[4];
    if (name === "backends6") return this.#image.counts.backends[6];
    if (name === "slots4") return this.#slotsTaken(4);
    if (name === "slots6") return this.#slotsTaken(6);
    return used;
  }

  #reasons(): void {
    const labelNames = ["verdict", "reason"] as const;
    const make = (name: string, help: string, field: "packets" | "bytes"): void => {
      this.#kernelCounter({ name, help, labelNames }, (now, counter) => {
        for (const reason of REASONS) {
          const value = now.reasons[reason.id];
          if (value !== undefined)
            counter.inc({ verdict: verdictOf(reason), reason: reason.name }, Number(value[field]));
        }
      });
    };
    make("portolan_packets_total", "Packets by what became of them and why", "packets");
    make("portolan_packet_bytes_total", "Bytes of packets by what became of them and why", "bytes");
  }

  #services(): void {
    const make = (field: keyof Amounts, what: string): void => {
      const name = `portolan_service_${field}_total`;
      const help = `${what} of a service port; those without a series of their own together as service="other"`;
      this.#kernelCounter<ServiceLabel>({ name, help, labelNames: SERVICE_LABELS }, (now, counter) => {
        const { top, other } = now.traffic;
        for (const { service, amounts } of top) {
          const { namespace, name: own, port, protocol } = service;
          counter.inc({ namespace, service: own, port, protocol }, amounts[field]);
        }
        counter.inc({ namespace: "", service: "other", port: "", protocol: "" }, other[field]);
      });
    };
    make("flows", "New flows");
    make("packets", "Packets");
    make("bytes", "Bytes");
  }

  #calls(): void {
    const make = (name: string, help: string, read: () => number): void => {
      new Counter({
        name,
        help,
        registers: [this.#registry],
        collect() {
          this.reset();
          this.inc(read());
        },
      });
    };
    const stats = (): { ffiCalls: number; mapWrites: number } =>
      this.#reader.maps?.stats ?? { ffiCalls: 0, mapWrites: 0 };
    make(
      "portolan_ffi_calls_total",
      "Calls into the native library that read or write maps",
      () => stats().ffiCalls,
    );
    make("portolan_map_writes_total", "Map entries that were written or deleted", () => stats().mapWrites);
    make(
      "portolan_map_read_failures_total",
      "Readings of the maps for metrics that did not succeed",
      () => this.#reader.failures,
    );
  }

  /** A counter that the kernel keeps: without a reading it has no samples, rather than old ones. */
  #kernelCounter<Label extends string>(
    configuration: CounterConfiguration<Label>,
    show: (reading: MapReading, counter: Counter<Label>) => void,
  ): void {
    const reading = (): Promise<MapReading | null> => this.#reader.read();
    new Counter<Label>({
      ...configuration,
      registers: [this.#registry],
      async collect() {
        const now = await reading();
        this.reset();
        if (now !== null) show(now, this);
      },
    });
  }
}
