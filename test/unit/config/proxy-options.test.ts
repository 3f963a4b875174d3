// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { LocalDetector, ProxyOptionTexts } from "../../../src/config/proxy-options.js";
import { localDetectors, parseProxyOptions, proxyConfig } from "../../../src/config/proxy-options.js";
import type { Cidr } from "../../../src/net/cidr.js";
import { parseCidr } from "../../../src/net/cidr.js";

const cidr = (text: string): Cidr => parseCidr(text) as Cidr;
const NO_PODS = { podCIDRs: [] };
const textOf = (detector: LocalDetector): string => (typeof detector === "string" ? detector : detector.text);

function detectors(texts: ProxyOptionTexts, podCIDRs: readonly string[] = []): string[] {
  const found = localDetectors(parseProxyOptions(texts).detectLocal, { podCIDRs: podCIDRs.map(cidr) });
  return [textOf(found[4]), textOf(found[6])];
}

test("parseProxyOptions() of nothing is kube-proxy's iptables mode without a detector (6.1, 8.3)", () => {
  assert.deepEqual(parseProxyOptions({}), {
    detectLocal: { mode: "ClusterCIDR", ranges: [] },
    masqueradeAll: false,
    nodePortAddresses: [],
    loopbackNodePorts: true,
    serviceCIDRs: [],
    externalIPs: true,
    warnings: [],
  });
  assert.deepEqual(proxyConfig(parseProxyOptions({}), NO_PODS), {
    masqueradeAll: false,
    localDetector: { 4: false, 6: false },
    nodePortAddresses: [],
    externalIPs: true,
  });
});

test("localDetectors() takes the first --cluster-cidr of each family, and each later one is warned of (8.3)", () => {
  const clusterCidr = "10.0.0.0/8, fd00:10::/64,10.180.0.0/16";
  assert.deepEqual(detectors({ clusterCidr }), ["10.0.0.0/8", "fd00:10::/64"]);
  assert.deepEqual(parseProxyOptions({ clusterCidr }).warnings, [
    "--cluster-cidr: 10.180.0.0/16 has no effect; only the first IPv4 range, 10.0.0.0/8, counts",
  ]);
  assert.deepEqual(detectors({ clusterCidr: "fd00:10::/64" }), ["none", "fd00:10::/64"]);
  assert.deepEqual(detectors({ clusterCidr: "" }), ["none", "none"]);
});

test("localDetectors() of NodeCIDR takes the Node's first podCIDR of each family (8.3)", () => {
  const pods = ["fd00:10:1::/80", "10.180.0.0/24", "10.180.1.0/24"];
  const texts = { detectLocalMode: "NodeCIDR", clusterCidr: "10.0.0.0/8" };
  assert.deepEqual(detectors(texts, pods), ["10.180.0.0/24", "fd00:10:1::/80"]);
  assert.deepEqual(detectors(texts), ["none", "none"]);
});

test("localDetectors() of an interface mode detects in both families (8.3)", () => {
  const bridge = { detectLocalMode: "BridgeInterface", podBridgeInterface: "cbr0" };
  const prefix = { detectLocalMode: "InterfaceNamePrefix", podInterfaceNamePrefix: "veth" };
  for (const texts of [bridge, prefix]) {
    assert.deepEqual(detectors(texts), ["interface", "interface"]);
    assert.deepEqual(proxyConfig(parseProxyOptions(texts), NO_PODS).localDetector, { 4: true, 6: true });
  }
  assert.deepEqual(parseProxyOptions(bridge).detectLocal, { mode: "BridgeInterface", name: "cbr0" });
  assert.deepEqual(parseProxyOptions(prefix).detectLocal, { mode: "InterfaceNamePrefix", prefix: "veth" });
});

test("parseProxyOptions() lets --proxy-mode decide only the default of --nodeport-addresses (6.1)", () => {
  assert.equal(parseProxyOptions({ proxyMode: "nftables" }).nodePortAddresses, "primary");
  assert.deepEqual(parseProxyOptions({ proxyMode: "iptables" }).nodePortAddresses, []);
  const given = parseProxyOptions({ proxyMode: "nftables", nodeportAddresses: "0.0.0.0/0" });
  assert.deepEqual(given.nodePortAddresses, [cidr("0.0.0.0/0")]);
});

const LOOPBACK: readonly [string, ProxyOptionTexts, boolean][] = [
  ["every address", {}, true],
  ["every address but told not to", { iptablesLocalhostNodeports: "false" }, false],
  ["primary", { nodeportAddresses: "primary" }, false],
  ["another IPv4 range", { nodeportAddresses: "192.168.0.0/24" }, false],
  ["IPv6 ranges only", { nodeportAddresses: "fd00::/8" }, true],
  ["a loopback address", { nodeportAddresses: "192.168.0.0/24,127.0.0.1/32" }, true],
  ["the zero range", { nodeportAddresses: "0.0.0.0/0" }, true],
];
for (const [title, texts, expected] of LOOPBACK) {
  test(`parseProxyOptions() with NodePorts on ${title} says ${expected} for loopback (6.2, 6.5)`, () => {
    assert.equal(parseProxyOptions(texts).loopbackNodePorts, expected);
  });
}

test("parseProxyOptions() reads switches with and without a value", () => {
  const { masqueradeAll, externalIPs } = parseProxyOptions({ masqueradeAll: true, externalIps: "false" });
  assert.deepEqual([masqueradeAll, externalIPs], [true, false]);
});

test("parseProxyOptions() takes each --service-cidr once", () => {
  const { serviceCIDRs } = parseProxyOptions({ serviceCidr: "10.96.0.0/12,fd00:10:96::/112,10.96.0.1/12" });
  assert.deepEqual(
    serviceCIDRs.map(({ text }) => text),
    ["10.96.0.0/12", "fd00:10:96::/112"],
  );
});

const REFUSED: readonly [string, ProxyOptionTexts, RegExp][] = [
  ["a cluster range", { clusterCidr: "10.0.0.0" }, /^--cluster-cidr: "10\.0\.0\.0" is no address range/],
  ["an empty list entry", { clusterCidr: "10.0.0.0/8," }, /^--cluster-cidr: "" is no address range/],
  ["a mode", { detectLocalMode: "Magic" }, /^--detect-local-mode: must be one of ClusterCIDR/],
  ["a mode without its flag", { detectLocalMode: "BridgeInterface" }, /needs --pod-bridge-interface$/],
  [
    "a prefix that no interface can have",
    { detectLocalMode: "InterfaceNamePrefix", podInterfaceNamePrefix: "x".repeat(16) },
    /^--pod-interface-name-prefix: /,
  ],
  ["primary beside ranges", { nodeportAddresses: "primary,10.0.0.0/8" }, /^--nodeport-addresses: primary/],
  ["a NodePort range", { nodeportAddresses: "10.0.0.0/33" }, /^--nodeport-addresses: "10\.0\.0\.0\/33"/],
  ["a proxy mode", { proxyMode: "ipvs" }, /^--proxy-mode: must be one of iptables, nftables/],
  ["a switch", { externalIps: "yes" }, /^--external-ips: must be true or false, not "yes"/],
  ["a service range", { serviceCidr: "x" }, /^--service-cidr: "x"/],
];
for (const [title, texts, message] of REFUSED) {
  test(`parseProxyOptions() refuses ${title} and names the flag (12.9)`, () => {
    assert.throws(() => parseProxyOptions(texts), { name: "UserError", message });
  });
}
