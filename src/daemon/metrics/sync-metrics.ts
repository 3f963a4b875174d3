// SPDX-License-Identifier: Apache-2.0
/** kube-proxy's metrics about syncs (11.3), and what it has none for: writes that fail, phases, audits. */
import { Counter, exponentialBuckets, Gauge, Histogram, type Registry } from "prom-client";
import type { MapName } from "../../abi/maps.gen.js";
import type { AuditResult, SyncResult } from "../../dataplane/reconciler.js";
import type { Family } from "../../net/ip.js";
import type { Timers } from "../../util/timers.js";
import { FAMILY_LABELS } from "./family-label.js";

/** How many objects have changed, where nobody counts them one by one with objectChanged(). */
export interface SnapshotChanges {
  readonly services: number;
  readonly endpoints: number;
}

const NO_CHANGES: SnapshotChanges = { services: 0, endpoints: 0 };

export interface SyncMetricsOptions {
  readonly registry: Registry;
  readonly families: readonly Family[];
  readonly timers: Timers;
}

/** A sync that was committed whole. */
export interface Committed {
  readonly result: SyncResult;
  /** From the begin of the compile to the end of the last write. */
  readonly milliseconds: number;
  /** Nothing was known of what the kernel holds, or it is compared as a whole: the first sync, and repairs. */
  readonly full: boolean;
}

const sum = (a: SnapshotChanges, b: SnapshotChanges): SnapshotChanges => ({
  services: a.services + b.services,
  endpoints: a.endpoints + b.endpoints,
});

const SYNC_BUCKETS: readonly number[] = exponentialBuckets(0.001, 2, 15);

export class SyncMetrics {
  readonly #timers: Timers;
  readonly #labels: readonly string[];
  readonly #all: Histogram<"ip_family">;
  readonly #full: Histogram<"ip_family">;
  readonly #partial: Histogram<"ip_family">;
  readonly #last: Gauge<"ip_family">;
  readonly #queued: Gauge<"ip_family">;
  readonly #pendingServices: Gauge;
  readonly #pendingEndpoints: Gauge;
  readonly #changedServices: Counter;
  readonly #changedEndpoints: Counter;
  readonly #phases: Histogram<"phase">;
  readonly #failures: Counter<"code">;
  readonly #refused: Gauge<"code">;
  readonly #audits: Counter<"result">;
  readonly #repaired: Counter<"map">;
  /** Changes that no Snapshot holds yet, those of the last Snapshot, those of the sync that is under way. */
  #seen: SnapshotChanges = NO_CHANGES;
  #published: SnapshotChanges = NO_CHANGES;
  #inFlight: SnapshotChanges = NO_CHANGES;

  constructor({ registry, families, timers }: SyncMetricsOptions) {
    this.#timers = timers;
    this.#labels = families.map((family) => FAMILY_LABELS[family]);
    const registers = [registry];
    const labelNames = ["ip_family"] as const;
    const duration = (name: string, help: string): Histogram<"ip_family"> => {
      const histogram = new Histogram({
        name: `kubeproxy_${name}`,
        help,
        labelNames,
        buckets: [...SYNC_BUCKETS],
        registers,
      });
      for (const ip_family of this.#labels) histogram.zero({ ip_family });
      return histogram;
    };
    const gauge = (name: string, help: string): Gauge<"ip_family"> => {
      const made = new Gauge({ name: `kubeproxy_${name}`, help, labelNames, registers });
      for (const ip_family of this.#labels) made.set({ ip_family }, 0);
      return made;
    };
    this.#all = duration(
      "sync_proxy_rules_duration_seconds",
      "How long a sync took, from compiling to the last map write. Both families share one transaction",
    );
    this.#full = duration(
      "sync_full_proxy_rules_duration_seconds",
      "How long a sync took that compared everything: the first one, and repairs",
    );
    this.#partial = duration(
      "sync_partial_proxy_rules_duration_seconds",
      "How long a sync took that wrote what had changed",
    );
    this.#last = gauge(
      "sync_proxy_rules_last_timestamp_seconds",
      "When a sync last succeeded, in seconds since 1970",
    );
    this.#queued = gauge(
      "sync_proxy_rules_last_queued_timestamp_seconds",
      "When a change was last queued, in seconds since 1970",
    );
    const plain = (name: string, help: string): Gauge =>
      new Gauge({ name: `kubeproxy_${name}`, help, registers });
    const total = (name: string, help: string): Counter =>
      new Counter({ name: `kubeproxy_${name}`, help, registers });
    this.#pendingEndpoints = plain(
      "sync_proxy_rules_endpoint_changes_pending",
      "Services whose endpoints have changed and are not in the maps yet",
    );
    this.#changedEndpoints = total(
      "sync_proxy_rules_endpoint_changes_total",
      "Changes of a Service's endpoints that were seen",
    );
    this.#pendingServices = plain(
      "sync_proxy_rules_service_changes_pending",
      "Services that have changed and are not in the maps yet",
    );
    this.#changedServices = total(
      "sync_proxy_rules_service_changes_total",
      "Changes of Services that were seen",
    );
    this.#phases = new Histogram({
      name: "portolan_sync_phase_duration_seconds",
      help: "Parts of a sync: plan (what to write) and apply (the map writes)",
      labelNames: ["phase"],
      buckets: [...SYNC_BUCKETS],
      registers,
    });
    for (const phase of ["plan", "apply"]) this.#phases.zero({ phase });
    this.#failures = new Counter({
      name: "portolan_sync_failures_total",
      help: "Syncs that did not succeed and are tried again, by the failure's code",
      labelNames: ["code"],
      registers,
    });
    for (const code of ["E_WRITE_REFUSED", "E_KERNEL", "E_SYNC"]) this.#failures.inc({ code }, 0);
    this.#refused = new Gauge({
      name: "portolan_refused_service_ports",
      help: "Service ports that were left as they were, such as for a full map, by the refusal's code",
      labelNames: ["code"],
      registers,
    });
    this.#audits = new Counter({
      name: "portolan_audits_total",
      help: "Comparisons of the kernel's maps with what was written: clean, repaired or failed",
      labelNames: ["result"],
      registers,
    });
    for (const result of ["clean", "repaired", "failed"]) this.#audits.inc({ result }, 0);
    this.#repaired = new Counter({
      name: "portolan_audit_repaired_entries_total",
      help: "Map entries that somebody else had changed, by map",
      labelNames: ["map"],
      registers,
    });
  }

  /** ChangeCounter of the API server's source: one object came, changed or went. Others than these two do not count. */
  objectChanged(resource: string): void {
    const changes =
      resource === "services"
        ? { services: 1, endpoints: 0 }
        : resource === "endpointslices"
          ? { services: 0, endpoints: 1 }
          : NO_CHANGES;
    this.#seen = sum(this.#seen, changes);
    this.#count(changes);
  }

  /** The Snapshot that is told now is the first that holds what objectChanged() has counted until now. */
  published(): void {
    this.#published = sum(this.#published, this.#seen);
    this.#seen = NO_CHANGES;
  }

  /** A newer state is to be applied. */
  queued(changes: SnapshotChanges = NO_CHANGES): void {
    for (const ip_family of this.#labels) this.#queued.set({ ip_family }, this.#timers.epoch() / 1000);
    this.#published = sum(this.#published, changes);
    this.#count(changes);
  }

  #count({ services, endpoints }: SnapshotChanges): void {
    this.#changedServices.inc(services);
    this.#changedEndpoints.inc(endpoints);
    this.#showPending();
  }

  started(): void {
    this.#inFlight = sum(this.#inFlight, this.#published);
    this.#published = NO_CHANGES;
  }

  committed({ result, milliseconds, full }: Committed): void {
    const seconds = milliseconds / 1000;
    for (const ip_family of this.#labels) {
      this.#all.observe({ ip_family }, seconds);
      (full ? this.#full : this.#partial).observe({ ip_family }, seconds);
      this.#last.set({ ip_family }, this.#timers.epoch() / 1000);
    }
    this.#inFlight = NO_CHANGES;
    this.#showPending();
    this.#phases.observe({ phase: "plan" }, result.planMs / 1000);
    this.#phases.observe({ phase: "apply" }, result.applyMs / 1000);
    this.#showRefused(result);
  }

  /** What was in flight goes on waiting, and shows as pending. */
  failed(code: string): void {
    this.#failures.inc({ code });
  }

  audited({ differences, failure }: AuditResult): void {
    const result = failure !== null ? "failed" : differences.size > 0 ? "repaired" : "clean";
    this.#audits.inc({ result });
    for (const [map, count] of differences) this.entriesRepaired(map, count);
  }

  /** Also of maps that are no service maps. */
  entriesRepaired(map: MapName, count: number): void {
    this.#repaired.inc({ map }, count);
  }

  #showPending(): void {
    const { services, endpoints } = sum(sum(this.#seen, this.#published), this.#inFlight);
    this.#pendingServices.set(services);
    this.#pendingEndpoints.set(endpoints);
  }

  #showRefused({ refused }: SyncResult): void {
    const counts = new Map<string, number>();
    for (const { code } of refused) counts.set(code, (counts.get(code) ?? 0) + 1);
    this.#refused.reset();
    for (const [code, count] of counts) this.#refused.set({ code }, count);
  }
}
