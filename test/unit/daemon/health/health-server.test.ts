// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { HealthServer } from "../../../../src/daemon/health/health-server.js";
import { HealthState } from "../../../../src/daemon/health/health-state.js";
import { AgentMetrics } from "../../../../src/daemon/metrics/agent-metrics.js";
import { silentLogger } from "../../../../src/util/log.js";
import { type Answer, ask } from "../servers/ask.js";
import { FakeTimers } from "../servers/fake-timers.js";

const open: HealthServer[] = [];
after(() => Promise.all(open.map((server) => server.close())));

interface Made {
  readonly timers: FakeTimers;
  readonly state: HealthState;
  readonly metrics: AgentMetrics;
  readonly get: (path: string, method?: string) => Promise<Answer>;
}

async function serve(): Promise<Made> {
  const timers = new FakeTimers();
  const state = new HealthState({ timers });
  const metrics = new AgentMetrics({ health: state, log: silentLogger, version: "0.0.0", timers });
  const server = new HealthServer({
    address: { host: "127.0.0.1", port: 0 },
    state,
    counter: metrics.probes,
    log: silentLogger,
    onHardFail: null,
  });
  open.push(server);
  await server.start();
  return { timers, state, metrics, get: (path, method = "GET") => ask(server.listening, path, { method }) };
}

const keys = ({ body }: Answer): readonly string[] => Object.keys(JSON.parse(body));

describe("the healthz server", () => {
  it("answers /healthz with 200, its headers and its keys in order (10.6, 10.7)", async () => {
    const { state, get } = await serve();
    state.setNodeEligible(true);
    state.queued();
    state.started();
    state.applied();
    const answer = await get("/healthz");
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["content-type"], "application/json");
    assert.equal(answer.headers["x-content-type-options"], "nosniff");
    const time = "2026-11-23T12:00:00.000Z";
    const family = `{"lastUpdated":"${time}","healthy":true}`;
    assert.equal(
      answer.body,
      `{"lastUpdated":"${time}","currentTime":"${time}","nodeEligible":true,"healthy":true,"status":{"IPv4":${family},"IPv6":${family}}}`,
    );
  });

  it("has no nodeEligible in /livez (10.6)", async () => {
    const { get } = await serve();
    const answer = await get("/livez");
    assert.equal(answer.status, 200);
    assert.deepEqual(keys(answer), ["lastUpdated", "currentTime", "healthy", "status"]);
  });

  it("fails both probes while the dataplane is stuck, with the time of the last success (M04, 10.3)", async () => {
    const { timers, state, get } = await serve();
    state.setNodeEligible(true);
    state.queued();
    state.started();
    state.applied();
    timers.advance(5_000);
    state.queued();
    state.started();
    state.failed("ENOMEM");
    assert.equal((await get("/livez")).status, 200);
    timers.advance(60_001);
    for (const path of ["/healthz", "/livez"]) {
      const answer = await get(path);
      assert.equal(answer.status, 503);
      assert.equal(JSON.parse(answer.body).healthy, false);
      assert.equal(JSON.parse(answer.body).lastUpdated, "2026-11-23T12:00:00.000Z");
    }
    state.started();
    state.applied();
    assert.equal((await get("/healthz")).status, 200);
  });

  it("says that it was updated now whenever it says 200 (10.6)", async () => {
    const { timers, get } = await serve();
    timers.advance(3_600_000);
    assert.equal(JSON.parse((await get("/livez")).body).lastUpdated, "2026-11-23T13:00:00.000Z");
  });

  it("fails /healthz and not /livez for a node that an autoscaler is about to remove (M05, 10.3)", async () => {
    const { state, get } = await serve();
    state.setNodeEligible(true);
    assert.equal((await get("/healthz")).status, 200);
    state.setNodeEligible(false);
    const healthz = await get("/healthz");
    assert.equal(healthz.status, 503);
    const { nodeEligible, healthy } = JSON.parse(healthz.body);
    assert.deepEqual({ nodeEligible, healthy }, { nodeEligible: false, healthy: true });
    assert.equal((await get("/livez")).status, 200);
    state.setNodeEligible(true);
    assert.equal((await get("/healthz")).status, 200);
  });

  it("knows no other path, ignores the query, and gives HEAD no body (10.1)", async () => {
    const { get } = await serve();
    for (const path of ["/", "/metrics", "/healthz/", "/livez/x"])
      assert.equal((await get(path)).status, 404);
    assert.equal((await get("/livez?verbose")).status, 200);
    const head = await get("/livez", "HEAD");
    assert.deepEqual([head.status, head.body], [200, ""]);
  });

  it("counts each answer by path and status, and no 404 (10.8)", async () => {
    const { state, metrics, get } = await serve();
    await get("/healthz");
    state.setNodeEligible(true);
    await get("/healthz");
    await get("/healthz");
    await get("/livez");
    await get("/other");
    const text = await metrics.registry.metrics();
    assert.match(text, /^kubeproxy_proxy_healthz_total\{code="200"\} 2$/m);
    assert.match(text, /^kubeproxy_proxy_healthz_total\{code="503"\} 1$/m);
    assert.match(text, /^kubeproxy_proxy_livez_total\{code="200"\} 1$/m);
    assert.match(text, /^kubeproxy_proxy_livez_total\{code="503"\} 0$/m);
  });
});
