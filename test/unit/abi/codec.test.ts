// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Empty, REASONS, Reason } from "../../../src/abi/enums.gen.js";
import {
  choiceTag,
  decodeChoice,
  encodeChoice,
  encodeEmptyChoice,
  MAX_CHOICE_BASE,
  MAX_CHOICE_COUNT,
} from "../../../src/abi/hash.js";
import {
  addrPort4Codec,
  addrPort6Codec,
  FAMILY_CODECS,
  frontendCodec,
  natKey6Codec,
  ptlConfigCodec,
  STRUCT_LAYOUTS,
  serviceNameCodec,
} from "../../../src/abi/layout.gen.js";
import { MAP_NAMES, MAPS } from "../../../src/abi/maps.gen.js";

test("Codecs write ports and addresses in network order and everything else little endian", () => {
  const key = addrPort4Codec.encode({ addr: Uint8Array.of(10, 96, 65, 65), port: 6379, protocol: 6 });
  assert.deepEqual([...key], [10, 96, 65, 65, 0x18, 0xeb, 6, 0]);
  const value = frontendCodec.encode({
    internal: 0x0102030405060708n,
    external: 1n,
    service: 0x01020304,
    affinitySeconds: 5,
    flags: 1,
  });
  assert.deepEqual([...value.subarray(0, 8)], [8, 7, 6, 5, 4, 3, 2, 1]);
  assert.deepEqual([...value.subarray(16, 20)], [4, 3, 2, 1]);
});

test("Codecs give back what they were given", () => {
  const nat = {
    src: Uint8Array.from({ length: 16 }, (_, i) => i),
    dst: Uint8Array.from({ length: 16 }, (_, i) => 255 - i),
    sport: 65535,
    dport: 1,
    protocol: 17,
    direction: 1,
  };
  assert.deepEqual(natKey6Codec.decode(natKey6Codec.encode(nat)), nat);
  const name = { namespaceName: "default", name: "redis", portName: "", protocol: 6 };
  assert.deepEqual(serviceNameCodec.decode(serviceNameCodec.encode(name)), name);
  const config = ptlConfigCodec.decode(new Uint8Array(ptlConfigCodec.size).fill(0xff));
  assert.deepEqual(config.snatPortBase, [65535, 65535]);
  assert.deepEqual(ptlConfigCodec.decode(ptlConfigCodec.encode(config)), config);
});

test("Codecs read entries at an offset of a larger buffer and copy what they return", () => {
  const size = addrPort6Codec.size;
  const bytes = new Uint8Array(3 * size + 5);
  const entry = { addr: Uint8Array.from({ length: 16 }, (_, i) => i + 1), port: 53, protocol: 17 };
  bytes.set(addrPort6Codec.encode(entry), 5 + size);
  const decoded = addrPort6Codec.decode(bytes.subarray(5), size);
  bytes.fill(0);
  assert.deepEqual(decoded, entry);
});

test("Codecs refuse what does not fit, naming the field", () => {
  assert.throws(
    () => addrPort4Codec.encode({ addr: new Uint8Array(16), port: 1, protocol: 6 }),
    /addr_port4\.addr: 16 bytes, not 4/,
  );
  const name = "x".repeat(64);
  assert.throws(
    () => serviceNameCodec.encode({ namespaceName: "a", name, portName: "", protocol: 6 }),
    /service_name\.name: "x+" has more than 63 bytes/,
  );
  assert.throws(() => frontendCodec.decode(new Uint8Array(31)), RangeError);
  assert.throws(() => addrPort4Codec.decode(new Uint8Array(8), 6), RangeError);
});

test("Codecs wipe the rest of a text that was longer before", () => {
  const bytes = serviceNameCodec.encode({
    namespaceName: "longer-name",
    name: "n",
    portName: "p",
    protocol: 6,
  });
  const view = new DataView(bytes.buffer);
  serviceNameCodec.encodeInto(view, 0, { namespaceName: "a", name: "n", portName: "p", protocol: 6 });
  assert.deepEqual(
    bytes,
    serviceNameCodec.encode({ namespaceName: "a", name: "n", portName: "p", protocol: 6 }),
  );
});

test("Codecs of both families have the same fields", () => {
  for (const [name, codec4] of Object.entries(FAMILY_CODECS[4])) {
    const codec6 = FAMILY_CODECS[6][name as keyof (typeof FAMILY_CODECS)[6]];
    assert.deepEqual(Object.keys(codec6.offsets), Object.keys(codec4.offsets), name);
  }
});

test("The map table agrees with the structs that it names", () => {
  const sizes = new Map(STRUCT_LAYOUTS.map((struct) => [struct.name, struct.size]));
  for (const [name, size] of [
    ["u32", 4],
    ["u64", 8],
    ["", 0],
  ] as const)
    sizes.set(name, size);
  assert.deepEqual(MAP_NAMES, Object.keys(MAPS));
  for (const map of Object.values(MAPS)) {
    assert.equal(map.keySize, sizes.get(map.key), map.name);
    assert.equal(map.valueSize, sizes.get(map.value), map.name);
    assert.ok(map.maxEntries > 0);
  }
});

test("The list of reasons is indexed by id and complete", () => {
  assert.equal(REASONS.length, Reason.COUNT);
  for (const [index, reason] of REASONS.entries()) assert.equal(reason.id, index);
  assert.equal(new Set(REASONS.map((reason) => reason.name)).size, REASONS.length);
});

test("Choice words pack tag, count and base, and give them back at both ends of their ranges", () => {
  for (const word of [
    { tag: 1, count: 0, base: 0 },
    { tag: 0xffff, count: MAX_CHOICE_COUNT, base: MAX_CHOICE_BASE },
    { tag: 0x8001, count: 5000, base: 123_456 },
  ])
    assert.deepEqual(decodeChoice(encodeChoice(word)), word);
  assert.equal(encodeChoice({ tag: 0xffff, count: MAX_CHOICE_COUNT, base: MAX_CHOICE_BASE }), 2n ** 64n - 1n);
  assert.deepEqual(decodeChoice(encodeEmptyChoice(7, "drop")), { tag: 7, count: 0, base: Empty.DROP });
  assert.throws(() => encodeChoice({ tag: 0, count: 1, base: 1 }), RangeError);
  assert.throws(() => encodeChoice({ tag: 1, count: MAX_CHOICE_COUNT + 1, base: 1 }), RangeError);
  assert.throws(() => encodeChoice({ tag: 1, count: 1, base: MAX_CHOICE_BASE + 1 }), RangeError);
});

test("Choice tags are never 0 and spread keys that differ in one bit", () => {
  const tags = new Set<number>();
  for (let i = 0; i < 4096; i++) {
    const addr = Uint8Array.of(10, 96, i >> 8, i & 255);
    const tag = choiceTag(addrPort4Codec.encode({ addr, port: 80, protocol: 6 }));
    assert.ok(tag > 0 && tag <= 0xffff);
    tags.add(tag);
  }
  // 4096 of 65535 values at random: about 3970 distinct.
  assert.ok(tags.size > 3700, `${tags.size} distinct tags`);
});
