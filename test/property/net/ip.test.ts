// SPDX-License-Identifier: Apache-2.0
// Addresses against Node's own: the WHATWG URL parser for canonical text, BlockList for ranges.
import assert from "node:assert/strict";
import { BlockList, isIPv4, isIPv6 } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { cidrContains, cidrOf } from "../../../src/net/cidr.js";
import { compareIp, ipFromBytes, parseIp } from "../../../src/net/ip.js";

const v6Bytes = fc
  .array(fc.oneof(fc.constant(0), fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])));
const v4Bytes = fc.uint8Array({ minLength: 4, maxLength: 4 });

test("parseIp() canonicalises IPv6 as the URL standard does", () => {
  fc.assert(
    fc.property(v6Bytes, fc.boolean(), (bytes, upper) => {
      const groups = Array.from({ length: 8 }, (_, i) =>
        (((bytes[i * 2] ?? 0) << 8) | (bytes[i * 2 + 1] ?? 0)).toString(16),
      );
      const text = upper
        ? groups.join(":").toUpperCase()
        : groups.map((group) => group.padStart(4, "0")).join(":");
      const address = parseIp(text);
      if (groups.slice(0, 5).every((group) => group === "0") && groups[5] === "ffff") {
        assert.equal(address?.family, 4);
        return;
      }
      assert.equal(`[${address?.text}]`, new URL(`http://[${text}]/`).hostname);
      assert.deepEqual(address?.bytes, bytes);
    }),
    { numRuns: 5000 },
  );
});

test("parseIp() reads each IPv4 address, with any leading zeros, as decimal (2.8)", () => {
  fc.assert(
    fc.property(v4Bytes, fc.array(fc.nat(5), { minLength: 4, maxLength: 4 }), (bytes, zeros) => {
      const text = Array.from(bytes, (byte, i) => "0".repeat(zeros[i] ?? 0) + byte).join(".");
      assert.deepEqual(parseIp(text)?.bytes, bytes);
      assert.equal(parseIp(text)?.text, bytes.join("."));
      assert.equal(parseIp(`::ffff:${text}`)?.text, bytes.join("."));
    }),
    { numRuns: 3000 },
  );
});

test("parseIp() accepts nothing that Node refuses, but for leading zeros", () => {
  const characters = fc.string({ unit: fc.constantFrom(..."0123456789abcdefx.:%/[] -"), maxLength: 20 });
  fc.assert(
    fc.property(characters, (text) => {
      const address = parseIp(text);
      const plain = text.replace(/(^|[.:])0+(?=\d+(?:\.|$))/g, "$1");
      if (address !== null) assert.ok(isIPv4(plain) || isIPv6(plain), text);
      else if (!text.includes("%")) assert.ok(!isIPv4(text) && !isIPv6(text), text);
    }),
    { numRuns: 20_000 },
  );
});

test("cidrContains() agrees with BlockList", () => {
  const addresses = fc.oneof(fc.tuple(v4Bytes, v4Bytes), fc.tuple(v6Bytes, v6Bytes));
  fc.assert(
    fc.property(addresses, fc.nat(128), ([a, b], length) => {
      const [one, two] = [ipFromBytes(a), ipFromBytes(b)];
      fc.pre(one.family === two.family);
      const prefix = one.family === 4 ? length % 33 : length;
      const list = new BlockList();
      list.addSubnet(one.text, prefix, `ipv${one.family}`);
      assert.equal(cidrContains(cidrOf(one, prefix), two), list.check(two.text, `ipv${two.family}`));
      assert.ok(cidrContains(cidrOf(one, prefix), one));
    }),
    { numRuns: 5000 },
  );
});

test("compareIp() is an order: it agrees with the bytes as a number", () => {
  const number = (bytes: Uint8Array): bigint => bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  fc.assert(
    fc.property(v6Bytes, v6Bytes, (a, b) => {
      const [one, two] = [ipFromBytes(a), ipFromBytes(b)];
      fc.pre(one.family === 6 && two.family === 6);
      const difference = number(a) - number(b);
      assert.equal(Math.sign(compareIp(one, two)), difference < 0n ? -1 : difference > 0n ? 1 : 0);
    }),
  );
});
