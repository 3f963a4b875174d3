// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type AgentEvent, EventRecorder } from "../../../src/daemon/events.js";
import type { ApiRequest } from "../../../src/source/kube/transport.js";
import { silentLogger } from "../../../src/util/log.js";
import type { Timers } from "../../../src/util/timers.js";

const NODE_EVENT: AgentEvent = {
  regarding: { kind: "Node", name: "node-a", namespace: "", uid: "" },
  type: "Normal",
  reason: "Starting",
  action: "StartKubeProxy",
  note: "",
};
const serviceEvent = (name: string, note = "taken"): AgentEvent => ({
  regarding: { kind: "Service", name, namespace: "shop", uid: "u-1" },
  type: "Warning",
  reason: "FailedToStartServiceHealthcheck",
  action: "Listen",
  note,
});

/** Time stands still but for waits, which are over at once. */
function setUp(answer: (request: ApiRequest, attempt: number) => unknown = () => null) {
  const clock = { now: 0, waits: [] as number[] };
  const timers: Timers = {
    now: () => clock.now,
    epoch: () => Date.UTC(2026, 0, 31, 9, 0, 0, 123) + clock.now,
    after: (milliseconds, callback) => {
      clock.waits.push(milliseconds);
      const immediate = setImmediate(callback);
      return () => clearImmediate(immediate);
    },
  };
  const requests: ApiRequest[] = [];
  const send = async (request: ApiRequest): Promise<unknown> => {
    requests.push(request);
    return answer(request, requests.length);
  };
  const recorder = new EventRecorder({ nodeName: "node-a", send, log: silentLogger, timers });
  const settled = async (): Promise<void> => {
    // Waits of the recorder's own are immediates too: flush's own would win against them.
    for (let i = 0; i < 50; i += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  return { clock, requests, recorder, settled };
}

test("EventRecorder posts events as kube-proxy does: about its Node into default, about a Service beside it (13.3)", async () => {
  const { requests, recorder, settled } = setUp();
  recorder.post(NODE_EVENT);
  recorder.post(serviceEvent("web"));
  await settled();
  assert.deepEqual(
    requests.map(({ method, path }) => `${method} ${path}`),
    [
      "POST /apis/events.k8s.io/v1/namespaces/default/events",
      "POST /apis/events.k8s.io/v1/namespaces/shop/events",
    ],
  );
  const [first, second] = requests.map(
    ({ body }) => body as { metadata: { name: string }; [field: string]: unknown },
  );
  const { metadata, ...rest } = first ?? assert.fail();
  assert.match(metadata.name, /^node-a\.[0-9a-f]+$/);
  assert.deepEqual(rest, {
    apiVersion: "events.k8s.io/v1",
    kind: "Event",
    eventTime: "2026-01-31T09:00:00.123000Z",
    reportingController: "kube-proxy",
    reportingInstance: "kube-proxy-node-a",
    type: "Normal",
    reason: "Starting",
    action: "StartKubeProxy",
    note: "",
    regarding: { apiVersion: "v1", kind: "Node", name: "node-a" },
  });
  assert.deepEqual(second?.regarding, {
    apiVersion: "v1",
    kind: "Service",
    name: "web",
    namespace: "shop",
    uid: "u-1",
  });
  assert.notEqual(second?.metadata.name, metadata.name);
});

test("EventRecorder does not repeat itself within five minutes", async () => {
  const { clock, requests, recorder, settled } = setUp();
  recorder.post(serviceEvent("web"));
  recorder.post(serviceEvent("web"));
  recorder.post(serviceEvent("web", "something else"));
  await settled();
  assert.equal(requests.length, 2);
  clock.now = 5 * 60_000;
  recorder.post(serviceEvent("web"));
  await settled();
  assert.equal(requests.length, 3);
});

test("EventRecorder posts 25 events at once, and one a minute from then on", async () => {
  const { clock, requests, recorder, settled } = setUp();
  for (let i = 0; i < 100; i += 1) recorder.post(serviceEvent(`a${i}`));
  await settled();
  assert.equal(requests.length, 25);
  clock.now = 2 * 60_000;
  for (let i = 0; i < 10; i += 1) recorder.post(serviceEvent(`b${i}`));
  await settled();
  assert.equal(requests.length, 27);
});

test("EventRecorder tries again after failures that pass, and gives up after five attempts", async () => {
  const refusing = setUp(() => Promise.reject(Object.assign(new Error("away"), { code: "connect" })));
  refusing.recorder.post(NODE_EVENT);
  await refusing.settled();
  assert.equal(refusing.requests.length, 5);
  assert.deepEqual(refusing.clock.waits, [1_000, 2_000, 4_000, 8_000]);
  const forbidding = setUp(() => Promise.reject(Object.assign(new Error("no"), { code: "forbidden" })));
  forbidding.recorder.post(NODE_EVENT);
  forbidding.recorder.post(serviceEvent("web"));
  await forbidding.settled();
  assert.equal(forbidding.requests.length, 2, "once each");
});

test("EventRecorder posts notes of at most 1 KiB, without half characters", async () => {
  const { requests, recorder, settled } = setUp();
  recorder.post(serviceEvent("web", "ä".repeat(2_000)));
  await settled();
  const { note } = (requests[0] ?? assert.fail()).body as { note: string };
  assert.ok(Buffer.byteLength(note) <= 1024);
  assert.match(note, /^ä+…$/);
});

test("EventRecorder without an API server, and one that was closed, posts nothing", async () => {
  const none = new EventRecorder({ nodeName: "node-a", send: null, log: silentLogger });
  none.post(NODE_EVENT);
  await none.flush(1);
  await none.close();
  const { requests, recorder, settled } = setUp();
  await recorder.close();
  recorder.post(NODE_EVENT);
  await settled();
  assert.equal(requests.length, 0);
});

test("EventRecorder.flush() waits no longer than it is told to", async () => {
  const { recorder } = setUp(() => new Promise(() => {}));
  recorder.post(NODE_EVENT);
  await recorder.flush(10);
});
