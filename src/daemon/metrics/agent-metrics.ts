// SPDX-License-Identifier: Apache-2.0
/** All metrics of the agent, in one registry. */
import { collectDefaultMetrics, Registry } from "prom-client";
import type { Family } from "../../net/ip.js";
import type { Logger } from "../../util/log.js";
import { systemTimers, type Timers } from "../../util/timers.js";
import type { HealthState } from "../health/health-state.js";
import { AuditMetrics } from "./audit-metrics.js";
import { BuildMetrics } from "./build-metrics.js";
import { DataplaneMetrics } from "./dataplane-metrics.js";
import { ForwardingMetrics } from "./forwarding-metrics.js";
import { ImageMetrics } from "./image-metrics.js";
import { ProbeMetrics } from "./probe-metrics.js";
import { ProgrammingLatency } from "./programming-latency.js";
import { SourceMetrics } from "./source-metrics.js";
import { SyncMetrics } from "./sync-metrics.js";
import { SyncWatch } from "./sync-watch.js";
import { TakeoverMetrics } from "./takeover-metrics.js";

export interface AgentMetricsOptions {
  readonly health: HealthState;
  readonly log: Logger;
  /** Of package.json. */
  readonly version: string;
  /** The families that are proxied (13.4). @default both */
  readonly families?: readonly Family[];
  readonly timers?: Timers;
  /** topServices. @default 50 */
  readonly topServices?: number;
}

/** The Kubernetes release whose kube-proxy is the contract, until the API server has said its own. */
export const CONTRACT_VERSION = "v1.36.0";

export class AgentMetrics {
  /** Of /metrics. */
  readonly registry: Registry;
  /** Of /metrics/slis. */
  readonly slis: Registry;
  readonly build: BuildMetrics;
  readonly sync: SyncMetrics;
  /** LatencySink of the API server's source. */
  readonly latency: ProgrammingLatency;
  readonly image: ImageMetrics;
  readonly dataplane: DataplaneMetrics;
  /** SourceObserver of the API server's source. */
  readonly source: SourceMetrics;
  /** ProbeCounter of HealthServer. */
  readonly probes: ProbeMetrics;
  readonly takeover: TakeoverMetrics;
  readonly audit: AuditMetrics;
  readonly forwarding: ForwardingMetrics;
  /** What ServiceSync reports to. */
  readonly syncWatch: SyncWatch;

  constructor(options: AgentMetricsOptions) {
    const { health, log, version, families = [4, 6], timers = systemTimers, topServices } = options;
    const registry = new Registry();
    this.registry = registry;
    this.slis = new Registry();
    collectDefaultMetrics({ register: registry });
    this.build = new BuildMetrics({ registry, version, kubernetesVersion: CONTRACT_VERSION });
    this.sync = new SyncMetrics({ registry, families, timers });
    this.latency = new ProgrammingLatency({ registry, families, timers });
    this.image = new ImageMetrics({ registry, families });
    const top = topServices === undefined ? {} : { topServices };
    this.dataplane = new DataplaneMetrics({ registry, image: this.image, log, timers, ...top });
    this.source = new SourceMetrics(registry);
    this.probes = new ProbeMetrics({ registry, slis: this.slis, health });
    this.audit = new AuditMetrics(registry);
    this.forwarding = new ForwardingMetrics(registry);
    this.takeover = new TakeoverMetrics(registry, families);
    this.syncWatch = new SyncWatch({ health, sync: this.sync, latency: this.latency, image: this.image });
  }
}
