// SPDX-License-Identifier: Apache-2.0
// Loaded ahead of the agent (`node --import`): tells over IPC when each slice's change was in the kernel's maps. It hangs on
// where the agent measures kubeproxy_network_programming_duration_seconds, whose buckets are too wide for what is measured here.
import { ProgrammingLatency } from "../../../dist/daemon/metrics/programming-latency.js";
import { SyncWatch } from "../../../dist/daemon/metrics/sync-watch.js";

/** Seen, and in a Snapshot that was published, and in the sync under way. */
let seen = [];
let published = [];
let taken = [];
const { changed } = ProgrammingLatency.prototype;
const { queued, started, applied } = SyncWatch.prototype;

ProgrammingLatency.prototype.changed = function (service, family, triggeredAt) {
  seen.push(triggeredAt);
  changed.call(this, service, family, triggeredAt);
};
SyncWatch.prototype.queued = function (...rest) {
  published = published.concat(seen);
  seen = [];
  queued.apply(this, rest);
};
SyncWatch.prototype.started = function () {
  taken = taken.concat(published);
  published = [];
  started.call(this);
};
SyncWatch.prototype.applied = function (...rest) {
  const atNs = String(process.hrtime.bigint());
  if (taken.length > 0) process.send?.({ atNs, triggers: taken });
  taken = [];
  applied.apply(this, rest);
};
process.channel?.unref();
