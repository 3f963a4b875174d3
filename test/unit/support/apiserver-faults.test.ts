// SPDX-License-Identifier: Apache-2.0
// The fixture's faults: each must be what it is called, or a test of ours proves nothing.
import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { ApiClient } from "../../support/apiserver/client.js";
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { undisturbed } from "../../support/awake.js";
import { type KubeObject, service } from "../../support/manifests.js";

const SERVICES = "/api/v1/services";
const web = (name: string): KubeObject => service(name, ["10.96.0.1"], [{ name: "http", port: 80 }]);

let api: FakeApi;
let client: ApiClient;

beforeEach(async () => {
  api = await FakeApi.start({ role: "admin", bookmarkMs: 0 });
  client = new ApiClient({ url: api.url, authority: api.authority.certificate, token: api.token });
});
afterEach(async () => {
  client.close();
  await api.close();
});

const watching = (query = ""): ReturnType<ApiClient["watch"]> =>
  client.watch(`${SERVICES}?resourceVersion=${api.store.revision}${query}`);

test("a fault meets the requests that match, so many times, after so many that go well", async () => {
  const fault = api.fault(
    { resource: "services", verb: "list" },
    { kind: "status", code: 500 },
    { times: 1, skip: 1 },
  );
  const status = async (path: string): Promise<number> => (await client.send("GET", path)).status;
  assert.equal(await status(SERVICES), 200);
  assert.equal(await status("/api/v1/nodes"), 200);
  assert.equal(await status(SERVICES), 500);
  assert.equal(await status(SERVICES), 200);
  assert.equal(fault.hits, 1);
});

test("429 carries Retry-After in header and body", async () => {
  api.fault({}, { kind: "status", code: 429, retryAfterSeconds: 7 });
  const { status, headers, text } = await client.send("GET", SERVICES);
  assert.deepEqual([status, headers["retry-after"]], [429, "7"]);
  const body = JSON.parse(text) as { kind: string; reason: string };
  assert.deepEqual([body.kind, body.reason], ["Status", "TooManyRequests"]);
});

test("a page after the first can fail alone", async () => {
  for (const name of ["a", "b"]) api.create(web(name));
  api.fault({ continued: true }, { kind: "status", code: 410 });
  const { metadata } = await client.list(`${SERVICES}?limit=1`);
  assert.equal((await client.send("GET", `${SERVICES}?limit=1&continue=${metadata.continue}`)).status, 410);
  assert.equal((await client.send("GET", `${SERVICES}?limit=1`)).status, 200);
});

test("no-headers: the request is seen, and never answered", async () => {
  api.fault({ verb: "list" }, { kind: "no-headers" });
  let settled = false;
  const asking = client.send("GET", SERVICES).finally(() => {
    settled = true;
  });
  const record = await api.request({ verb: "list" });
  assert.equal((await client.send("GET", "/api/v1/nodes/none")).status, 404); // time enough, on another connection
  assert.deepEqual([settled, record.status, record.end], [false, 0, "open"]);
  api.resetConnections();
  await assert.rejects(asking);
});

let silences = 0;
/** The watches end a second after they began: what comes is to come before that. */
const silence = async (): Promise<void> => {
  api.clearFaults();
  api.fault({ verb: "watch" }, { kind: "silent" }, { times: 1 });
  const silent = await watching("&allowWatchBookmarks=true&timeoutSeconds=1");
  const other = await watching("&allowWatchBookmarks=true&timeoutSeconds=1");
  api.create(web(`silence-${silences++}`));
  api.bookmark();
  assert.deepEqual([(await other.next()).type, (await other.next()).type], ["ADDED", "BOOKMARK"]);
  assert.equal(await other.end(), "complete");
  assert.deepEqual([silent.waiting, silent.ended], [0, null]);
};

test("silent: headers, and then neither events nor bookmarks nor the end", (t) => undisturbed(t, silence));

test("open watches can be silenced, and new ones tell again", async () => {
  const before = await watching();
  assert.equal(api.silenceWatches({ resource: "services" }), 1);
  const after = await watching();
  api.create(web("a"));
  assert.deepEqual(await after.take(1), ["ADDED a"]);
  assert.equal(before.waiting, 0);
});

test("slow: the body comes whole, in pieces of the size asked for", async () => {
  api.create(web("a"));
  api.fault({ verb: "list" }, { kind: "slow", bytes: 64, everyMs: 1 });
  const { text } = await client.send("GET", SERVICES);
  assert.equal((JSON.parse(text) as { items: object[] }).items.length, 1);
  assert.ok((api.requests[0]?.bytes ?? 0) > 64);
});

test("garbage, another kind and no metadata come after so many events, and the watch goes on", async () => {
  const odd = {
    garbage: /^\{\]/,
    "wrong-kind": /"kind":"Pod"/,
    "no-metadata": /"Service","apiVersion":"v1","spec":\{\}/,
  };
  for (const [kind, expected] of Object.entries(odd)) {
    api.fault({ verb: "watch" }, { kind: kind as keyof typeof odd, afterEvents: 1 }, { times: 1 });
    const watch = await watching();
    api.create(web(`${kind}-1`));
    api.create(web(`${kind}-2`));
    assert.deepEqual(await watch.take(1), [`ADDED ${kind}-1`]);
    assert.match(await watch.line(), expected);
    assert.deepEqual(await watch.take(1), [`ADDED ${kind}-2`]);
    watch.close();
  }
});

test("lists can be garbage, of another kind, or have an item without metadata", async () => {
  api.create(web("a"));
  api.fault({ verb: "list" }, { kind: "garbage" }, { times: 1 });
  await assert.rejects(client.list(SERVICES), SyntaxError);
  api.fault({ verb: "list" }, { kind: "wrong-kind" }, { times: 1 });
  assert.equal((await client.list(SERVICES)).kind, "PodList");
  api.fault({ verb: "list" }, { kind: "no-metadata" }, { times: 1 });
  assert.deepEqual((await client.list(SERVICES)).items, [{ spec: {} }]);
});

test("truncated: the answer ends in the middle as if that were all", async () => {
  api.create(web("a"));
  api.fault({ verb: "list" }, { kind: "truncated", afterBytes: 100 }, { times: 1 });
  const { status, text } = await client.send("GET", SERVICES);
  assert.deepEqual([status, text.length], [200, 100]);
  api.fault({ verb: "watch" }, { kind: "truncated", afterBytes: 100 }, { times: 1 });
  const watch = await watching();
  api.create(web("b"));
  assert.equal(await watch.end(), "complete");
  assert.equal(watch.waiting, 0); // 100 bytes are no whole line
});

test("reset: the connection is reset in the middle, or before the headers", async () => {
  api.create(web("a"));
  api.fault({ verb: "list" }, { kind: "reset", afterBytes: 100 }, { times: 1 });
  await assert.rejects(client.send("GET", SERVICES), { code: "ECONNRESET" });
  api.fault({ verb: "list" }, { kind: "reset", afterBytes: 0 }, { times: 1 });
  await assert.rejects(client.send("GET", SERVICES), { code: "ECONNRESET" });
  assert.equal(api.requests.at(-1)?.status, 0);
  const watch = await watching();
  assert.equal(api.resetWatches(), 1);
  assert.equal(await watch.end(), "cut");
  await api.until("no connection is left", () => api.connections.open === 0);
});

test("a watch ends well when it is closed, at once or after so many events", async () => {
  api.fault({ verb: "watch" }, { kind: "close" }, { times: 1 });
  assert.equal(await (await watching()).end(), "complete");
  api.fault({ verb: "watch" }, { kind: "close", afterEvents: 1 }, { times: 1 });
  const watch = await watching();
  api.create(web("a"));
  api.create(web("b"));
  assert.deepEqual(await watch.take(1), ["ADDED a"]);
  assert.equal(await watch.end(), "complete");
  assert.equal(watch.waiting, 0);
  const open = await watching();
  assert.equal(api.closeWatches(), 1);
  assert.equal(await open.end(), "complete");
});

test("an ERROR event carries its code, and ends the watch", async () => {
  api.fault({ verb: "watch" }, { kind: "error-event", code: 500 }, { times: 1 });
  const watch = await watching();
  const { type, object } = await watch.next();
  assert.deepEqual([type, object.kind, object.code], ["ERROR", "Status", 500]);
  assert.equal(await watch.end(), "complete");
  const open = await watching();
  api.failWatches(410);
  assert.equal((await open.next()).object.code, 410);
});

test("a black hole takes connections and says nothing, those that were open included", async () => {
  const watch = await watching();
  api.blackHole = true;
  api.create(web("a"));
  const asking = client.send("GET", SERVICES);
  const fresh = new ApiClient({ url: api.url, authority: api.authority.certificate, token: api.token });
  const connecting = fresh.send("GET", SERVICES);
  // The watch's, and one for each of the two requests.
  await api.until("new connections", () => api.connections.total >= 3);
  api.blackHole = false;
  const later = new ApiClient({ url: api.url, authority: api.authority.certificate, token: api.token });
  assert.equal((await later.list(SERVICES)).items.length, 1);
  assert.deepEqual([watch.waiting, watch.ended], [0, null]);
  api.resetConnections();
  await Promise.all([assert.rejects(asking), assert.rejects(connecting)]);
  for (const each of [fresh, later]) each.close();
});

test("a server that refuses connections comes back at the same port", async () => {
  await client.list(SERVICES);
  await api.refuse();
  await assert.rejects(client.list(SERVICES), (error: NodeJS.ErrnoException) =>
    ["ECONNREFUSED", "ECONNRESET"].includes(error.code ?? ""),
  );
  await assert.rejects(client.list(SERVICES), { code: "ECONNREFUSED" });
  await api.listen();
  assert.equal((await client.list(SERVICES)).kind, "ServiceList");
});

test("requests and connections are counted: keep-alive is one connection for many requests", async () => {
  for (let i = 0; i < 5; i++) await client.list(`${SERVICES}?limit=${i + 1}`);
  await api.until("the last one's end", () => api.requests.at(-1)?.end === "complete");
  assert.deepEqual(api.connections, { total: 1, open: 1 });
  assert.deepEqual(
    api
      .requestsOf({ verb: "list", resource: "services" })
      .map(({ query, status, end }) => [query.limit, status, end]),
    ["1", "2", "3", "4", "5"].map((limit) => [limit, 200, "complete"]),
  );
  const watch = await watching();
  assert.equal(api.openWatches({ resource: "services" }).length, 1);
  watch.close();
  await api.until("the watch's end", () => api.openWatches().length === 0);
  assert.equal(api.requests.at(-1)?.end, "cut");
});
