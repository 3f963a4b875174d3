// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Counters, Reason } from "../../../src/abi/enums.gen.js";
import {
  addrPort6Codec,
  affinityCodec,
  affinityKey6Codec,
  backend4Codec,
  fragmentCodec,
  fragmentKey4Codec,
  frontendCodec,
  socketKey4Codec,
  socketValue4Codec,
  sourceRange4Codec,
  trafficCodec,
} from "../../../src/abi/layout.gen.js";
import { MAP_NAMES, MAPS } from "../../../src/abi/maps.gen.js";
import { decodeEntries, decoderOf, plainText } from "../../../src/cli/commands/maps/decode.js";

test("decoderOf() knows the key and the value of every map there is", () => {
  for (const name of MAP_NAMES) {
    const { key, value, keySize, valueSize } = MAPS[name];
    assert.doesNotThrow(() => decoderOf(key)(new Uint8Array(keySize)), `${name} key`);
    assert.doesNotThrow(() => decoderOf(value)(new Uint8Array(valueSize)), `${name} value`);
  }
});

test("decodeEntries() writes addresses, words and choice words as people read them", () => {
  const addr = new Uint8Array(16);
  addr.set([0xfd, 0, 0, 0x10], 0);
  addr[15] = 1;
  const keys = addrPort6Codec.encode({ addr, port: 6379, protocol: 6 });
  const values = frontendCodec.encode({
    internal: 0x123400001n,
    external: 0n,
    service: 7,
    affinitySeconds: 0,
    flags: 1,
  });
  assert.deepEqual(
    [...decodeEntries(MAPS.frontends6, { count: 1, keys, values })],
    [
      {
        key: { addr: "fd00:10::1", port: 6379, protocol: 6 },
        value: {
          internal: "0x0000000123400001",
          external: "0x0000000000000000",
          service: 7,
          affinitySeconds: 0,
          flags: 1,
        },
      },
    ],
  );
});

test("decodeEntries() writes a fragment's id as its header has it, and the hook as a word", () => {
  const [src, dst] = [Uint8Array.of(10, 0, 0, 1), Uint8Array.of(10, 96, 0, 1)];
  const keys = fragmentKey4Codec.encode({ src, dst, id: 0x1234, protocol: 17, direction: 1 });
  const values = fragmentCodec.encode({ sport: 40000, dport: 53 });
  assert.deepEqual(
    [...decodeEntries(MAPS.fragments4, { count: 1, keys, values })].map((e) => [
      plainText(e.key),
      plainText(e.value),
    ]),
    [["src=10.0.0.1 dst=10.96.0.1 id=4660 protocol=17 direction=out", "sport=40000 dport=53"]],
  );
});

test("decodeEntries() leaves out cells of an array that were never used", () => {
  const used = backend4Codec.encode({
    addr: Uint8Array.of(10, 0, 0, 1),
    port: 80,
    state: 1,
    flags: 0,
    generation: 3,
    service: 2,
  });
  const values = new Uint8Array(3 * used.length);
  values.set(used, used.length);
  const keys = Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0);
  const entries = [...decodeEntries(MAPS.backends4, { count: 3, keys, values })];
  assert.equal(entries.length, 1);
  assert.equal(
    plainText(entries[0]?.value ?? ""),
    "addr=10.0.0.1 port=80 state=live flags=0 generation=3 service=2",
  );
  assert.equal(entries[0]?.key, 1);
});

test("decodeEntries() names the reason that a cell of counters counts, and leaves a service port's a number", () => {
  const counted = trafficCodec.encode({ flows: 0n, packets: 7n, bytes: 420n });
  const values = new Uint8Array(2 * counted.length);
  values.set(counted);
  values.set(counted, counted.length);
  const keys = new Uint8Array(Uint32Array.of(Reason.DROP_SOURCE_RANGE, Counters.SERVICE_BASE + 3).buffer);
  const [drop, port] = [...decodeEntries(MAPS.counters, { count: 2, keys, values })];
  assert.deepEqual(drop, { key: 28, reason: "source_range", value: { flows: 0, packets: 7, bytes: 420 } });
  assert.deepEqual(port, { key: 67, value: { flows: 0, packets: 7, bytes: 420 } });
});

test("decodeEntries() writes a socket's cookie as one number, and the translation's direction as a word", () => {
  const addr = Uint8Array.of(10, 96, 0, 1);
  const keys = socketKey4Codec.encode({ cookie: [5, 2], addr, port: 53, protocol: 17, direction: 0 });
  const values = socketValue4Codec.encode({
    addr: Uint8Array.of(10, 0, 0, 9),
    port: 5353,
    backend: 4,
    generation: 1,
  });
  const [entry] = [...decodeEntries(MAPS.socket_nat4, { count: 1, keys, values })];
  assert.equal(
    plainText(entry?.key ?? ""),
    `cookie=${2 ** 33 + 5} addr=10.96.0.1 port=53 protocol=17 direction=in`,
  );
  assert.equal(plainText(entry?.value ?? ""), "addr=10.0.0.9 port=5353 backend=4 generation=1");
});

test("decodeEntries() reads what the kernel and the agent hold of affinity and ranges", () => {
  const client = new Uint8Array(16);
  client.set([0xfd], 0);
  const [affinity] = [
    ...decodeEntries(MAPS.affinity6, {
      count: 1,
      keys: affinityKey6Codec.encode({ client, service: 3 }),
      values: affinityCodec.encode({ backend: 2, generation: 9, lastNew: 12_000_000_000n }),
    }),
  ];
  assert.deepEqual(affinity, {
    key: { client: "fd00::", service: 3 },
    value: { backend: 2, generation: 9, lastNew: 12_000_000_000 },
  });
  const [range] = [
    ...decodeEntries(MAPS.source_ranges4, {
      count: 1,
      keys: sourceRange4Codec.encode({
        prefixLength: 40,
        service: 3,
        addr: Uint8Array.of(10, 0, 0, 0),
      }),
      values: Uint8Array.of(1, 0, 0, 0),
    }),
  ];
  assert.deepEqual(range, { key: { prefixLength: 40, service: 3, addr: "10.0.0.0" }, value: 1 });
});
