// SPDX-License-Identifier: Apache-2.0
/** How long it takes from a change in the cluster to this node's maps (11.5). */
import { Histogram, linearBuckets, type Registry } from "prom-client";
import type { Family } from "../../net/ip.js";
import type { Timers } from "../../util/timers.js";
import { FAMILY_LABELS } from "./family-label.js";

export interface ProgrammingLatencyOptions {
  readonly registry: Registry;
  readonly families: readonly Family[];
  readonly timers: Timers;
}

interface Trigger {
  readonly family: Family;
  /** Milliseconds since 1970, not yet in the maps, oldest first. */
  readonly times: readonly number[];
}

/** 11.3: .25, .5; 1 to 59 by 1; 60 to 115 by 5; 120 to 300 by 30. */
export const PROGRAMMING_BUCKETS: readonly number[] = [
  ...linearBuckets(0.25, 0.25, 2),
  ...linearBuckets(1, 1, 59),
  ...linearBuckets(60, 5, 12),
  ...linearBuckets(120, 30, 7),
];

/** Of a Service whose slices change again and again while nothing can be written, no more is kept than this. */
const MOST_TIMES = 16;

export class ProgrammingLatency {
  readonly #timers: Timers;
  /** Of what happened before, the agent cannot say how long it took. */
  readonly #since: number;
  readonly #histogram: Histogram<"ip_family">;
  /** By Service and family: changes that no Snapshot holds yet, those of the last Snapshot, those of the sync that is under way. */
  readonly #seen = new Map<string, Trigger>();
  readonly #published = new Map<string, Trigger>();
  readonly #inFlight = new Map<string, Trigger>();

  constructor({ registry, families, timers }: ProgrammingLatencyOptions) {
    this.#timers = timers;
    this.#since = timers.epoch();
    this.#histogram = new Histogram({
      name: "kubeproxy_network_programming_duration_seconds",
      help: "From the change of an endpoint in the cluster, as its EndpointSlice dates it, to this node's maps",
      labelNames: ["ip_family"],
      buckets: [...PROGRAMMING_BUCKETS],
      registers: [registry],
    });
    for (const family of families) this.#histogram.zero({ ip_family: FAMILY_LABELS[family] });
  }

  /**
   * An EndpointSlice has changed. As LatencySink of the API server's source.
   * @param service "namespace/name"
   * @param triggeredAt annotation endpoints.kubernetes.io/last-change-trigger-time in milliseconds since 1970
   */
  changed(service: string, family: Family, triggeredAt: number): void {
    if (triggeredAt <= this.#since) return;
    add(this.#seen, `${service}/${family}`, { family, times: [triggeredAt] });
  }

  /** A slice of it has gone: what is not yet counted for the Service counts no more. */
  deleted(service: string, family: Family): void {
    const key = `${service}/${family}`;
    for (const times of [this.#seen, this.#published, this.#inFlight]) times.delete(key);
  }

  /** The Snapshot that is told now is the first that holds what has changed until now: no sync before it writes that. */
  published(): void {
    move(this.#seen, this.#published);
  }

  /** A sync begins, with the last Snapshot that was told. */
  started(): void {
    move(this.#published, this.#inFlight);
  }

  /** That sync has been committed. One that fails needs no call: the next one takes its changes along. */
  applied(): void {
    const now = this.#timers.epoch();
    for (const { family, times } of this.#inFlight.values()) {
      const ip_family = FAMILY_LABELS[family];
      for (const time of times) this.#histogram.observe({ ip_family }, Math.max(0, now - time) / 1000);
    }
    this.#inFlight.clear();
  }
}

function add(to: Map<string, Trigger>, key: string, { family, times }: Trigger): void {
  const older = to.get(key)?.times ?? [];
  to.set(key, { family, times: [...older, ...times].slice(0, MOST_TIMES) });
}

function move(from: Map<string, Trigger>, to: Map<string, Trigger>): void {
  for (const [key, trigger] of from) add(to, key, trigger);
  from.clear();
}
