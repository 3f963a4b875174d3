// SPDX-License-Identifier: Apache-2.0
// The fixture's watches: what a change looks like through a selector, bookmarks, streaming lists, 410, and how they end.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ApiClient } from "../../support/apiserver/client.js";
import { FakeApi, type FakeApiOptions } from "../../support/apiserver/fake-api.js";
import { type KubeObject, service } from "../../support/manifests.js";

const SERVICES = "/api/v1/services";
const TRACKED = `${SERVICES}?labelSelector=!proxy&fieldSelector=spec.clusterIP!%3DNone`;
const STREAMING = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
const web = (name: string, labels?: Record<string, string>, clusterIP = "10.96.0.1"): KubeObject => {
  const object = service(name, [clusterIP], [{ name: "http", port: 80 }]);
  return { ...object, metadata: { ...object.metadata, ...(labels === undefined ? {} : { labels }) } };
};

let api: FakeApi;
let client: ApiClient;

async function restart(options: FakeApiOptions): Promise<void> {
  client?.close();
  await api?.close();
  api = await FakeApi.start({ role: "admin", ...options });
  client = new ApiClient({ url: api.url, authority: api.authority.certificate, token: api.token });
}

beforeEach(() => restart({ bookmarkMs: 0 }));
afterEach(async () => {
  client.close();
  await api.close();
});

test("a watch tells every change after its resource version, in order, once", async () => {
  const { metadata } = api.create(web("old"));
  const watch = await client.watch(`${SERVICES}?resourceVersion=${metadata.resourceVersion}`);
  api.create(web("a"));
  const changed = api.update(web("a", { new: "1" }));
  api.update(web("a", { new: "1" })); // says the same: nothing is written, nothing is told
  api.delete(web("a"));
  assert.deepEqual(await watch.take(2), ["ADDED a", "MODIFIED a"]);
  const { type, object } = await watch.next();
  assert.deepEqual([type, object.kind, object.apiVersion], ["DELETED", "Service", "v1"]);
  assert.equal(object.metadata.resourceVersion, String(Number(changed.metadata.resourceVersion) + 1));
  assert.deepEqual(object.metadata.labels, { new: "1" });
  assert.equal(watch.waiting, 0);
});

test("a change that takes an object out of the selection is DELETED, one that brings it in is ADDED (1.2)", async () => {
  api.create(web("a"));
  const watch = await client.watch(`${TRACKED}&resourceVersion=${api.store.revision}`);
  const left = api.update(web("a", { proxy: "" }));
  api.update(web("a", { proxy: "other" })); // outside before and after
  api.update(web("a"));
  api.update(web("a", { more: "1" }));
  api.delete(web("a"));
  const { type, object } = await watch.next();
  assert.equal(type, "DELETED");
  assert.equal(object.metadata.labels, undefined); // as it was while it was selected
  assert.equal(object.metadata.resourceVersion, left.metadata.resourceVersion); // but of the change
  assert.deepEqual(await watch.take(3), ["ADDED a", "MODIFIED a", "DELETED a"]);
});

test("a deletion of what is outside the selection, and another resource's changes, are not told", async () => {
  api.create(web("a", { proxy: "" }));
  api.create(web("h", undefined, "None"));
  const watch = await client.watch(`${TRACKED}&resourceVersion=${api.store.revision}`);
  api.delete(web("a"));
  api.delete(web("h"));
  api.create({ apiVersion: "v1", kind: "Node", metadata: { name: "n" } });
  api.create(web("b"));
  assert.deepEqual(await watch.take(1), ["ADDED b"]);
  assert.equal(watch.waiting, 0);
});

test("a deletion and a new object of the same name are two events with two uids", async () => {
  const first = api.create(web("a"));
  const watch = await client.watch(`${SERVICES}?resourceVersion=${api.store.revision}`);
  api.delete(web("a"));
  const second = api.create(web("a"));
  assert.notEqual(first.metadata.uid, second.metadata.uid);
  const events = [await watch.next(), await watch.next()];
  assert.deepEqual(
    events.map(({ type, object }) => [type, object.metadata.uid]),
    [
      ["DELETED", first.metadata.uid],
      ["ADDED", second.metadata.uid],
    ],
  );
});

test("an object with finalizers is changed first, and goes with the last of them", async () => {
  const node = { apiVersion: "v1", kind: "Node", metadata: { name: "n", finalizers: ["x/y"] } };
  api.create(node);
  const watch = await client.watch(`/api/v1/nodes?resourceVersion=${api.store.revision}`);
  api.delete(node);
  const { type, object } = await watch.next();
  assert.equal(type, "MODIFIED");
  assert.ok(object.metadata.deletionTimestamp);
  api.update({ ...node, metadata: { name: "n" } });
  assert.deepEqual(await watch.take(1), ["DELETED n"]);
});

test("a watch without a resource version, or with 0, first adds what is there", async () => {
  for (const name of ["b", "a"]) api.create(web(name));
  for (const query of ["?", "?resourceVersion=0"]) {
    const watch = await client.watch(SERVICES + query);
    assert.deepEqual(await watch.take(2), ["ADDED a", "ADDED b"]);
    api.update(web("a", { changed: query.length.toString() }));
    assert.deepEqual(await watch.take(1), ["MODIFIED a"]);
    watch.close();
  }
});

test("a streaming list ends with the marked bookmark, and goes on as a watch", async () => {
  for (const name of ["a", "b", "c"]) api.create(web(name, name === "c" ? { proxy: "" } : {}));
  const watch = await client.watch(`${TRACKED}&${STREAMING}`);
  assert.deepEqual(await watch.take(2), ["ADDED a", "ADDED b"]);
  const { type, object } = await watch.next();
  assert.equal(type, "BOOKMARK");
  assert.deepEqual(object.metadata.annotations, { "k8s.io/initial-events-end": "true" });
  assert.equal(object.metadata.resourceVersion, String(api.store.revision));
  api.delete(web("b"));
  assert.deepEqual(await watch.take(1), ["DELETED b"]);
});

test("a change while a streaming list is on its way comes after its end, once", async () => {
  for (let i = 0; i < 2000; i++) api.create(web(`s${i}`));
  const opening = client.watch(`${SERVICES}?${STREAMING}`);
  await api.request({ verb: "watch" });
  api.create(web("late"));
  const watch = await opening;
  const events = await watch.take(2001);
  assert.equal(events.indexOf("BOOKMARK undefined"), 2000);
  assert.deepEqual(await watch.take(1), ["ADDED late"]);
  assert.equal(new Set(events).size, 2001);
});

test("streaming lists can be switched off, and are refused as older servers do", async () => {
  for (const code of [400, 422] as const) {
    await restart({ streamingLists: code });
    assert.equal((await client.send("GET", `${SERVICES}?watch=1&${STREAMING}`)).status, code);
    assert.equal((await client.send("GET", `${SERVICES}?watch=1&timeoutSeconds=1`)).status, 200);
  }
});

test("watches refuse options that make no sense together", async () => {
  const status = async (query: string): Promise<number> =>
    (await client.send("GET", `${SERVICES}?watch=1&${query}`)).status;
  assert.equal(await status("resourceVersionMatch=NotOlderThan&resourceVersion=1"), 422);
  assert.equal(await status("sendInitialEvents=true"), 422);
  assert.equal(await status("sendInitialEvents=true&resourceVersionMatch=Exact"), 422);
  assert.equal(await status(`${STREAMING}&resourceVersion=99999999`), 504);
});

test("a watch from a compacted resource version gets an ERROR event with 410, and ends", async () => {
  const { metadata } = api.create(web("a"));
  api.create(web("b"));
  api.compact();
  const watch = await client.watch(`${SERVICES}?resourceVersion=${metadata.resourceVersion}`);
  const { type, object } = await watch.next();
  assert.deepEqual([type, object.kind, object.code, object.reason], ["ERROR", "Status", 410, "Expired"]);
  assert.equal(await watch.end(), "complete");
  const current = await client.watch(`${SERVICES}?resourceVersion=${api.store.revision}`);
  api.create(web("c"));
  assert.deepEqual(await current.take(1), ["ADDED c"]);
});

test("old revisions go by themselves once the window is full, also those that another resource used up", async () => {
  await restart({ window: 20 });
  const { metadata } = api.create(web("quiet"));
  for (let i = 0; i < 40; i++) api.create({ apiVersion: "v1", kind: "Node", metadata: { name: `n${i}` } });
  const watch = await client.watch(`${SERVICES}?resourceVersion=${metadata.resourceVersion}`);
  assert.equal((await watch.next()).object.code, 410);
});

test("bookmarks come only when asked for, carry the revision of now, and keep a quiet resource's watch resumable", async () => {
  api.create(web("quiet"));
  const from = `${SERVICES}?resourceVersion=${api.store.revision}`;
  const watch = await client.watch(`${from}&allowWatchBookmarks=true`);
  const without = await client.watch(from);
  for (let i = 0; i < 5; i++) api.create({ apiVersion: "v1", kind: "Node", metadata: { name: `n${i}` } });
  assert.equal(api.bookmark(), 2);
  const { type, object } = await watch.next();
  assert.deepEqual([type, object.kind], ["BOOKMARK", "Service"]);
  assert.equal(object.metadata.resourceVersion, String(api.store.revision));
  api.compact();
  const resumed = await client.watch(`${SERVICES}?resourceVersion=${object.metadata.resourceVersion}`);
  api.create(web("next"));
  assert.deepEqual(await resumed.take(1), ["ADDED next"]);
  assert.deepEqual(await without.take(1), ["ADDED next"]);
});

test("bookmarks come by themselves at their interval", async () => {
  await restart({ bookmarkMs: 20 });
  const watch = await client.watch(
    `${SERVICES}?resourceVersion=${api.store.revision}&allowWatchBookmarks=true`,
  );
  const types = [(await watch.next()).type, (await watch.next()).type];
  assert.deepEqual(types, ["BOOKMARK", "BOOKMARK"]);
});

test("a watch ends well at its timeoutSeconds, after a last bookmark", async () => {
  const began = performance.now();
  const watch = await client.watch(
    `${SERVICES}?resourceVersion=${api.store.revision}&allowWatchBookmarks=true&timeoutSeconds=1`,
  );
  assert.equal((await watch.next()).type, "BOOKMARK");
  assert.equal(await watch.end(), "complete");
  assert.ok(performance.now() - began >= 990);
});

test("a held cache keeps changes from watches until it is released, bookmarks included", async () => {
  const watch = await client.watch(
    `${SERVICES}?resourceVersion=${api.store.revision}&allowWatchBookmarks=true`,
  );
  api.holdCache();
  const held = String(api.store.revision);
  api.create(web("a"));
  api.delete(web("a"));
  api.bookmark();
  const { type, object } = await watch.next();
  assert.deepEqual([type, object.metadata.resourceVersion], ["BOOKMARK", held]);
  api.releaseCache();
  assert.deepEqual(await watch.take(2), ["ADDED a", "DELETED a"]);
});

test("10,000 Services are streamed over many turns of the event loop: the client under test lives in the same process", async () => {
  for (let i = 0; i < 10_000; i++) api.create(web(`s${i}`));
  let turns = 0;
  let running = true;
  const tick = (): void => {
    turns++;
    if (running) setImmediate(tick);
  };
  const watch = await client.watch(`${SERVICES}?${STREAMING}`);
  tick();
  let count = 0;
  while (!(await watch.line()).startsWith('{"type":"BOOKMARK"')) count++;
  running = false;
  assert.equal(count, 10_000);
  assert.ok(turns > 30, `${turns} turns`);
});
