// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { CLI, cli, REPOSITORY } from "./run-cli.js";

const directory = mkdtempSync(join(tmpdir(), "portolan-compile-"));
after(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

test("portolan compile prints the example as a table: selector resolved, both families, hand-made endpoints", async () => {
  const { code, stdout, stderr } = await cli(["compile", "-f", "examples/redis", "--node", "n1"]);
  assert.equal(stderr, "");
  assert.equal(code, 0);
  assert.deepEqual(stdout.split("\n"), [
    "SERVICE                  PORT    PROTOCOL   KIND        ADDRESS                   BACKENDS",
    "default/redis            redis   TCP        ClusterIP   10.96.65.65:6379          10.244.1.10:6379,10.244.2.10:6379",
    "default/redis            redis   TCP        ClusterIP   [fd00:10:96::6565]:6379   [fd00:10:244:1::a]:6379,[fd00:10:244:2::a]:6379",
    "default/redis-external   redis   TCP        ClusterIP   10.96.65.66:6379          192.168.60.2:6379",
    "",
  ]);
});

test("portolan compile -o json is one object with service ports and problems, and says what is local to the node", async () => {
  const { code, stdout } = await cli(["compile", "-f", "examples/redis", "--node", "n2", "-o", "json"]);
  assert.equal(code, 0);
  const image = JSON.parse(stdout);
  assert.deepEqual(Object.keys(image), [
    "node",
    "servicePorts",
    "nodePortAddresses",
    "serviceNetworks",
    "problems",
    "ignored",
  ]);
  assert.equal(image.node, "n2");
  assert.deepEqual(image.problems, []);
  const redis = image.servicePorts.find((port: { name: string }) => port.name === "redis");
  assert.deepEqual(redis.backends.slice(0, 2), [
    { address: "10.244.1.10:6379", local: false, serving: true },
    { address: "10.244.2.10:6379", local: true, serving: true },
  ]);
  assert.equal(redis.key, "default/redis:redis/TCP");
});

test("portolan compile prints TCP, UDP and SCTP on one port as three Service ports (2.4)", async () => {
  const path = file(
    "protocols.yaml",
    `apiVersion: v1
kind: Service
metadata: {name: dns, namespace: default}
spec:
  clusterIP: 10.96.0.53
  ports:
  - {name: tcp, protocol: TCP, port: 53, targetPort: 5301}
  - {name: udp, protocol: UDP, port: 53, targetPort: 5302}
  - {name: sctp, protocol: SCTP, port: 53, targetPort: 5303}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: default, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
endpoints: [{addresses: [10.244.1.53]}]
ports:
- {name: tcp, protocol: TCP, port: 5301}
- {name: udp, protocol: UDP, port: 5302}
- {name: sctp, protocol: SCTP, port: 5303}
`,
  );
  const { code, stdout, stderr } = await cli(["compile", "-f", path, "--node", "n1"]);
  assert.deepEqual([code, stderr], [0, ""]);
  const rows = stdout.trimEnd().split("\n").slice(1);
  assert.deepEqual(rows.map((row) => row.split(/ +/).slice(1).join(" ")).sort(), [
    "sctp SCTP ClusterIP 10.96.0.53:53 10.244.1.53:5303",
    "tcp TCP ClusterIP 10.96.0.53:53 10.244.1.53:5301",
    "udp UDP ClusterIP 10.96.0.53:53 10.244.1.53:5302",
  ]);
});

test("portolan compile reads several files and stdin alike", async () => {
  const files = ["service.yaml", "pods.yaml"].map((name) => join(REPOSITORY, "examples/redis", name));
  const named = await cli(["compile", "-f", files[0] as string, "-f", files[1] as string, "--node", "n1"]);
  const input = files.map((path) => readFileSync(path, "utf8")).join("\n---\n");
  const piped = await cli(["compile", "-f", "-", "--node", "n1"], { input });
  assert.equal(named.code, 0);
  assert.match(named.stdout, /10\.244\.2\.10:6379/);
  assert.deepEqual(piped, named);
});

test("portolan compile refuses an empty --node, which an unset variable makes", async () => {
  const { code, stdout, stderr } = await cli(["compile", "-f", "examples/redis", "--node", ""]);
  assert.deepEqual({ code, stdout, stderr }, { code: 2, stdout: "", stderr: "portolan: --node is empty\n" });
});

test("portolan compile says how much it ignored when nothing is left to show", async () => {
  const input = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n";
  const { code, stderr } = await cli(["compile", "-f", "-"], { input });
  assert.equal(code, 0);
  assert.match(stderr, /^no Service with an address; left out: 1 \(other kinds/);
});

test("portolan compile exits 1 for an error in one object, names it on stderr, and prints the others", async () => {
  const path = file(
    "mixed.yaml",
    `apiVersion: v1
kind: Service
metadata: {name: bad, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 700000}]}
---
apiVersion: v1
kind: Service
metadata: {name: good, namespace: shop}
spec: {clusterIP: 10.96.0.2, selector: {app: good}, ports: [{port: 80}]}
`,
  );
  const { code, stdout, stderr } = await cli(["compile", "-f", path]);
  assert.equal(code, 1);
  assert.match(stderr, /^error: .*mixed\.yaml.*Service shop\/bad.*port/m);
  assert.match(stdout, /^shop\/good .* 10\.96\.0\.2:80 +none: reject$/m);
  assert.doesNotMatch(stdout, /shop\/bad/);
});

test("portolan compile exits 2 for a path that is not there, in one line", async () => {
  const { code, stdout, stderr } = await cli(["compile", "-f", join(directory, "missing.yaml")]);
  assert.equal(code, 2);
  assert.equal(stdout, "");
  assert.equal(stderr, `portolan: ${join(directory, "missing.yaml")} does not exist\n`);
});

test("portolan compile of nothing prints nothing but a note, and is no finding", async () => {
  const { code, stdout, stderr } = await cli(["compile", "-f", "-"], { input: "" });
  assert.deepEqual({ code, stdout }, { code: 0, stdout: "" });
  assert.match(stderr, /no Service with an address/);
});

test("portolan compile ends quietly when the reader of its output has gone", async () => {
  const services = Array.from(
    { length: 2000 },
    (_, i) =>
      `apiVersion: v1\nkind: Service\nmetadata: {name: s${i}}\nspec: {clusterIP: 10.97.${i >> 8}.${i & 255}, ports: [{port: 80}]}`,
  );
  const path = file("many.yaml", services.join("\n---\n"));
  const [program, ...args] = [...CLI, "compile", "-f", path, "-o", "json"];
  const child = spawn(program as string, args, { stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdout.destroy(); // more than a pipe holds is still to come
  const code = await new Promise((resolve) => child.on("close", resolve));
  assert.equal(stderr, "");
  assert.equal(code, 0);
});

const NODE_ARGS = ["--node", "n1", "--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"];

test("portolan compile prints external frontends with both scopes, masquerading and senders (4.12, 6.15, 8.4, 8.5)", async () => {
  const { code, stdout, stderr } = await cli(["compile", "-f", "examples/web", ...NODE_ARGS]);
  assert.deepEqual([code, stderr], [0, ""]);
  const [header, ...rows] = stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));
  assert.deepEqual(header?.slice(3), ["KIND", "ADDRESS", "FAMILY", "MASQUERADE", "FROM", "BACKENDS"]);
  const of = (kind: string): string[] =>
    rows.filter((row) => row[3] === kind).map((row) => [row[0], ...row.slice(4)].join(" "));
  assert.deepEqual(of("LoadBalancer"), [
    "default/web 198.51.100.80:80 IPv4 never 203.0.113.0/24 10.244.1.20:8080,10.244.2.20:8080 (from outside: 10.244.1.20:8080)",
  ]);
  assert.deepEqual(of("NodePort"), [
    "default/web *:30080 IPv4 never any 10.244.1.20:8080,10.244.2.20:8080 (from outside: 10.244.1.20:8080)",
    "default/web *:30080 IPv6 never any [fd00:10:244:1::14]:8080,[fd00:10:244:2::14]:8080 (from outside: [fd00:10:244:1::14]:8080)",
    "default/web-anywhere *:30081 IPv4 always any 10.244.1.20:8080,10.244.2.20:8080",
  ]);
});

test("portolan compile -o json has NodePort addresses, service networks, and what either scope meets when nobody is there (7.1, 7.3)", async () => {
  const input = ["service.yaml", "cluster.yaml"]
    .map((name) => readFileSync(join(REPOSITORY, "examples/web", name), "utf8"))
    .join("\n---\n")
    .replace("nodeName: n1", "nodeName: n3");
  const { stdout } = await cli(
    [
      "compile",
      "-f",
      "-",
      "--node",
      "n1",
      "--nodeport-addresses",
      "primary",
      "--service-cidr",
      "10.97.0.0/16",
      "-o",
      "json",
    ],
    { input },
  );
  const image = JSON.parse(stdout);
  assert.deepEqual(image.nodePortAddresses, ["192.168.60.11", "fd00:60::11"]);
  assert.deepEqual(image.serviceNetworks, ["10.96.0.0/16", "10.97.0.0/16", "fd00:10:96::/112"]);
  const web = image.servicePorts.find(({ name }: { name: string }) => name === "web");
  const balancer = web.frontends.find(({ kind }: { kind: string }) => kind === "LoadBalancer");
  assert.deepEqual(balancer.sourceRanges, ["203.0.113.0/24"]);
  assert.deepEqual(balancer.external, { backends: [], whenEmpty: "drop", set: "local" });
  assert.equal(balancer.internal.backends.length, 2);
});

test("portolan compile names both Services of a conflict, on stderr and in JSON (2.22)", async () => {
  const one = (name: string, ip: string, created: string): string =>
    `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, creationTimestamp: "${created}"}\nspec: {type: NodePort, clusterIP: ${ip}, ports: [{port: 80, nodePort: 30080}]}`;
  const input = `${one("young", "10.96.0.1", "2026-02-01T00:00:00Z")}\n---\n${one("old", "10.96.0.2", "2026-01-01T00:00:00Z")}`;
  const { code, stdout, stderr } = await cli(["compile", "-f", "-", "--node", "n1", "-o", "json"], { input });
  assert.equal(code, 0);
  assert.match(
    stderr,
    /^warning: .*Service default\/young: .*IPv4 NodePort 30080\/TCP belongs to Service default\/old/,
  );
  const { problems } = JSON.parse(stdout);
  assert.equal(problems.length, 1);
  assert.match(problems[0].message, /belongs to Service default\/old/);
});

test("portolan compile refuses a kube-proxy option that cannot be read, and names the flag (12.9)", async () => {
  const { code, stderr } = await cli(["compile", "-f", "examples/web", "--cluster-cidr", "10.244.0.0"]);
  assert.equal(code, 2);
  assert.equal(stderr, 'portolan: --cluster-cidr: "10.244.0.0" is no address range such as 10.0.0.0/8\n');
});

test("portolan compile --external-ips=false leaves them out (2.23)", async () => {
  const input =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.1, externalIPs: [192.0.2.1], ports: [{port: 80}]}";
  const rows = async (...more: string[]): Promise<number> =>
    (await cli(["compile", "-f", "-", "--node", "n1", ...more], { input })).stdout.trimEnd().split("\n")
      .length;
  assert.deepEqual([await rows(), await rows("--external-ips=false")], [3, 2]);
});
