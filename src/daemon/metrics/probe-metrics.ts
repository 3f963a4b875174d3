// SPDX-License-Identifier: Apache-2.0
/** Answers of /healthz and /livez (10.8), and the state behind them. */
import { Counter, Gauge, type Registry } from "prom-client";
import type { ProbePath } from "../health/health-response.js";
import type { HealthState } from "../health/health-state.js";

export interface ProbeMetricsOptions {
  readonly registry: Registry;
  /** The registry of /metrics/slis. */
  readonly slis: Registry;
  readonly health: HealthState;
}

export class ProbeMetrics {
  readonly #healthz: Counter<"code">;
  readonly #livez: Counter<"code">;
  readonly #checks: Counter<"name" | "type" | "status">;

  constructor({ registry, slis, health }: ProbeMetricsOptions) {
    const counter = (path: string): Counter<"code"> => {
      const made = new Counter({
        name: `kubeproxy_proxy_${path}_total`,
        help: `Answers of /${path}, by HTTP status`,
        labelNames: ["code"],
        registers: [registry],
      });
      for (const code of ["200", "503"]) made.inc({ code }, 0);
      return made;
    };
    this.#healthz = counter("healthz");
    this.#livez = counter("livez");
    const gauge = (name: string, help: string, read: () => boolean): void => {
      new Gauge({
        name,
        help,
        registers: [registry],
        collect() {
          this.set(Number(read()));
        },
      });
    };
    gauge(
      "portolan_healthy",
      "1 when /livez says so: nothing waits too long, and the dataplane is there",
      () => health.healthy,
    );
    gauge("portolan_node_eligible", "1 when the node may be given more traffic", () => health.nodeEligible);
    gauge(
      "portolan_dataplane_attached",
      "1 when the programs are where packets pass",
      () => health.dataplane.attached,
    );
    gauge(
      "portolan_dataplane_writable",
      "1 when the kernel takes writes to the maps",
      () => health.dataplane.writable,
    );
    new Gauge({
      name: "kubernetes_healthcheck",
      help: "The state of a health check: 1 is healthy",
      labelNames: ["name", "type"],
      registers: [slis],
      collect() {
        this.set({ name: "proxy", type: "livez" }, Number(health.healthy));
        this.set({ name: "node-eligible", type: "healthz" }, Number(health.nodeEligible));
      },
    });
    this.#checks = new Counter({
      name: "kubernetes_healthchecks_total",
      help: "Answers of health checks",
      labelNames: ["name", "type", "status"],
      registers: [slis],
    });
  }

  /** ProbeCounter of HealthServer. */
  probed(path: ProbePath, status: number): void {
    (path === "/healthz" ? this.#healthz : this.#livez).inc({ code: String(status) });
    this.#checks.inc({ name: "proxy", type: path.slice(1), status: status === 200 ? "success" : "error" });
  }
}
