// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { GivenFlags } from "../../../src/config/flag-values.js";
import type { ParsedSettings } from "../../../src/config/parse-settings.js";
import { parseSettings } from "../../../src/config/parse-settings.js";
import { settingProblemLine } from "../../../src/config/problem.js";
import type { ProxySettings } from "../../../src/config/proxy-settings.js";

const HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const OURS = "---\napiVersion: portolan.dev/v1alpha1\nkind: PortolanConfiguration\n";
const KUBEADM = readFileSync(new URL("../../fixtures/config/kubeadm-config.conf", import.meta.url), "utf8");

const fromFlags = (flags: GivenFlags): ParsedSettings =>
  parseSettings({ flags, file: null, hostname: "Host-1" });

const fromFile = (body: string, flags: GivenFlags = {}): ParsedSettings =>
  parseSettings({ flags, file: { path: "c.conf", text: HEAD + body }, hostname: "Host-1" });

function lines({ problems }: ParsedSettings): string[] {
  return problems.map((problem) => `${problem.severity}: ${settingProblemLine(problem, "c.conf")}`);
}

function good(parsed: ParsedSettings): ProxySettings {
  assert.ok(parsed.settings !== null, lines(parsed).join("\n"));
  return parsed.settings;
}

/** Errors alone: advice on nodePortAddresses comes with nearly everything. */
function errors(parsed: ParsedSettings): string[] {
  return lines(parsed).filter((line) => line.startsWith("error"));
}

/** Without the advice that nodePortAddresses is not set. */
function warnings(parsed: ParsedSettings): string[] {
  good(parsed);
  return lines(parsed).filter((line) => !line.includes("is not set: NodePorts"));
}

function valueAt(settings: ProxySettings, path: string): unknown {
  return path
    .split(".")
    .reduce<unknown>((node, name) => (node as Record<string, unknown>)[name], settings.kubeProxy);
}

/** Section 12's table of defaults; durations in milliseconds. */
const DEFAULTS: readonly (readonly [string, unknown])[] = [
  ["bindAddress", "0.0.0.0"],
  ["healthzBindAddress", "0.0.0.0:10256"],
  ["metricsBindAddress", "127.0.0.1:10249"],
  ["bindAddressHardFail", false],
  ["enableProfiling", false],
  ["showHiddenMetricsForVersion", ""],
  ["hostnameOverride", ""],
  ["clientConnection.kubeconfig", ""],
  ["clientConnection.contentType", "application/vnd.kubernetes.protobuf"],
  ["clientConnection.qps", 5],
  ["clientConnection.burst", 10],
  ["clientConnection.acceptContentTypes", ""],
  ["mode", "iptables"],
  ["iptables.masqueradeBit", 14],
  ["iptables.masqueradeAll", false],
  ["iptables.localhostNodePorts", true],
  ["iptables.syncPeriod", 30_000],
  ["iptables.minSyncPeriod", 1000],
  ["nftables.masqueradeBit", 14],
  ["nftables.masqueradeAll", false],
  ["nftables.syncPeriod", 30_000],
  ["nftables.minSyncPeriod", 1000],
  ["ipvs.scheduler", ""],
  ["ipvs.excludeCIDRs", []],
  ["ipvs.strictARP", false],
  ["ipvs.tcpTimeout", 0],
  ["ipvs.tcpFinTimeout", 0],
  ["ipvs.udpTimeout", 0],
  ["ipvs.syncPeriod", 30_000],
  ["ipvs.minSyncPeriod", 0],
  ["detectLocalMode", "ClusterCIDR"],
  ["detectLocal.bridgeInterface", ""],
  ["detectLocal.interfaceNamePrefix", ""],
  ["clusterCIDR", ""],
  ["nodePortAddresses", []],
  ["oomScoreAdj", -999],
  ["conntrack.maxPerCore", 32_768],
  ["conntrack.min", 131_072],
  ["conntrack.tcpEstablishedTimeout", 86_400_000],
  ["conntrack.tcpCloseWaitTimeout", 3_600_000],
  ["conntrack.tcpBeLiberal", false],
  ["conntrack.udpTimeout", 0],
  ["conntrack.udpStreamTimeout", 0],
  ["configSyncPeriod", 900_000],
  ["featureGates", {}],
  ["logging.verbosity", 0],
  ["logging.vmodule", []],
  ["logging.format", "text"],
  ["logging.flushFrequency", 5000],
  ["portRange", ""],
  ["winkernel.networkName", ""],
  ["winkernel.sourceVip", ""],
  ["winkernel.enableDSR", false],
  ["winkernel.rootHnsEndpointName", ""],
  ["winkernel.forwardHealthCheckVip", false],
  ["windowsRunAsService", false],
];

for (const [path, value] of DEFAULTS) {
  test(`${path} is ${JSON.stringify(value)} by default, without a file and with one (12)`, () => {
    assert.deepEqual(valueAt(good(fromFlags({})), path), value);
    assert.deepEqual(valueAt(good(fromFile("")), path), value);
  });
}

test("Settings without flags and file are kube-proxy's defaults, the host's name in lower case, and the pod's account", () => {
  const settings = good(fromFlags({}));
  assert.deepEqual(
    {
      ...settings,
      kubeProxy: null,
      portolan: null,
      proxy: null,
      warnings: null,
      healthz: null,
      metrics: null,
    },
    {
      action: "run",
      configFile: null,
      writeConfigTo: null,
      nodeName: "host-1",
      mode: "iptables",
      syncPeriod: 30_000,
      auditPeriod: 30_000,
      healthz: null,
      metrics: null,
      nodeIp: null,
      api: { kubeconfig: null, master: null },
      watchServiceCIDRs: true,
      logLevel: "info",
      proxy: null,
      portolan: null,
      kubeProxy: null,
      warnings: null,
    },
  );
  assert.deepEqual([settings.healthz?.address.text, settings.healthz?.port], ["0.0.0.0", 10_256]);
  assert.deepEqual([settings.metrics?.address.text, settings.metrics?.port], ["127.0.0.1", 10_249]);
  assert.deepEqual(settings.portolan, {
    devices: [],
    podInterfaces: [],
    attach: "auto",
    xdp: "off",
    socketLB: "host-only",
    cgroupRoot: "",
    resetRemovedBackends: false,
    serviceCIDRs: [],
    externalIPs: true,
    snatPorts: "10240-29999,61000-65535",
    forwardMarkBit: 13,
    forwardRules: true,
    forwarding: "stack",
    topServices: 50,
    auditInterval: 0,
    logLevel: "",
    maps: { services: 0, frontends: 0, backends: 0, slots: 0, nat: 0, events: 0 },
  });
});

test("Settings are frozen, all the way down", () => {
  const settings = good(fromFile(OURS));
  for (const part of [settings, settings.kubeProxy, settings.kubeProxy.iptables, settings.portolan.maps]) {
    assert.ok(Object.isFrozen(part));
  }
});

test("The file that kubeadm writes says nothing but its kubeconfig and pods' range, and is not complained about", () => {
  const parsed = parseSettings({
    flags: { config: "c.conf", "hostname-override": "Node-7" },
    file: { path: "c.conf", text: KUBEADM },
    hostname: "host",
  });
  assert.deepEqual(warnings(parsed), []);
  const settings = good(parsed);
  for (const [path, value] of DEFAULTS) {
    if (path === "clusterCIDR") assert.equal(settings.kubeProxy.clusterCIDR, "10.244.0.0/16");
    else if (path === "hostnameOverride") assert.equal(settings.nodeName, "node-7");
    else if (path !== "clientConnection.kubeconfig") assert.deepEqual(valueAt(settings, path), value, path);
  }
  assert.deepEqual(settings.api, { kubeconfig: "/var/lib/kube-proxy/kubeconfig.conf", master: null });
  assert.equal(settings.configFile, "c.conf");
  assert.deepEqual(settings.proxy.detectLocal.mode, "ClusterCIDR");
});

test("An unknown field is named with its line, and the others are applied (12.2, N05)", () => {
  const parsed = fromFile(
    "iptabels: {masqueradeAll: true}\niptables:\n  masqueradeAll: true\n  masqueradAll: 1\n",
  );
  assert.deepEqual(warnings(parsed), [
    "warning: c.conf:3: iptabels: there is no such field; it is ignored",
    "warning: c.conf:6: iptables.masqueradAll: there is no such field; it is ignored",
  ]);
  assert.equal(good(parsed).proxy.masqueradeAll, true);
});

test("A field that is given twice is named with its second line, and the last counts (12.2)", () => {
  const parsed = fromFile(
    "oomScoreAdj: 1\noomScoreAdj: 2\niptables: {masqueradeAll: true}\niptables: {syncPeriod: 10s}\nfeatureGates:\n  A: true\n  A: false\n",
  );
  assert.deepEqual(warnings(parsed).slice(0, 3), [
    "warning: c.conf:4: oomScoreAdj: is given more than once; the last one counts",
    "warning: c.conf:6: iptables: is given more than once; the last one counts",
    "warning: c.conf:9: featureGates.A: is given more than once; the last one counts",
  ]);
  const { kubeProxy } = good(parsed);
  assert.equal(kubeProxy.oomScoreAdj, 2);
  assert.deepEqual([kubeProxy.iptables.masqueradeAll, kubeProxy.iptables.syncPeriod], [false, 10_000]);
  assert.deepEqual(kubeProxy.featureGates, { A: false });
});

test("A field that is given and then taken back with null is the default, since the last counts", () => {
  const parsed = fromFile(
    "oomScoreAdj: 1\noomScoreAdj: null\niptables: {masqueradeAll: true}\niptables: null\n",
  );
  const { kubeProxy } = good(parsed);
  assert.deepEqual([kubeProxy.oomScoreAdj, kubeProxy.iptables.masqueradeAll], [-999, false]);
});

test("Fields are case-sensitive, as in Kubernetes", () => {
  assert.deepEqual(warnings(fromFile("clustercidr: 10.0.0.0/8\n")), [
    "warning: c.conf:3: clustercidr: there is no such field; it is ignored",
  ]);
});

test("A file is read as YAML 1.1, and JSON is YAML", () => {
  assert.equal(good(fromFile("bindAddressHardFail: yes\n")).kubeProxy.bindAddressHardFail, true);
  const text = JSON.stringify({
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    oomScoreAdj: 5,
  });
  const parsed = parseSettings({ flags: {}, file: { path: "c", text }, hostname: "h" });
  assert.equal(good(parsed).kubeProxy.oomScoreAdj, 5);
});

for (const [title, body, path, value] of [
  [
    "an explicit 0 of conntrack",
    "conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s}\n",
    "conntrack.maxPerCore",
    0,
  ],
  [
    "an explicit 0s of a timeout",
    "conntrack: {tcpEstablishedTimeout: 0s}\n",
    "conntrack.tcpEstablishedTimeout",
    0,
  ],
  ["an explicit false", "iptables: {localhostNodePorts: false}\n", "iptables.localhostNodePorts", false],
  ["a bit 0", "iptables: {masqueradeBit: 0}\n", "iptables.masqueradeBit", 0],
  ["an oomScoreAdj of 0", "oomScoreAdj: 0\n", "oomScoreAdj", 0],
] as const) {
  test(`The file's ${title} is kept, since only null is the default there`, () => {
    assert.equal(valueAt(good(fromFile(body)), path), value);
  });
}

test("A logging.flushFrequency is a duration or nanoseconds", () => {
  const of = (text: string) =>
    good(fromFile(`logging: {flushFrequency: ${text}}\n`)).kubeProxy.logging.flushFrequency;
  assert.deepEqual([of("3s"), of("5000000000"), of("0")], [3000, 5000, 5000]);
});

test("The servers' addresses follow bindAddress' family and get the port that they lack (12)", () => {
  const six = good(fromFile('bindAddress: "fd00::7"\n'));
  assert.deepEqual(
    [six.kubeProxy.healthzBindAddress, six.kubeProxy.metricsBindAddress],
    ["[::]:10256", "[::1]:10249"],
  );
  assert.equal(six.nodeIp?.text, "fd00::7");
  const bare = good(fromFile('healthzBindAddress: 10.0.0.1\nmetricsBindAddress: "fd00::1"\n')).kubeProxy;
  assert.deepEqual([bare.healthzBindAddress, bare.metricsBindAddress], ["10.0.0.1:10256", "[fd00::1]:10249"]);
});

test("A wildcard bindAddress says nothing about the node's address (13.2)", () => {
  for (const address of ["0.0.0.0", "::"]) {
    assert.equal(good(fromFlags({ "bind-address": address })).nodeIp, null);
  }
  assert.equal(good(fromFlags({ "bind-address": "10.0.0.7" })).nodeIp?.text, "10.0.0.7");
});

test("An empty address flag turns its server off, and so does port 0", () => {
  const off = good(fromFlags({ "healthz-bind-address": "", "metrics-bind-address": "" }));
  assert.deepEqual([off.healthz, off.metrics], [null, null]);
  const zero = good(fromFlags({ "healthz-port": "0", "metrics-port": "0" }));
  assert.deepEqual([zero.healthz, zero.metrics], [null, null]);
});

test("A deprecated port counts for an address without one, and its absence of effect is told otherwise", () => {
  const counted = good(fromFlags({ "healthz-bind-address": "10.0.0.1", "healthz-port": "99" }));
  assert.equal(counted.kubeProxy.healthzBindAddress, "10.0.0.1:99");
  const parsed = fromFlags({ "metrics-port": "99" });
  assert.equal(good(parsed).kubeProxy.metricsBindAddress, "127.0.0.1:10249");
  assert.match(warnings(parsed).join(), /--metrics-port: no effect here, as in kube-proxy, because/);
});

test("The file wins over kube-proxy's flags, but those of logging, --hostname-override and --master (12.1)", () => {
  const flags = {
    "masquerade-all": true,
    kubeconfig: "/flag",
    "oom-score-adj": "7",
    "healthz-port": "0",
    v: "5",
    vmodule: ["a=3"],
    master: "https://m:6443",
    "hostname-override": " Flag ",
  } as const;
  const parsed = fromFile(
    "hostnameOverride: file\nclientConnection: {kubeconfig: /file}\nlogging: {vmodule: [{filePattern: b, verbosity: 1}]}\n",
    flags,
  );
  const settings = good(parsed);
  assert.equal(settings.proxy.masqueradeAll, false);
  assert.equal(settings.kubeProxy.oomScoreAdj, -999);
  assert.equal(settings.healthz?.port, 10_256);
  assert.deepEqual(settings.api, { kubeconfig: "/file", master: "https://m:6443" });
  assert.equal(settings.nodeName, "flag");
  assert.equal(settings.logLevel, "debug");
  assert.deepEqual(
    settings.kubeProxy.logging.vmodule.map(({ filePattern }) => filePattern),
    ["a", "b"],
  );
  // Accepted silently: only what has no effect in any case is told.
  assert.deepEqual(warnings(parsed), [
    "warning: --vmodule: no effect here because it names kube-proxy's source files",
  ]);
});

test("hostnameOverride is trimmed and in lower case, and an empty one is the host's name (12.8)", () => {
  assert.equal(good(fromFile('hostnameOverride: " Node-A "\n')).nodeName, "node-a");
  assert.equal(good(fromFlags({ "hostname-override": " Node-A " })).nodeName, "node-a");
  assert.equal(good(fromFlags({ "hostname-override": "" })).nodeName, "host-1");
  assert.equal(good(fromFile("", { "hostname-override": "" })).nodeName, "host-1");
  assert.equal(good(fromFile("hostnameOverride: a\n", { "hostname-override": "" })).nodeName, "a");
});

test("Flags are read as Go reads them", () => {
  const { kubeProxy, proxy } = good(
    fromFlags({
      "masquerade-all": "T",
      "iptables-localhost-nodeports": "0",
      "nodeport-addresses": ["10.0.0.0/8,192.168.0.0/16", "fd00::/8"],
      "feature-gates": ["A=true,B=f"],
      "kube-api-qps": "7.5",
      "conntrack-tcp-timeout-established": "2h22m",
      "log-flush-frequency": "1m",
    }),
  );
  assert.equal(proxy.masqueradeAll, true);
  assert.equal(kubeProxy.iptables.localhostNodePorts, false);
  assert.deepEqual(kubeProxy.nodePortAddresses, ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]);
  assert.deepEqual(kubeProxy.featureGates, { A: true, B: false });
  assert.equal(kubeProxy.clientConnection.qps, 7.5);
  assert.equal(kubeProxy.conntrack.tcpEstablishedTimeout, 8_520_000);
  assert.equal(kubeProxy.logging.flushFrequency, 60_000);
});

test("--iptables-*-period and --masquerade-all hold for nftables too, and --ipvs-*-period for ipvs alone (12.10)", () => {
  const flags = {
    "iptables-sync-period": "10s",
    "iptables-min-sync-period": "0",
    "ipvs-sync-period": "20s",
    "masquerade-all": true,
  } as const;
  const of = (mode: string) => good(fromFlags({ ...flags, "proxy-mode": mode }));
  assert.deepEqual(
    ["iptables", "nftables", "ipvs"].map((mode) => of(mode).syncPeriod),
    [10_000, 10_000, 20_000],
  );
  assert.equal(of("nftables").kubeProxy.nftables.minSyncPeriod, 0);
  assert.deepEqual(
    ["iptables", "nftables", "ipvs"].map((mode) => of(mode).proxy.masqueradeAll),
    [true, true, true],
  );
});

test("masqueradeAll and syncPeriod of the file are those of its mode's block", () => {
  const body = "iptables: {masqueradeAll: true, syncPeriod: 5s}\nnftables: {syncPeriod: 7s}\n";
  const nftables = good(fromFile(`${body}mode: nftables\n`));
  assert.deepEqual([nftables.proxy.masqueradeAll, nftables.syncPeriod], [false, 7000]);
  const iptables = good(fromFile(body));
  assert.deepEqual([iptables.proxy.masqueradeAll, iptables.syncPeriod], [true, 5000]);
});

test("nodePortAddresses are all addresses, and the primary ones in mode nftables (6.1)", () => {
  assert.deepEqual(good(fromFlags({})).proxy.nodePortAddresses, []);
  assert.equal(good(fromFlags({ "proxy-mode": "nftables" })).proxy.nodePortAddresses, "primary");
  assert.equal(good(fromFile("nodePortAddresses: [primary]\n")).proxy.nodePortAddresses, "primary");
});

test("Mode ipvs and its scheduler are accepted, and what is used instead is told", () => {
  const parsed = fromFile("mode: ipvs\nipvs: {scheduler: lc, strictARP: true}\n");
  const settings = good(parsed);
  assert.equal(settings.mode, "ipvs");
  assert.equal(settings.proxy.loopbackNodePorts, false, "never with IPVS (6.5)");
  const said = warnings(parsed);
  assert.equal(said.length, 3);
  assert.match(said[0] ?? "", /^warning: c.conf:3: mode: ipvs: the eBPF programs are used instead/);
  assert.match(
    said[1] ?? "",
    /^warning: c.conf:4: ipvs.scheduler: no effect here because a backend is chosen at random/,
  );
  assert.match(said[2] ?? "", /ipvs.strictARP: no effect here because/);
});

test("Settings without an effect here are told, once they differ from their defaults", () => {
  const parsed = fromFile(
    "enableProfiling: true\nportRange: 300-2000\nwinkernel: {enableDSR: true}\nclientConnection: {qps: 9}\niptables: {minSyncPeriod: 2s, syncPeriod: 30s}\nfeatureGates: {AllAlpha: true, MultiCIDRServiceAllocator: false}\n",
  );
  assert.deepEqual(
    good(parsed).warnings.flatMap(({ code, name }) => (code === "no_effect" ? [name] : [])),
    [
      "enableProfiling",
      "clientConnection.qps",
      "iptables.minSyncPeriod",
      "portRange",
      "winkernel.enableDSR",
      "featureGates",
    ],
  );
  assert.equal(good(parsed).watchServiceCIDRs, false);
  for (const line of warnings(parsed)) assert.match(line, /no effect here because /);
});

test("Unset nodePortAddresses are advised against, and so is one family in a dual-stack cluster (12.11)", () => {
  const advice = (parsed: ParsedSettings) =>
    good(parsed).warnings.flatMap(({ code, name, message }) =>
      code === "advice" ? [`${name} ${message}`] : [],
    );
  assert.match(advice(fromFlags({})).join(), /^--nodeport-addresses is not set: NodePorts are served on all/);
  assert.match(advice(fromFile("")).join(), /^nodePortAddresses is not set/);
  const dual = { "cluster-cidr": "10.0.0.0/8,fd00::/8" };
  assert.match(
    advice(fromFlags({ ...dual, "nodeport-addresses": ["10.0.0.0/8"] })).join(),
    /IPv4 ranges only/,
  );
  assert.deepEqual(advice(fromFlags({ ...dual, "nodeport-addresses": ["10.0.0.0/8", "fd00::/8"] })), []);
  assert.deepEqual(advice(fromFlags({ "nodeport-addresses": ["primary"] })), []);
});

/** 12.9, each by its field, and by its flag where it has one. */
const WRONG: readonly (readonly [field: string, body: string, flags: GivenFlags | null, message: RegExp])[] =
  [
    ["mode", "mode: userspace\n", { "proxy-mode": "userspace" }, /must be one of iptables, ipvs, nftables/],
    [
      "iptables.masqueradeBit",
      "iptables: {masqueradeBit: 32}\n",
      { "iptables-masquerade-bit": "32" },
      /from 0 to 31/,
    ],
    [
      "iptables.masqueradeBit",
      "iptables: {masqueradeBit: -1}\n",
      { "iptables-masquerade-bit": "-1" },
      /from 0 to 31/,
    ],
    ["nftables.masqueradeBit", "nftables: {masqueradeBit: 32}\n", null, /from 0 to 31/],
    ["oomScoreAdj", "oomScoreAdj: 1001\n", { "oom-score-adj": "1001" }, /from -1000 to 1000/],
    ["oomScoreAdj", "oomScoreAdj: -1001\n", { "oom-score-adj": "-1001" }, /from -1000 to 1000/],
    [
      "iptables.syncPeriod",
      "iptables: {syncPeriod: -1s}\n",
      { "iptables-sync-period": "0" },
      /must be more than 0/,
    ],
    [
      "iptables.minSyncPeriod",
      "iptables: {minSyncPeriod: -1s}\n",
      { "iptables-min-sync-period": "-1s" },
      /negative/,
    ],
    [
      "iptables.syncPeriod",
      "iptables: {minSyncPeriod: 31s, syncPeriod: 30s}\n",
      { "iptables-min-sync-period": "31s" },
      /less than minSyncPeriod, which is 31s/,
    ],
    [
      "nftables.syncPeriod",
      "mode: nftables\nnftables: {syncPeriod: -1s}\n",
      { "proxy-mode": "nftables", "iptables-sync-period": "-1s" },
      /must be more than 0/,
    ],
    [
      "ipvs.syncPeriod",
      "mode: ipvs\nipvs: {syncPeriod: -1s}\n",
      { "proxy-mode": "ipvs", "ipvs-sync-period": "0" },
      /must be more than 0/,
    ],
    ["configSyncPeriod", "configSyncPeriod: -1s\n", { "config-sync-period": "0" }, /must be more than 0/],
    ["bindAddress", "bindAddress: here\n", { "bind-address": "here" }, /must be an IP address/],
    [
      "healthzBindAddress",
      "healthzBindAddress: localhost:1\n",
      { "healthz-bind-address": "localhost:1" },
      /must be an IP address with a port/,
    ],
    [
      "healthzBindAddress",
      "healthzBindAddress: 10.0.0.1:0\n",
      { "healthz-bind-address": "10.0.0.1:0" },
      /with a port from 1 to 65535/,
    ],
    [
      "metricsBindAddress",
      "metricsBindAddress: 10.0.0.1:65536\n",
      { "metrics-bind-address": "10.0.0.1:65536" },
      /with a port from 1 to 65535/,
    ],
    [
      "metricsBindAddress",
      'metricsBindAddress: "::1:10249:x"\n',
      { "metrics-bind-address": "::1:10249:x" },
      /must be an IP address/,
    ],
    [
      "clusterCIDR",
      "clusterCIDR: 10.0.0.0\n",
      { "cluster-cidr": "10.0.0.0" },
      /"10.0.0.0" is no address range/,
    ],
    [
      "clusterCIDR",
      "clusterCIDR: 10.0.0.0/8,11.0.0.0/8\n",
      { "cluster-cidr": "10.0.0.0/8,11.0.0.0/8" },
      /one of each family/,
    ],
    [
      "clusterCIDR",
      "clusterCIDR: 10.0.0.0/8,fd00::/8,11.0.0.0/8\n",
      { "cluster-cidr": "10.0.0.0/8,fd00::/8,11.0.0.0/8" },
      /one of each family/,
    ],
    [
      "nodePortAddresses",
      "nodePortAddresses: [all]\n",
      { "nodeport-addresses": ["all"] },
      /"all" is no address range/,
    ],
    [
      "nodePortAddresses",
      "nodePortAddresses: [primary, 10.0.0.0/8]\n",
      { "nodeport-addresses": ["primary,10.0.0.0/8"] },
      /primary cannot stand beside/,
    ],
    ["conntrack.maxPerCore", "conntrack: {maxPerCore: -1}\n", { "conntrack-max-per-core": "-1" }, /negative/],
    ["conntrack.min", "conntrack: {min: -1}\n", { "conntrack-min": "-1" }, /negative/],
    [
      "conntrack.tcpEstablishedTimeout",
      "conntrack: {tcpEstablishedTimeout: -1s}\n",
      { "conntrack-tcp-timeout-established": "-1s" },
      /negative/,
    ],
    [
      "conntrack.tcpCloseWaitTimeout",
      "conntrack: {tcpCloseWaitTimeout: -1s}\n",
      { "conntrack-tcp-timeout-close-wait": "-1s" },
      /negative/,
    ],
    [
      "conntrack.udpTimeout",
      "conntrack: {udpTimeout: -1s}\n",
      { "conntrack-udp-timeout": "-1s" },
      /negative/,
    ],
    [
      "conntrack.udpStreamTimeout",
      "conntrack: {udpStreamTimeout: -1s}\n",
      { "conntrack-udp-timeout-stream": "-1s" },
      /negative/,
    ],
    [
      "detectLocalMode",
      "detectLocalMode: Magic\n",
      { "detect-local-mode": "Magic" },
      /must be one of ClusterCIDR, NodeCIDR/,
    ],
    [
      "detectLocal.bridgeInterface",
      "detectLocalMode: BridgeInterface\n",
      { "detect-local-mode": "BridgeInterface" },
      /must be set/,
    ],
    [
      "detectLocal.interfaceNamePrefix",
      "detectLocalMode: InterfaceNamePrefix\n",
      { "detect-local-mode": "InterfaceNamePrefix" },
      /must be set/,
    ],
    [
      "detectLocal.bridgeInterface",
      "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: a-very-long-name}\n",
      { "detect-local-mode": "BridgeInterface", "pod-bridge-interface": "a-very-long-name" },
      /cannot be/,
    ],
    [
      "hostnameOverride",
      'hostnameOverride: "  "\n',
      { "hostname-override": "  " },
      /nothing but white space/,
    ],
    ["clientConnection.burst", "clientConnection: {burst: -1}\n", { "kube-api-burst": "-1" }, /negative/],
    [
      "ipvs.scheduler",
      "mode: ipvs\nipvs: {scheduler: fast}\n",
      { "proxy-mode": "ipvs", "ipvs-scheduler": "fast" },
      /must be one of rr, wrr, lc/,
    ],
    [
      "ipvs.excludeCIDRs",
      "mode: ipvs\nipvs: {excludeCIDRs: [x]}\n",
      { "proxy-mode": "ipvs", "ipvs-exclude-cidrs": ["x"] },
      /no address range/,
    ],
    [
      "ipvs.udpTimeout",
      "mode: ipvs\nipvs: {udpTimeout: -1s}\n",
      { "proxy-mode": "ipvs", "ipvs-udp-timeout": "-1s" },
      /negative/,
    ],
    ["logging.format", "logging: {format: xml}\n", { "logging-format": "xml" }, /must be one of text, json/],
    ["portRange", "portRange: many\n", null, /must be a range of ports/],
    [
      "showHiddenMetricsForVersion",
      "showHiddenMetricsForVersion: last\n",
      { "show-hidden-metrics-for-version": "last" },
      /version such as/,
    ],
    ["oomScoreAdj", "oomScoreAdj: low\n", { "oom-score-adj": "low" }, /must be a whole number, not "low"/],
    ["oomScoreAdj", "oomScoreAdj: 1.5\n", { "oom-score-adj": "1.5" }, /must be a whole number/],
    ["oomScoreAdj", "oomScoreAdj: 3000000000\n", { "oom-score-adj": "3000000000" }, /too large for an int32/],
    ["configSyncPeriod", "configSyncPeriod: 15\n", { "config-sync-period": "15" }, /must be a duration/],
    [
      "bindAddressHardFail",
      "bindAddressHardFail: sure\n",
      { "bind-address-hard-fail": "sure" },
      /must be true or false/,
    ],
    ["hostnameOverride", "hostnameOverride: 12\n", null, /must be text, not 12/],
    ["nodePortAddresses", "nodePortAddresses: primary\n", null, /must be a list of texts/],
    ["iptables", "iptables: 5\n", null, /must be a map of fields/],
    ["featureGates", "featureGates: {A: maybe}\n", { "feature-gates": ["A=maybe"] }, /A=maybe|true or false/],
    ["logging.vmodule", "logging: {vmodule: [a]}\n", { vmodule: ["a"] }, /filePattern|pattern=N/],
    [
      "clientConnection.qps",
      "clientConnection: {qps: fast}\n",
      { "kube-api-qps": "fast" },
      /must be a number/,
    ],
  ];

for (const [field, body, flags, message] of WRONG) {
  const title = body.trim().replaceAll("\n", "; ");
  test(`A file with ${title} is refused, and ${field} is named with its line (12.9)`, () => {
    const parsed = fromFile(body);
    assert.equal(parsed.settings, null);
    const [first, ...more] = errors(parsed);
    assert.deepEqual(more, []);
    assert.ok(first?.includes(`: ${field}: `), first);
    assert.match(first ?? "", message);
    if (!/must be set/.test(message.source)) assert.match(first ?? "", /^error: c\.conf:\d+: /);
  });
  if (flags === null) continue;
  test(`${JSON.stringify(flags)} is refused, and a flag is named (12.9)`, () => {
    const parsed = fromFlags(flags);
    assert.equal(parsed.settings, null);
    const [first, ...more] = errors(parsed);
    assert.deepEqual(more, []);
    assert.match(first ?? "", /^error: --[a-z-]+: /);
    assert.match(first ?? "", message);
  });
}

test("All errors are told at once", () => {
  assert.equal(errors(fromFile("mode: x\noomScoreAdj: 5000\nclusterCIDR: y\n")).length, 3);
});

for (const [title, text, message] of [
  [
    "without a kind",
    "mode: iptables\n",
    /apiVersion and kind must be kubeproxy.config.k8s.io\/v1alpha1 and KubeProxyConfiguration/,
  ],
  [
    "of another version",
    "apiVersion: kubeproxy.config.k8s.io/v1\nkind: KubeProxyConfiguration\n",
    /not "kubeproxy.config.k8s.io\/v1" and/,
  ],
  ["that is empty", "", /is empty/],
  ["that is a comment", "# nothing\n", /is empty/],
  ["that is no YAML", `${HEAD}a: [\n`, /is no YAML/],
  ["that is a list", "- a\n", /apiVersion and kind must be/],
  ["with ours first", `${OURS}---\n${HEAD}`, /first document must be the KubeProxyConfiguration/],
  ["with ours twice", `${HEAD}${OURS}${OURS}`, /second PortolanConfiguration/],
] as const) {
  test(`A file ${title} is refused`, () => {
    const parsed = parseSettings({ flags: {}, file: { path: "c.conf", text }, hostname: "h" });
    assert.equal(parsed.settings, null);
    assert.match(errors(parsed).join("\n"), message);
  });
}

test("A further document of another kind is ignored, as kube-proxy ignores it, and told", () => {
  const parsed = fromFile(`${OURS}---\nkind: ConfigMap\n`);
  assert.match(warnings(parsed).join(), /a further document \(\? ConfigMap\) is ignored/);
});

test("Our settings are the file's second document, and our flags win over it", () => {
  const body = `${OURS}devices: [eth0]\nsocketLB: full\nexternalIPs: false\nauditInterval: 2m\nmaps: {services: 100}\nserviceCIDRs: [10.96.0.0/12]\nforwardMarkBit: 0\n`;
  const settings = good(fromFile(body));
  const { portolan, proxy } = settings;
  assert.deepEqual(
    [
      portolan.devices,
      portolan.socketLB,
      portolan.auditInterval,
      portolan.maps.services,
      portolan.forwardMarkBit,
    ],
    [["eth0"], "full", 120_000, 100, 0],
  );
  assert.deepEqual(
    [proxy.externalIPs, proxy.serviceCIDRs.map(({ text }) => text)],
    [false, ["10.96.0.0/12"]],
  );
  const flags = {
    devices: ["eth1,eth2"],
    "socket-lb": "off",
    "audit-interval": "30",
    "log-level": "warn",
    "max-services": "7",
  };
  const over = good(fromFile(body, flags));
  assert.deepEqual(
    [over.portolan.devices, over.portolan.socketLB, over.portolan.auditInterval, over.logLevel],
    [["eth1", "eth2"], "off", 30_000, "warn"],
  );
  assert.equal(over.portolan.maps.services, 7);
});

test("what others have changed is repaired within the mode's syncPeriod, unless auditInterval says otherwise (1.18)", () => {
  const period = (flags: GivenFlags, body?: string): number =>
    good(body === undefined ? fromFlags(flags) : fromFile(body, flags)).auditPeriod;
  assert.equal(period({}), 30_000);
  assert.equal(period({ "iptables-sync-period": "10s" }), 10_000);
  assert.equal(period({ "iptables-sync-period": "10s", "proxy-mode": "nftables" }), 10_000);
  assert.equal(period({ "ipvs-sync-period": "7s", "proxy-mode": "ipvs" }), 7_000);
  assert.equal(period({ "ipvs-sync-period": "7s" }), 30_000, "of another mode");
  assert.equal(period({ "iptables-sync-period": "10s", "audit-interval": "60" }), 60_000);
  // No busy loop, and no timer that overflows.
  assert.equal(period({ "iptables-sync-period": "10ms", "iptables-min-sync-period": "0s" }), 1_000);
  assert.equal(period({ "iptables-sync-period": "9999h" }), 86_400_000);
  assert.equal(period({}, `${OURS}auditInterval: 2m\n`), 120_000);
});

for (const [name, body, flags, message] of [
  ["socketLB", "socketLB: some\n", { "socket-lb": "some" }, /must be one of full, host-only, off/],
  ["attach", "attach: glue\n", { attach: "glue" }, /must be one of auto, tcx, clsact/],
  ["logLevel", "logLevel: loud\n", { "log-level": "loud" }, /must be one of debug, info/],
  ["forwardMarkBit", "forwardMarkBit: 32\n", { "forward-mark-bit": "32" }, /from 0 to 31/],
  ["maps.nat", "maps: {nat: -1}\n", { "max-nat": "0" }, /from 1 to/],
  ["auditInterval", "auditInterval: 1500ms\n", { "audit-interval": "1500ms" }, /whole seconds/],
  ["auditInterval", "auditInterval: 1ms\n", { "audit-interval": "0" }, /from 1000 to|whole seconds/],
  ["serviceCIDRs", "serviceCIDRs: [x]\n", { "service-cidr": ["x"] }, /no address range/],
  ["devices", "devices: 5\n", { devices: [" , "] }, /must be a list|name at least one/],
  ["forwardRules", "forwardRules: 5\n", { "forward-rules": "maybe" }, /true or false/],
] as const) {
  test(`Our ${body.trim()} is refused by its field, and ${JSON.stringify(flags)} by its flag`, () => {
    const file = errors(fromFile(OURS + body));
    assert.ok(file[0]?.includes(`: ${name}: `), file.join());
    assert.match(file.join(), message);
    const flag = errors(fromFlags(flags));
    assert.match(flag.join(), /^error: --[a-z-]+: /);
    assert.match(flag.join(), message);
  });
}

test("An unknown field of ours is told and ignored, so that a file can serve two versions", () => {
  const parsed = fromFile(`${OURS}socketLb: full\n`);
  assert.match(warnings(parsed).join(), /socketLb: there is no such field/);
  assert.equal(good(parsed).portolan.socketLB, "host-only");
});

test("An action is what its flag says; writing comes before cleaning, and that before preparing", () => {
  const of = (flags: GivenFlags) => good(fromFlags(flags)).action;
  assert.equal(of({ cleanup: true }), "cleanup");
  assert.equal(of({ "init-only": true }), "init-only");
  assert.equal(of({ "init-only": true, cleanup: "true" }), "cleanup");
  assert.equal(of({ "init-only": true, cleanup: true, "write-config-to": "f" }), "write-config");
  assert.equal(of({ cleanup: "false", "write-config-to": "" }), "run");
});

test("-v 4 is debug, unless --log-level says otherwise", () => {
  assert.equal(good(fromFlags({ v: "3" })).logLevel, "info");
  assert.equal(good(fromFlags({ v: "4" })).logLevel, "debug");
  assert.equal(good(fromFlags({ v: "9", "log-level": "error" })).logLevel, "error");
  assert.equal(good(fromFile("logging: {verbosity: 4}\n", { v: "0" })).logLevel, "info");
});

test("An alias of YAML is what its anchor says", () => {
  const parsed = fromFile("iptables: &p {syncPeriod: 9s}\nnftables: *p\nmode: nftables\n");
  assert.equal(good(parsed).syncPeriod, 9000);
});
