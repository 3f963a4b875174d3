// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { FAMILY_CODECS } from "../../src/abi/layout.gen.js";
import { type TrackedFlow, TrackedStatus, TrackedTcpState } from "../../src/native/conntrack.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { parseIp } from "../../src/net/ip.js";
import { natCheck } from "../bpf/support/nat-entry.js";
import { freshPins, isolated } from "./support/isolate.js";

const at = (text: string, port: number) => {
  const address = parseIp(text);
  assert.ok(address, text);
  return { address, port };
};

/** From a client by a Service to a backend that sees another address. */
function flow(family: 4 | 6, protocol: number, sport: number, seenAs: boolean): TrackedFlow {
  const [client, service, backend, node] =
    family === 4
      ? ["192.0.2.7", "10.96.0.1", "10.244.0.9", "10.244.0.1"]
      : ["2001:db8::7", "fd00:96::1", "fd00:244::9", "fd00:244::1"];
  return {
    ...{ family, protocol, status: TrackedStatus.SEEN_REPLY | TrackedStatus.ASSURED, secondsLeft: 100 },
    tcpState: protocol === 6 ? TrackedTcpState.ESTABLISHED : TrackedTcpState.NONE,
    client: at(client, sport),
    service: at(service, 80),
    backend: at(backend, 8080),
    seenAs: seenAs ? at(node, sport + 20_000) : at(client, sport),
  };
}

const ends = ({ client, service, backend, seenAs }: TrackedFlow): string =>
  [client, service, backend, seenAs].map(({ address, port }) => `${address.text} ${port}`).join(" | ");

isolated(import.meta.url, () => {
  const library = new NativeLibrary();
  // The kernel translates only where some chain is there to translate.
  for (const family of ["ip", "ip6"])
    execFileSync("nft", [
      ...["add", "table", family, "t", ";"],
      ...["add", "chain", family, "t", "c", "{", "type nat hook postrouting priority 100", ";", "}", ";"],
      ...["add", "rule", family, "t", "c", "ct status dnat accept"],
    ]);

  test("flows that are made are translated by the kernel as asked, and are listed by protocol and status", async () => {
    const made = ([4, 6] as const).flatMap((family) =>
      [6, 17].flatMap((protocol) => [
        flow(family, protocol, 4000, false),
        flow(family, protocol, 4001, true),
      ]),
    );
    assert.deepEqual(await library.createTracked(made), { done: 8, failed: 0, errno: 0 });
    for (const protocol of [6, 17]) {
      const { flows, total } = await library.trackedFlows(protocol, TrackedStatus.DST_NAT, 100);
      assert.equal(total, 4);
      const wanted = made.filter((each) => each.protocol === protocol).map(ends);
      assert.deepEqual(flows.map(ends).sort(), wanted.sort());
      for (const each of flows) {
        assert.ok(each.secondsLeft > 80 && each.secondsLeft <= 100, `${each.secondsLeft}`);
        assert.equal(each.tcpState, protocol === 6 ? TrackedTcpState.ESTABLISHED : 0);
        assert.ok(each.status & TrackedStatus.SEEN_REPLY);
      }
      assert.equal((await library.trackedFlows(protocol, TrackedStatus.SRC_NAT, 100)).total, 2);
    }
  });

  test("a dump is bounded, and says how many there are", async () => {
    const { flows, total } = await library.trackedFlows(17, TrackedStatus.DST_NAT, 3);
    assert.deepEqual([flows.length, total], [3, 4]);
  });

  test("a flow that is tracked without translation, or made already, is replaced", async () => {
    const wanted = flow(4, 17, 4100, false);
    const passed = { ...wanted, service: wanted.backend };
    assert.equal((await library.createTracked([passed])).done, 1);
    assert.equal((await library.createTracked([wanted])).done, 1);
    assert.equal((await library.createTracked([wanted])).done, 1);
    const { flows } = await library.trackedFlows(17, 0, 100);
    assert.deepEqual(flows.filter(({ client }) => client.port === 4100).map(ends), [ends(wanted)]);
  });

  test("a flow that is deleted is gone, and one that is not there is no failure", async () => {
    const one = flow(6, 17, 4000, false);
    assert.deepEqual(await library.deleteTracked([one]), { done: 1, failed: 0, errno: 0 });
    assert.deepEqual(await library.deleteTracked([one]), { done: 0, failed: 0, errno: 0 });
    const { flows } = await library.trackedFlows(17, TrackedStatus.DST_NAT, 100);
    assert.ok(!flows.map(ends).includes(ends(one)));
  });

  test("nat checks are those of the programs, and entries are found by their keys", async () => {
    const object = await library.open({ pins: freshPins(library), maxEntries: { nat4: 1024, nat6: 1024 } });
    try {
      for (const family of [4, 6] as const) {
        const { natKey, natValue } = FAMILY_CODECS[family];
        const size = family === 4 ? 4 : 16;
        const entry = (i: number) => ({
          key: natKey.encode({
            ...{ src: new Uint8Array(size).fill(i), dst: new Uint8Array(size).fill(9) },
            ...{ sport: 4000 + i, dport: 53, protocol: 17, direction: 0 },
          }),
          value: natValue.encode({
            ...{ addr: new Uint8Array(size).fill(9), port: 53, peerPort: 4000 + i, check: 0 },
            ...{ backend: 1, generation: 2, lastSeen: 3, state: 1, flags: 4, service: 5 },
          }),
        });
        const entries = [entry(1), entry(2), entry(3)];
        const keys = Buffer.concat(entries.map(({ key }) => key));
        const values = Buffer.concat(entries.map(({ value }) => value));
        library.sealNat(family, keys, values, 2);
        const checks = entries.map((_, i) => natValue.decode(values, i * natValue.size).check);
        const offset = natValue.offsets.check as number;
        const wanted = entries.map(({ key, value }) => natCheck(key, value.subarray(0, offset)));
        assert.deepEqual(checks, [wanted[0], wanted[1], 0]);
        await object.apply([
          {
            ...{ map: `nat${family}`, kind: "update", count: 2, keys: keys.subarray(0, 2 * natKey.size) },
            values: values.subarray(0, 2 * natValue.size),
          },
        ]);
        const found = await object.lookUp(`nat${family}`, keys);
        assert.deepEqual(
          found.map((value) => value && natValue.decode(value).peerPort),
          [4001, 4002, null],
        );
      }
    } finally {
      await object.close();
    }
  });
});
