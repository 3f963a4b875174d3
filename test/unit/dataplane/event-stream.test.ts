// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Reason } from "../../../src/abi/enums.gen.js";
import { flowEventCodec, listenerCodec, trafficCodec } from "../../../src/abi/layout.gen.js";
import { EventStream } from "../../../src/dataplane/event-stream.js";
import type { MapWrite } from "../../../src/native/kernel.js";
import type { NativeMaps } from "../../../src/native/maps.js";
import { systemTimers } from "../../../src/util/timers.js";

/** Records that one call takes at most. */
const BATCH = 4096;

/** Maps with a ring that holds so many records once somebody listens, and what `listener` says. */
class FakeMaps {
  readonly names = ["events", "listener"];
  listener: Uint8Array = new Uint8Array(listenerCodec.size);
  #left: number;

  constructor(records: number) {
    this.#left = records;
  }

  openRing() {
    const drain = () => {
      const count = Math.min(BATCH, this.#left);
      this.#left -= count;
      return { count, bytes: new Uint8Array(count * flowEventCodec.size), more: count === BATCH };
    };
    return { skip: () => 0, drain, close: () => {} };
  }

  async lookUp() {
    return [this.listener];
  }

  async apply([write]: readonly MapWrite[]) {
    if (write !== undefined) this.listener = write.values;
    return { applied: 1, failure: null };
  }

  async dump() {
    const values = new Uint8Array((Reason.EVENT_LOST + 1) * trafficCodec.size);
    return { count: Reason.EVENT_LOST + 1, keys: new Uint8Array(), values };
  }
}

async function listen(fake: FakeMaps): Promise<EventStream> {
  const maps = fake as unknown as NativeMaps;
  const options = { maps, timers: systemTimers, kinds: 1, sample: 1 };
  return await EventStream.open({ assertPinned: () => {}, ...options }, new AbortController().signal);
}

test("EventStream.close() ends the listening, and returns all that was told until then, however much it is", async () => {
  for (const records of [0, 7, BATCH, 2 * BATCH + 9]) {
    const fake = new FakeMaps(records);
    const { events, lost } = await (await listen(fake)).close();
    assert.deepEqual([events.length, lost], [records, 0]);
    assert.equal(listenerCodec.decode(fake.listener).kinds, 0);
  }
});

test("EventStream.close() leaves the word of another listener alone", async () => {
  const fake = new FakeMaps(0);
  const stream = await listen(fake);
  const other = listenerCodec.encode({ ...listenerCodec.decode(fake.listener), pid: process.pid + 1 });
  fake.listener = other;
  await stream.close();
  assert.equal(fake.listener, other);
});
