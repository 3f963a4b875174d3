// SPDX-License-Identifier: Apache-2.0
/** The traffic with the API server: how fresh what we know is, and client-go's request metrics (11.4). */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type {
  ListMode,
  RelistReason,
  ResourceStats,
  SourceObserver,
  WatchResult,
} from "../../source/kube/stats.js";

/** client-go's. */
const REQUEST_BUCKETS: readonly number[] = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60];
const LIST_BUCKETS: readonly number[] = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Give it to KubeSource as its observer, and its stats to setStats(). */
export class SourceMetrics implements SourceObserver {
  readonly #watches: Counter<"resource" | "result">;
  readonly #lists: Histogram<"resource" | "mode">;
  readonly #relists: Counter<"resource" | "reason">;
  readonly #garbage: Counter<"resource">;
  readonly #requests: Counter<"code" | "method" | "host">;
  readonly #durations: Histogram<"verb" | "host">;
  #stats: () => readonly ResourceStats[] = () => [];

  constructor(registry: Registry) {
    const registers = [registry];
    this.#gauges(registry);
    this.#watches = new Counter({
      name: "portolan_source_watch_total",
      help: "Watches that ended; every result but closed, deadline and lost is a failure",
      labelNames: ["resource", "result"],
      registers,
    });
    this.#lists = new Histogram({
      name: "portolan_source_list_duration_seconds",
      help: "How long a whole list took, streaming or paged",
      labelNames: ["resource", "mode"],
      buckets: [...LIST_BUCKETS],
      registers,
    });
    this.#relists = new Counter({
      name: "portolan_source_relist_total",
      help: "Lists from the start, by what made them necessary",
      labelNames: ["resource", "reason"],
      registers,
    });
    this.#garbage = new Counter({
      name: "portolan_source_garbage_total",
      help: "Lines or objects from the API server that are none",
      labelNames: ["resource"],
      registers,
    });
    this.#requests = new Counter({
      name: "rest_client_requests_total",
      help: "Requests to the API server, by status, method and host; <error> when there was no answer",
      labelNames: ["code", "method", "host"],
      registers,
    });
    this.#durations = new Histogram({
      name: "rest_client_request_duration_seconds",
      help: "How long a request to the API server took up to its answer's headers, by verb and host",
      labelNames: ["verb", "host"],
      buckets: [...REQUEST_BUCKETS],
      registers,
    });
  }

  /** Where synced, objects and ages are read when they are asked for: KubeSource's stats. */
  setStats(stats: () => readonly ResourceStats[]): void {
    this.#stats = stats;
  }

  watchEnded(resource: string, result: WatchResult): void {
    this.#watches.inc({ resource, result });
  }

  listed(resource: string, mode: ListMode, durationMs: number): void {
    this.#lists.observe({ resource, mode }, durationMs / 1000);
  }

  relisted(resource: string, reason: RelistReason): void {
    this.#relists.inc({ resource, reason });
  }

  garbage(resource: string): void {
    this.#garbage.inc({ resource });
  }

  /** @param durationMs up to the answer's headers, or until it failed */
  request(method: string, host: string, code: string, durationMs: number): void {
    this.#requests.inc({ code, method, host });
    this.#durations.observe({ verb: method, host }, durationMs / 1000);
  }

  #gauges(registry: Registry): void {
    const all = (): readonly ResourceStats[] => this.#stats();
    const gauge = (name: string, help: string, read: (stats: ResourceStats) => number | null): void => {
      new Gauge({
        name,
        help,
        labelNames: ["resource"],
        registers: [registry],
        collect() {
          this.reset();
          for (const stats of all()) {
            const value = read(stats);
            if (value !== null) this.set({ resource: stats.resource }, value);
          }
        },
      });
    };
    gauge(
      "portolan_source_last_event_age_seconds",
      "Since the last event, bookmark or list of a resource",
      ({ lastEventAgeMs }) => (lastEventAgeMs === null ? null : lastEventAgeMs / 1000),
    );
    gauge("portolan_source_synced", "1 when a resource has been listed whole", ({ synced }) =>
      Number(synced),
    );
    gauge("portolan_source_objects", "Objects that are held of a resource", ({ objects }) => objects);
  }
}
