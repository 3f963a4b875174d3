// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { familyProblems, type HostFamilies } from "../../../src/config/families.js";
import type { GivenFlags } from "../../../src/config/flag-values.js";
import { parseSettings } from "../../../src/config/parse-settings.js";
import { type Cidr, parseCidr } from "../../../src/net/cidr.js";

const FOUR: HostFamilies = { families: [4], primary: 4, podCIDRs: [] };
const BOTH: HostFamilies = { families: [4, 6], primary: 4, podCIDRs: [] };

function cidrs(...texts: readonly string[]): Cidr[] {
  return texts.map((text) => {
    const cidr = parseCidr(text);
    assert.ok(cidr !== null);
    return cidr;
  });
}

function found(flags: GivenFlags, host: HostFamilies): string[] {
  const { settings } = parseSettings({ flags, file: null, hostname: "h" });
  assert.ok(settings !== null);
  return familyProblems(settings, host).map(({ severity, name }) => `${severity} ${name}`);
}

for (const [title, flags, host, expected] of [
  ["nothing set", {}, FOUR, []],
  ["a pods' range of its family", { "cluster-cidr": "10.0.0.0/8" }, FOUR, []],
  ["pods' ranges of both families", { "cluster-cidr": "fd00::/8,10.0.0.0/8" }, FOUR, []],
  ["a pods' range of the other family", { "cluster-cidr": "fd00::/8" }, FOUR, ["error --cluster-cidr"]],
  [
    "such a range that another detector does not need",
    { "cluster-cidr": "fd00::/8", "detect-local-mode": "NodeCIDR" },
    FOUR,
    ["warning --cluster-cidr"],
  ],
  [
    "NodeCIDR and podCIDRs of the other family",
    { "detect-local-mode": "NodeCIDR" },
    { ...FOUR, podCIDRs: cidrs("fd00::/64") },
    ["error --detect-local-mode"],
  ],
  [
    "NodePorts on the other family",
    { "nodeport-addresses": ["fd00::/8"] },
    FOUR,
    ["warning --nodeport-addresses"],
  ],
] as const) {
  test(`An IPv4 host with ${title} has ${expected.join() || "no problem"} (12.12)`, () => {
    assert.deepEqual(found(flags, host), expected);
  });
}

test("A host of both families is only warned of ranges of one (12.12)", () => {
  assert.deepEqual(found({ "cluster-cidr": "fd00::/8" }, BOTH), ["warning --cluster-cidr"]);
  const podCIDRs = cidrs("fd00::/64");
  assert.deepEqual(found({ "detect-local-mode": "NodeCIDR" }, { ...BOTH, podCIDRs }), [
    "warning --detect-local-mode",
  ]);
});

test("A primary address of a family that the host does not support is fatal (12.12)", () => {
  assert.deepEqual(found({}, { ...FOUR, primary: 6 }), ["error --bind-address"]);
});

test("NodePorts on one family are warned of on a node with pods of two (12.11)", () => {
  const podCIDRs = cidrs("10.0.0.0/24", "fd00::/64");
  assert.deepEqual(found({ "nodeport-addresses": ["10.0.0.0/8"] }, { ...BOTH, podCIDRs }), [
    "warning --nodeport-addresses",
  ]);
});

test("Settings of a file are named by their fields", () => {
  const text =
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nclusterCIDR: fd00::/8\n";
  const { settings } = parseSettings({ flags: {}, file: { path: "c", text }, hostname: "h" });
  assert.ok(settings !== null);
  assert.deepEqual(
    familyProblems(settings, FOUR).map(({ name }) => name),
    ["clusterCIDR"],
  );
});
