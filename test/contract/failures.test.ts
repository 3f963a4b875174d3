// SPDX-License-Identifier: Apache-2.0
/** Servers that fail, hang, or are not there: contract items 5, 6, 8, 9 and 13 of the source. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Fault } from "../support/apiserver/faults.js";
import { settle } from "./support/fake-timers.js";
import { numbered, Rig, sliceOf } from "./support/rig.js";

/** A watch that goes on from where another ended, and is no streaming list. */
const RESUMED_WATCH = {
  resource: "services",
  verb: "watch",
  where: ({ query }: { query: object }) => !("sendInitialEvents" in query),
} as const;

/** What `random: () => 0.5` makes of 800 ms, doubled to 30 s. */
const WAITS = [1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 45_000, 45_000];

describe("KubeSource, a server that fails (contract 5)", () => {
  const cases: readonly [string, Fault, readonly number[]][] = [
    ["closes each watch at once", { kind: "close" }, WAITS.slice(0, 6)],
    [
      "answers watches with 429 and Retry-After: 7",
      { kind: "status", code: 429, retryAfterSeconds: 7 },
      [7_000, 7_000, 7_000, 9_600, 19_200],
    ],
    ["answers watches with 503", { kind: "status", code: 503 }, WAITS.slice(0, 3)],
    ["resets each connection", { kind: "reset", afterBytes: 0 }, WAITS.slice(0, 6)],
    [
      "puts an ERROR 500 on each watch",
      { kind: "error-event", code: 500, afterEvents: 0 },
      WAITS.slice(0, 3),
    ],
  ];
  for (const [what, fault, waits] of cases) {
    it(`waits longer and longer when it ${what}: one request a step`, async (t) => {
      const rig = await Rig.make(t);
      await rig.start();
      await rig.watching();
      await rig.timers.advance(5_000);
      rig.api.fault({ resource: "services", verb: "watch" }, fault);
      rig.api.closeWatches({ resource: "services" });
      for (const [step, wait] of waits.entries()) {
        await rig.until(`failure ${step}`, () => rig.logged("watch failed", "services").length === step + 1);
        assert.equal(rig.logged("watch failed", "services")[step]?.fields.retryInMs, wait);
        const requests = (): number => rig.api.requestsOf({ resource: "services" }).length;
        const before = requests();
        await rig.timers.advance(wait - 1);
        await settle();
        assert.equal(requests(), before, `nothing is asked before ${wait} ms have gone`);
        await rig.timers.advance(1);
        await rig.api.request({ resource: "services" }, before + 1);
      }
      assert.equal(rig.stats("services").relists.gone, undefined);
    });
  }

  it("lists again after 410, as an answer and as an event, each after a step", async (t) => {
    const rig = await Rig.make(t);
    await rig.start();
    await rig.watching();
    await rig.timers.advance(5_000);
    rig.api.fault(RESUMED_WATCH, { kind: "status", code: 410 }, { times: 3 });
    rig.api.closeWatches({ resource: "services" });
    for (let step = 0; step < 3; step += 1) {
      await rig.until(
        `410 number ${step}`,
        () => rig.logged("watch failed, listing again", "services").length === step + 1,
      );
      const before = rig.api.requestsOf({ resource: "services" }).length;
      await settle();
      assert.equal(rig.api.requestsOf({ resource: "services" }).length, before);
      await rig.timers.advance(WAITS[step] as number);
      await rig.api.watched("services");
      await settle();
      await rig.timers.advance(1_000);
      if (step < 2) rig.api.closeWatches({ resource: "services" });
    }
    assert.deepEqual(rig.stats("services").relists, { start: 1, gone: 3 });
    assert.equal(rig.snapshots.length, 1);
  });

  it("lists again after five watches in a row that the server would not have", async (t) => {
    const rig = await Rig.make(t);
    await rig.start();
    await rig.watching();
    await rig.timers.advance(5_000);
    rig.api.fault(RESUMED_WATCH, { kind: "status", code: 500 }, { times: 5 });
    rig.api.create(numbered(1));
    await rig.snapshot("the Service is there", ({ services }) => services.size === 1);
    rig.api.closeWatches({ resource: "services" });
    for (const wait of WAITS.slice(0, 5)) {
      const failed = (): number =>
        rig.logged("watch failed", "services").length +
        rig.logged("watch failed, listing again", "services").length;
      await rig.until("a failure", () => WAITS.slice(0, failed()).includes(wait));
      await rig.timers.advance(wait);
    }
    await rig.api.watched("services");
    assert.deepEqual(rig.stats("services").relists, { start: 1, failing: 1 });
    assert.equal(rig.snapshots.at(-1)?.services.size, 1);
  });

  it("refused connections cost one attempt a step and resource, and what is known stays", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    await rig.start();
    await rig.watching();
    await rig.timers.advance(5_000);
    const answered = rig.codes.length;
    await rig.api.refuse();
    const failures = (): number => rig.logged("watch failed").length;
    // The connection was lost first, which costs no step: then nobody is there.
    for (const [step, wait] of WAITS.slice(0, 4).entries()) {
      await rig.until(`failures of step ${step}`, () => failures() === 4 * (step + 1));
      assert.equal(rig.codes.length - answered, 4 * (step + 1));
      await rig.timers.advance(wait - 1);
      await settle();
      assert.equal(rig.codes.length - answered, 4 * (step + 1));
      await rig.timers.advance(1);
    }
    assert.deepEqual(rig.codes.slice(answered), Array(rig.codes.length - answered).fill("<error>"));
    assert.equal(rig.snapshots.length, 1);
    await rig.api.listen();
    rig.api.create(numbered(2));
    await rig.timers.advance(40_000);
    await rig.snapshot("the Service of the meantime", ({ services }) => services.size === 2);
    assert.deepEqual(rig.stats("services").relists, { start: 1 });
  });
});

describe("KubeSource, a server that hangs (contract 6)", () => {
  it("ends a watch without headers after 90 s, and tries again after a step", async (t) => {
    const rig = await Rig.make(t);
    await rig.start();
    await rig.watching();
    await rig.timers.advance(5_000);
    rig.api.fault({ resource: "services", verb: "watch" }, { kind: "no-headers" }, { times: 1 });
    rig.api.closeWatches({ resource: "services" });
    await rig.api.request({ resource: "services", verb: "watch" }, 2);
    await settle();
    await rig.timers.advance(89_900);
    assert.equal(rig.logged("watch failed", "services").length, 0);
    await rig.timers.advance(200);
    const [line] = rig.logged("watch failed", "services");
    assert.equal(line?.fields.code, "headers_timeout");
    await rig.timers.advance(1_200);
    await rig.api.watched("services");
    assert.equal(rig.api.requestsOf({ resource: "services", verb: "watch" }).length, 3);
    assert.deepEqual(rig.stats("services").relists, { start: 1 });
  });

  it("watches again at once after 150 s of silence, from where it was", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    await rig.start();
    await rig.watching();
    const version = rig.api.store.revision;
    rig.api.silenceWatches({ resource: "services" });
    rig.api.delete(numbered(1));
    await rig.timers.advance(149_000);
    await settle();
    assert.equal(rig.snapshots.length, 1);
    assert.equal(rig.api.requestsOf({ resource: "services" }).length, 1);
    await rig.timers.advance(1_100);
    const again = await rig.api.request({ resource: "services", verb: "watch" }, 2);
    assert.equal(again.query.resourceVersion, String(version));
    await rig.snapshot("what was missed is made up for", ({ services }) => services.size === 0);
    assert.deepEqual(rig.stats("services").watches, { silent: 1 });
    assert.equal(rig.logged("watch failed").length, 0);
  });

  it("ends a list of which nothing more comes after 30 s", async (t) => {
    const rig = await Rig.make(t, { streamingLists: 422 });
    for (let i = 0; i < 20; i += 1) rig.api.create(numbered(i));
    rig.api.fault({ resource: "services", verb: "list" }, { kind: "silent" }, { times: 1 });
    rig.begin();
    await rig.until(
      "headers came",
      () => rig.api.requestsOf({ resource: "services", verb: "list" })[0]?.status === 200,
    );
    await settle();
    await rig.timers.advance(30_001);
    assert.equal(rig.logged("list failed", "services")[0]?.fields.code, "idle_timeout");
    await rig.timers.advance(1_300);
    await rig.until("all resources are listed", () => rig.source.synced);
  });

  it("uses pages when a streaming list has no end within two minutes", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    rig.api.fault({ verb: "watch", where: ({ query }) => "sendInitialEvents" in query }, { kind: "silent" });
    rig.begin();
    await rig.until(
      "headers came",
      () => rig.api.requests.filter(({ status }) => status === 200).length === 4,
    );
    await settle();
    await rig.timers.advance(120_001);
    await rig.until("all resources are listed", () => rig.source.synced);
    assert.equal(rig.logged("no streaming lists, using pages").length, 1);
    assert.equal(rig.logged("list failed").length, 0);
  });
});

describe("KubeSource, credentials that the server does not take (contract 8)", () => {
  it("reads the token anew after a 401, and asks once more", async (t) => {
    const rig = await Rig.make(t);
    await rig.start();
    await rig.watching();
    await rig.timers.advance(5_000);
    rig.api.rotateToken();
    rig.api.closeWatches({ resource: "services" });
    const refused = await rig.api.request({ resource: "services", verb: "watch" }, 2);
    const taken = await rig.api.request({ resource: "services", verb: "watch" }, 3);
    await rig.api.watched("services");
    assert.deepEqual([refused.status, taken.status], [401, 200]);
    assert.equal(taken.headers.authorization, `Bearer ${rig.api.token}`);
    assert.deepEqual(rig.troubles, []);
  });

  it("waits when the server takes no token, and goes on when it does", async (t) => {
    const rig = await Rig.make(t);
    await rig.start();
    await rig.watching();
    await rig.timers.advance(5_000);
    rig.api.fault({ resource: "services" }, { kind: "unauthorized" });
    rig.api.closeWatches({ resource: "services" });
    for (const [step, wait] of WAITS.slice(0, 3).entries()) {
      await rig.until("a failure", () => rig.logged("watch failed", "services").length === step + 1);
      assert.equal(rig.logged("watch failed", "services")[step]?.fields.code, "unauthorized");
      assert.equal(
        rig.api.requestsOf({ resource: "services" }).length,
        1 + 2 * (step + 1),
        "one retry a step",
      );
      await rig.timers.advance(wait);
    }
    await rig.until("another failure", () => rig.logged("watch failed", "services").length === 4);
    assert.equal(rig.stats("services").watches.refused, 4);
    rig.api.rotateToken();
    await rig.timers.advance(WAITS[3] as number);
    await rig.api.watched("services");
    assert.deepEqual(rig.stats("services").relists, { start: 1 });
  });
});

describe("KubeSource.close() (contract 9)", () => {
  const points: readonly [string, (rig: Rig) => Promise<void>, boolean?][] = [
    ["before anything was sent", async () => {}],
    [
      "while the first requests are under way",
      async (rig) => {
        await rig.api.request({}, 1);
      },
    ],
    [
      "while headers are waited for",
      async (rig) => {
        rig.api.fault({}, { kind: "no-headers" });
        await rig.api.request({}, 4);
      },
    ],
    [
      "while TLS is waited for",
      async (rig) => {
        rig.api.blackHole = true;
        await rig.until("connections", () => rig.api.connections.total === 4);
      },
    ],
    [
      "in the middle of a streaming list",
      async (rig) => {
        rig.api.fault({}, { kind: "slow", bytes: 200, everyMs: 5 });
        await rig.until(
          "something came",
          () => (rig.api.requestsOf({ resource: "services" })[0]?.status ?? 0) === 200,
        );
        await settle(10);
      },
    ],
    [
      "in the middle of an answer that says no",
      async (rig) => {
        rig.api.fault({}, { kind: "status", code: 500 });
        await rig.api.request({}, 1);
      },
    ],
    [
      "while it waits for the next try",
      async (rig) => {
        rig.api.fault({}, { kind: "status", code: 500 });
        await rig.until("failures", () => rig.logged("list failed").length === 4);
      },
      true,
    ],
    [
      "with all watches open",
      async (rig) => {
        await rig.until("all resources are listed", () => rig.source.synced);
        await rig.publish();
        await rig.watching();
      },
    ],
    [
      "with an event on its way to a Snapshot",
      async (rig) => {
        await rig.until("all resources are listed", () => rig.source.synced);
        await rig.publish();
        await rig.watching();
        rig.api.create(numbered(999));
        await rig.until(
          "the event came",
          () => rig.changes.length > 0 && rig.stats("services").objects === 51,
        );
      },
    ],
  ];
  for (const by of ["the signal", "close()"] as const) {
    for (const [point, reach, troubled] of points) {
      it(`by ${by}, ${point}, leaves no socket, no timer, no event and no complaint`, async (t) => {
        const rig = await Rig.make(t);
        for (let i = 0; i < 50; i += 1) {
          rig.api.create(numbered(i));
          rig.api.create(sliceOf(i));
        }
        // Reached before or after the start, as the fault has to be there first.
        if (/headers|TLS|middle|waits/.test(point)) {
          const reached = reach(rig);
          rig.begin();
          await reached;
        } else {
          rig.begin();
          await reach(rig);
        }
        const told = rig.snapshots.length;
        const complaints = rig.troubles.length;
        if (by === "the signal") rig.abort.abort();
        const closed = rig.source.close();
        await closed;
        await rig.started;
        await rig.api.until("no connection is left", () => rig.api.connections.open === 0);
        const requests = rig.api.requests.length;
        rig.api.blackHole = false;
        rig.api.clearFaults();
        rig.api.create(numbered(5_000));
        await rig.timers.advance(3_600_000);
        await settle();
        assert.equal(rig.timers.pending, 0);
        assert.equal(rig.snapshots.length, told);
        assert.equal(rig.api.requests.length, requests);
        assert.equal(rig.api.connections.open, 0);
        if (troubled !== true) assert.deepEqual(rig.troubles.slice(complaints), []);
      });
    }
  }

  it("before start() is not an error, and a second start() is one", async (t) => {
    const rig = await Rig.make(t);
    rig.begin();
    await assert.rejects(rig.source.start(new AbortController().signal), /runs already/);
    await rig.source.close();
    await rig.source.close();
    await rig.started;
    const other = await Rig.make(t);
    await assert.rejects(other.source.start(AbortSignal.abort(new Error("not now"))), /not now/);
    await other.source.close();
    assert.equal(other.api.requests.length, 0);
  });
});

describe("KubeSource, without a server at the start (contract 13)", () => {
  it("tells nothing for ten minutes, says why, and takes the server when it comes", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    await rig.api.refuse();
    rig.begin();
    await rig.until("the first failures", () => rig.logged("list failed").length === 4);
    for (let i = 0; i < 60; i += 1) {
      const failed = rig.logged("list failed").length;
      await rig.timers.advance(10_000);
      await settle(3);
      assert.ok(rig.logged("list failed").length - failed <= 12);
    }
    assert.deepEqual(rig.snapshots.length, 0);
    assert.equal(rig.source.snapshot, null);
    // 1.2 + 2.4 + … + 38.4 s, then every 45 s: some 18 attempts in ten minutes, and as many lines.
    const attempts = rig.logged("list failed", "services").length;
    assert.ok(attempts >= 12 && attempts <= 19, `${attempts} attempts`);
    assert.match(String(rig.logged("list failed")[0]?.fields.error), /ECONNREFUSED/);

    await rig.api.listen();
    await rig.timers.advance(45_000);
    await rig.until("all resources are listed", () => rig.source.synced);
    await rig.publish();
    await rig.started;
    assert.equal(rig.snapshots[0]?.services.size, 1);
  });
});
