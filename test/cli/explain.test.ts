// SPDX-License-Identifier: Apache-2.0
// portolan explain from manifests and from an API server. That it says what a compile does is test/property/image/explain.
import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeApi } from "../support/apiserver/fake-api.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import { type CliResult, cli } from "./run-cli.js";

const explain = (...args: string[]): Promise<CliResult> => cli(["explain", ...args, "--node", "n1"]);
const SHOP = ["-f", "test/fixtures/shop.yaml"];

test("portolan explain tells of every endpoint and frontend by which rule, and what would change", async () => {
  const { code, stdout, stderr } = await explain("shop/web", ...SHOP);
  assert.deepEqual([code, stderr], [0, ""]);
  assertGolden("explain.txt", stdout);
});

test("portolan explain -o json has the same as an object", async () => {
  const { code, stdout, stderr } = await explain("web", "-n", "shop", ...SHOP, "-o", "json");
  assert.deepEqual([code, stderr], [0, ""]);
  assertGolden("explain.json", prettyJson(stdout));
});

test("portolan explain of both families and a selector is one part for each", async () => {
  const { code, stdout } = await explain("web", "-f", "examples/web");
  assert.equal(code, 0);
  assertGolden("explain-example.txt", stdout);
});

test("portolan explain of a headless Service and of an ExternalName says why nothing is served (2.1)", async () => {
  const input = `apiVersion: v1
kind: Service
metadata: { name: peers, namespace: shop }
spec: { clusterIP: None, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: away, namespace: shop }
spec: { type: ExternalName, externalName: example.org }
`;
  for (const [name, why] of [
    ["peers", "it has no ClusterIP, so nothing of it is served (2.1, 2.3)"],
    ["away", "it is an ExternalName, so nothing of it is served (2.1, 2.3)"],
  ] as const) {
    const { stdout, stderr, code } = await cli(["explain", name, "-f", "-", "--node", "n1"], { input });
    assert.equal(code, 0, stderr);
    assert.ok(stdout.includes(why), stdout);
  }
});

test("portolan explain of a Service that is not there is a finding, and of one that was left out says why", async () => {
  assert.deepEqual(await explain("shop/wbe", ...SHOP), {
    code: 1,
    stdout: "",
    stderr: 'no Service "shop/wbe" there\n',
  });
  const input = `apiVersion: v1
kind: Service
metadata: { name: other, namespace: shop, labels: { service.kubernetes.io/service-proxy-name: x } }
spec: { clusterIP: 10.96.0.7, ports: [{ port: 80 }] }
`;
  const left = await cli(["explain", "other", "-f", "-", "--node", "n1"], { input });
  assert.equal(left.code, 1);
  assert.match(left.stderr, /^no Service "other" there: Service shop\/other was left out, /);
});

test("portolan explain's mistakes are one line and status 2, and without pins it says so", async () => {
  for (const [args, message] of [
    [["web", "-f", "no/such/file"], /^portolan: no\/such\/file /],
    [["web", "--kubeconfig", ""], /^portolan: --kubeconfig is empty/],
    [["", "-f", "examples/web"], /^portolan: the name of the Service is empty/],
    [["shop/web", "-n", "default", "-f", "examples/web"], /is not in namespace "default"/],
    [["web", "-f", "examples/web", "--kubeconfig", "x"], /cannot be used with/],
  ] as const) {
    const { code, stdout, stderr } = await explain(...args);
    assert.deepEqual([code, stdout], [2, ""], stderr);
    assert.match(stderr, message);
    assert.doesNotMatch(stderr, /\n\s+at /);
  }
  const none = await cli(["explain", "web", "--bpf-root", "/sys/fs/bpf/portolan-nothing-is-here"]);
  assert.deepEqual([none.code, none.stdout], [3, ""]);
  assert.doesNotMatch(none.stderr, /\n\s+at /);
});

test("portolan explain --kubeconfig lists the API server once", async () => {
  const api = await FakeApi.start();
  try {
    api.create({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "n1" },
      status: { addresses: [{ type: "InternalIP", address: "192.168.60.11" }] },
    } as never);
    api.create({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", namespace: "shop" },
      spec: { type: "ClusterIP", clusterIP: "10.96.0.1", clusterIPs: ["10.96.0.1"], ports: [{ port: 80 }] },
    } as never);
    api.create({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "web-1", namespace: "shop", labels: { "kubernetes.io/service-name": "web" } },
      addressType: "IPv4",
      ports: [{ name: "", port: 8080, protocol: "TCP" }],
      endpoints: [{ addresses: ["10.244.1.10"], nodeName: "n1", conditions: { ready: true } }],
    } as never);
    const kubeconfig = api.kubeconfig({ tokenFile: true });
    const { code, stdout, stderr } = await explain("web", "--kubeconfig", kubeconfig);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /ClusterIP 10\.96\.0\.1:80 +anyone +cluster +10\.244\.1\.10:8080 \(4\.10\)/);
    const json = await explain("web", "--kubeconfig", kubeconfig, "-o", "json");
    assert.equal(JSON.parse(json.stdout).services[0].ports[0].families[0].endpoints[0].used, true);
  } finally {
    await api.close();
  }
});
