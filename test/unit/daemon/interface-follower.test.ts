// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { test } from "node:test";
import { InterfaceFollower } from "../../../src/daemon/interface-follower.js";
import type { InterfaceEvent, InterfaceWatch } from "../../../src/native/interfaces.js";
import { silentLogger } from "../../../src/util/log.js";

const LINK: InterfaceEvent = { kind: "link", ifindex: 5, name: "v", master: 0, flags: 1 };

class FakeKernel {
  readonly events = new EventEmitter();
  readonly syncs: boolean[] = [];
  watches = 0;
  closed = 0;
  failures = 0;
  onEvent: (event: InterfaceEvent) => void = () => {};
  onError: (error: Error) => void = () => {};

  watch(
    _topics: readonly string[],
    onEvent: (event: InterfaceEvent) => void,
    onError: (error: Error) => void,
  ): InterfaceWatch {
    this.watches++;
    this.onEvent = onEvent;
    this.onError = onError;
    return { close: () => this.closed++ };
  }

  async sync(audit = false): Promise<void> {
    this.syncs.push(audit);
    this.events.emit("sync");
    if (this.failures > 0) {
      this.failures--;
      throw new Error("the kernel is not in the mood");
    }
  }
}

function setUp() {
  const kernel = new FakeKernel();
  const options = { watcher: kernel, keeper: kernel, log: silentLogger, retryMs: 1, routeMs: 1 };
  return { kernel, follower: new InterfaceFollower(options) };
}

test("InterfaceFollower watches before it looks, and looks at once for a link", async () => {
  const { kernel, follower } = setUp();
  await follower.start();
  assert.deepEqual([kernel.watches, kernel.syncs.length], [1, 1]);
  const looked = once(kernel.events, "sync");
  kernel.onEvent(LINK);
  await looked;
  await follower.stop();
  assert.equal(kernel.closed, 1);
});

test("InterfaceFollower makes one look of many events that come meanwhile", async () => {
  const { kernel, follower } = setUp();
  await follower.start();
  for (let i = 0; i < 100; i++) kernel.onEvent(LINK);
  await follower.look();
  assert.equal(kernel.syncs.length, 3, "the first, the one under way, and one more");
  await follower.stop();
});

test("InterfaceFollower makes one look, a little later, of many changes of routes", async () => {
  const { kernel, follower } = setUp();
  await follower.start();
  const looked = once(kernel.events, "sync");
  for (let i = 0; i < 100; i++) kernel.onEvent({ kind: "route" });
  assert.equal(kernel.syncs.length, 1);
  await looked;
  await follower.stop();
  assert.equal(kernel.syncs.length, 2);
});

test("InterfaceFollower tries again after a failure", async () => {
  const { kernel, follower } = setUp();
  kernel.failures = 2;
  await follower.start();
  while (kernel.syncs.length < 3) await once(kernel.events, "sync");
  await follower.stop();
  assert.equal(kernel.failures, 0);
});

test("InterfaceFollower watches anew when the events have ended, and looks for what it missed", async () => {
  const { kernel, follower } = setUp();
  await follower.start();
  const looked = once(kernel.events, "sync");
  kernel.onError(new Error("the pipe has ended"));
  await looked;
  assert.deepEqual([kernel.watches, kernel.closed], [2, 1]);
  await follower.stop();
});

test("InterfaceFollower.look(audit) passes the wish on once", async () => {
  const { kernel, follower } = setUp();
  await follower.start();
  await follower.look(true);
  await follower.look();
  await follower.stop();
  assert.deepEqual(kernel.syncs, [false, true, false]);
});

test("InterfaceFollower.changed() looks, but before start() leaves that to it", async () => {
  const { kernel, follower } = setUp();
  await follower.changed();
  assert.equal(kernel.syncs.length, 0);
  await follower.start();
  assert.equal(kernel.syncs.length, 1);
  await follower.changed();
  assert.equal(kernel.syncs.length, 2);
  await follower.stop();
});

test("InterfaceFollower does nothing after stop()", async () => {
  const { kernel, follower } = setUp();
  await follower.start();
  await follower.stop();
  kernel.onEvent(LINK);
  kernel.onEvent({ kind: "route" });
  kernel.onError(new Error("late"));
  await follower.stop();
  assert.deepEqual([kernel.watches, kernel.syncs.length], [1, 1]);
});
