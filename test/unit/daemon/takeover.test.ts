// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Direction, NatFlag, NatState, NO_BACKEND, TICK_SHIFT } from "../../../src/abi/enums.gen.js";
import { FAMILY_CODECS } from "../../../src/abi/layout.gen.js";
import { passEntries, Takeover, type Tracker, WATCH_MS } from "../../../src/daemon/takeover.js";
import { returnFlows } from "../../../src/daemon/takeover-return.js";
import type { Image, ServicePortImage } from "../../../src/image/types.js";
import { type TrackedFlow, TrackedStatus, type TransportAddress } from "../../../src/native/conntrack.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { type Family, parseIp } from "../../../src/net/ip.js";
import { silentLogger } from "../../../src/util/log.js";
import type { Timers } from "../../../src/util/timers.js";

const NOW_NS = 5_000_000_000_000n;
const NOW_TICKS = Number(NOW_NS >> BigInt(TICK_SHIFT));

function at(text: string): TransportAddress {
  const [, address = "", port = ""] = /^(.*) (\d+)$/.exec(text) ?? [];
  const ip = parseIp(address);
  assert.ok(ip, text);
  return { address: ip, port: Number(port) };
}

/** A UDP flow "client service backend [seenAs]". */
function flow(client: string, service: string, backend: string, seenAs = client): TrackedFlow {
  const { family } = at(client).address;
  const status = TrackedStatus.DST_NAT | TrackedStatus.SEEN_REPLY;
  return {
    ...{ family, protocol: 17, status, tcpState: 0, secondsLeft: 100 },
    ...{ client: at(client), service: at(service), backend: at(backend), seenAs: at(seenAs) },
  };
}

/** Conntrack as a list. */
class FakeTracker implements Tracker {
  flows: TrackedFlow[];
  readonly deleted: TrackedFlow[] = [];
  readonly created: TrackedFlow[] = [];
  fail: Error | null = null;
  constructor(flows: TrackedFlow[]) {
    this.flows = flows;
  }
  async trackedFlows(protocol: number, status: number, most: number) {
    if (this.fail) throw this.fail;
    const wanted = this.flows.filter(
      (each) => each.protocol === protocol && (each.status & status) === status,
    );
    return { flows: wanted.slice(0, most), total: wanted.length };
  }
  async deleteTracked(flows: readonly TrackedFlow[]) {
    this.deleted.push(...flows);
    return { done: flows.length, failed: 0, errno: 0 };
  }
  async createTracked(flows: readonly TrackedFlow[]) {
    this.created.push(...flows);
    return { done: flows.length, failed: 0, errno: 0 };
  }
  sealNat(family: Family, _keys: Uint8Array, values: Uint8Array, count: number): void {
    const { size, offsets } = FAMILY_CODECS[family].natValue;
    for (let i = 0; i < count; i++) values[i * size + (offsets.check as number)] = 0x5a;
  }
}

/** Time that stands still until it is told to go on. */
class FakeTimers implements Timers {
  readonly waiting: { ms: number; callback: () => void }[] = [];
  now = () => 0;
  epoch = () => 0;
  after(ms: number, callback: () => void): () => void {
    const entry = { ms, callback };
    this.waiting.push(entry);
    return () => void this.waiting.splice(this.waiting.indexOf(entry), 1);
  }
}

function image(
  frontend: string,
  backends: readonly string[],
  kind: "ClusterIP" | "NodePort" = "ClusterIP",
): Image {
  const choice = { backends: [], whenEmpty: "reject", set: "cluster" } as const;
  const port: ServicePortImage = {
    ...{ key: "a/b:c/UDP", namespace: "a", name: "b", portName: "c", protocol: "UDP" },
    backends: backends.map((text) => ({
      ...{ ...at(text.replace("!", "")), local: false, serving: !text.startsWith("!") },
      ...{ clusterSet: false, localSet: false },
    })),
    frontends: [
      { kind, ...at(frontend), internal: choice, external: choice, masquerade: "never", sourceRanged: false },
    ],
    ...{ affinitySeconds: 0, sourceRanges: [] },
  };
  return {
    servicePorts: new Map([[port.key, port]]),
    ...{ problems: [], nodePortAddresses: [], serviceNetworks: [] },
  };
}

function setUp(flows: TrackedFlow[]) {
  const maps = new MemoryKernel();
  const tracker = new FakeTracker(flows);
  const timers = new FakeTimers();
  const dependencies = { maps, tracker, log: silentLogger, timers, nowNs: () => NOW_NS };
  return {
    maps,
    tracker,
    timers,
    takeover: new Takeover(dependencies),
    again: () => new Takeover(dependencies),
  };
}

const POD = flow("10.244.1.9 4000", "10.96.0.10 53", "10.244.2.2 5353");
const OUTSIDE = flow("192.0.2.7 5000", "192.168.50.1 30053", "10.244.2.2 5353", "10.244.1.0 31000");
const POD6 = flow("fd00::9 4000", "fd00:96::a 53", "fd00:2::2 5353");

test("each flow gets entries that change nothing, both ways, sealed, and dated so that they end with conntrack's", async () => {
  const { maps, takeover } = setUp([POD, POD6]);
  await takeover.begin(true);
  assert.equal(takeover.size, 2);
  for (const family of [4, 6] as const) {
    assert.equal(maps.size(`nat${family}`), 2);
    const { natKey, natValue } = FAMILY_CODECS[family];
    for (const [keyBytes, valueBytes] of maps.entries(`nat${family}`)) {
      const [key, value] = [natKey.decode(keyBytes), natValue.decode(valueBytes)];
      const isIn = key.direction === Direction.IN;
      assert.deepEqual(value.addr, isIn ? key.dst : key.src);
      assert.deepEqual([value.port, value.peerPort], isIn ? [key.dport, key.sport] : [key.sport, key.dport]);
      assert.equal(value.flags, NatFlag.NAT_DIRECT | (isIn ? 0 : NatFlag.NAT_REPLY));
      assert.equal(value.state, NatState.SEEN_FORWARD | NatState.SEEN_REPLY);
      assert.equal(value.backend, NO_BACKEND);
      assert.equal(value.check, 0x5a);
      // 180 s is our limit, 100 s are left: as if last seen 80 s ago.
      assert.ok(Math.abs(NOW_TICKS - value.lastSeen - 80e9 / 2 ** TICK_SHIFT) <= 1);
    }
  }
});

test("behind a masquerade the answers get entries too: their port may be a NodePort's number", () => {
  const kinds = passEntries(OUTSIDE, NOW_NS).map(({ key, value }) => {
    const decoded = FAMILY_CODECS[4].natKey.decode(key);
    const reply = (FAMILY_CODECS[4].natValue.decode(value).flags & NatFlag.NAT_REPLY) !== 0;
    return [decoded.direction, decoded.sport, decoded.dport, reply];
  });
  assert.deepEqual(kinds, [
    [Direction.IN, 5000, 30_053, false],
    [Direction.OUT, 30_053, 5000, true],
    [Direction.IN, 5353, 31_000, true],
    [Direction.OUT, 31_000, 5353, false],
  ]);
});

test("a later life writes nothing and finds again what the first has left alone", async () => {
  const { maps, tracker, takeover, again } = setUp([POD]);
  await takeover.begin(true);
  await takeover.stop();
  tracker.flows = [POD, flow("10.244.1.9 4001", "10.96.0.10 53", "10.244.2.2 5353")];
  const writes = maps.stats.mapWrites;
  const second = again();
  await second.begin(false);
  assert.equal(second.size, 1);
  assert.equal(maps.stats.mapWrites, writes);
});

test("a flow whose backend does not serve any more moves: its entries and conntrack's go (9.3)", async () => {
  for (const after of [image("10.96.0.10 53", []), image("10.96.0.10 53", ["!10.244.2.2 5353"])]) {
    const { maps, tracker, takeover } = setUp([POD]);
    await takeover.begin(true);
    await takeover.committed(image("10.96.0.10 53", ["10.244.2.2 5353"]));
    assert.deepEqual([takeover.size, maps.size("nat4"), tracker.deleted], [1, 2, []]);
    await takeover.committed(after);
    assert.deepEqual([takeover.size, maps.size("nat4"), tracker.deleted], [0, 0, [POD]]);
  }
});

test("a target port that is renumbered moves the flow, too (9.8)", async () => {
  const { tracker, takeover } = setUp([POD]);
  await takeover.begin(true);
  await takeover.committed(image("10.96.0.10 53", ["10.244.2.2 5354"]));
  assert.deepEqual(tracker.deleted, [POD]);
});

test("a NodePort's flow is known whatever the node's address, and its removed Service ends it", async () => {
  const { tracker, takeover } = setUp([OUTSIDE]);
  await takeover.begin(true);
  await takeover.committed(image("0.0.0.0 30053", ["10.244.2.2 5353"], "NodePort"));
  assert.equal(takeover.size, 1);
  await takeover.committed(image("10.96.0.77 53", []));
  assert.deepEqual([takeover.size, tracker.deleted], [0, [OUTSIDE]]);
});

test("what is no Service's is given up with the first image, and conntrack keeps it", async () => {
  const { maps, tracker, takeover } = setUp([POD]);
  await takeover.begin(true);
  await takeover.committed(image("10.96.0.77 53", []));
  assert.deepEqual([takeover.size, maps.size("nat4"), tracker.deleted], [0, 0, []]);
});

test("an entry that has become a flow of ours stays", async () => {
  const { maps, takeover } = setUp([POD]);
  await takeover.begin(true);
  const { natKey, natValue } = FAMILY_CODECS[4];
  for (const [key, bytes] of maps.entries("nat4")) {
    if (natKey.decode(key).direction !== Direction.IN) continue;
    const value = natValue.decode(bytes);
    const values = natValue.encode({ ...value, flags: 0, backend: 3 });
    await maps.apply([{ map: "nat4", kind: "update", count: 1, keys: key, values }]);
  }
  await takeover.committed(image("10.96.0.10 53", []));
  assert.equal(maps.size("nat4"), 1);
});

test("a flow that conntrack has forgotten is forgotten within a watch period, or nothing would translate it", async () => {
  const { maps, tracker, timers, takeover } = setUp([POD]);
  await takeover.begin(true);
  assert.deepEqual(
    timers.waiting.map(({ ms }) => ms),
    [WATCH_MS],
  );
  tracker.flows = [];
  timers.waiting.pop()?.callback();
  await takeover.stop();
  assert.deepEqual([takeover.size, maps.size("nat4"), timers.waiting.length], [0, 0, 0]);
});

test("without ctnetlink nothing is left alone and nothing fails", async () => {
  const { maps, tracker, takeover } = setUp([POD]);
  tracker.fail = new Error("no such protocol");
  await takeover.begin(true);
  assert.deepEqual([takeover.size, maps.size("nat4")], [0, 0]);
});

test("at the way back a live flow is handed over as the backend sees it, and its entries go; a closed one is left", async () => {
  const maps = new MemoryKernel();
  const { natKey, natValue } = FAMILY_CODECS[4];
  const put = async (direction: Direction, from: string, to: string, rewrite: string, more: object) => {
    const [src, dst, written] = [at(from), at(to), at(rewrite)];
    const key = { src: src.address.bytes, dst: dst.address.bytes, sport: src.port, dport: dst.port };
    const inward = direction === Direction.IN;
    await maps.apply([
      {
        ...{ map: "nat4", kind: "update", count: 1 },
        keys: natKey.encode({ ...key, protocol: 6, direction }),
        values: natValue.encode({
          ...{ addr: written.address.bytes, port: written.port, peerPort: inward ? src.port : dst.port },
          ...{ check: 1, backend: 1, generation: 1, lastSeen: NOW_TICKS, service: 1, flags: 0 },
          ...{ state: NatState.SEEN_FORWARD | NatState.SEEN_REPLY | NatState.ESTABLISHED },
          ...more,
        }),
      },
    ]);
  };
  const reply = { flags: NatFlag.NAT_REPLY };
  await put(Direction.IN, "192.0.2.7 5000", "192.168.50.1 30080", "10.244.2.2 8080", {});
  await put(Direction.OUT, "10.244.2.2 8080", "192.0.2.7 5000", "192.168.50.1 30080", reply);
  await put(Direction.OUT, "192.0.2.7 5000", "10.244.2.2 8080", "10.244.1.0 61000", {
    flags: NatFlag.NAT_MASQUERADE,
  });
  await put(Direction.IN, "10.244.2.2 8080", "10.244.1.0 61000", "192.0.2.7 5000", {
    flags: NatFlag.NAT_MASQUERADE | NatFlag.NAT_REPLY,
  });
  await put(Direction.IN, "192.0.2.7 5001", "192.168.50.1 30080", "10.244.2.2 8080", {
    state: NatState.SEEN_FORWARD | NatState.SEEN_REPLY | NatState.ESTABLISHED | NatState.RST_REPLY,
  });
  const tracker = new FakeTracker([]);
  // While the kernel takes it over, its packets go nowhere.
  let held: string | null = null;
  tracker.createTracked = async (flows) => {
    for (const [key, value] of maps.entries("nat4"))
      if (natKey.decode(key).sport === 5000 && natKey.decode(key).direction === Direction.IN)
        held = natValue.decode(value).addr.join(".");
    tracker.created.push(...flows);
    return { done: flows.length, failed: 0, errno: 0 };
  };
  const result = await returnFlows({ maps, tracker, nowNs: () => NOW_NS }, [4, 6]);
  assert.deepEqual(result, { handedOver: 1, failed: 0, errno: 0 });
  assert.equal(held, "0.0.0.1");
  const [only] = tracker.created;
  assert.deepEqual(
    [only?.client, only?.service, only?.backend, only?.seenAs].map(
      (end) => `${end?.address.text} ${end?.port}`,
    ),
    ["192.0.2.7 5000", "192.168.50.1 30080", "10.244.2.2 8080", "10.244.1.0 61000"],
  );
  assert.equal(maps.size("nat4"), 1, "the closed one's entry");
});
