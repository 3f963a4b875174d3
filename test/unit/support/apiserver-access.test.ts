// SPDX-License-Identifier: Apache-2.0
// The fixture's credentials, roles, kubeconfigs and writes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, beforeEach, test } from "node:test";
import { connect } from "node:tls";
import { parse } from "yaml";
import { ApiClient, type ClientOptions } from "../../support/apiserver/client.js";
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { type KubeObject, service } from "../../support/manifests.js";

const SERVICES = "/api/v1/services";
const NODE: KubeObject = { apiVersion: "v1", kind: "Node", metadata: { name: "n" } };
const web = (name: string): KubeObject => service(name, ["10.96.0.1"], [{ name: "http", port: 80 }]);

let api: FakeApi;
const clients: ApiClient[] = [];

function clientWith(options: Partial<ClientOptions> = {}): ApiClient {
  const client = new ApiClient({ url: api.url, authority: api.authority.certificate, ...options });
  clients.push(client);
  return client;
}

function admin(): ApiClient {
  api.addToken("admin", { name: "admin", role: "admin" });
  return clientWith({ token: "admin" });
}

const status = async (client: ApiClient, method = "GET", path = SERVICES, body?: unknown): Promise<number> =>
  (await client.send(method, path, { body })).status;

beforeEach(async () => {
  api = await FakeApi.start();
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await api.close();
});
after(() => assert.equal(clients.length, 0));

test("no credentials are nobody, who is forbidden; wrong ones are unauthorized", async () => {
  assert.equal(await status(clientWith()), 403);
  assert.equal(await status(clientWith({ token: "wrong" })), 401);
  assert.equal(await status(clientWith({ token: api.token })), 200);
  assert.deepEqual(
    api.requests.map(({ user }) => user),
    ["system:anonymous", null, "system:serviceaccount:kube-system:kube-proxy"],
  );
});

test("a rotated token replaces the one before, in the file as well", async () => {
  const old = api.token;
  api.rotateToken({ trailing: "\n" });
  assert.equal(readFileSync(api.tokenFile, "utf8"), `${api.token}\n`);
  assert.equal(await status(clientWith({ token: old })), 401);
  assert.equal(await status(clientWith({ token: api.token })), 200);
  const kept = api.token;
  api.rotateToken({ keepOld: true, write: false });
  assert.equal(await status(clientWith({ token: kept })), 200);
  assert.equal(readFileSync(api.tokenFile, "utf8"), `${kept}\n`);
});

test("the fault unauthorized ends with the next rotation", async () => {
  api.fault({}, { kind: "unauthorized" });
  assert.equal(await status(clientWith({ token: api.token })), 401);
  api.rotateToken();
  assert.equal(await status(clientWith({ token: api.token })), 200);
});

test("a client certificate of the authority is a user, another authority's is nobody known", async () => {
  assert.equal(await status(clientWith({ pair: api.clientCertificate })), 200);
  assert.equal(api.requests[0]?.user, "system:kube-proxy");
  const other = await FakeApi.start();
  assert.equal(await status(clientWith({ pair: other.clientCertificate })), 401);
  await other.close();
});

test("the server's certificate is good for its address and for no other authority", async () => {
  const other = await FakeApi.start();
  const refused = new ApiClient({ url: api.url, authority: other.authority.certificate, token: api.token });
  await assert.rejects(refused.list(SERVICES), /certificate/);
  refused.close();
  await other.close();
  const socket = connect({
    host: "127.0.0.1",
    port: api.port,
    ca: api.authority.pem,
    servername: "kubernetes.default.svc",
  });
  await new Promise<void>((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
  assert.ok(socket.authorized);
  socket.destroy();
});

test("the token's user may do what system:node-proxier may, and nothing else (1.15)", async () => {
  const client = clientWith({ token: api.token });
  api.create(NODE);
  const allowed = [
    SERVICES,
    "/apis/discovery.k8s.io/v1/endpointslices",
    "/apis/networking.k8s.io/v1/servicecidrs",
    "/api/v1/nodes",
    "/api/v1/nodes/n",
  ];
  for (const path of allowed) assert.equal(await status(client, "GET", path), 200, path);
  assert.equal(await status(client, "GET", "/api/v1/namespaces/default/services/web"), 403);
  assert.equal(await status(client, "GET", "/api/v1/events"), 403);
  assert.equal(await status(client, "POST", "/api/v1/nodes", { metadata: { name: "x" } }), 403);
  assert.equal(await status(client, "DELETE", "/api/v1/nodes/n"), 403);
  const { text } = await client.send("DELETE", "/api/v1/nodes/n");
  assert.match(
    text,
    /nodes is forbidden: User \\"system:serviceaccount:kube-system:kube-proxy\\" cannot delete/,
  );
});

test("kubeconfigs say what they are asked to say; tokenFile is as kubeadm has it", () => {
  const read = (path: string) => parse(readFileSync(path, "utf8")) as Record<string, never>;
  const text = readFileSync(api.kubeconfig({ tokenFile: true }), "utf8");
  assert.match(text, new RegExp(`\n- name: default\n {2}user:\n {4}tokenFile: ${api.tokenFile}\n$`));
  assert.match(
    text,
    new RegExp(`certificate-authority: ${api.authority.certificate}\n {4}server: ${api.url}\n`),
  );
  const { clusters, users } = read(
    api.kubeconfig({
      token: true,
      authority: "data",
      clientCertificate: "data",
      proxyUrl: "http://127.0.0.1:1",
      server: "https://x",
    }),
  ) as unknown as {
    clusters: { cluster: Record<string, string> }[];
    users: { user: Record<string, string> }[];
  };
  assert.equal(clusters[0]?.cluster["proxy-url"], "http://127.0.0.1:1");
  assert.equal(clusters[0]?.cluster.server, "https://x");
  assert.equal(
    Buffer.from(clusters[0]?.cluster["certificate-authority-data"] ?? "", "base64").toString(),
    api.authority.pem,
  );
  assert.equal(users[0]?.user.token, api.token);
  assert.ok(users[0]?.user["client-key-data"]);
});

test("writes over HTTP: conflicts, what is there already, what is not, and a status of its own", async () => {
  const client = admin();
  const path = "/api/v1/namespaces/default/services";
  const created = await client.create({
    ...web("a"),
    status: { loadBalancer: { ingress: [{ ip: "192.0.2.1" }] } },
  } as KubeObject);
  assert.equal(created.status, undefined);
  assert.equal(await status(client, "POST", path, web("a")), 409);
  assert.equal(await status(client, "PUT", `${path}/b`, web("b")), 404);
  assert.equal(
    await status(client, "PUT", `${path}/a`, {
      ...created,
      metadata: { ...created.metadata, resourceVersion: "1" },
    }),
    409,
  );
  assert.equal(await status(client, "PUT", `${path}/b`, web("a")), 400);
  assert.equal(await status(client, "POST", path, NODE), 400);
  assert.equal(
    await status(client, "POST", path, { ...web("c"), metadata: { name: "c", namespace: "other" } }),
    400,
  );
  const withStatus = await client.mergePatch(web("a"), { status: { loadBalancer: {} } }, "status");
  assert.deepEqual(withStatus.status, { loadBalancer: {} });
  const replaced = await client.replace({
    ...created,
    metadata: { ...created.metadata, resourceVersion: withStatus.metadata.resourceVersion },
    status: { x: 1 },
  } as KubeObject);
  assert.deepEqual(replaced.status, { loadBalancer: {} });
  assert.equal(replaced.metadata.resourceVersion, withStatus.metadata.resourceVersion); // no change, no write
  const patched = await client.mergePatch(web("a"), {
    metadata: { labels: { x: "1" } },
    spec: { type: null },
  });
  assert.deepEqual(
    [patched.metadata.labels, (patched.spec as { type?: string }).type],
    [{ x: "1" }, undefined],
  );
  const steps = [
    { op: "add", path: "/metadata/labels/a~1b", value: "2" },
    { op: "remove", path: "/metadata/labels/x" },
  ];
  const headers = { "content-type": "application/json-patch+json" };
  const stepped = await client.json<typeof patched>("PATCH", `${path}/a`, { body: steps, headers });
  assert.deepEqual(stepped.metadata.labels, { "a/b": "2" });
  assert.equal((await client.send("PATCH", `${path}/a`, { body: steps })).status, 415);
  assert.equal(
    (await client.send("DELETE", `${path}/a`, { body: { preconditions: { uid: "other" } } })).status,
    409,
  );
  await client.delete(web("a"));
  assert.equal(await status(client, "DELETE", `${path}/a`), 404);
  assert.equal(await status(client, "DELETE", path), 404); // no deletion of all at once
});

const EVENT = {
  metadata: { name: "e1", namespace: "default" },
  eventTime: "2026-01-02T03:04:05.123456Z",
  reportingController: "kube-proxy",
  reportingInstance: "kube-proxy-n",
  action: "StartKubeProxy",
  reason: "Starting",
  type: "Normal",
  regarding: { kind: "Node", name: "n", uid: "n" },
};
const EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events";

test("events.k8s.io refuses what the real one refuses", async () => {
  const client = clientWith({ token: api.token });
  const wrong: readonly [object, number][] = [
    [{ eventTime: undefined }, 422],
    [{ eventTime: "2026-01-02T03:04:05.123Z" }, 400], // a MicroTime has six digits
    [{ reportingController: "" }, 422],
    [{ reportingInstance: "x".repeat(129) }, 422],
    [{ action: undefined }, 422],
    [{ reason: undefined }, 422],
    [{ note: "x".repeat(1025) }, 422],
    [{ type: "Odd" }, 422],
    [{ deprecatedCount: 1 }, 422],
    [{ regarding: { kind: "Pod", name: "p", namespace: "other" } }, 422],
    [{ metadata: { name: "e1", namespace: "other" } }, 400],
    [{ metadata: {} }, 422],
  ];
  for (const [change, code] of wrong)
    assert.equal(await status(client, "POST", EVENTS, { ...EVENT, ...change }), code, JSON.stringify(change));
  assert.equal(
    await status(client, "POST", "/apis/events.k8s.io/v1/namespaces/shop/events", {
      ...EVENT,
      metadata: { name: "e" },
    }),
    422,
  );
});

test("events.k8s.io creates an Event, and lets its series be patched and nothing else", async () => {
  const client = clientWith({ token: api.token });
  assert.equal(await status(client, "POST", EVENTS, EVENT), 201);
  assert.equal(await status(client, "POST", EVENTS, EVENT), 409);
  const headers = { "content-type": "application/merge-patch+json" };
  const patch = async (body: object): Promise<number> =>
    (await client.send("PATCH", `${EVENTS}/e1`, { body, headers })).status;
  assert.equal(await patch({ series: { count: 2, lastObservedTime: "2026-01-02T03:05:05.000000Z" } }), 200);
  assert.equal(await patch({ series: { count: 3, lastObservedTime: "2026-01-02T03:05:05Z" } }), 400);
  assert.equal(await patch({ reason: "Other" }), 422);
  assert.deepEqual(
    api.all("events.events.k8s.io").map(({ series }) => (series as { count: number }).count),
    [2],
  );
});

test("an older server does not know a resource, or a field to select by", async () => {
  await api.close();
  api = await FakeApi.start({ without: ["servicecidrs"], unsupportedFields: ["services:spec.clusterIP"] });
  const client = clientWith({ token: api.token });
  const { status: code, text } = await client.send("GET", "/apis/networking.k8s.io/v1/servicecidrs");
  assert.deepEqual([code, text], [404, "404 page not found\n"]);
  assert.equal(await status(client, "GET", `${SERVICES}?fieldSelector=spec.clusterIP!%3DNone`), 400);
});

test("what is not served is 404, and JSON is the only form", async () => {
  const client = clientWith({ token: api.token });
  assert.equal(await status(client, "GET", "/api/v1/pods"), 404);
  assert.equal(await status(client, "GET", "/readyz"), 200);
  const { status: code } = await client.send("GET", SERVICES, {
    headers: { accept: "application/vnd.kubernetes.protobuf" },
  });
  assert.equal(code, 406);
});
