// SPDX-License-Identifier: Apache-2.0
// From manifests to the endpoints of a Service: slices, Endpoints, Pods, and which of them count.
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { test } from "node:test";
import { compile } from "../../../src/image/compile.js";
import { imageLines } from "../../../src/image/describe.js";
import type { ManifestSet } from "../../../src/source/file/read-manifests.js";
import { readManifests } from "../../../src/source/file/read-manifests.js";

async function read(...documents: string[]): Promise<ManifestSet> {
  const stdin = Readable.from([documents.join("\n---\n")]);
  const set = await readManifests(["-"], { nodeName: "node-a", stdin });
  assert.deepEqual(set.problems, []);
  return set;
}

async function lines(...documents: string[]): Promise<string[]> {
  return imageLines(compile((await read(...documents)).snapshot));
}

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: redis, namespace: db}
spec: {clusterIP: 10.96.65.65, selector: {app: redis, role: Logstorage}, ports: [{port: 6379}]}`;
const BY_HAND = SERVICE.replace("selector: {app: redis, role: Logstorage}, ", "");

function pod(
  name: string,
  ip: string,
  rest: { spec?: string; status?: string; metadata?: string; labels?: string } = {},
): string {
  return `apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: db, labels: {${rest.labels ?? "app: redis, role: Logstorage, extra: x"}}${rest.metadata ?? ""}}
spec: {nodeName: node-a${rest.spec ?? ""}}
status: {podIP: "${ip}"${rest.status ?? ""}}`;
}

const REDIS = "10.96.65.65:6379/TCP ClusterIP db/redis ->";

test("a selector finds Pods with all its labels, in its namespace", async () => {
  const found = await lines(
    SERVICE,
    pod("a", "10.244.0.1"),
    pod("b", "10.244.0.2", { labels: "app: redis" }),
    pod("c", "10.244.0.3").replace("namespace: db", "namespace: other"),
    pod("d", "10.244.1.4").replace("node-a", "node-b"),
  );
  assert.deepEqual(found, [`${REDIS} 10.244.0.1:6379 (local) 10.244.1.4:6379`]);
});

test("a selector leaves out Pods that are finished, without an address, or not ready", async () => {
  const found = await lines(
    SERVICE,
    pod("a", "", {}),
    pod("b", "10.244.0.2", { status: ", phase: Succeeded" }),
    pod("c", "10.244.0.3", { status: ", phase: Failed" }),
    pod("d", "10.244.0.4", { status: ', conditions: [{type: Ready, status: "False"}]' }),
    pod("e", "10.244.0.5", { status: ', conditions: [{type: Ready, status: "True"}]' }),
  );
  assert.deepEqual(found, [
    `${REDIS} 10.244.0.5:6379 (local)`,
    "10.244.0.4:6379/TCP not serving backend of db/redis",
  ]);
});

test("a terminating Pod is a backend still, chosen only when nobody is ready (3.2, 4.6)", async () => {
  const dying = pod("a", "10.244.0.1", { metadata: ', deletionTimestamp: "2026-01-01T00:00:00Z"' });
  assert.deepEqual(await lines(SERVICE, dying), [`${REDIS} 10.244.0.1:6379 (local)`]);
  assert.deepEqual(await lines(SERVICE, dying, pod("b", "10.244.0.2")), [
    `${REDIS} 10.244.0.2:6379 (local)`,
    "10.244.0.1:6379/TCP unchosen backend of db/redis",
  ]);
});

test("publishNotReadyAddresses makes Pods ready that are not (2.19)", async () => {
  const all = SERVICE.replace("{clusterIP", "{publishNotReadyAddresses: true, clusterIP");
  const unready = pod("a", "10.244.0.1", { status: ', conditions: [{type: Ready, status: "False"}]' });
  assert.deepEqual(await lines(all, unready), [`${REDIS} 10.244.0.1:6379 (local)`]);
});

test("a targetPort is a number, or a name of each Pod's own ports, by protocol", async () => {
  const number = SERVICE.replace("port: 6379", "port: 80, targetPort: 6380");
  assert.match((await lines(number, pod("a", "10.244.0.1")))[0] ?? "", /-> 10\.244\.0\.1:6380 /);
  const named = SERVICE.replace("port: 6379", "port: 80, targetPort: redis");
  const container = (port: number, protocol: string): string =>
    `, containers: [{ports: [{name: redis, containerPort: ${port}, protocol: ${protocol}}]}]`;
  const sidecar = ", initContainers: [{restartPolicy: Always, ports: [{name: redis, containerPort: 9}]}]";
  const found = await lines(
    named,
    pod("a", "10.244.0.1", { spec: container(7000, "TCP") }),
    pod("b", "10.244.0.2", { spec: container(7001, "TCP") }),
    pod("c", "10.244.0.3", { spec: container(7002, "UDP") }),
    pod("d", "10.244.0.4"),
    pod("e", "10.244.0.5", { spec: sidecar }),
  );
  assert.deepEqual(found, [
    "10.96.65.65:80/TCP ClusterIP db/redis -> 10.244.0.1:7000 (local) 10.244.0.2:7001 (local) 10.244.0.5:9 (local)",
  ]);
});

test("a dual-stack Service gets each Pod's address of each family", async () => {
  const dual = SERVICE.replace(
    "clusterIP: 10.96.65.65",
    'clusterIPs: [10.96.65.65, "fd00:96::1"], ipFamilies: [IPv4, IPv6]',
  );
  const both = pod("a", "10.244.0.1", { status: ', podIPs: [{ip: 10.244.0.1}, {ip: "fd00::1"}]' });
  assert.deepEqual(await lines(dual, both, pod("b", "fd00::2")), [
    `${REDIS} 10.244.0.1:6379 (local)`,
    "[fd00:96::1]:6379/TCP ClusterIP db/redis -> [fd00::1]:6379 (local) [fd00::2]:6379 (local)",
  ]);
});

const SLICE = `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: by-hand, namespace: db, labels: {kubernetes.io/service-name: redis}}
addressType: IPv4
ports: [{port: 6379}]
endpoints: [{addresses: [10.244.9.9]}, {addresses: [10.244.0.1], nodeName: node-a}]`;
const ENDPOINTS = `apiVersion: v1
kind: Endpoints
metadata: {name: redis, namespace: db}
subsets:
- addresses: [{ip: 10.244.7.1, nodeName: node-a}, {ip: "fd00::7"}]
  notReadyAddresses: [{ip: 10.244.7.2}]
  ports: [{port: 6379}]
- addresses: [{ip: 10.244.7.3}]
  ports: [{port: 6380}]`;

test("slices and Pods of one Service count together, without duplicates (3.4)", async () => {
  assert.deepEqual(await lines(SERVICE, SLICE, pod("a", "10.244.0.1"), pod("b", "10.244.0.2")), [
    `${REDIS} 10.244.0.1:6379 (local) 10.244.0.2:6379 (local) 10.244.9.9:6379`,
  ]);
});

test("Endpoints behind a Service without a selector are mirrored, subset by subset and family by family", async () => {
  const dual = BY_HAND.replace("clusterIP: 10.96.65.65", 'clusterIPs: [10.96.65.65, "fd00:96::1"]');
  assert.deepEqual(await lines(dual, ENDPOINTS), [
    `${REDIS} 10.244.7.1:6379 (local) 10.244.7.3:6380`,
    "[fd00:96::1]:6379/TCP ClusterIP db/redis -> [fd00::7]:6379",
    "10.244.7.2:6379/TCP unchosen backend of db/redis",
  ]);
});

test("Endpoints of a Service with a selector count only where neither slices nor Pods speak", async () => {
  assert.match((await lines(SERVICE, ENDPOINTS))[0] ?? "", /10\.244\.7\.1/);
  assert.deepEqual(await lines(SERVICE, ENDPOINTS, pod("a", "10.244.0.1")), [
    `${REDIS} 10.244.0.1:6379 (local)`,
  ]);
  assert.deepEqual(await lines(SERVICE, ENDPOINTS, pod("a", "10.244.0.1", { labels: "app: x" })), [
    `${REDIS} reject`,
  ]);
});

test("Endpoints that say so are not mirrored, nor are headless ones and leader records (1.3)", async () => {
  for (const metadata of [
    'labels: {endpointslice.kubernetes.io/skip-mirror: "true"}',
    'labels: {service.kubernetes.io/headless: ""}',
    'annotations: {control-plane.alpha.kubernetes.io/leader: "{}"}',
  ]) {
    const endpoints = ENDPOINTS.replace("namespace: db}", `namespace: db, ${metadata}}`);
    assert.deepEqual(await lines(BY_HAND, endpoints), [`${REDIS} reject`], metadata);
  }
});

test("a slice with the headless label, of type FQDN, or of no Service is ignored (1.3, 1.13, 1.14)", async () => {
  const headless = SLICE.replace("redis}", 'redis, service.kubernetes.io/headless: ""}');
  assert.deepEqual(await lines(BY_HAND, headless), [`${REDIS} reject`]);
  const fqdn = SLICE.replace("IPv4", "FQDN").replace("10.244.9.9", "example.com");
  assert.deepEqual(await lines(BY_HAND, fqdn), [`${REDIS} reject`]);
});

test("a Service with the proxy-name label is another proxy's, even when the label is empty (1.1, 1.2)", async () => {
  const set = await read(
    SERVICE.replace("namespace: db", 'namespace: db, labels: {service.kubernetes.io/service-proxy-name: ""}'),
  );
  assert.equal(set.snapshot.services.size, 0);
  assert.equal(set.ignored[0]?.object, "Service db/redis");
});

test("headless Services and ExternalName have no frontend, whatever clusterIP says (2.1)", async () => {
  assert.deepEqual(await lines(SERVICE.replace("10.96.65.65", "None")), []);
  assert.deepEqual(
    await lines(SERVICE.replace("{clusterIP", "{type: ExternalName, externalName: x.y, clusterIP")),
    [],
  );
});

test("ipFamilies say which of the addresses count (2.2)", async () => {
  const families = async (spec: string): Promise<string[]> => {
    const { snapshot } = await read(SERVICE.replace("clusterIP: 10.96.65.65", spec));
    return snapshot.services.get("db/redis")?.clusterIPs.map((address) => address.text) ?? [];
  };
  const both = 'clusterIPs: ["fd00:96::1", 10.96.65.65]';
  assert.deepEqual(await families(`${both}, ipFamilies: [IPv6, IPv4]`), ["fd00:96::1", "10.96.65.65"]);
  assert.deepEqual(await families(`${both}, ipFamilies: [IPv6]`), ["fd00:96::1"]);
  assert.deepEqual(await families('clusterIP: "fd00:96::1"'), ["fd00:96::1"]);
  assert.deepEqual(await families("clusterIP: 10.96.65.65, ipFamilies: [IPv4, IPv6]"), ["10.96.65.65"]);
});

test("load-balancer addresses count with ipMode VIP or none, and never from the spec (2.10, 2.11)", async () => {
  const status =
    '\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: Proxy}, {ip: "2001:db8::1", ipMode: VIP}, {hostname: x}]}}';
  const { snapshot } = await read(
    SERVICE.replace("{clusterIP", "{type: LoadBalancer, loadBalancerIP: 192.0.2.9, clusterIP") + status,
  );
  const addresses = snapshot.services.get("db/redis")?.loadBalancerIPs.map((address) => address.text);
  assert.deepEqual(addresses, ["192.0.2.1", "2001:db8::1"]);
});

test("policies, affinity and source ranges are read as the proxy reads them (2.12, 2.16, 2.17, 2.21)", async () => {
  const of = async (
    spec: string,
  ): Promise<
    ManifestSet["snapshot"]["services"] extends ReadonlyMap<string, infer S> ? S | undefined : never
  > => (await read(SERVICE.replace("{clusterIP", `{${spec}, clusterIP`))).snapshot.services.get("db/redis");
  assert.equal((await of("externalTrafficPolicy: Local"))?.externalTrafficPolicyLocal, false);
  assert.equal(
    (await of("externalTrafficPolicy: Local, externalIPs: [192.0.2.1]"))?.externalTrafficPolicyLocal,
    true,
  );
  assert.equal((await of("externalTrafficPolicy: Local, type: NodePort"))?.externalTrafficPolicyLocal, true);
  assert.equal((await of("internalTrafficPolicy: Local"))?.internalTrafficPolicyLocal, true);
  assert.equal((await of("sessionAffinity: ClientIP"))?.sessionAffinitySeconds, 10_800);
  assert.equal((await of("sessionAffinity: None"))?.sessionAffinitySeconds, 0);
  const ranges = (await of('loadBalancerSourceRanges: [" 010.0.0.1/8 "]'))?.loadBalancerSourceRanges;
  assert.deepEqual(ranges, ["10.0.0.0/8"]);
});

test("only the first address of an endpoint counts, and one without any is left out (2.8)", async () => {
  const slice = SLICE.replace(
    /endpoints:.*/,
    "endpoints: [{addresses: [10.244.1.1, 10.244.1.2]}, {addresses: []}]",
  );
  assert.deepEqual(await lines(BY_HAND, slice), [`${REDIS} 10.244.1.1:6379`]);
});

test("the Node of this name gives zone and addresses, and may be missing (1.17, 13.1)", async () => {
  const node = (name: string): string => `apiVersion: v1
kind: Node
metadata: {name: ${name}, labels: {topology.kubernetes.io/zone: z1}}
status: {addresses: [{type: ExternalIP, address: 192.0.2.1}, {type: Hostname, address: n}, {type: InternalIP, address: 10.0.0.1}]}`;
  const { snapshot } = await read(node("node-b"), node("node-a"));
  assert.deepEqual([snapshot.node.name, snapshot.node.zone], ["node-a", "z1"]);
  assert.deepEqual(
    snapshot.node.addresses.map((address) => address.text),
    ["10.0.0.1", "192.0.2.1"],
  );
  assert.deepEqual((await read(node("node-b"))).snapshot.node, {
    name: "node-a",
    zone: "",
    addresses: [],
    podCIDRs: [],
  });
});

const ITEMS = Array.from({ length: 400 }, (_, i) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: `s-${i}`, labels: { note: 'a"b{[\\'.slice(0, 1) }, annotations: { odd: '"}],{\\' } },
  spec: { clusterIP: `10.97.${i >> 8}.${i & 255}`, ports: [{ port: 80 }] },
}));

test("a List is its items, in YAML and JSON, small and large, typed and not", async () => {
  const names = async (text: string): Promise<number> => (await read(text)).snapshot.services.size;
  assert.equal(await names(JSON.stringify({ apiVersion: "v1", kind: "List", items: ITEMS.slice(0, 3) })), 3);
  assert.equal(await names(JSON.stringify({ apiVersion: "v1", kind: "List", items: ITEMS }, null, 2)), 400);
  const bare = ITEMS.map(({ metadata, spec }) => ({ metadata, spec }));
  assert.equal(
    await names(
      JSON.stringify({ kind: "ServiceList", apiVersion: "v1", metadata: { items: [] }, items: bare }),
    ),
    400,
  );
  assert.equal(await names(ITEMS.map((item) => JSON.stringify(item)).join("\n")), 400);
  const yaml = (indent: string): string =>
    `apiVersion: v1\nitems:\n${ITEMS.map((item) => `${indent}- apiVersion: v1\n${indent}  kind: Service\n${indent}  metadata:\n${indent}    name: ${item.metadata.name}\n${indent}    annotations:\n${indent}      text: |\n${indent}        - not an item\n${indent}  spec: {clusterIP: ${item.spec.clusterIP}, ports: [{port: 80}]}\n`).join("")}kind: List\n`;
  assert.equal(await names(yaml("")), 400);
  assert.equal(await names(yaml("  ")), 400);
});

test("a List of many megabytes names the line of a bad item", async () => {
  const items = ITEMS.map((item, i) =>
    i === 321 ? { ...item, spec: { ...item.spec, clusterIP: 5 } } : item,
  );
  const text = JSON.stringify({ apiVersion: "v1", kind: "List", items }, null, 1);
  const set = await readManifests(["-"], { nodeName: "", stdin: Readable.from([text]) });
  const line = text.slice(0, text.indexOf('"s-321"')).split("\n").length;
  assert.equal(set.problems.length, 1);
  assert.equal(set.problems[0]?.object, "Service default/s-321");
  assert.ok(
    Math.abs((set.problems[0]?.origin?.line ?? 0) - line) <= 5,
    `${set.problems[0]?.origin?.line} near ${line}`,
  );
  assert.equal(set.snapshot.services.size, 399);
});

test("a List of many items loses a broken one and no other", async () => {
  const text = JSON.stringify({ apiVersion: "v1", kind: "List", items: ITEMS }, null, 1);
  const broken = text.replace('"port": 80', '"port": 080');
  const set = await readManifests(["-"], { nodeName: "", stdin: Readable.from([broken]) });
  assert.equal(set.snapshot.services.size, 399);
  assert.match(set.problems[0]?.message ?? "", /no valid JSON/);
  assert.equal(set.problems.length, 1);
});

test("YAML is read as Kubernetes reads it: 1.1, but times and sexagesimal numbers are text", async () => {
  const text = SERVICE.replace(
    "namespace: db",
    "namespace: db, creationTimestamp: 2026-01-01T00:00:00Z",
  ).replace("clusterIP: 10.96.65.65", "publishNotReadyAddresses: yes, clusterIP: 2001:10:20:30:40:50:1:2");
  const { snapshot } = await read(text);
  const service = snapshot.services.get("db/redis");
  assert.equal(service?.creationTimestamp, "2026-01-01T00:00:00Z");
  assert.equal(service?.clusterIPs[0]?.text, "2001:10:20:30:40:50:1:2");
  // A reader that takes e5 for 10 to the 5th would refuse this name.
  const named = await read(SERVICE.replace("redis", "e5"));
  assert.ok(named.snapshot.services.has("db/e5"));
});
