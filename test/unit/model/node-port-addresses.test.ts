// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  nodePortAddresses,
  primaryAddress,
  unmatchedNodePortAddresses,
} from "../../../src/model/node-port-addresses.js";
import type { ProxyConfig } from "../../../src/model/types.js";
import { cidr, ip, NODE } from "../../fixtures/objects.js";

const LOCAL = ["192.168.1.2", "192.168.0.2", "2001:db8::1", "2001:db8:1::2"].map(ip);
const HERE = { ...NODE, addresses: ["192.168.0.2", "2001:db8::1", "192.168.1.2"].map(ip) };

const CASES: readonly [string, ProxyConfig["nodePortAddresses"], readonly string[]][] = [
  ["nothing asked: every address (6.1)", [], ["192.168.0.2", "192.168.1.2", "2001:db8::1", "2001:db8:1::2"]],
  ["primary: the first of each family (6.4)", "primary", ["192.168.0.2", "2001:db8::1"]],
  [
    "an IPv4 range leaves IPv6 open (6.2)",
    [cidr("192.168.0.0/24")],
    ["192.168.0.2", "2001:db8::1", "2001:db8:1::2"],
  ],
  [
    "an IPv6 range leaves IPv4 open (6.2)",
    [cidr("2001:db8:1::/64")],
    ["192.168.0.2", "192.168.1.2", "2001:db8:1::2"],
  ],
  ["ranges of both", [cidr("192.168.1.0/24"), cidr("2001:db8::/64")], ["192.168.1.2", "2001:db8::1"]],
  [
    "a zero range overrides the others (6.2)",
    [cidr("10.0.0.0/8"), cidr("0.0.0.0/0"), cidr("fd00::/8")],
    ["192.168.0.2", "192.168.1.2"],
  ],
  ["ranges of nobody (6.3)", [cidr("10.0.0.0/8"), cidr("fd00::/8")], []],
];
for (const [title, asked, expected] of CASES) {
  test(`nodePortAddresses() with ${title}`, () => {
    assert.deepEqual(
      nodePortAddresses(asked, HERE, LOCAL).map(({ text }) => text),
      expected,
    );
  });
}

test("nodePortAddresses() gives no loopback and no link-local address, and each once", () => {
  const local = ["127.0.0.1", "::1", "169.254.0.9", "fe80::1", "192.168.0.2", "192.168.0.2"].map(ip);
  assert.deepEqual(
    nodePortAddresses([cidr("0.0.0.0/0"), cidr("::/0")], HERE, local).map(({ text }) => text),
    ["192.168.0.2"],
  );
});

test("primaryAddress() is the first of the family, and none where that is loopback (6.4, 13.1)", () => {
  assert.equal(primaryAddress(HERE, 4)?.text, "192.168.0.2");
  assert.equal(primaryAddress(HERE, 6)?.text, "2001:db8::1");
  assert.equal(primaryAddress({ ...NODE, addresses: [ip("127.0.0.1"), ip("10.0.0.1")] }, 4), null);
  assert.equal(primaryAddress(NODE, 4), null);
});

test("unmatchedNodePortAddresses() names each family that asks for what is not here (6.3)", () => {
  assert.deepEqual(unmatchedNodePortAddresses([cidr("10.0.0.0/8"), cidr("fd00::/8")], HERE, []), [
    { family: 4, asked: "10.0.0.0/8" },
    { family: 6, asked: "fd00::/8" },
  ]);
  assert.deepEqual(unmatchedNodePortAddresses("primary", HERE, [ip("2001:db8::1")]), [
    { family: 4, asked: "the node's address 192.168.0.2" },
  ]);
  assert.deepEqual(unmatchedNodePortAddresses([], HERE, []), []);
  assert.deepEqual(unmatchedNodePortAddresses("primary", NODE, []), []);
});
