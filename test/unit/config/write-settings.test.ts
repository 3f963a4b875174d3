// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseAllDocuments } from "yaml";
import { formatDuration } from "../../../src/config/duration.js";
import type { GivenFlags } from "../../../src/config/flag-values.js";
import { KUBE_PROXY_FIELDS } from "../../../src/config/kube-proxy-settings.js";
import { parseSettings } from "../../../src/config/parse-settings.js";
import { PORTOLAN_SETTINGS } from "../../../src/config/portolan-settings.js";
import type { ProxySettings } from "../../../src/config/proxy-settings.js";
import { kubeProxyDocument, writeSettings } from "../../../src/config/write-settings.js";

function parse(flags: GivenFlags, text: string | null): ProxySettings {
  const file = text === null ? null : { path: "c", text };
  const { settings, problems } = parseSettings({ flags, file, hostname: "host" });
  assert.ok(settings !== null, JSON.stringify(problems));
  return settings;
}

test("What --write-config-to writes is read as the defaults, without a word (12.4)", () => {
  const defaults = parse({}, null);
  const again = parse({}, writeSettings(defaults));
  assert.deepEqual(again.kubeProxy, defaults.kubeProxy);
  assert.deepEqual(again.portolan, defaults.portolan);
  assert.deepEqual(
    again.warnings.filter(({ code }) => code !== "advice"),
    [],
  );
});

test("What --write-config-to writes has every field of both documents", () => {
  const documents = parseAllDocuments(writeSettings(parse({}, null)));
  assert.ok(Array.isArray(documents));
  const [first, second] = documents;
  for (const { field } of KUBE_PROXY_FIELDS) assert.ok(first?.hasIn(field.split(".")), field);
  for (const { field } of PORTOLAN_SETTINGS) assert.ok(second?.hasIn(field.split(".")), field);
});

test("kubeProxyDocument() has Go's texts of durations, as /configz shows them (11.1)", () => {
  const document = kubeProxyDocument(parse({}, null).kubeProxy);
  assert.equal(document.apiVersion, "kubeproxy.config.k8s.io/v1alpha1");
  assert.equal(document.kind, "KubeProxyConfiguration");
  assert.equal(document.configSyncPeriod, "15m0s");
  assert.equal((document.conntrack as Record<string, unknown>).tcpEstablishedTimeout, "24h0m0s");
});

/** Words that YAML 1.1 takes for something else, among others. */
const names = fc.constantFrom(
  "eth0",
  "on",
  "no",
  "1e3",
  "0x10",
  "null",
  "~",
  "cali*",
  "a: b",
  "# c",
  "2001-01-01",
);
const duration = fc.integer({ min: 1, max: 1e9 }).map((ms) => formatDuration(ms));
const flags = fc.record(
  {
    "proxy-mode": fc.constantFrom("iptables", "nftables", "ipvs"),
    "masquerade-all": fc.constantFrom("true", "false"),
    "hostname-override": names,
    "pod-bridge-interface": names,
    kubeconfig: names,
    "oom-score-adj": fc.integer({ min: -1000, max: 1000 }).map(String),
    "iptables-masquerade-bit": fc.integer({ min: 0, max: 31 }).map(String),
    "conntrack-max-per-core": fc.nat(1e6).map(String),
    "conntrack-udp-timeout": duration,
    "conntrack-tcp-timeout-established": duration,
    "config-sync-period": duration,
    "nodeport-addresses": fc.constantFrom(["primary"], ["10.0.0.0/8", "fd00::/8"]),
    "cluster-cidr": fc.constantFrom("10.0.0.0/8", "fd00::/8,10.0.0.0/8"),
    "feature-gates": fc.constantFrom(["A=true"], ["A=false,yes=true"]),
    "bind-address": fc.constantFrom("10.0.0.1", "fd00::1"),
    vmodule: fc.constantFrom(["a=1,b=2"]),
    v: fc.nat(10).map(String),
    devices: fc.array(names, { minLength: 1 }),
    "pod-interfaces": fc.array(names, { minLength: 1 }),
    "socket-lb": fc.constantFrom("full", "host-only", "off"),
    "cgroup-root": names,
    "forward-mark-bit": fc.integer({ min: 0, max: 31 }).map(String),
    "external-ips": fc.constantFrom("true", "false"),
    "audit-interval": fc.integer({ min: 1, max: 86_400 }).map(String),
    "max-nat": fc.integer({ min: 1, max: 1 << 24 }).map(String),
  },
  { requiredKeys: [] },
);

test("What --write-config-to writes of any flags is read as the same settings", () => {
  fc.assert(
    fc.property(flags, (given) => {
      const settings = parse(given, null);
      const again = parse({}, writeSettings(settings));
      assert.deepEqual(again.kubeProxy, settings.kubeProxy);
      assert.deepEqual(again.portolan, settings.portolan);
      assert.deepEqual(again.proxy, settings.proxy);
      assert.equal(again.logLevel, settings.logLevel);
    }),
  );
});
