// SPDX-License-Identifier: Apache-2.0
/** What a health check port says (6.21 to 6.24). Pure. */

export interface HealthCheckState {
  readonly namespace: string;
  readonly name: string;
  /** Of the family that was asked (6.25). */
  readonly localEndpoints: number;
  /** The same predicate as /livez (6.24). */
  readonly healthy: boolean;
}

export interface HealthCheckResponse {
  readonly status: 200 | 503;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The body is indented with tabs and has no newline at its end, byte for byte as kube-proxy's (6.22). */
export function healthCheckResponse(state: HealthCheckState): HealthCheckResponse {
  const { namespace, name, localEndpoints, healthy } = state;
  const body = { service: { namespace, name }, localEndpoints, serviceProxyHealthy: healthy };
  return {
    status: localEndpoints > 0 && healthy ? 200 : 503,
    headers: {
      "Content-Type": "application/json",
      "X-Content-Type-Options": "nosniff",
      "X-Load-Balancing-Endpoint-Weight": String(localEndpoints),
    },
    body: JSON.stringify(body, null, "\t"),
  };
}
