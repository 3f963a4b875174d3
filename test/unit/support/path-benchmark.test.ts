// SPDX-License-Identifier: Apache-2.0
// What decides whether a figure of `make bench-path` is one, and how it compares.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Reason } from "../../../src/abi/enums.gen.js";
import type { Sample } from "../../perf/path/arena.js";
import type { Kind, Load } from "../../perf/path/load.js";
import { PATHS, type Path } from "../../perf/path/paths.js";
import { byRule, byServer, bySockets, byTc, byXdp, type Tally } from "../../perf/path/proof.js";
import { type Measured, misses, rowsOf } from "../../perf/path/report.js";

const LOAD: Load = { count: 1000, connections: 100, lost: 0, bytes: 0, seconds: 1, p50Ns: 1, p99Ns: 1 };
const tally =
  (packets: Partial<Record<Reason, number>>): Tally =>
  (reason) =>
    packets[reason] ?? 0;

describe("The proof of a measured path", () => {
  it("of tc wants every flow and every packet translated, and no socket", () => {
    const good = { [Reason.FLOW_NEW]: 100, [Reason.TRANSLATED]: 2100 };
    assert.equal(byTc("tcp-rr", LOAD, tally(good)), null);
    assert.match(byTc("tcp-rr", LOAD, tally({ ...good, [Reason.FLOW_NEW]: 98 })) ?? "", /98 of 100 flows/);
    assert.match(
      byTc("tcp-rr", LOAD, tally({ ...good, [Reason.TRANSLATED]: 1900 })) ?? "",
      /1900 of at least 2000/,
    );
    assert.match(byTc("tcp-rr", LOAD, tally({ ...good, [Reason.SOCKET_TRANSLATED]: 1 })) ?? "", /1 sockets/);
  });

  it("of sockets wants every socket sent to a backend, and no packet translated", () => {
    assert.equal(bySockets("tcp-crr", LOAD, tally({ [Reason.SOCKET_TRANSLATED]: 100 })), null);
    assert.match(
      bySockets("tcp-crr", LOAD, tally({ [Reason.SOCKET_TRANSLATED]: 99 })) ?? "",
      /99 of 100 sockets/,
    );
    const both = { [Reason.SOCKET_TRANSLATED]: 100, [Reason.TRANSLATED]: 1 };
    assert.match(bySockets("tcp-crr", LOAD, tally(both)) ?? "", /1 packets/);
  });

  it("of XDP wants every flow known, and every packet sent on from there", () => {
    const good = { [Reason.FLOW_NEW]: 100, [Reason.XDP_SENT]: 2000 };
    assert.equal(byXdp("tcp-rr", LOAD, tally(good)), null);
    assert.match(byXdp("tcp-rr", LOAD, tally({ ...good, [Reason.FLOW_NEW]: 1 })) ?? "", /^1 of 100 flows/);
    assert.match(
      byXdp("tcp-rr", LOAD, tally({ ...good, [Reason.XDP_SENT]: 1 })) ?? "",
      /^1 of at least 2000/,
    );
  });

  it("by the kernel's rules wants every flow translated, or every packet forwarded", () => {
    const dnat = { table: "nat", chain: "KUBE-SEP-X", target: "DNAT" } as const;
    assert.equal(byRule("tcp-crr", LOAD, 100, dnat), null);
    assert.match(byRule("tcp-crr", LOAD, 98, dnat) ?? "", /^98 of 100 flows met DNAT of the nat table's/);
    const forward = { table: "filter", chain: "FORWARD", target: "FLANNEL-FWD" } as const;
    assert.equal(byRule("tcp-rr", LOAD, 2000, forward), null);
    assert.match(byRule("tcp-rr", LOAD, 100, forward) ?? "", /^100 of 2000 or more packets met FLANNEL-FWD/);
    assert.match(byRule("tcp-crr", LOAD, 100, forward) ?? "", /^100 of 500/);
  });

  it("wants every connection, request and datagram at the server", () => {
    const none = { connections: 7, segments: 7, datagrams: 7 };
    const all = { connections: 107, segments: 1007, datagrams: 1007 };
    assert.equal(byServer("tcp-crr", LOAD, none, all), null);
    assert.equal(byServer("udp-rr", LOAD, none, all), null);
    assert.match(
      byServer("tcp-crr", LOAD, none, { ...all, connections: 106 }) ?? "",
      /^99 of 100 connections/,
    );
    assert.match(byServer("tcp-rr", LOAD, none, { ...all, segments: 1006 }) ?? "", /^999 segments for 1000/);
    assert.match(byServer("udp-rr", LOAD, none, { ...all, datagrams: 1006 }) ?? "", /^999 of 1000 datagrams/);
    assert.match(byServer("tcp-rr", LOAD, none, { ...all, connections: Number.NaN }) ?? "", /^NaN of 100/);
  });
});

const pathOf = (name: string): Path => {
  const path = PATHS.find((candidate) => candidate.name === name);
  if (path === undefined) throw new Error(`no path ${name}`);
  return path;
};
const samples = (...rates: number[]): Sample[] =>
  rates.map((rate) => ({ rate, p50Us: 10, p99Us: 20, lost: 0 }));
const measured = (
  name: string,
  services: number,
  all: readonly Sample[],
  kind: Kind = "tcp-rr",
): Measured => ({
  ...{ path: pathOf(name), services, kind, place: "same node", samples: all },
});

describe("The result of the path benchmark", () => {
  it("compares neighbours with the direct path, the other dataplanes, and the own rate with one Service", () => {
    const rows = rowsOf([
      measured("direct", 1, samples(1, 100, 1000)),
      measured("portolan-tc", 1, samples(95, 94, 1)),
      measured("iptables", 1, samples(94, 94, 94)),
      measured("portolan-tc", 100_000, samples(93, 93, 93)),
    ]);
    const compared = rows.map((row) =>
      row.compared.map(({ with: other, ratio, reached }) => [other, ratio, reached]),
    );
    assert.deepEqual(compared, [
      [],
      [
        ["direct", 0.94, true],
        ["iptables", 1, false],
      ],
      [["direct", 0.94, null]],
      [
        ["direct", 0.93, true],
        ["1 Service", 0.989, true],
      ],
    ]);
    assert.deepEqual(misses(rows), ["portolan-tc with 1, tcp-rr, same node: 1.000 of iptables (target > 1)"]);
  });

  it("takes the ratio of neighbours, whatever the machine did from round to round, and tells where its median is", () => {
    const [, row] = rowsOf([
      measured("direct", 1, samples(100, 200, 100, 200, 100)),
      measured("portolan-tc", 1, samples(90, 180, 90, 180, 45)),
    ]);
    assert.deepEqual(row?.compared[0]?.interval, [0.45, 0.9]);
    assert.equal(row?.compared[0]?.ratio, 0.9);
    assert.equal(row?.spread, 1);
    const ratios = [0.5, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97, 1.5];
    const [, nine] = rowsOf([
      measured("direct", 1, samples(...ratios.map((_, i) => 100 * 2 ** i))),
      measured("portolan-tc", 1, samples(...ratios.map((ratio, i) => ratio * 100 * 2 ** i))),
    ]);
    assert.equal(nine?.compared[0]?.ratio, 0.94);
    assert.deepEqual(nine?.compared[0]?.interval, [0.91, 0.97]);
  });

  it("leaves out a measurement that failed, and has no figure when more than a fifth did, and says why", () => {
    const failed = { failed: "not this path" };
    const rows = rowsOf([
      measured("direct", 1, samples(100)),
      measured("portolan-sockets", 1, [...samples(100, 100), failed]),
      measured("portolan-tc", 1, [...samples(96, 96, 96, 96), failed]),
    ]);
    assert.equal(rows[1]?.rate, null);
    assert.deepEqual(rows[1]?.compared, []);
    assert.deepEqual([rows[2]?.rate, rows[2]?.left], [96, 1]);
    assert.deepEqual(misses(rows), ["portolan-sockets with 1, tcp-rr, same node: failed: not this path"]);
  });
});
