// SPDX-License-Identifier: Apache-2.0
// Whatever is wrong with one object is said with its file, name and field, and the good object beside it goes on working.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { compile } from "../../../src/image/compile.js";
import { imageLines, problemLine } from "../../../src/image/describe.js";
import type { Problem } from "../../../src/model/types.js";
import type { ManifestSet } from "../../../src/source/file/read-manifests.js";
import { readManifests } from "../../../src/source/file/read-manifests.js";

const root = mkdtempSync(join(tmpdir(), "portolan-bad-"));
after(() => rmSync(root, { recursive: true, force: true }));
let directories = 0;

const GOOD = `apiVersion: v1
kind: Service
metadata: {name: good}
spec: {clusterIP: 10.96.0.200, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: good-1, labels: {kubernetes.io/service-name: good}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.244.0.200]}]
`;
const GOOD_LINE = "10.96.0.200:80/TCP ClusterIP default/good -> 10.244.0.200:8080";

interface Expected {
  readonly object: string;
  readonly field: string;
  readonly message: RegExp;
  readonly severity?: Problem["severity"];
}

/** Reads `name` with this content next to the good manifest. */
async function read(
  name: string,
  content: string | Buffer,
): Promise<{ set: ManifestSet; path: string; all: Problem[] }> {
  directories += 1;
  const directory = join(root, String(directories));
  mkdirSync(directory);
  const path = join(directory, name);
  writeFileSync(path, content);
  writeFileSync(join(directory, "good.yaml"), GOOD);
  return { ...(await readDirectory(directory)), path };
}

async function readDirectory(directory: string): Promise<{ set: ManifestSet; all: Problem[] }> {
  const set = await readManifests([directory], { nodeName: "node-a" });
  const image = compile(set.snapshot);
  assert.ok(
    imageLines(image).includes(GOOD_LINE),
    `the good Service is gone:\n${imageLines(image).join("\n")}`,
  );
  return { set, all: [...set.problems, ...image.problems] };
}

function assertProblem(problems: readonly Problem[], path: string, expected: Expected): void {
  const found = problems.find(
    (problem) =>
      problem.origin?.file === path &&
      problem.object === expected.object &&
      problem.field === expected.field &&
      expected.message.test(problem.message),
  );
  const shown = problems.map((problem) => problemLine(problem)).join("\n");
  assert.ok(found, `no problem ${expected.object} ${expected.field} ${expected.message} among:\n${shown}`);
  assert.equal(found.severity, expected.severity ?? "error");
}

const service = (spec: string, metadata = "name: bad"): string =>
  `apiVersion: v1\nkind: Service\nmetadata: {${metadata}}\nspec: ${spec}\n`;
const slice = (fields: string, metadata = "name: bad, labels: {kubernetes.io/service-name: x}"): string =>
  `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {${metadata}}\n${fields}\n`;
const endpoints = (subsets: string): string =>
  `apiVersion: v1\nkind: Endpoints\nmetadata: {name: bad}\nsubsets: ${subsets}\n`;
const pod = (rest: string): string => `apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\n${rest}\n`;
const SERVICE = "Service default/bad";
const SLICE = "EndpointSlice default/bad";

/** Objects that are YAML, but no objects that an API server would take. */
const OBJECTS: readonly (readonly [
  title: string,
  text: string,
  object: string,
  field: string,
  message: RegExp,
])[] = [
  [
    "a port of 0",
    service("{clusterIP: 10.96.0.1, ports: [{port: 0}]}"),
    SERVICE,
    "spec.ports[0].port",
    /from 1 to 65535, not 0/,
  ],
  [
    "a negative port",
    service("{clusterIP: 10.96.0.1, ports: [{port: -1}]}"),
    SERVICE,
    "spec.ports[0].port",
    /not -1/,
  ],
  [
    "port 65536",
    service("{clusterIP: 10.96.0.1, ports: [{port: 65536}]}"),
    SERVICE,
    "spec.ports[0].port",
    /not 65536/,
  ],
  [
    "a port that is text",
    service('{clusterIP: 10.96.0.1, ports: [{port: "80"}]}'),
    SERVICE,
    "spec.ports[0].port",
    /not "80"/,
  ],
  [
    "a port that is NaN",
    service("{clusterIP: 10.96.0.1, ports: [{port: .nan}]}"),
    SERVICE,
    "spec.ports[0].port",
    /not NaN/,
  ],
  [
    "an infinite port",
    service("{clusterIP: 10.96.0.1, ports: [{port: .inf}]}"),
    SERVICE,
    "spec.ports[0].port",
    /not Infinity/,
  ],
  [
    "a huge port",
    service("{clusterIP: 10.96.0.1, ports: [{port: 99999999999999999999}]}"),
    SERVICE,
    "spec.ports[0].port",
    /not 1/,
  ],
  [
    "a port with a fraction",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80.5}]}"),
    SERVICE,
    "spec.ports[0].port",
    /not 80.5/,
  ],
  [
    "a null port",
    service("{clusterIP: 10.96.0.1, ports: [{port: null}]}"),
    SERVICE,
    "spec.ports[0].port",
    /is missing/,
  ],
  [
    "a null entry in ports",
    service("{clusterIP: 10.96.0.1, ports: [null]}"),
    SERVICE,
    "spec.ports[0]",
    /is missing/,
  ],
  [
    "ports that are an object",
    service("{clusterIP: 10.96.0.1, ports: {port: 80}}"),
    SERVICE,
    "spec.ports",
    /must be a list, not an object/,
  ],
  ["no ports", service("{clusterIP: 10.96.0.1}"), SERVICE, "spec.ports", /needs a port/],
  [
    "a port name in capitals",
    service("{clusterIP: 10.96.0.1, ports: [{name: HTTP, port: 80}]}"),
    SERVICE,
    "spec.ports[0].name",
    /"HTTP" is no valid port name/,
  ],
  [
    "a port name that is a number",
    service("{clusterIP: 10.96.0.1, ports: [{name: 80, port: 80}]}"),
    SERVICE,
    "spec.ports[0].name",
    /quotes/,
  ],
  [
    "two ports without names",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80}, {port: 81}]}"),
    SERVICE,
    "spec.ports[1].name",
    /is missing/,
  ],
  [
    "one port name twice",
    service("{clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: a, port: 81}]}"),
    SERVICE,
    "spec.ports[1].name",
    /repeats the name "a"/,
  ],
  [
    "one number and protocol twice",
    service("{clusterIP: 10.96.0.1, ports: [{name: a, port: 80}, {name: b, port: 80}]}"),
    SERVICE,
    "spec.ports[1].port",
    /repeats 80\/TCP/,
  ],
  [
    "an unknown protocol",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80, protocol: tcp}]}"),
    SERVICE,
    "spec.ports[0].protocol",
    /TCP, UDP, SCTP, not "tcp"/,
  ],
  [
    "a targetPort that is no name",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: -a-}]}"),
    SERVICE,
    "spec.ports[0].targetPort",
    /neither/,
  ],
  [
    "a targetPort out of range",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80, targetPort: 70000}]}"),
    SERVICE,
    "spec.ports[0].targetPort",
    /65535/,
  ],
  [
    "a nodePort out of range",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80, nodePort: 65536}]}"),
    SERVICE,
    "spec.ports[0].nodePort",
    /65535/,
  ],
  [
    "a clusterIP that is no address",
    service("{clusterIP: 10.96.0.256, ports: [{port: 80}]}"),
    SERVICE,
    "spec.clusterIP",
    /must be an IP address, not "10.96.0.256"/,
  ],
  [
    "a clusterIP in hexadecimal",
    service('{clusterIP: "0x0a.96.0.1", ports: [{port: 80}]}'),
    SERVICE,
    "spec.clusterIP",
    /must be an IP address/,
  ],
  [
    "a short clusterIP",
    service('{clusterIP: "10.96", ports: [{port: 80}]}'),
    SERVICE,
    "spec.clusterIP",
    /must be an IP address/,
  ],
  [
    "a clusterIP with a zone",
    service('{clusterIP: "fe80::1%eth0", ports: [{port: 80}]}'),
    SERVICE,
    "spec.clusterIP",
    /must be an IP address/,
  ],
  [
    "a loopback clusterIP",
    service("{clusterIP: 127.0.0.1, ports: [{port: 80}]}"),
    SERVICE,
    "spec.clusterIP",
    /loopback/,
  ],
  [
    "an unspecified clusterIP",
    service('{clusterIP: "::", ports: [{port: 80}]}'),
    SERVICE,
    "spec.clusterIP",
    /unspecified/,
  ],
  [
    "a multicast clusterIP",
    service("{clusterIP: 224.0.0.1, ports: [{port: 80}]}"),
    SERVICE,
    "spec.clusterIP",
    /multicast/,
  ],
  [
    "two addresses of one family",
    service("{clusterIPs: [10.96.0.1, 10.96.0.2], ports: [{port: 80}]}"),
    SERVICE,
    "spec.clusterIPs[1]",
    /one per family/,
  ],
  [
    "a family that is not the address's",
    service("{clusterIPs: [10.96.0.1], ipFamilies: [IPv6], ports: [{port: 80}]}"),
    SERVICE,
    "spec.clusterIPs[0]",
    /ipFamilies\[0\] says IPv6/,
  ],
  [
    "clusterIP and clusterIPs that differ",
    service("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.2], ports: [{port: 80}]}"),
    SERVICE,
    "spec.clusterIP",
    /first of clusterIPs/,
  ],
  [
    "an unknown type",
    service("{type: Clusterip, clusterIP: 10.96.0.1, ports: [{port: 80}]}"),
    SERVICE,
    "spec.type",
    /not "Clusterip"/,
  ],
  ["a spec that is a list", service("[]"), SERVICE, "spec", /must be an object, not a list/],
  ["no spec", "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\n", SERVICE, "spec", /is missing/],
  [
    "a selector value that is a number",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80}], selector: {v: 1}}"),
    SERVICE,
    "spec.selector.v",
    /must be a string, not 1; put it in quotes/,
  ],
  [
    "a selector value that is yes",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80}], selector: {v: yes}}"),
    SERVICE,
    "spec.selector.v",
    /not true/,
  ],
  [
    "a label that is an object",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80}]}", "name: bad, labels: {a: {}}"),
    SERVICE,
    "metadata.labels.a",
    /not an object/,
  ],
  [
    "an affinity timeout of 0",
    service(
      "{clusterIP: 10.96.0.1, ports: [{port: 80}], sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}}",
    ),
    SERVICE,
    "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
    /86400/,
  ],
  [
    "an unknown traffic policy",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80}], internalTrafficPolicy: local}"),
    SERVICE,
    "spec.internalTrafficPolicy",
    /Cluster, Local/,
  ],
  [
    "a source range that is none",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80}], loadBalancerSourceRanges: [10.0.0.0/33]}"),
    SERVICE,
    "spec.loadBalancerSourceRanges[0]",
    /10.0.0.0\/33/,
  ],
  [
    "no metadata",
    "apiVersion: v1\nkind: Service\nspec: {}\n",
    "Service without a name",
    "metadata",
    /is missing/,
  ],
  ["no name", service("{}", "namespace: x"), "Service without a name", "metadata.name", /is missing/],
  [
    "a name with a slash",
    service("{}", 'name: "a/b"'),
    "Service default/a/b",
    "metadata.name",
    /no valid name/,
  ],
  [
    "a namespace with a dot",
    service("{}", "name: bad, namespace: a.b"),
    "Service a.b/bad",
    "metadata.namespace",
    /no valid namespace/,
  ],
  [
    "a creationTimestamp that is none",
    service("{}", "name: bad, creationTimestamp: yesterday"),
    SERVICE,
    "metadata.creationTimestamp",
    /yesterday/,
  ],
  [
    "a Service of apiVersion v2",
    "apiVersion: v2\nkind: Service\nmetadata: {name: bad}\n",
    SERVICE,
    "apiVersion",
    /must be v1 for kind Service, not "v2"/,
  ],
  [
    "apiVersion core/v1",
    "apiVersion: core/v1\nkind: Service\nmetadata: {name: bad}\n",
    SERVICE,
    "apiVersion",
    /must be v1/,
  ],
  [
    "lower-case kind",
    "apiVersion: v1\nkind: service\nmetadata: {name: bad}\n",
    "service default/bad",
    "kind",
    /must be Service/,
  ],
  [
    "lower-case list",
    "apiVersion: v1\nkind: list\nmetadata: {name: bad}\nitems: []\n",
    "list default/bad",
    "kind",
    /must be List/,
  ],
  [
    "a List whose items are no list",
    "apiVersion: v1\nkind: ServiceList\nmetadata: {name: bad}\nitems: {a: 1}\n",
    "ServiceList default/bad",
    "items",
    /must be a list, not an object/,
  ],
  [
    "a List in a List",
    "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, metadata: {name: bad}, items: []}]\n",
    "List default/bad",
    "",
    /list inside a list/,
  ],
  ["no apiVersion", "kind: Service\nmetadata: {name: bad}\n", SERVICE, "apiVersion", /not nothing/],
  ["no kind", "apiVersion: v1\nmetadata: {name: bad}\n", "object default/bad", "kind", /must name a kind/],
  [
    "a kind that is a number",
    "apiVersion: v1\nkind: 5\nmetadata: {name: bad}\n",
    "object default/bad",
    "kind",
    /not 5/,
  ],
  ["a document that is text", "hello\n", "", "", /must be an object, not "hello"/],
  ["a document that is a list", "- 1\n- 2\n", "", "", /must be an object, not a list/],
  [
    "a slice of v1beta1",
    "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: bad}\n",
    SLICE,
    "apiVersion",
    /discovery.k8s.io\/v1 for/,
  ],
  ["a slice without addressType", slice("endpoints: []"), SLICE, "addressType", /is missing/],
  ["a slice of an unknown addressType", slice("addressType: ipv4"), SLICE, "addressType", /IPv4, IPv6, FQDN/],
  [
    "an endpoint that is no address",
    slice("addressType: IPv4\nendpoints: [{addresses: [pod-1]}]"),
    SLICE,
    "endpoints[0].addresses[0]",
    /not "pod-1"/,
  ],
  [
    "an endpoint of the other family",
    slice('addressType: IPv4\nendpoints: [{addresses: ["fd00::1"]}]'),
    SLICE,
    "endpoints[0].addresses[0]",
    /IPv6, but/,
  ],
  [
    "an endpoint on loopback",
    slice("addressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}]"),
    SLICE,
    "endpoints[0].addresses[0]",
    /loopback/,
  ],
  [
    "a condition that is text",
    slice('addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: "true"}}]'),
    SLICE,
    "endpoints[0].conditions.ready",
    /true or false, not "true"/,
  ],
  [
    "endpoints that are text",
    slice("addressType: IPv4\nendpoints: none"),
    SLICE,
    "endpoints",
    /must be a list/,
  ],
  [
    "a slice port of 65536",
    slice("addressType: IPv4\nports: [{port: 65536}]"),
    SLICE,
    "ports[0].port",
    /65535/,
  ],
  [
    "a slice port name twice",
    slice("addressType: IPv4\nports: [{port: 1}, {port: 2}]"),
    SLICE,
    "ports[1].name",
    /repeats the name ""/,
  ],
  [
    "a zone hint without a name",
    slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hints: {forZones: [{}]}}]"),
    SLICE,
    "endpoints[0].hints.forZones[0].name",
    /is missing/,
  ],
  [
    "Endpoints without an ip",
    endpoints("[{addresses: [{}], ports: [{port: 80}]}]"),
    "Endpoints default/bad",
    "subsets[0].addresses[0].ip",
    /is missing/,
  ],
  [
    "Endpoints with a bad notReady address",
    endpoints("[{notReadyAddresses: [{ip: x}]}]"),
    "Endpoints default/bad",
    "subsets[0].notReadyAddresses[0].ip",
    /not "x"/,
  ],
  [
    "a Pod with a bad podIP",
    pod("status: {podIP: 10.0.0}"),
    "Pod default/bad",
    "status.podIP",
    /not "10.0.0"/,
  ],
  [
    "a Pod with two addresses of a family",
    pod("status: {podIPs: [{ip: 10.0.0.1}, {ip: 10.0.0.2}]}"),
    "Pod default/bad",
    "status.podIPs[1].ip",
    /one per family/,
  ],
  ["a Pod with a bad phase", pod("status: {phase: Ready}"), "Pod default/bad", "status.phase", /Running/],
  [
    "a container port without a number",
    pod("spec: {containers: [{ports: [{name: http}]}]}"),
    "Pod default/bad",
    "spec.containers[0].ports[0].containerPort",
    /is missing/,
  ],
  [
    "a Node with a bad address",
    "apiVersion: v1\nkind: Node\nmetadata: {name: bad}\nstatus: {addresses: [{type: InternalIP, address: x}]}\n",
    "Node bad",
    "status.addresses[0].address",
    /not "x"/,
  ],
];

for (const [title, text, object, field, message] of OBJECTS) {
  test(`readManifests() names file, object and field of ${title}`, async () => {
    const { set, path, all } = await read("bad.yaml", text);
    assertProblem(all, path, { object, field, message });
    assert.deepEqual(
      Array.from(set.snapshot.services.keys()),
      ["default/good"],
      "the bad object is left out",
    );
  });
}

/** Texts that cannot be read at all. */
const TEXTS: readonly (readonly [
  title: string,
  content: string | Buffer,
  object: string,
  message: RegExp,
])[] = [
  [
    "a tab as indentation",
    "apiVersion: v1\nkind: Service\nmetadata:\n\tname: bad\n",
    "",
    /no valid YAML.*[Tt]ab/,
  ],
  [
    "a key twice",
    service("{clusterIP: 10.96.0.1, clusterIP: 10.96.0.2, ports: [{port: 80}]}"),
    SERVICE,
    /no valid YAML.*unique/,
  ],
  [
    "a bracket that does not close",
    service("{clusterIP: 10.96.0.1, ports: [{port: 80}"),
    SERVICE,
    /no valid YAML/,
  ],
  ["a quote that does not close", 'apiVersion: v1\nkind: "Service\n', "", /no valid YAML/],
  ["mappings in one line", "a: b: c\n", "", /no valid YAML/],
  ["an unknown alias", service("{clusterIP: *nothing}"), "", /[Uu]nresolved alias/],
  ["an alias bomb", bomb(), "", /[Ee]xcessive alias/],
  ["deep brackets", "[".repeat(100_000), "", /nested more than/],
  ["deep braces", "{a: ".repeat(100_000), "", /nested more than/],
  ["a deep run of dashes", "- ".repeat(500_000), "", /nested more than/],
  ["zero bytes", Buffer.from("apiVersion: v1\0kind: Service"), "", /is no text: byte 14 is zero/],
  ["UTF-16", Buffer.from("\ufeffapiVersion: v1", "utf16le"), "", /is UTF-16/],
  ["Latin-1", Buffer.from("apiVersion: v1 # caf\xe9\n", "latin1"), "", /is no UTF-8/],
  ["a gzip file", Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]), "", /is no text/],
  ["10 MB of letters", "x".repeat(10 * 1024 * 1024), "", /is 10 MiB; one object may have 2 MiB/],
  ["10 MB of broken documents", "---\na: b: c\n".repeat(850_000), "", /100 broken documents .* not read/],
  ["10 MB of brackets", "[{".repeat(5 * 1024 * 1024), "", /MiB|nested/],
];

function bomb(): string {
  const lines = ["a: &a [x,x,x,x,x,x,x,x,x]"];
  for (const [i, name] of Array.from("bcdefghi").entries()) {
    lines.push(`${name}: &${name} [${Array(9).fill(`*${"abcdefgh"[i]}`).join(",")}]`);
  }
  return `${lines.join("\n")}\n`;
}

for (const [title, content, object, message] of TEXTS) {
  test(`readManifests() refuses ${title} and names the file`, { timeout: 180_000 }, async () => {
    const { path, all } = await read("bad.yaml", content);
    assertProblem(all, path, { object, field: "", message });
    assert.ok(all.length <= 101, `${all.length} problems`);
  });
}

test("readManifests() refuses nonsense in JSON and names the file", async () => {
  const { path, all } = await read(
    "bad.json",
    '{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad"}, }}',
  );
  assertProblem(all, path, { object: SERVICE, field: "", message: /no valid JSON/ });
});

test("readManifests() names the line of the mistake within a file of many documents", async () => {
  const { path, all } = await read("bad.yaml", `# a comment\n---\n${service("[]")}---\nx: y\nb: [\n`);
  const lines = all
    .filter((p) => p.origin?.file === path && p.severity === "error")
    .map((p) => p.origin?.line);
  assert.deepEqual(lines, [3, 10]);
});

test("readManifests() refuses a file above its limit, unread", async () => {
  const directory = join(root, "limit");
  mkdirSync(directory);
  writeFileSync(join(directory, "bad.yaml"), "x".repeat(4096));
  writeFileSync(join(directory, "good.yaml"), GOOD);
  const set = await readManifests([directory], { nodeName: "", limits: { maxFileBytes: 2048 } });
  assertProblem(set.problems, join(directory, "bad.yaml"), {
    object: "",
    field: "",
    message: /the limit is/,
  });
  assert.ok(set.snapshot.services.has("default/good"));
});

test("readManifests() names a directory, a link that leads nowhere and one that leads to itself", async () => {
  const directory = join(root, "odd");
  mkdirSync(join(directory, "directory.yaml"), { recursive: true });
  symlinkSync("loop.yaml", join(directory, "loop.yaml"));
  symlinkSync("nowhere", join(directory, "nowhere.yaml"));
  writeFileSync(join(directory, "good.yaml"), GOOD);
  const { all } = await readDirectory(directory);
  const at = (name: string): string => join(directory, name);
  assertProblem(all, at("directory.yaml"), {
    object: "",
    field: "",
    message: /is a directory/,
    severity: "warning",
  });
  assertProblem(all, at("loop.yaml"), { object: "", field: "", message: /leads to itself/ });
  assertProblem(all, at("nowhere.yaml"), { object: "", field: "", message: /does not exist/ });
});

test("readManifests() throws a UserError for a path that does not exist", async () => {
  await assert.rejects(readManifests([join(root, "nothing")], { nodeName: "" }), {
    code: "E_USER",
    message: /nothing does not exist/,
  });
});

test("readManifests() keeps the first of two objects with one name and names both places", async () => {
  const twice = `${service("{clusterIP: 10.96.0.1, ports: [{port: 80}]}")}---\n${service("{clusterIP: 10.96.0.2, ports: [{port: 80}]}")}`;
  const { set, path, all } = await read("bad.yaml", twice);
  assertProblem(all, path, { object: SERVICE, field: "metadata.name", message: /already in .*bad.yaml:1;/ });
  assert.equal(set.snapshot.services.get("default/bad")?.clusterIPs[0]?.text, "10.96.0.1");
});

test("compile() gives a VIP that two Services claim to the older and names both (2.22)", async () => {
  const young = service(
    "{clusterIP: 10.96.0.1, ports: [{port: 80}]}",
    'name: bad, creationTimestamp: "2026-02-01T00:00:00Z"',
  );
  const old = service(
    "{clusterIP: 10.96.0.1, ports: [{port: 80}]}",
    'name: older, creationTimestamp: "2026-01-01T00:00:00Z"',
  );
  const { path, all } = await read("bad.yaml", `${young}---\n${old}`);
  assertProblem(all, path, {
    object: SERVICE,
    field: "spec.clusterIPs",
    message: /10.96.0.1:80\/TCP belongs to Service default\/older/,
    severity: "warning",
  });
});

test("readManifests() warns of a Service without a clusterIP and of a slice without a Service (2.1, 1.13)", async () => {
  const { path, all } = await read(
    "bad.yaml",
    `${service("{ports: [{port: 80}]}")}---\n${slice("addressType: IPv4", "name: bad")}`,
  );
  assertProblem(all, path, {
    object: SERVICE,
    field: "spec.clusterIP",
    message: /is not set/,
    severity: "warning",
  });
  assertProblem(all, path, {
    object: SLICE,
    field: 'metadata.labels."kubernetes.io/service-name"',
    message: /is missing/,
    severity: "warning",
  });
});

test("readManifests() warns of an endpoint without the field addresses and keeps the others (2.8)", async () => {
  const { set, path, all } = await read(
    "bad.yaml",
    slice(
      "addressType: IPv4\nendpoints: [{address: 10.1.1.1}, {addresses: [10.1.1.2]}]",
      "name: bad, labels: {kubernetes.io/service-name: good}",
    ),
  );
  assertProblem(all, path, {
    object: SLICE,
    field: "endpoints[0].addresses",
    message: /left out/,
    severity: "warning",
  });
  const slices = set.snapshot.slices.get("default/good") ?? [];
  assert.deepEqual(
    slices.find(({ name }) => name === "bad")?.endpoints.map(({ address }) => address.text),
    ["10.1.1.2"],
  );
});

test("readManifests() leaves out an externalIP that is none, and no more (2.9)", async () => {
  const { set, path, all } = await read(
    "bad.yaml",
    service('{clusterIP: 10.96.0.1, ports: [{port: 80}], externalIPs: ["", "no", 192.0.2.1]}'),
  );
  assertProblem(all, path, {
    object: SERVICE,
    field: "spec.externalIPs[1]",
    message: /"no"/,
    severity: "warning",
  });
  assert.deepEqual(
    set.snapshot.services.get("default/bad")?.externalIPs.map((a) => a.text),
    ["192.0.2.1"],
  );
});

test("readManifests() reads what only looks odd: BOM, CRLF, merge keys, anchors, null fields, other kinds", async () => {
  const odd = [
    "\ufeffapiVersion: v1\nkind: Service\nmetadata: {name: odd, labels: null, creationTimestamp: null}",
    "spec:\n  clusterIP: 10.96.0.9\n  selector: null\n  ports:\n  - &p {port: 80, name: a}\n  - {<<: *p, protocol: UDP, name: b}",
    "---",
    "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: odd}",
    "---\n# nothing here\n---",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {x: '---'}",
    "",
  ].join("\n");
  const { set, all } = await read("odd.yaml", odd.replaceAll("\n", "\r\n"));
  assert.deepEqual(all, []);
  assert.deepEqual(
    set.snapshot.services
      .get("default/odd")
      ?.ports.map((port) => `${port.name} ${port.port}/${port.protocol}`),
    ["a 80/TCP", "b 80/UDP"],
  );
  assert.deepEqual(
    set.ignored.map((ignored) => ignored.object),
    ["Service default/odd", "ConfigMap default/c"],
  );
});
