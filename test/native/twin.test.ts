// SPDX-License-Identifier: Apache-2.0
/* The twin of the programs: it reads the pinned maps, writes to copies, forgets them when asked to, and says what it lacks. */
import assert from "node:assert/strict";
import { mkdirSync, rmdirSync, rmSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { TraceMap, TraceOp } from "../../src/abi/enums.gen.js";
import { FAMILY_CODECS } from "../../src/abi/layout.gen.js";
import { MAP_NAMES } from "../../src/abi/maps.gen.js";
import { NativeError } from "../../src/native/errors.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { LoadedObject } from "../../src/native/object.js";
import type { TwinRun } from "../../src/native/twin.js";
import { FAMILIES, type Family, parseIp } from "../../src/net/ip.js";
import { buildFrame, type Endpoint } from "../../src/trace/packet.js";
import { TEST_CONFIG } from "../bpf/support/test-kernel.js";

const ROOT = `/sys/fs/bpf/portolan-twin-test-${process.pid}`;
const CLIENT = { 4: "10.244.0.1", 6: "fd00:244::1" } as const;
const BACKEND = { 4: "10.244.0.9", 6: "fd00:244::9" } as const;
const CLASS_BACKEND = 2;
const CLASS_BACKEND_PORT = 4;

const end = (text: string, port: number): Endpoint => {
  const address = parseIp(text);
  assert.ok(address);
  return { address, port };
};

/** A pod's first packet to a backend's own address: it makes a pair of nat entries. */
const direct = (family: Family): Uint8Array =>
  buildFrame({
    protocol: "tcp",
    source: end(CLIENT[family], 40_000),
    destination: end(BACKEND[family], 80),
    flags: ["syn"],
  });

const natFound = ({ records }: TwinRun): boolean =>
  records.some(
    ({ op, map, found }) => op === TraceOp.TRACE_LOOK_UP && map === TraceMap.MAP_NAT && found !== 0,
  );
const writes = ({ records }: TwinRun): number =>
  records.filter(({ op }) => op === TraceOp.TRACE_UPDATE).length;

describe("the twin", () => {
  const library = new NativeLibrary();
  const pins = `${ROOT}/v2`;
  let live: LoadedObject;

  before(async () => {
    live = await library.open({ pins, config: TEST_CONFIG, sockets: false });
    for (const family of FAMILIES) {
      const { addrPort } = FAMILY_CODECS[family];
      const addr = end(BACKEND[family], 0).address.bytes;
      const keys = [
        addrPort.encode({ addr, port: 0, protocol: 0 }),
        addrPort.encode({ addr, port: 80, protocol: 6 }),
      ];
      const values = Uint8Array.from([CLASS_BACKEND, 0, 0, 0, CLASS_BACKEND_PORT, 0, 0, 0]);
      const write = {
        map: `addresses${family}`,
        kind: "update",
        count: 2,
        keys: Buffer.concat(keys),
        values,
      } as const;
      assert.equal((await live.apply([write])).failure, null);
    }
  });
  after(async () => {
    await live?.close();
    library.cleanup(pins);
    rmSync(ROOT, { recursive: true, force: true });
  });

  const entries = async (): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {};
    for (const name of ["nat4", "nat6", "affinity4", "affinity6", "fragments4", "fragments6"] as const)
      counts[name] = (await live.dump(name)).count;
    return counts;
  };

  for (const family of FAMILIES) {
    it(`remembers what it wrote until it is told to forget, and the live maps never do: IPv${family}`, async () => {
      const twin = library.openTwin(pins, family, TEST_CONFIG);
      try {
        const hook = { direction: "in", ifindex: 0, pod: true } as const;
        const before = await entries();
        const first = twin.run(hook, direct(family), 0);
        assert.equal(natFound(first), false);
        assert.equal(writes(first), 2);
        assert.equal(
          natFound(twin.run(hook, direct(family), 0)),
          true,
          "the second packet is of the same flow",
        );
        twin.reset();
        assert.equal(natFound(twin.run(hook, direct(family), 0)), false, "forgotten");
        assert.deepEqual(await entries(), before);
      } finally {
        twin.close();
      }
    });

    it(`sees the live entries, and changes a copy: IPv${family}`, async () => {
      live.testRun("ptl_pod_in", { data: direct(family) });
      const before = await live.dump(`nat${family}`);
      assert.equal(before.count, 2);
      const twin = library.openTwin(pins, family, TEST_CONFIG);
      try {
        assert.equal(natFound(twin.run({ direction: "in", ifindex: 0, pod: true }, direct(family), 0)), true);
      } finally {
        twin.close();
      }
      const behind = await live.dump(`nat${family}`);
      assert.deepEqual(Buffer.from(behind.keys), Buffer.from(before.keys));
      assert.deepEqual(Buffer.from(behind.values), Buffer.from(before.values));
    });
  }

  const refused = (where: string, code: string, message: RegExp): void => {
    assert.throws(
      () => library.openTwin(where, 4, TEST_CONFIG),
      (error) => error instanceof NativeError && error.code === code && message.test(error.message),
    );
  };

  it("names the pin that is not there", () => {
    const empty = `${ROOT}/empty`;
    mkdirSync(empty);
    refused(empty, "E_NATIVE_PINS", /Cannot open the pin/);
    rmdirSync(empty);
    refused(`${ROOT}/nowhere`, "E_NATIVE_PINS", /Cannot open the pin/);
  });

  it("has every map of the layout accounted for", () => {
    // a map that programs write and that is not in overlay.bpf.h would be the live one
    const known = ["nat", "affinity", "fragments", "socket_nat", "counters", "backend_stats", "services"];
    const read = [
      "frontends",
      "slots",
      "backends",
      "addresses",
      "source_ranges",
      "service_nets",
      "interfaces",
    ];
    const told = ["events", "listener", "service_drops"];
    // the XDP program's, which has no twin: a trace has the decision of tc, which is the same; marks save a look-up that finds nothing
    const elsewhere = ["xdp_devices", "flow_marks"];
    for (const name of MAP_NAMES)
      assert.ok(
        [...known, ...read, ...told, ...elsewhere].includes(name.replace(/[46]$/, "")),
        `what is ${name} to a trace?`,
      );
  });

  it("says so when there is no program whose settings could be read", () => {
    assert.throws(
      () => library.programConfig(0xfffffff),
      (error) => error instanceof NativeError && error.errno === 2,
    );
  });
});
