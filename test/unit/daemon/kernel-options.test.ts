// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ProxyOptionTexts, parseProxyOptions } from "../../../src/config/proxy-options.js";
import {
  detectorNode,
  type KernelChoices,
  kernelOptions,
  needsNode,
  withLocalPods,
} from "../../../src/daemon/kernel-options.js";
import type { NodeInfo } from "../../../src/model/types.js";
import { parseCidr } from "../../../src/net/cidr.js";

function choices(texts: ProxyOptionTexts = {}, fields: Partial<KernelChoices> = {}): KernelChoices {
  const defaults = {
    socketLb: "host-only",
    resetRemovedBackends: false,
    markBit: 13,
    masqueradeBit: 14,
  } as const;
  return { proxy: parseProxyOptions(texts), ...defaults, ...fields };
}

function node(...podCIDRs: readonly string[]): NodeInfo {
  return { name: "n1", zone: "", addresses: [], podCIDRs: podCIDRs.flatMap((text) => parseCidr(text) ?? []) };
}

const ABILITIES = { netnsCookie: 77n, setRetval: true, coarseClock: true };

test("kernelOptions() has kube-proxy's defaults: no detector, loopback NodePorts, and our bit of the mark", () => {
  assert.deepEqual(kernelOptions(choices(), null, ABILITIES), {
    mark: 0x2000,
    masqueradeMark: 0x4000,
    socketsOfPods: false,
    loopbackNodePorts: true,
    resetRemovedBackends: false,
    setRetval: true,
    coarseClock: true,
    shortcut: false,
    hostNetns: 77n,
    detectors: { 4: "none", 6: "none" },
  });
});

test("kernelOptions() takes the highest bit of the mark as a positive number", () => {
  assert.equal(kernelOptions(choices({}, { markBit: 31 }), null, ABILITIES).mark, 0x8000_0000);
  assert.equal(kernelOptions(choices({}, { markBit: 0 }), null, ABILITIES).mark, 1);
});

test("kernelOptions() gives pods' sockets to the programs with --socket-lb full only", () => {
  const of = (socketLb: KernelChoices["socketLb"]): boolean =>
    kernelOptions(choices({}, { socketLb }), null, ABILITIES).socketsOfPods;
  assert.deepEqual([of("full"), of("host-only"), of("off")], [true, false, false]);
});

test("kernelOptions() turns loopback NodePorts off as told, and where the addresses do not cover them (6.5)", () => {
  const of = (texts: ProxyOptionTexts): boolean =>
    kernelOptions(choices(texts), null, ABILITIES).loopbackNodePorts;
  assert.equal(of({ iptablesLocalhostNodeports: "false" }), false);
  assert.equal(of({ proxyMode: "nftables" }), false, "primary");
  assert.equal(of({ nodeportAddresses: "10.0.0.0/8" }), false);
  assert.equal(of({ nodeportAddresses: "10.0.0.0/8,127.0.0.0/8" }), true);
  assert.equal(
    of({ nodeportAddresses: "fd00::/8" }),
    true,
    "IPv4 has no range: it is served everywhere (6.2)",
  );
});

test("kernelOptions() takes the Node's pod ranges with NodeCIDR, each family's first (8.3)", () => {
  const nodeCidr = choices({ detectLocalMode: "NodeCIDR" });
  assert.equal(needsNode(nodeCidr.proxy), true);
  assert.equal(needsNode(choices().proxy), false);
  const { detectors } = kernelOptions(
    nodeCidr,
    node("10.244.1.0/24", "10.245.1.0/24", "fd01::/64"),
    ABILITIES,
  );
  assert.deepEqual(
    Object.values(detectors).map((detector) => (typeof detector === "string" ? detector : detector.text)),
    ["10.244.1.0/24", "fd01::/64"],
  );
});

test("detectorNode() says which Node object lacks its pod ranges", () => {
  const { proxy } = choices({ detectLocalMode: "NodeCIDR" });
  for (const lacking of [node(), null]) {
    assert.throws(() => detectorNode(proxy, lacking), { code: "E_NO_POD_CIDR" });
  }
  assert.throws(
    () => detectorNode(proxy, node()),
    /--detect-local-mode NodeCIDR: .* no Node n1 with spec.podCIDRs/,
  );
});

test("withLocalPods() tells the keeper of interfaces which bring local pods' packets", () => {
  const plain = { devices: [], podInterfaces: [] };
  const of = (texts: ProxyOptionTexts) => withLocalPods(plain, parseProxyOptions(texts)).localPods;
  assert.equal(of({ clusterCidr: "10.244.0.0/16" }), undefined);
  assert.deepEqual(of({ detectLocalMode: "BridgeInterface", podBridgeInterface: "cni0" }), {
    bridge: "cni0",
  });
  assert.deepEqual(of({ detectLocalMode: "InterfaceNamePrefix", podInterfaceNamePrefix: "cali" }), {
    prefix: "cali",
  });
});
