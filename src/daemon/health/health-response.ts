// SPDX-License-Identifier: Apache-2.0
/** What /healthz and /livez say (10.3, 10.6, 10.7). Pure. */
import { json, type Reply } from "../servers/reply.js";
import type { HealthReport } from "./health-state.js";

export type ProbePath = "/healthz" | "/livez";

/** Go's zero time, which kube-proxy says where nothing has happened yet. */
const NEVER = "0001-01-01T00:00:00Z";

const time = (epoch: number | null): string => (epoch === null ? NEVER : new Date(epoch).toISOString());

export function healthResponse(path: ProbePath, report: HealthReport): Reply {
  const ok = report.healthy && (path === "/livez" || report.nodeEligible);
  const status = Object.fromEntries(
    Object.entries(report.status).map(([family, { lastUpdated, healthy }]) => [
      family,
      { lastUpdated: time(lastUpdated), healthy },
    ]),
  );
  const body = {
    lastUpdated: time(ok ? report.currentTime : report.lastUpdated),
    currentTime: time(report.currentTime),
    ...(path === "/healthz" ? { nodeEligible: report.nodeEligible } : {}),
    healthy: report.healthy,
    status,
  };
  return { ...json(body), status: ok ? 200 : 503 };
}
