// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { cidrContains, parseCidr } from "../../../src/net/cidr.js";
import { compareIp, internedAddresses, ipFromBytes, parseIp, specialUse } from "../../../src/net/ip.js";
import { formatAddressPort, protocolNumber, protocolOfNumber } from "../../../src/net/port.js";
import { ip } from "../../fixtures/objects.js";

const READ: readonly (readonly [text: string, canonical: string])[] = [
  ["10.0.0.1", "10.0.0.1"],
  ["010.000.000.001", "10.0.0.1"],
  ["0000000192.168.08.09", "192.168.8.9"],
  ["0.0.0.0", "0.0.0.0"],
  ["::", "::"],
  ["0:0:0:0:0:0:0:1", "::1"],
  ["2001:DB8::00:1", "2001:db8::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["::ffff:1.2.3.4", "1.2.3.4"],
  ["::ffff:010.0.0.1", "10.0.0.1"],
  ["::FFFF:0102:0304", "1.2.3.4"],
  ["::1.2.3.4", "::102:304"],
  ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
];

for (const [text, canonical] of READ) {
  test(`parseIp() reads ${text} as ${canonical} (2.8)`, () => {
    const address = parseIp(text);
    assert.equal(address?.text, canonical);
    assert.equal(address?.bytes.length, canonical.includes(":") ? 16 : 4);
    assert.equal(address?.family, canonical.includes(":") ? 6 : 4);
    assert.equal(parseIp(text), address, "the second time it is the same object");
  });
}

const REFUSED = [
  "",
  " ",
  " 10.0.0.1",
  "10.0.0.1 ",
  "10.0.0.1\n",
  "10.0.0",
  "10.1",
  "167772161",
  "0x0a.0.0.1",
  "0x7f.1",
  "10.0.0.256",
  "10.0.0.1.1",
  "10..0.1",
  ".10.0.0.1",
  "10.0.0.1.",
  "-1.0.0.0",
  "1e1.0.0.1",
  "١.0.0.1",
  "10.0.0.1/8",
  "10.0.0.1:80",
  "fe80::1%eth0",
  "fe80::1%",
  "::1/64",
  "[::1]",
  ":",
  ":::",
  "1::2::3",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "12345::",
  "g::",
  "::ffff:1.2.3",
  "::ffff:1.2.3.256",
  "::ffff:0x1.2.3.4",
  "1.2.3.4::",
  "::1.2.3.4:5",
  "0".repeat(70),
];

for (const text of REFUSED) {
  test(`parseIp() refuses ${JSON.stringify(text.slice(0, 20))}`, () => assert.equal(parseIp(text), null));
}

test("parseIp() keeps a bounded number of addresses in memory", () => {
  for (let i = 0; i < 600_000; i += 1) parseIp(`10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`);
  assert.ok(internedAddresses() <= 2 * (1 << 17), `${internedAddresses()}`);
});

test("ipFromBytes() is the reverse of bytes, and refuses other lengths", () => {
  for (const text of ["10.1.2.3", "fd00::1", "2001:db8::"])
    assert.equal(ipFromBytes(ip(text).bytes).text, text);
  assert.equal(
    ipFromBytes(Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4])).text,
    "1.2.3.4",
  );
  assert.throws(() => ipFromBytes(new Uint8Array(5)), RangeError);
});

test("compareIp() sorts by family and then by number, not by text", () => {
  const texts = ["fd00::10", "10.0.0.10", "10.0.0.9", "fd00::9", "9.0.0.0"];
  const sorted = texts
    .map(ip)
    .sort(compareIp)
    .map((address) => address.text);
  assert.deepEqual(sorted, ["9.0.0.0", "10.0.0.9", "10.0.0.10", "fd00::9", "fd00::10"]);
});

test("specialUse() knows the ranges that are no unicast addresses", () => {
  const uses = [
    "0.0.0.0",
    "127.1.2.3",
    "169.254.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "10.0.0.1",
    "240.0.0.1",
  ];
  assert.deepEqual(
    uses.map((text) => specialUse(ip(text))),
    ["unspecified", "loopback", "link-local", "multicast", "broadcast", null, null],
  );
  const six = ["::", "::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "fd00::1"];
  assert.deepEqual(
    six.map((text) => specialUse(ip(text))),
    ["unspecified", "loopback", "link-local", "link-local", null, "multicast", null],
  );
});

test("parseCidr() clears host bits, reads leading zeros as decimal and refuses what is no range (2.12)", () => {
  assert.equal(parseCidr("010.1.2.3/12")?.text, "10.0.0.0/12");
  assert.equal(parseCidr("2001:db8::ffff/33")?.text, "2001:db8::/33");
  assert.equal(parseCidr("0.0.0.0/0")?.text, "0.0.0.0/0");
  assert.equal(parseCidr("::ffff:10.1.2.3/104")?.text, "10.0.0.0/8");
  for (const text of [
    "10.0.0.0",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/",
    "/8",
    "fd00::/129",
    "10.0.0.0/8/8",
    "::ffff:1.2.3.4/8",
  ]) {
    assert.equal(parseCidr(text), null, text);
  }
});

test("cidrContains() compares bits within one family", () => {
  const contains = (cidr: string, text: string): boolean => {
    const range = parseCidr(cidr);
    assert.ok(range);
    return cidrContains(range, ip(text));
  };
  assert.ok(contains("10.0.0.0/9", "10.127.255.255"));
  assert.ok(!contains("10.0.0.0/9", "10.128.0.0"));
  assert.ok(contains("10.0.0.1/32", "10.0.0.1"));
  assert.ok(contains("::/0", "fd00::1"));
  assert.ok(!contains("::/0", "10.0.0.1"));
  assert.ok(contains("2001:db8::/33", "2001:db8:7fff::1"));
  assert.ok(!contains("2001:db8::/33", "2001:db8:8000::1"));
});

test("formatAddressPort() brackets IPv6", () => {
  assert.equal(formatAddressPort(ip("10.0.0.1"), 80), "10.0.0.1:80");
  assert.equal(formatAddressPort(ip("fd00::1"), 65535), "[fd00::1]:65535");
});

test("protocols have IANA's numbers (2.5)", () => {
  assert.deepEqual([6, 17, 132, 1].map(protocolOfNumber), ["TCP", "UDP", "SCTP", null]);
  assert.equal(protocolNumber("SCTP"), 132);
});
