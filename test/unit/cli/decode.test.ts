// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  addrPort6Codec,
  backend4Codec,
  fragmentCodec,
  fragmentKey4Codec,
  frontendCodec,
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
