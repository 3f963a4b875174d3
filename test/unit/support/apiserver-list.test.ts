// SPDX-License-Identifier: Apache-2.0
// The fixture's lists: selectors, pages, resource versions. A fixture that is kinder than a real server hides faults of ours.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ApiClient, type ListReply } from "../../support/apiserver/client.js";
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { parseLabelSelector } from "../../support/apiserver/selectors.js";
import { endpointSlice, type KubeObject, service } from "../../support/manifests.js";

const SERVICES = "/api/v1/services";
const web = (name: string, labels?: Record<string, string>, clusterIP = "10.96.0.1"): KubeObject => {
  const object = service(name, [clusterIP], [{ name: "http", port: 80 }]);
  return { ...object, metadata: { ...object.metadata, ...(labels === undefined ? {} : { labels }) } };
};
const names = (list: ListReply): string[] => list.items.map(({ metadata }) => metadata.name);

let api: FakeApi;
let client: ApiClient;

before(async () => {
  api = await FakeApi.start({ role: "admin" });
  client = new ApiClient({ url: api.url, authority: api.authority.certificate, token: api.token });
  for (const [name, labels] of [
    ["a"],
    ["b", { x: "" }],
    ["c", { x: "1" }],
    ["d", { x: "2", y: "1" }],
  ] as const)
    api.create(web(name, labels));
  api.create(web("headless", undefined, "None"));
});

after(async () => {
  client.close();
  await api.close();
});

async function refused(
  path: string,
): Promise<{ code: number; reason: string; message: string; metadata: { continue?: string } }> {
  const { status, text } = await client.send("GET", path);
  const body = JSON.parse(text) as { code: number; reason: string; message: string; metadata: object };
  assert.equal(body.code, status);
  return body;
}

test("label selectors match as in Kubernetes: != and notin also what lacks the key", () => {
  const cases: readonly [string, readonly Record<string, string>[], readonly Record<string, string>[]][] = [
    ["", [{}, { a: "1" }], []],
    ["a", [{ a: "" }, { a: "1" }], [{}, { b: "1" }]],
    ["!a", [{}, { b: "1" }], [{ a: "" }, { a: "1" }]],
    ["a=1", [{ a: "1" }], [{}, { a: "2" }]],
    ["a==1", [{ a: "1" }], [{}, { a: "11" }]],
    ["a=", [{ a: "" }], [{}, { a: "1" }]],
    ["a!=1", [{}, { a: "2" }], [{ a: "1" }]],
    ["a in (1, 2)", [{ a: "1" }, { a: "2" }], [{}, { a: "3" }]],
    ["a notin (1,2)", [{}, { a: "3" }], [{ a: "1" }, { a: "2" }]],
    ["a,!b/c.d-e", [{ a: "1" }], [{ a: "1", "b/c.d-e": "" }]],
    ["a in (1),b notin (2)", [{ a: "1" }], [{ a: "1", b: "2" }, {}]],
  ];
  for (const [text, those, others] of cases) {
    const selects = parseLabelSelector(text);
    for (const labels of those) assert.ok(selects(labels), `${text} selects ${JSON.stringify(labels)}`);
    for (const labels of others) assert.ok(!selects(labels), `${text} selects not ${JSON.stringify(labels)}`);
  }
  for (const wrong of ["a=b=c", "!", "a in b", "a in (1", "a,,b", "a b"])
    assert.throws(() => parseLabelSelector(wrong), { code: 400 }, wrong);
});

test("lists select by labels and fields, and refuse fields that a resource is not known by (1.1)", async () => {
  const list = async (query: string): Promise<string[]> => names(await client.list(`${SERVICES}?${query}`));
  assert.deepEqual(await list("fieldSelector=spec.clusterIP!%3DNone"), ["a", "b", "c", "d"]);
  assert.deepEqual(await list("fieldSelector=spec.clusterIP%3DNone"), ["headless"]);
  assert.deepEqual(await list("labelSelector=!x&fieldSelector=spec.clusterIP!%3DNone"), ["a"]);
  assert.deepEqual(await list("fieldSelector=metadata.name%3Dc,metadata.namespace%3Ddefault"), ["c"]);
  assert.deepEqual(await list("fieldSelector=metadata.namespace%3Dother"), []);
  assert.deepEqual(await client.list("/api/v1/namespaces/other/services").then(names), []);
  assert.equal(
    (await refused(`${SERVICES}?fieldSelector=spec.foo%3D1`)).message,
    "field label not supported: spec.foo",
  );
  assert.equal((await refused("/api/v1/nodes?fieldSelector=metadata.namespace%3Da")).code, 400);
  assert.equal((await refused(`${SERVICES}?labelSelector=%3D`)).code, 400);
});

test("lists have kind and apiVersion, their items have none, single objects do", async () => {
  const list = await client.list(SERVICES);
  assert.equal(list.kind, "ServiceList");
  assert.equal(list.apiVersion, "v1");
  assert.ok(list.items.every((item) => !("kind" in item) && !("apiVersion" in item)));
  const one = await client.get(web("a"));
  assert.deepEqual([one.kind, one.apiVersion, one.metadata.name], ["Service", "v1", "a"]);
  assert.match(one.metadata.uid, /^[0-9a-f-]{36}$/);
  assert.match(one.metadata.creationTimestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
});

test("pages are of one state, whatever is written between them, and say how many remain", async () => {
  const first = await client.list(`${SERVICES}?limit=2`);
  assert.deepEqual(names(first), ["a", "b"]);
  assert.equal(first.metadata.remainingItemCount, 3);
  api.create(web("bb"));
  api.delete(web("c"));
  const second = await client.list(`${SERVICES}?limit=2&continue=${first.metadata.continue}`);
  assert.deepEqual(names(second), ["c", "d"]);
  assert.equal(second.metadata.resourceVersion, first.metadata.resourceVersion);
  const third = await client.list(`${SERVICES}?limit=2&continue=${second.metadata.continue}`);
  assert.deepEqual(names(third), ["headless"]);
  assert.equal(third.metadata.continue, undefined);
  api.delete(web("bb"));
  api.create(web("c", { x: "1" }));
});

test("pages with a selector are filled, and do not say how many remain", async () => {
  const page = await client.list(`${SERVICES}?limit=2&labelSelector=x`);
  assert.deepEqual(names(page), ["b", "c"]);
  assert.equal(page.metadata.remainingItemCount, undefined);
  assert.deepEqual(
    names(await client.list(`${SERVICES}?limit=2&labelSelector=x&continue=${page.metadata.continue}`)),
    ["d"],
  );
});

test("a continue token of a compacted state is 410 with a token that goes on in spite of it", async () => {
  const first = await client.list(`${SERVICES}?limit=2`);
  api.create(web("zz"));
  api.compact();
  const { code, reason, metadata } = await refused(`${SERVICES}?limit=2&continue=${first.metadata.continue}`);
  assert.deepEqual([code, reason], [410, "Expired"]);
  const rest = await client.list(`${SERVICES}?continue=${metadata.continue}`);
  assert.deepEqual(names(rest), ["c", "d", "headless", "zz"]);
  assert.equal(rest.metadata.resourceVersion, String(api.store.revision));
  assert.equal((await refused(`${SERVICES}?continue=rubbish`)).code, 400);
  api.delete(web("zz"));
});

test("resourceVersion 0 ignores the limit and may be stale, none is of now, and one is not older than that", async () => {
  api.holdCache();
  const before = String(api.store.revision);
  api.create(web("new"));
  const cached = await client.list(`${SERVICES}?resourceVersion=0&limit=1`);
  assert.deepEqual([names(cached).length, cached.metadata.resourceVersion], [5, before]);
  assert.equal(cached.metadata.continue, undefined);
  assert.ok(names(await client.list(SERVICES)).includes("new"));
  const now = String(api.store.revision);
  const { code, reason, message } = await refused(`${SERVICES}?resourceVersion=${now}`);
  assert.deepEqual([code, reason], [504, "Timeout"]);
  assert.match(message, /^Too large resource version/);
  api.releaseCache();
  assert.equal((await client.list(`${SERVICES}?resourceVersion=${before}`)).metadata.resourceVersion, now);
  const exact = await client.list(`${SERVICES}?resourceVersion=${before}&resourceVersionMatch=Exact`);
  assert.deepEqual([names(exact).includes("new"), exact.metadata.resourceVersion], [false, before]);
  const legacy = await client.list(`${SERVICES}?resourceVersion=${before}&limit=1`);
  assert.equal(legacy.metadata.resourceVersion, before);
  api.delete(web("new"));
});

test("lists refuse options that make no sense together, as the real validation does", async () => {
  for (const query of [
    "resourceVersionMatch=Exact",
    "resourceVersionMatch=Exact&resourceVersion=0",
    "resourceVersionMatch=Sometimes&resourceVersion=1",
    "sendInitialEvents=true",
  ])
    assert.equal((await refused(`${SERVICES}?${query}`)).code, 422, query);
  const { metadata } = await client.list(`${SERVICES}?limit=1`);
  assert.equal((await refused(`${SERVICES}?continue=${metadata.continue}&resourceVersion=5`)).code, 400);
  assert.equal((await refused(`${SERVICES}?resourceVersion=abc`)).code, 400);
  assert.equal((await refused(`${SERVICES}?limit=-1`)).code, 400);
  api.compact();
  assert.equal((await refused(`${SERVICES}?resourceVersion=1&resourceVersionMatch=Exact`)).code, 410);
});

test("large lists are compressed for clients that take it, and only then", async () => {
  for (let i = 0; i < 600; i++)
    api.create(endpointSlice(`slice-${i}`, ["10.0.0.1"], [{ name: "http", port: 80 }]));
  const path = "/apis/discovery.k8s.io/v1/endpointslices";
  const plain = await client.send("GET", path);
  assert.equal(plain.headers["content-encoding"], undefined);
  const packed = await client.send("GET", path, { headers: { "accept-encoding": "gzip" } });
  assert.equal(packed.headers["content-encoding"], "gzip");
  assert.ok(packed.bytes * 4 < plain.bytes, `${packed.bytes} of ${plain.bytes}`);
  assert.equal(packed.text, plain.text);
  const small = await client.send("GET", `${path}?limit=10`, { headers: { "accept-encoding": "gzip" } });
  assert.equal(small.headers["content-encoding"], undefined);
});

test("resource versions grow with every write to any resource, and get longer", () => {
  const fresh = api.store.revision;
  const numbers = [api.create(web("rv")), api.update(web("rv", { new: "1" })), api.delete(web("rv"))].map(
    (object) => Number(object.metadata.resourceVersion),
  );
  assert.deepEqual(numbers, [fresh + 1, fresh + 2, fresh + 3]);
  assert.ok(fresh >= 10_000, "the revisions of this file have crossed from 4 to 5 digits");
});
