// SPDX-License-Identifier: Apache-2.0
/**
 * kube-proxy's metrics about machinery that is not used here. Alerts and dashboards name them, so they are there, and 0 is
 * true of each of them. Those of which 0 would be a lie are left out: see docs/metrics.md.
 */
import { Counter, exponentialBuckets, Gauge, Histogram, type Registry } from "prom-client";
import type { Family } from "../../net/ip.js";
import { FAMILY_LABELS } from "./family-label.js";

const COUNTERS: Readonly<Record<string, string>> = {
  sync_proxy_rules_iptables_restore_failures_total: "Always 0: no iptables-restore is run for Services",
  sync_proxy_rules_iptables_partial_restore_failures_total:
    "Always 0: no iptables-restore is run for Services",
  sync_proxy_rules_nftables_sync_failures_total: "Always 0: Services are not in nftables",
  sync_proxy_rules_nftables_cleanup_failures_total: "Always 0: Services are not in nftables",
};

const GAUGES: Readonly<Record<string, string>> = {
  sync_proxy_rules_iptables_total: "Always 0: iptables rules for Services that are installed",
  sync_proxy_rules_iptables_last: "Always 0: iptables rules for Services that the last sync wrote",
};

export class TakeoverMetrics {
  readonly #durations: Histogram<"ip_family">;
  readonly #deleted: Counter<"ip_family">;

  constructor(registry: Registry, families: readonly Family[]) {
    const registers = [registry];
    const labels = families.map((family) => FAMILY_LABELS[family]);
    for (const [name, help] of Object.entries(COUNTERS)) {
      const counter = new Counter({ name: `kubeproxy_${name}`, help, labelNames: ["ip_family"], registers });
      for (const ip_family of labels) counter.inc({ ip_family }, 0);
    }
    for (const [name, help] of Object.entries(GAUGES)) {
      const gauge = new Gauge({
        name: `kubeproxy_${name}`,
        help,
        labelNames: ["ip_family", "table"],
        registers,
      });
      for (const ip_family of labels)
        for (const table of ["filter", "nat"]) gauge.set({ ip_family, table }, 0);
    }
    new Counter({
      name: "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
      help: "Always 0: packets that conntrack finds invalid are not dropped here",
      registers,
    });
    this.#durations = new Histogram({
      name: "kubeproxy_conntrack_reconciler_sync_duration_seconds",
      help: "How long it took to delete kernel conntrack entries; Portolan's own flows follow their backends without that",
      labelNames: ["ip_family"],
      buckets: exponentialBuckets(0.001, 2, 15),
      registers,
    });
    this.#deleted = new Counter({
      name: "kubeproxy_conntrack_reconciler_deleted_entries_total",
      help: "Kernel conntrack entries that were deleted",
      labelNames: ["ip_family"],
      registers,
    });
    for (const ip_family of labels) {
      this.#durations.zero({ ip_family });
      this.#deleted.inc({ ip_family }, 0);
    }
  }

  /** Entries of the kernel's conntrack, of one family, have been deleted. */
  conntrackDeleted(family: Family, entries: number, milliseconds: number): void {
    const ip_family = FAMILY_LABELS[family];
    this.#durations.observe({ ip_family }, milliseconds / 1000);
    this.#deleted.inc({ ip_family }, entries);
  }
}
