// SPDX-License-Identifier: Apache-2.0

import { HealthState } from "../../../../src/daemon/health/health-state.js";
import { AgentMetrics } from "../../../../src/daemon/metrics/agent-metrics.js";
import type { SyncResult } from "../../../../src/dataplane/reconciler.js";
import { silentLogger } from "../../../../src/util/log.js";
import { FakeTimers } from "../servers/fake-timers.js";

export interface Rig {
  readonly timers: FakeTimers;
  readonly health: HealthState;
  readonly metrics: AgentMetrics;
  /** The value of one sample, written as in the text format; undefined: it is not there. */
  readonly sample: (series: string) => Promise<number | undefined>;
  /** All samples whose line begins so. */
  readonly lines: (prefix: string) => Promise<readonly string[]>;
}

export function rig(topServices = 3): Rig {
  const timers = new FakeTimers();
  const health = new HealthState({ timers });
  const metrics = new AgentMetrics({ health, log: silentLogger, version: "0.0.0", timers, topServices });
  const lines = async (prefix: string): Promise<readonly string[]> =>
    (await metrics.registry.metrics()).split("\n").filter((line) => line.startsWith(prefix));
  return {
    timers,
    health,
    metrics,
    lines,
    sample: async (series) => {
      const found = (await lines(`${series} `))[0];
      return found === undefined ? undefined : Number(found.slice(series.length + 1));
    },
  };
}

export function syncResult(fields: Partial<SyncResult> = {}): SyncResult {
  return {
    writes: 1,
    ffiCalls: 1,
    changedPorts: 1,
    removedPorts: 0,
    refused: [],
    failure: null,
    retryAfterMs: null,
    planMs: 2,
    applyMs: 3,
    ...fields,
  };
}
