// SPDX-License-Identifier: Apache-2.0
// What decides whether a figure of `make bench-path` is one, and how it compares.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Reason } from "../../../src/abi/enums.gen.js";
import type { Sample } from "../../perf/path/arena.js";
import type { Kind, Load } from "../../perf/path/load.js";
import { PATHS, type Path } from "../../perf/path/paths.js";
import { byConntrack, bySockets, byTc, type Tally } from "../../perf/path/proof.js";
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

  it("by connection tracking wants every flow answered by the server", () => {
    const flow = { to: "10.96.0.1", port: 80, by: "10.244.1.10" };
    const flows = (count: number, by: string) => Array.from({ length: count }, () => ({ ...flow, by }));
    assert.equal(byConntrack(LOAD, flows(100, flow.by), flow), null);
    assert.match(
      byConntrack(LOAD, flows(100, flow.to), flow) ?? "",
      /^0 of 100 flows to 10\.96\.0\.1 port 80/,
    );
    assert.match(byConntrack(LOAD, flows(50, flow.by), flow) ?? "", /^50 of 100/);
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
  it("compares medians with the direct path, the other dataplanes, and the own rate with one Service", () => {
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

  it("has no figure for a contestant of which one measurement failed, and says why", () => {
    const rows = rowsOf([
      measured("direct", 1, samples(100)),
      measured("portolan-sockets", 1, [...samples(100, 100), { failed: "not this path" }]),
    ]);
    assert.equal(rows[1]?.rate, null);
    assert.deepEqual(rows[1]?.compared, []);
    assert.deepEqual(misses(rows), ["portolan-sockets with 1, tcp-rr, same node: failed: not this path"]);
  });
});
