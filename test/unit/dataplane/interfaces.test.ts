// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type InterfaceOptions,
  type Interfaces,
  type Link,
  type LinkAddress,
  matchesName,
  planInterfaces,
} from "../../../src/dataplane/interfaces.js";
import { parseIp } from "../../../src/net/ip.js";

const DETECT: InterfaceOptions = { devices: [], podInterfaces: [] };

function link(ifindex: number, name: string, fields: Partial<Link> = {}): Link {
  return { ifindex, name, kind: "", hardwareType: 1, master: 0, peerElsewhere: false, ...fields };
}

function on(ifindex: number, ...cidrs: string[]): LinkAddress[] {
  return cidrs.map((cidr) => {
    const [text = "", prefix = ""] = cidr.split("/");
    const address = parseIp(text);
    assert.ok(address, cidr);
    return { ifindex, address, prefixLength: Number(prefix) };
  });
}

/** "name role v4 v6" of each plan; "(known)" when nothing is attached. */
function lines({ plans }: Interfaces): string[] {
  return plans.map(({ name, role, attach, masquerade4, masquerade6 }) =>
    [name, role, masquerade4?.text ?? "-", masquerade6?.text ?? "-", ...(attach ? [] : ["(known)"])].join(
      " ",
    ),
  );
}

const LO = link(1, "lo", { hardwareType: 772 });
const VETH = { kind: "veth", peerElsewhere: true };

test("planInterfaces() gives a flannel node's interfaces their roles, and bridge ports their bridge's address", () => {
  const links = [
    LO,
    link(2, "eth0", VETH), // a node that is a container itself: its uplink is a veth
    link(3, "cni0", { kind: "bridge" }),
    link(4, "flannel.1", { kind: "vxlan" }),
    link(5, "vethaaaa", { ...VETH, master: 3 }),
  ];
  const addresses = [
    ...on(1, "127.0.0.1/8", "::1/128"),
    ...on(2, "192.168.50.1/24", "fd00:50::1/64", "fe80::1/64"),
    ...on(3, "10.244.1.1/24", "fd00:10:244:1::1/64"),
    ...on(4, "10.244.1.0/32", "fd00:10:244:1::/128"),
    ...on(5, "fe80::5/64"),
  ];
  assert.deepEqual(lines(planInterfaces(links, addresses, new Set([2]), DETECT)), [
    "eth0 uplink 192.168.50.1 fd00:50::1",
    "cni0 bridge 10.244.1.1 fd00:10:244:1::1 (known)",
    "flannel.1 overlay 10.244.1.0 fd00:10:244:1::",
    "vethaaaa pod 10.244.1.1 fd00:10:244:1::1",
  ]);
});

test("planInterfaces() takes a routed veth without an address of its own for a pod's, with the node's address", () => {
  const links = [LO, link(2, "eth0"), link(7, "cali1", VETH), link(8, "cali2", VETH), link(9, "ptp", VETH)];
  const addresses = [
    ...on(2, "192.168.50.1/24"),
    ...on(7, "169.254.1.1/32", "fe80::ecee:eeff:feee:eeee/64"),
    ...on(9, "10.22.0.1/32"), // the ptp plug-in: the gateway's address, and no network behind it
  ];
  assert.deepEqual(lines(planInterfaces(links, addresses, new Set([2]), DETECT)), [
    "eth0 uplink 192.168.50.1 -",
    "cali1 pod 192.168.50.1 -",
    "cali2 pod 192.168.50.1 -",
    "ptp pod 10.22.0.1 -",
  ]);
});

test("planInterfaces() leaves alone what leads nowhere: lo, bond members, unaddressed cards, veths within the node", () => {
  const links = [
    LO,
    link(2, "eth0", { master: 4 }),
    link(3, "eth1", { master: 4 }),
    link(4, "bond0", { kind: "bond" }),
    link(5, "eth2"),
    link(6, "inner", { kind: "veth" }),
    link(7, "kube-ipvs0", { kind: "dummy" }),
  ];
  const addresses = [...on(4, "10.0.0.5/24"), ...on(7, "10.96.0.1/32")];
  assert.deepEqual(lines(planInterfaces(links, addresses, new Set([4]), DETECT)), [
    "bond0 uplink 10.0.0.5 -",
  ]);
});

test("planInterfaces() prefers the address of the uplink with the default route for what has none", () => {
  const links = [link(2, "eth0"), link(3, "eth1"), link(7, "cali1", VETH)];
  const addresses = [...on(2, "10.1.0.1/24"), ...on(3, "10.2.0.1/24", "fd02::1/64")];
  assert.deepEqual(lines(planInterfaces(links, addresses, new Set([3]), DETECT)), [
    "eth0 uplink 10.1.0.1 fd02::1",
    "eth1 uplink 10.2.0.1 fd02::1",
    "cali1 pod 10.2.0.1 fd02::1",
  ]);
});

test("planInterfaces() takes patterns in place of detection, for each role on its own", () => {
  const links = [
    link(2, "eth0"),
    link(3, "eth1"),
    link(4, "vx", { kind: "vxlan" }),
    link(7, "cali1", VETH),
    link(8, "other", VETH),
  ];
  const addresses = [...on(2, "10.1.0.1/24"), ...on(3, "10.2.0.1/24")];
  const plan = (options: Partial<InterfaceOptions>): string[] =>
    planInterfaces(links, addresses, new Set([2]), { ...DETECT, ...options }).plans.map(
      ({ name, role }) => `${name} ${role}`,
    );
  assert.deepEqual(plan({ devices: ["eth1"] }), ["eth1 uplink", "vx overlay", "cali1 pod", "other pod"]);
  assert.deepEqual(plan({ podInterfaces: ["cali*"] }), [
    "eth0 uplink",
    "eth1 uplink",
    "vx overlay",
    "cali1 pod",
  ]);
  assert.deepEqual(plan({ devices: ["nothing"], podInterfaces: ["nothing"] }), ["vx overlay"]);
});

test("planInterfaces() refuses a device without an Ethernet header and names it, if it is used at all", () => {
  const links = [
    link(2, "wg0", { kind: "wireguard", hardwareType: 65534 }),
    link(3, "eth0"),
    link(4, "tunl0", { kind: "ipip", hardwareType: 768 }), // there since the module was loaded
  ];
  const addresses = [...on(2, "10.99.0.1/24"), ...on(3, "10.0.0.1/8")];
  const { plans, refused } = planInterfaces(links, addresses, new Set(), DETECT);
  assert.deepEqual(
    plans.map(({ name }) => name),
    ["eth0"],
  );
  assert.equal(refused.length, 1);
  const named = planInterfaces(links, addresses, new Set(), { ...DETECT, devices: ["tunl0"] });
  assert.deepEqual(
    named.refused.map(({ name }) => name),
    ["wg0", "tunl0"],
  );
  assert.equal(refused[0]?.name, "wg0");
  assert.match(refused[0]?.reason ?? "", /no Ethernet header/);
});

test("planInterfaces() does not depend on the order in which links are listed", () => {
  const links = [link(2, "eth0"), link(3, "cni0", { kind: "bridge" }), link(5, "v", { ...VETH, master: 3 })];
  const addresses = [...on(2, "10.0.0.1/24"), ...on(3, "10.244.0.1/24")];
  const forwards = planInterfaces(links, addresses, new Set([2]), DETECT);
  assert.deepEqual(planInterfaces([...links].reverse(), addresses, new Set([2]), DETECT), forwards);
});

test("matchesName() knows * and ?, and takes every other character as it is", () => {
  assert.ok(matchesName("cali*", "cali123"));
  assert.ok(matchesName("eth?", "eth0"));
  assert.ok(!matchesName("eth?", "eth10"));
  assert.ok(matchesName("flannel.1", "flannel.1"));
  assert.ok(!matchesName("flannel.1", "flannelx1"));
  assert.ok(!matchesName("eth0", "eth0.100"));
});

/** Names of the plans whose packets are local pods'. */
function localPods(links: readonly Link[], addresses: readonly LinkAddress[], options: InterfaceOptions) {
  const { plans } = planInterfaces(links, addresses, new Set([2]), options);
  return plans.filter((plan) => plan.localPods).map(({ name }) => name);
}

test("planInterfaces() marks whose packets are local pods' by bridge or by prefix, a bridge's ports as the bridge (8.3)", () => {
  const links = [
    LO,
    link(2, "eth0"),
    link(3, "cni0", { kind: "bridge" }),
    link(4, "cni01", { kind: "bridge" }),
    link(5, "veth5", { ...VETH, master: 3 }),
    link(6, "veth6", { ...VETH, master: 4 }),
    link(7, "cali7", VETH),
  ];
  const addresses = on(2, "192.168.50.1/24");
  assert.deepEqual(localPods(links, addresses, DETECT), []);
  const bridge = { ...DETECT, localPods: { bridge: "cni0" } };
  assert.deepEqual(localPods(links, addresses, bridge), ["cni0", "veth5"], "an exact name");
  const prefix = (text: string): string[] =>
    localPods(links, addresses, { ...DETECT, localPods: { prefix: text } });
  assert.deepEqual(prefix("cni0"), ["cni0", "cni01", "veth5", "veth6"]);
  assert.deepEqual(prefix("cali"), ["cali7"]);
  assert.deepEqual(prefix("eth"), ["eth0"]);
});

test("planInterfaces() takes the Node's primary addresses for the node's own when they are here (13.1)", () => {
  const links = [link(2, "eth0"), link(3, "eth1")];
  const addresses = [...on(2, "10.1.0.1/24", "fd01::1/64"), ...on(3, "10.2.0.1/24", "10.2.0.9/24")];
  const own = (...texts: string[]): (string | undefined)[] => {
    const preferred = texts.flatMap((text) => parseIp(text) ?? []);
    const { node } = planInterfaces(links, addresses, new Set([2]), DETECT, preferred);
    return [node.masquerade4?.text, node.masquerade6?.text];
  };
  assert.deepEqual(own(), ["10.1.0.1", "fd01::1"], "of the uplink with the default route");
  assert.deepEqual(own("10.2.0.9", "10.2.0.1"), ["10.2.0.9", "fd01::1"], "the first of the family");
  assert.deepEqual(own("203.0.113.1", "10.2.0.1"), ["10.2.0.1", "fd01::1"], "a cloud's address is not here");
  assert.deepEqual(own("203.0.113.1", "2001:db8::1"), ["10.1.0.1", "fd01::1"]);
});
