// SPDX-License-Identifier: Apache-2.0
/** Lists, watches, and what becomes of them: contract items 2, 3, 4, 7, 10 and 11 of the source. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { compile } from "../../src/image/compile.js";
import { service } from "../support/manifests.js";
import { settle } from "./support/fake-timers.js";
import { nodeObject, numbered, Rig, sliceOf } from "./support/rig.js";

const keys = (map: ReadonlyMap<string, unknown> | undefined): string[] => [...(map?.keys() ?? [])].sort();

describe("KubeSource, listing (contract 2)", () => {
  it("tells nothing before the last resource's streaming list has ended (1.9)", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    for (let i = 1; i <= 10; i += 1) rig.api.create(sliceOf(i));
    // Events come, the bookmark after them does not.
    rig.api.fault(
      { resource: "endpointslices", verb: "watch" },
      { kind: "truncated", afterBytes: 2_000 },
      { times: 1 },
    );
    rig.begin();
    await rig.until("the list was cut off", () => rig.logged("list failed", "endpointslices").length === 1);
    await rig.publish();
    await settle();
    assert.equal(rig.snapshots.length, 0);
    assert.equal(rig.stats("endpointslices").synced, false);
    assert.equal(rig.stats("services").synced, true);

    await rig.timers.advance(2_000);
    await rig.until("all resources are listed", () => rig.source.synced);
    await rig.publish();
    assert.equal(rig.snapshots.length, 1);
    assert.deepEqual(keys(rig.snapshots[0]?.services), ["default/web-1"]);
    assert.equal(rig.snapshots[0]?.slices.get("default/web-1")?.length, 1);
  });

  it("tells nothing before the last page has come", async (t) => {
    const rig = await Rig.make(t, { streamingLists: 422 });
    for (let i = 0; i < 1_100; i += 1) rig.api.create(numbered(i));
    // From the newest state a server gives pages; from its cache it would not.
    rig.api.fault({ resource: "services", verb: "list" }, { kind: "status", code: 410 }, { times: 1 });
    rig.api.fault(
      { resource: "services", verb: "list", continued: true },
      { kind: "no-headers" },
      { times: 1, skip: 1 },
    );
    rig.begin();
    await rig.until("the first list failed", () => rig.logged("list failed", "services").length === 1);
    await rig.timers.advance(1_300);
    await rig.api.request({ resource: "services", verb: "list", continued: true }, 2);
    await rig.publish();
    await settle();
    assert.equal(rig.snapshots.length, 0, "the third page hangs");

    await rig.timers.advance(30_000);
    assert.match(String(rig.logged("list failed", "services")[1]?.fields.error), /no answer within 30 s/);
    await rig.timers.advance(4_000);
    await rig.until("all resources are listed", () => rig.source.synced);
    await rig.publish();
    assert.equal(rig.snapshots[0]?.services.size, 1_100);
  });

  it("tells nothing before the Node exists (1.8)", async (t) => {
    const rig = await Rig.make(t);
    rig.api.delete(nodeObject());
    rig.begin();
    await rig.until("all resources are listed", () => rig.source.synced);
    await rig.publish();
    assert.equal(rig.snapshots.length, 0);
    assert.equal(rig.logged("the API server knows no such Node yet").length, 1);
    rig.api.create(nodeObject());
    await rig.until("the Node came", () => rig.nodes.length === 1);
    await rig.publish();
    await rig.started;
    assert.equal(rig.snapshots[0]?.node.addresses[0]?.text, "192.0.2.1");
  });

  it("asks with the selectors of 1.1, 1.3 and 1.5, the same for lists and watches", async (t) => {
    const rig = await Rig.make(t, { streamingLists: 400 });
    await rig.start();
    await rig.watching();
    for (const { query, resource } of rig.api.requests) {
      const labels = {
        services: "!service.kubernetes.io/service-proxy-name",
        endpointslices: "!service.kubernetes.io/headless",
      };
      const fields = { services: "spec.clusterIP!=None", nodes: "metadata.name=node-a" };
      assert.equal(query.labelSelector, labels[resource as keyof typeof labels]);
      assert.equal(query.fieldSelector, fields[resource as keyof typeof fields]);
    }
    assert.deepEqual([...new Set(rig.api.requests.map(({ resource }) => resource))].sort(), [
      "endpointslices",
      "nodes",
      "servicecidrs",
      "services",
    ]);
  });

  it("reads a server that cannot select Services by clusterIP whole", async (t) => {
    const rig = await Rig.make(t, { unsupportedFields: ["services:spec.clusterIP"] });
    rig.api.create(numbered(1));
    await rig.start();
    assert.deepEqual(keys(rig.snapshots[0]?.services), ["default/web-1"]);
    assert.equal(rig.logged("list failed").length, 0);
  });

  it("does without ServiceCIDRs where the server has none", async (t) => {
    const rig = await Rig.make(t, { without: ["servicecidrs"] });
    await rig.start();
    assert.deepEqual(rig.snapshots[0]?.serviceCIDRs, []);
    assert.equal(rig.troubles.length, 0);
    assert.equal(rig.logged("optional resource is not served").length, 1);
  });

  it("takes a list's gzip and its whole length from the watch cache in one piece", async (t) => {
    const rig = await Rig.make(t, { streamingLists: 422, gzipFrom: 1_000 });
    for (let i = 0; i < 700; i += 1) rig.api.create(numbered(i));
    await rig.start();
    assert.equal(rig.snapshots[0]?.services.size, 700);
    const lists = rig.api.requestsOf({ resource: "services", verb: "list" });
    assert.deepEqual(
      lists.map(({ query }) => query.resourceVersion),
      ["0"],
    );
  });
});

describe("KubeSource, a page that comes too late (contract 3)", () => {
  it("lists all again, and nothing is deleted in between", async (t) => {
    const rig = await Rig.make(t, { streamingLists: 422 });
    for (let i = 0; i < 1_100; i += 1) rig.api.create(numbered(i));
    await rig.start();
    await rig.api.watched("services");
    rig.changes.length = 0;

    await rig.timers.advance(5_000);
    const faults = [
      // The watch is too old, and so is the list from where it was: then from the newest, which comes in pages.
      rig.api.fault(
        { resource: "services", verb: "list" },
        { kind: "status", code: 410, reason: "Expired" },
        { times: 1 },
      ),
      rig.api.fault(
        { resource: "services", continued: true },
        { kind: "status", code: 410, reason: "Expired" },
        { times: 1 },
      ),
    ];
    rig.api.failWatches(410, { resource: "services" });
    await rig.until(
      "the watch ended",
      () => rig.logged("watch failed, listing again", "services").length === 1,
    );
    await rig.timers.advance(1_300);
    await rig.until("the list failed", () => rig.logged("list failed", "services").length === 1);
    await rig.timers.advance(3_000);
    await rig.api.watched("services");
    await rig.publish();

    assert.deepEqual(
      faults.map(({ hits }) => hits),
      [1, 1],
    );
    const lists = rig.api.requestsOf({ resource: "services", verb: "list" }).slice(2);
    assert.deepEqual(
      lists.map(({ query }) => [query.limit ?? null, query.continue !== undefined]),
      [
        ["500", false],
        ["500", true],
        [null, false],
      ],
    );
    assert.deepEqual(rig.changes, [], "nobody heard of anything");
    assert.equal(rig.snapshots.length, 1);
    assert.equal(rig.source.snapshot?.services.size, 1_100);
    assert.deepEqual(rig.stats("services").relists, { start: 1, gone: 1 });
  });
});

describe("KubeSource, a watch that the server ends (contract 4)", () => {
  it("goes on from the last version after five minutes: no list, no event, no word", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    await rig.start();
    await rig.watching();
    for (let minute = 0; minute < 5; minute += 1) {
      await rig.timers.advance(60_000);
      rig.api.bookmark();
      await settle();
    }
    const before = rig.lines.length;
    assert.equal(rig.api.closeWatches({ resource: "services" }), 1);
    const again = await rig.api.request({ resource: "services", verb: "watch" }, 2);
    assert.equal(again.query.resourceVersion, String(rig.api.store.revision));
    assert.equal(again.query.sendInitialEvents, undefined);
    assert.equal(again.query.allowWatchBookmarks, "true");
    await rig.publish();
    assert.equal(rig.snapshots.length, 1);
    assert.deepEqual(rig.lines.slice(before), []);
    assert.deepEqual(rig.stats("services").watches, { closed: 1 });
    assert.equal(rig.api.requestsOf({ resource: "services" }).length, 2);
    const seconds = Number(again.query.timeoutSeconds);
    assert.ok(seconds >= 300 && seconds < 600);
  });
});

describe("KubeSource, a quiet resource (contract 7)", () => {
  it("moves its version on through bookmarks for an hour, and comes back without a 410", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    await rig.start();
    await rig.watching();
    for (let minute = 0; minute < 60; minute += 1) {
      // Somebody else's objects move the server on.
      rig.api.apply(sliceOf(minute));
      await rig.timers.advance(60_000);
      rig.api.bookmark();
      await settle(4);
    }
    rig.api.bookmark();
    await settle();
    const watches = rig.api.requestsOf({ resource: "services", verb: "watch" });
    rig.api.compact();
    rig.api.closeWatches({ resource: "services" });
    const again = await rig.api.request({ resource: "services", verb: "watch" }, watches.length + 1);
    assert.equal(again.query.resourceVersion, String(rig.api.store.revision));
    rig.api.create(numbered(2));
    await rig.snapshot("the new Service is there", ({ services }) => services.has("default/web-2"));
    assert.equal(rig.stats("services").watches.gone, undefined);
    assert.deepEqual(rig.stats("services").relists, { start: 1 });
    // Ended here, some seconds after the server should have done so.
    assert.ok((rig.stats("services").watches.deadline ?? 0) >= 5);
    assert.deepEqual(rig.troubles, []);
  });
});

describe("KubeSource, garbage (contract 10)", () => {
  const cases = [
    ["a line that is no JSON", { kind: "garbage" }],
    ["an object of another kind", { kind: "wrong-kind" }],
    ["an object without metadata", { kind: "no-metadata" }],
  ] as const;
  for (const [what, fault] of cases) {
    it(`counts ${what} in a watch, lists again, and lives`, async (t) => {
      const rig = await Rig.make(t);
      rig.api.create(numbered(1));
      await rig.start();
      await rig.watching();
      await rig.timers.advance(5_000);
      rig.api.fault({ resource: "services", verb: "watch" }, { ...fault, afterEvents: 0 }, { times: 1 });
      rig.api.closeWatches({ resource: "services" });
      await rig.until("the garbage is seen", () => rig.stats("services").garbage === 1);
      // What was missed because of it comes with the list.
      rig.api.delete(numbered(1));
      rig.api.create(numbered(2));
      await rig.timers.advance(1_300);
      const told = await rig.snapshot("the list is in force", ({ services }) =>
        services.has("default/web-2"),
      );
      assert.deepEqual(keys(told.services), ["default/web-2"]);
      assert.deepEqual(rig.stats("services").relists, { start: 1, garbage: 1 });
      assert.deepEqual(rig.stats("services").watches, { closed: 1, garbage: 1 });
    });
  }

  for (const streamingLists of ["on", 422] as const) {
    it(`leaves out an item without metadata of a list (streaming lists: ${streamingLists}), and takes the others`, async (t) => {
      const rig = await Rig.make(t, { streamingLists });
      rig.api.create(numbered(0));
      rig.api.create(numbered(1));
      const verb = streamingLists === "on" ? "watch" : "list";
      rig.api.fault(
        { resource: "services", verb, where: ({ query }) => verb === "list" || "sendInitialEvents" in query },
        { kind: "no-metadata" },
        { times: 1 },
      );
      await rig.start();
      assert.equal(rig.snapshots[0]?.services.has("default/web-1"), true);
      assert.equal(rig.stats("services").garbage, 1);
      assert.equal(rig.logged("object of the API server left out").length, 1);
    });
  }

  it("does not take a list of another kind, or one that is cut off, for the truth", async (t) => {
    const rig = await Rig.make(t, { streamingLists: 422 });
    rig.api.create(numbered(1));
    rig.api.fault({ resource: "services", verb: "list" }, { kind: "wrong-kind" }, { times: 1 });
    rig.api.fault(
      { resource: "services", verb: "list" },
      { kind: "truncated", afterBytes: 300 },
      { times: 1 },
    );
    rig.begin();
    await rig.until("another kind was refused", () => rig.logged("list failed", "services").length === 1);
    await rig.timers.advance(1_300);
    await rig.until("the half was refused", () => rig.logged("list failed", "services").length === 2);
    assert.deepEqual(
      rig.logged("list failed", "services").map(({ fields }) => fields.code),
      ["garbage", "garbage"],
    );
    await rig.timers.advance(2_500);
    await rig.until("all resources are listed", () => rig.source.synced);
    await rig.publish();
    assert.deepEqual(keys(rig.snapshots[0]?.services), ["default/web-1"]);
  });
});

describe("KubeSource, what it missed (contract 11)", () => {
  it("tells a Service that was made anew during a disconnect as a delete and an add", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    rig.api.create(numbered(2));
    rig.api.create(sliceOf(1));
    await rig.start();
    await rig.watching();
    await rig.timers.advance(5_000);
    const old = rig.source.snapshot;
    rig.changes.length = 0;
    await rig.api.refuse();
    rig.api.delete(numbered(1));
    const anew = rig.api.create(numbered(1));
    rig.api.delete(numbered(2));
    rig.api.compact();
    await rig.api.listen();
    for (let i = 0; i < 4; i += 1) await rig.timers.advance(5_000);
    const told = await rig.snapshot("the lost delete is made up for", ({ services }) => services.size === 1);
    assert.equal(told.services.get("default/web-1")?.uid, anew.metadata.uid);
    assert.notEqual(told.services.get("default/web-1"), old?.services.get("default/web-1"));
    assert.deepEqual(
      rig.changes.filter((resource) => resource === "services").length,
      3,
      "two deletes and an add",
    );
    // What did not change is the same object.
    assert.equal(told.slices.get("default/web-1"), old?.slices.get("default/web-1"));
    assert.equal(told.node, old?.node);

    const fresh = await Rig.make(t);
    for (const object of [...rig.api.all("services"), ...rig.api.all("endpointslices")]) {
      const { resourceVersion: _theirs, ...metadata } = object.metadata;
      fresh.api.create({ ...object, metadata });
    }
    await fresh.start();
    const ports = (from: typeof told): unknown => [...compile(from).servicePorts];
    assert.deepEqual(ports(told), ports(fresh.source.snapshot as typeof told));
  });

  it("follows a Service that gets and loses the label of another proxy (1.2)", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    await rig.start();
    await rig.watching();
    rig.api.update(numbered(1, { "service.kubernetes.io/service-proxy-name": "" }));
    await rig.snapshot("the Service is gone", ({ services }) => services.size === 0);
    rig.api.update(numbered(1));
    await rig.snapshot("the Service is back", ({ services }) => services.size === 1);
    assert.equal(rig.api.requestsOf({ resource: "services" }).length, 1);
  });
});

describe("KubeSource, Snapshots", () => {
  it("makes one of a burst, and none of a change that a proxy does not see (1.10)", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(0));
    rig.api.create(sliceOf(0));
    await rig.start();
    await rig.watching();
    const first = rig.source.snapshot;
    for (let i = 1; i <= 50; i += 1) rig.api.create(numbered(i));
    await rig.until("the burst has come", () => rig.stats("services").objects === 51);
    await rig.publish();
    assert.equal(rig.snapshots.length, 2);
    const second = rig.source.snapshot;
    assert.equal(second?.slices, first?.slices, "maps without a change keep their identity");
    assert.equal(second?.services.get("default/web-0"), first?.services.get("default/web-0"));

    rig.api.update({ ...numbered(0, { colour: "blue" }) });
    rig.api.update(sliceOf(0, 2, "2026-01-31T09:00:00.5Z"));
    rig.api.bookmark();
    await settle();
    await rig.publish();
    assert.equal(rig.snapshots.length, 2);
    assert.deepEqual(rig.triggers, [], "what did not change has no latency");
  });

  it("moves a slice from one Service to another, and reports when the change was made (11.5)", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    rig.api.create(numbered(2));
    rig.api.create(sliceOf(1));
    await rig.start();
    await rig.watching();
    const at = "2026-01-31T09:00:00.123456789Z";
    rig.api.update(sliceOf(1, 3, at));
    const grown = await rig.snapshot(
      "the slice has grown",
      ({ slices }) => slices.get("default/web-1")?.[0]?.endpoints.length === 3,
    );
    assert.equal(Object.isFrozen(grown.slices.get("default/web-1")), true);
    assert.deepEqual(rig.triggers, [`default/web-1 4 ${Date.parse(at)}`]);
    const moved = sliceOf(1, 3) as { metadata: { name: string; namespace: string; labels: object } };
    rig.api.update({
      ...sliceOf(1, 3),
      metadata: { ...moved.metadata, labels: { "kubernetes.io/service-name": "web-2" } },
    });
    const after = await rig.snapshot("the slice has moved", ({ slices }) => slices.has("default/web-2"));
    assert.equal(after.slices.has("default/web-1"), false);
    rig.api.delete(sliceOf(1));
    await rig.snapshot("the slice is gone", ({ slices }) => slices.size === 0);
    assert.equal(rig.triggers.at(-1), "default/web-2 4 deleted");
  });

  it("names what is wrong with an object, leaves that out, and forgets it with the object", async (t) => {
    const rig = await Rig.make(t);
    rig.api.create(numbered(1));
    rig.api.create(service("bad", ["127.0.0.1"], [{ name: "http", port: 80 }]));
    await rig.start();
    await rig.watching();
    assert.deepEqual(keys(rig.source.snapshot?.services), ["default/web-1"]);
    assert.deepEqual(
      rig.problems.map(({ object, origin }) => [object, origin?.file]),
      [["Service default/bad", "api"]],
    );
    rig.api.delete(service("bad", [], []));
    await rig.until("the object is gone", () => rig.stats("services").objects === 1);
    await rig.publish();
    assert.deepEqual(rig.problems, []);
  });

  it("does not let a listener that throws end the watch", async (t) => {
    const rig = await Rig.make(t);
    let calls = 0;
    rig.source.on(() => {
      calls += 1;
      throw new Error("a mistake");
    });
    await rig.start();
    rig.api.create(numbered(1));
    await rig.snapshot("the Service is there", ({ services }) => services.size === 1);
    assert.equal(calls, 2);
    assert.equal(rig.logged("a listener of the source failed").length, 2);
  });
});

describe("KubeSource, the Node", () => {
  it("tells eligibility (10.4), zone (1.17), deletion (1.16), and keeps the last addresses that could be read", async (t) => {
    const rig = await Rig.make(t);
    await rig.start();
    await rig.watching();
    assert.deepEqual(
      rig.nodes.map(({ eligible, deleted, exists }) => [eligible, deleted, exists]),
      [[true, false, true]],
    );
    const info = rig.source.node.info;

    const taint = { key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule", value: "1" };
    rig.api.update(nodeObject({ spec: { taints: [taint] } }));
    await rig.until("the taint is seen", () => rig.nodes.length === 2);
    assert.equal(rig.source.node.eligible, false);
    assert.equal(rig.source.node.info, info, "the addresses are the same: nothing is compiled again");
    await rig.publish();
    assert.equal(rig.snapshots.length, 1);

    rig.api.update(nodeObject({ status: { addresses: [{ type: "InternalIP", address: "no address" }] } }));
    await settle();
    assert.equal(rig.nodes.length, 2, "(1.16) what cannot be read is ignored");
    await rig.publish();
    assert.equal(rig.problems.length, 1);

    rig.api.update(nodeObject({ status: { addresses: [{ type: "InternalIP", address: "192.0.2.9" }] } }));
    const moved = await rig.snapshot(
      "the address is another",
      ({ node }) => node.addresses[0]?.text === "192.0.2.9",
    );
    assert.equal(moved.node.zone, "zone-1");
    assert.equal(rig.source.node.eligible, true);

    rig.api.delete(nodeObject());
    await rig.until("the Node is gone", () => rig.source.node.deleted);
    assert.equal(rig.source.node.eligible, false);
    assert.equal(rig.source.node.info.addresses[0]?.text, "192.0.2.9");
  });
});
