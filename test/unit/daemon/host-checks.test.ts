// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ForwardPolicy } from "../../../src/daemon/forward-rules.js";
import {
  type Check,
  checkHost,
  type HostFacts,
  hasTcx,
  kernelVersion,
} from "../../../src/daemon/host-checks.js";
import { DEFAULT_SNAT_RANGES } from "../../../src/daemon/snat-ports.js";

/** A host on which all is well. */
const GOOD: HostFacts = {
  kernelRelease: "6.18.5",
  missingFeatures: [],
  capabilities: (1n << 41n) - 1n,
  nativeError: null,
  bpffs: "/sys/fs/bpf",
  cgroup2: "/sys/fs/cgroup",
  kernelBtf: true,
  jit: "1",
  bridges: ["cni0"],
  bridgeCallIptables: "1",
  bridgeCallIp6tables: "1",
  invalidDrops: [],
  ipForward: "1",
  ip6Forward: "1",
  hasRoutableIp6: true,
  rpFilter: "1",
  ingressQdiscs: [],
  localPorts: { first: 32768, last: 60999 },
  snatRanges: DEFAULT_SNAT_RANGES,
  forwardPolicies: [],
  droppingChains: [],
  agentPinned: true,
  forwarding: null,
  obstacles: [],
  routeLocalnet: "0",
};

function check(facts: Partial<HostFacts>, name: string): Check {
  const found = checkHost({ ...GOOD, ...facts }).find((candidate) => candidate.name === name);
  assert.ok(found, name);
  return found;
}

test("checkHost() finds nothing on a host where all is well", () => {
  assert.deepEqual(
    checkHost(GOOD).filter(({ status }) => status !== "ok"),
    [],
  );
});

test("checkHost() gives every fault a way to mend it", () => {
  const bad: HostFacts = {
    ...GOOD,
    kernelRelease: "4.19.0",
    missingFeatures: ["tcx"],
    capabilities: 0n,
    nativeError: "libportolan.so is missing",
    bridgeCallIptables: "0",
    ipForward: "0",
    ingressQdiscs: ["eth0"],
    localPorts: { first: 1024, last: 65535 },
  };
  const failed = checkHost(bad).filter(({ status }) => status === "fail");
  assert.deepEqual(
    failed.map(({ name }) => name),
    ["kernel", "privileges", "library", "hooks", "br_netfilter", "ip_forward", "snat_ports"],
  );
  for (const { name, fix } of failed) assert.ok(fix, name);
});

test("checkHost() fails br_netfilter off beside a bridge, and quotes the rule that makes it break", () => {
  const rule = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP";
  const off = check({ bridgeCallIptables: "0", invalidDrops: [rule] }, "br_netfilter");
  assert.equal(off.status, "fail");
  assert.match(off.detail, /cni0/);
  assert.ok(off.detail.includes(rule));
  assert.equal(off.fix, "sysctl -w net.bridge.bridge-nf-call-iptables=1");
});

test("checkHost() fails br_netfilter not loaded beside a bridge, and loads it first", () => {
  const off = check({ bridgeCallIptables: null, bridgeCallIp6tables: null }, "br_netfilter");
  assert.equal(off.status, "fail");
  assert.match(off.fix ?? "", /^modprobe br_netfilter && sysctl -w/);
});

test("checkHost() does not mind br_netfilter off where no bridge has ports", () => {
  assert.equal(check({ bridges: [], bridgeCallIptables: "0" }, "br_netfilter").status, "ok");
});

test("checkHost() minds an ingress qdisc only where there is no tcx", () => {
  assert.equal(check({ ingressQdiscs: ["eth0"] }, "hooks").status, "ok");
  const old = check({ ingressQdiscs: ["eth0"], missingFeatures: ["tcx"] }, "hooks");
  const unasked = { ingressQdiscs: ["eth0"], kernelRelease: "6.1.0-13-amd64", missingFeatures: null };
  assert.equal(check(unasked, "hooks").status, "fail", "by the version, where nothing could be tried");
  assert.equal(old.status, "fail");
  assert.match(old.detail, /eth0/);
});

test("checkHost() warns of source ports that overlap the host's own, and says what is left", () => {
  const overlap = check({ localPorts: { first: 20000, last: 60999 } }, "snat_ports");
  assert.equal(overlap.status, "warn");
  assert.match(
    overlap.detail,
    /10240-29999 overlaps net.ipv4.ip_local_port_range \(20000-60999\); 10240-19999, 61000-65535 is left/,
  );
});

test("checkHost() names the capability that is missing", () => {
  const netAdminOnly = check({ capabilities: 1n << 12n }, "privileges");
  assert.equal(netAdminOnly.status, "fail");
  assert.equal(netAdminOnly.detail, "without CAP_BPF");
  assert.equal(check({ capabilities: (1n << 12n) | (1n << 21n) }, "privileges").status, "ok");
});

test("kernelVersion() and hasTcx() read the forms that distributions use", () => {
  assert.deepEqual(kernelVersion("6.1.0-13-amd64"), [6, 1]);
  assert.deepEqual(kernelVersion("5.10.0"), [5, 10]);
  assert.deepEqual(kernelVersion("unknown"), [0, 0]);
  assert.ok(hasTcx("6.6.0"));
  assert.ok(hasTcx("7.0.1"));
  assert.ok(!hasTcx("6.5.13"));
});

test("checkHost() says what is slower without batch commands on maps", () => {
  assert.equal(check({ missingFeatures: ["tcx"] }, "batch").status, "ok");
  const slow = check({ missingFeatures: ["tcx", "batch_percpu_array"] }, "batch");
  assert.equal(slow.status, "warn");
  assert.match(slow.detail, /^without batch_percpu_array: large changes take longer/);
});

test("checkHost() warns of what sockets lose on older kernels", () => {
  assert.match(check({}, "set_retval").detail, /ECONNREFUSED/);
  const old = check({ missingFeatures: ["set_retval"] }, "set_retval");
  assert.equal(old.status, "warn");
  assert.match(old.detail, /EPERM/);
  const keeps = check({ missingFeatures: ["udp_destroy"] }, "socket_destroy");
  assert.equal(keeps.status, "warn");
  assert.match(keeps.detail, /CONFIG_INET_DIAG_DESTROY/);
  assert.equal(check({ missingFeatures: null }, "socket_destroy").status, "warn", "it could not be tried");
});

test("checkHost() wants cgroup v2, with its socket hooks", () => {
  assert.equal(check({ cgroup2: null }, "cgroup2").status, "warn");
  assert.match(check({ missingFeatures: ["cgroup_sockets"] }, "cgroup2").detail, /has not all socket hooks/);
});

test("checkHost() fails a FORWARD that drops by policy where an agent's rules are missing (8.11)", () => {
  const dropping: ForwardPolicy = {
    state: "known",
    backend: "nft",
    family: 4,
    policy: "DROP",
    otherRules: 0,
    needed: true,
    inPlace: false,
  };
  const lacking = check({ forwardPolicies: [dropping] }, "forward_policy");
  assert.equal(lacking.status, "fail");
  assert.match(lacking.detail, /^iptables-nft: FORWARD drops by policy/);
  assert.match(lacking.fix ?? "", /--forward-rules/);
  const statusOf = (facts: Partial<HostFacts>): string => check(facts, "forward_policy").status;
  assert.equal(statusOf({ forwardPolicies: [{ ...dropping, inPlace: true }] }), "ok");
  assert.equal(
    statusOf({ forwardPolicies: [dropping], agentPinned: false }),
    "ok",
    "before an agent has run",
  );
  assert.equal(statusOf({ forwardPolicies: [{ ...dropping, policy: "ACCEPT", needed: false }] }), "ok");
});

test("checkHost() names the chain of nft that no rule of ours can help", () => {
  const text = "inet firewalld filter_FORWARD";
  const chain = { family: "inet", table: "firewalld", chain: "filter_FORWARD", text } as const;
  const { status, detail } = check({ droppingChains: [chain] }, "forward_policy");
  assert.equal(status, "warn");
  assert.match(detail, /inet firewalld filter_FORWARD/);
});
