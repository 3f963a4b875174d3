// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HealthState } from "../../../../src/daemon/health/health-state.js";
import type { HealthCheckListener, ListenerOptions } from "../../../../src/daemon/health-check-listener.js";
import { HealthCheckServers } from "../../../../src/daemon/health-check-server.js";
import { FakeTimers } from "../servers/fake-timers.js";

function setUp(): { timers: FakeTimers; state: HealthState } {
  const timers = new FakeTimers();
  return { timers, state: new HealthState({ timers }) };
}

describe("HealthState (10.2)", () => {
  it("is healthy at start-up and when nothing ever changes", () => {
    const { timers, state } = setUp();
    assert.equal(state.healthy, true);
    timers.advance(24 * 3600_000);
    assert.equal(state.healthy, true);
    assert.equal(state.report().lastUpdated, null);
  });

  it("is healthy while a change has waited for no more than 60 s, and not after", () => {
    const { timers, state } = setUp();
    state.queued();
    timers.advance(60_000);
    assert.equal(state.healthy, true);
    timers.advance(1);
    assert.equal(state.healthy, false);
    state.started();
    state.applied();
    assert.equal(state.healthy, true);
  });

  it("counts from the oldest change: newer ones do not make it young", () => {
    const { timers, state } = setUp();
    state.queued();
    timers.advance(40_000);
    state.queued();
    timers.advance(20_001);
    assert.equal(state.healthy, false);
  });

  it("keeps a change's age over syncs that fail (M04)", () => {
    const { timers, state } = setUp();
    state.queued();
    for (let i = 0; i < 12; i += 1) {
      state.started();
      timers.advance(5_000);
      state.failed("frontends4: ENOMEM");
    }
    assert.equal(state.healthy, true);
    timers.advance(1);
    assert.equal(state.healthy, false);
    assert.match(state.report().reason, /a change has waited for 60 s: frontends4: ENOMEM/);
  });

  it("does not take a change for applied that came while the sync was under way", () => {
    const { timers, state } = setUp();
    state.queued();
    state.started();
    timers.advance(10_000);
    state.queued();
    state.applied();
    timers.advance(60_000);
    assert.equal(state.healthy, true);
    timers.advance(1);
    assert.equal(state.healthy, false);
  });

  it("does not take a change for applied when something else has been repaired", () => {
    const { timers, state } = setUp();
    state.queued();
    state.applied();
    timers.advance(60_001);
    assert.equal(state.healthy, false);
  });

  it("is not healthy for a sync that hangs", () => {
    const { timers, state } = setUp();
    state.queued();
    state.started();
    timers.advance(60_001);
    assert.equal(state.healthy, false);
  });

  it("counts a repair that failed, though nobody had queued it", () => {
    const { timers, state } = setUp();
    state.failed("EPERM");
    timers.advance(60_001);
    assert.equal(state.healthy, false);
  });

  it("says the same of both families, which share each transaction (13.5)", () => {
    const { timers, state } = setUp();
    state.queued();
    state.started();
    state.applied();
    state.queued();
    timers.advance(60_001);
    const { healthy, status, lastUpdated, currentTime } = state.report();
    assert.equal(healthy, false);
    const each = { healthy: false, lastUpdated: currentTime - 60_001 };
    assert.deepEqual(status, { IPv4: each, IPv6: each });
    assert.equal(lastUpdated, currentTime - 60_001);
  });

  it("speaks only of the families that are proxied (13.4)", () => {
    const state = new HealthState({ families: [4], timers: new FakeTimers() });
    assert.deepEqual(Object.keys(state.report().status), ["IPv4"]);
  });

  it("is not healthy while programs are detached or maps take no writes, and is again when they do", () => {
    const { state } = setUp();
    state.setDataplane({ attached: false, writable: true, detail: "eth0: no program at tcx ingress" });
    assert.equal(state.healthy, false);
    assert.deepEqual(state.report().status.IPv4, { healthy: false, lastUpdated: null });
    assert.equal(state.report().reason, "programs are detached: eth0: no program at tcx ingress");
    state.setDataplane({ attached: true, writable: false, detail: "" });
    assert.equal(state.healthy, false);
    assert.equal(state.report().reason, "maps are not writable");
    state.setDataplane({ attached: true, writable: true, detail: "" });
    assert.equal(state.healthy, true);
  });

  it("takes the node for eligible only when that has been said (10.4)", () => {
    const { state } = setUp();
    assert.equal(state.nodeEligible, false);
    state.setNodeEligible(true);
    assert.equal(state.nodeEligible, true);
    assert.equal(state.healthy, true);
  });
});

describe("a Service's health check port (6.24, M04, M05)", () => {
  it("fails with the dataplane, and does not mind the node's eligibility", async () => {
    const { timers, state } = setUp();
    let asked: ListenerOptions | undefined;
    const servers = new HealthCheckServers({
      healthy: () => state.healthy,
      onProblem: ({ message }) => assert.fail(message),
      open: async (options) => {
        asked = options;
        return { close: async () => {} } as HealthCheckListener;
      },
    });
    const check = { namespace: "ns", name: "m", port: 30000, localEndpoints: { 4: 2, 6: null } };
    await servers.update([check], { 4: "any", 6: "any" });
    assert.ok(asked);
    assert.equal(state.nodeEligible, false);
    assert.equal(asked.respond().status, 200);
    state.queued();
    timers.advance(60_001);
    const { status, body } = asked.respond();
    assert.equal(status, 503);
    assert.equal(JSON.parse(body).serviceProxyHealthy, false);
    await servers.close();
  });
});
