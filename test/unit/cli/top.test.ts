// SPDX-License-Identifier: Apache-2.0
/** `portolan top` without kernel and terminal: rates from readings, what keys change, and what stands on the screen. */
import assert from "node:assert/strict";
import test from "node:test";
import type { ReasonName } from "../../../src/abi/enums.gen.js";
import { cut, draw, type Picture, rateText } from "../../../src/cli/commands/top/draw.js";
import { intervalJson, linesTable } from "../../../src/cli/commands/top/plain.js";
import { type Interval, intervalOf } from "../../../src/cli/commands/top/rates.js";
import { linesOf, lineText, press, START, type TopState } from "../../../src/cli/commands/top/state.js";
import { jsonText, Printer } from "../../../src/cli/output.js";
import type { BackendCounts, ServiceCounts, ServiceId, TrafficReading } from "../../../src/dataplane/view.js";
import { assertGolden, prettyJson } from "../../support/golden.js";
import { checkSchema } from "../../support/json-schema.js";
import { Terminal } from "./terminal.js";

const id = (index: number, name: string, portName = "http"): ServiceId => ({
  index,
  namespace: "default",
  name,
  portName,
  protocol: "TCP",
});

type Figures = readonly [flows: number, packets: number, bytes: number];

const traffic = ([flows, packets, bytes]: Figures) => ({
  flows: BigInt(flows),
  packets: BigInt(packets),
  bytes: BigInt(bytes),
});

interface Given {
  readonly at: number;
  readonly services?: readonly (readonly [ServiceId, Figures, drops: number | null])[];
  readonly backends?: readonly (readonly [cell: number, service: number, generation: number, Figures])[];
  readonly reasons?: Readonly<Partial<Record<ReasonName, number>>>;
}

function reading({ at, services = [], backends = [], reasons = {} }: Given): TrafficReading {
  return {
    at,
    services: new Map(
      services.map(([each, figures, drops]): [number, ServiceCounts] => [
        each.index,
        { id: each, traffic: traffic(figures), drops: drops === null ? null : BigInt(drops) },
      ]),
    ),
    backends: new Map(
      backends.map(([cell, service, generation, figures]): [string, BackendCounts] => [
        `4:${cell}`,
        {
          family: 4,
          cell,
          generation,
          service,
          peer: { address: `10.244.1.${cell}`, port: 8080 },
          state: "live",
          traffic: traffic(figures),
        },
      ]),
    ),
    reasons: new Map(Object.entries(reasons).map(([name, count]) => [name as ReasonName, BigInt(count)])),
  };
}

const all = (): boolean => true;
const web = id(0, "web");

test("Rates are what the counters grew by, a second", () => {
  const before = reading({ at: 1000, services: [[web, [10, 100, 1000], 1]], reasons: { no_backend: 4 } });
  const after = reading({ at: 3000, services: [[web, [14, 300, 5000], 7]], reasons: { no_backend: 8 } });
  const interval = intervalOf(before, after, null, all);
  assert.equal(interval.seconds, 2);
  assert.deepEqual(interval.services[0]?.rates, { flows: 2, packets: 100, bytes: 2000, drops: 3 });
  assert.deepEqual(interval.totals, { flows: 2, packets: 100, bytes: 2000, drops: 3 });
  assert.deepEqual(interval.refused, [{ reason: "no_backend", perSecond: 2 }]);
  assert.equal(interval.services[0]?.active, null, "flows were not counted yet");
});

test("A counter that went back began anew: what it shows has happened since", () => {
  const before = reading({ at: 0, services: [[web, [10, 100, 1000], 5]] });
  const after = reading({ at: 1000, services: [[web, [3, 30, 300], 2]] });
  const { rates } = intervalOf(before, after, null, all).services[0] ?? {};
  assert.deepEqual(rates, { flows: 3, packets: 30, bytes: 300, drops: 2 });
});

test("An index that another service port has now, and one that is new, have no rate yet", () => {
  const before = reading({ at: 0, services: [[id(0, "old"), [10, 100, 1000], 0]] });
  const after = reading({
    at: 1000,
    services: [
      [web, [11, 110, 1100], 0],
      [id(1, "new"), [5, 5, 5], 0],
    ],
  });
  const unknown = { flows: null, packets: null, bytes: null, drops: null };
  const { services, totals } = intervalOf(before, after, null, all);
  assert.deepEqual(
    services.map(({ rates }) => rates),
    [unknown, unknown],
  );
  assert.deepEqual(totals, unknown);
});

test("A cell that another backend or Service has now has no rate yet", () => {
  const services = [
    [web, [0, 0, 0], 0],
    [id(1, "api"), [0, 0, 0], 0],
  ] as const;
  const before = reading({
    at: 0,
    services,
    backends: [
      [1, 0, 1, [1, 1, 1]],
      [2, 0, 1, [1, 1, 1]],
      [3, 0, 1, [1, 1, 1]],
    ],
  });
  const after = reading({
    at: 1000,
    services,
    backends: [
      [1, 0, 1, [3, 3, 3]],
      [2, 0, 2, [3, 3, 3]],
      [3, 1, 1, [3, 3, 3]],
    ],
  });
  const flows = intervalOf(before, after, null, all).backends.map(({ rates }) => rates.flows);
  assert.deepEqual(flows, [2, null, null]);
});

test("Only what is asked for is shown and added up; the node's refusals are all of them", () => {
  const readings = [0, 1].map((n) =>
    reading({
      at: n * 1000,
      services: [
        [web, [n, n, n], 0],
        [id(1, "api"), [9 * n, n, n], 0],
      ],
      backends: [[1, 1, 1, [n, n, n]]],
      reasons: { no_port: n },
    }),
  ) as [TrafficReading, TrafficReading];
  const active = { total: 5, services: new Map([[1, 4]]), backends: new Map() };
  const interval = intervalOf(...readings, active, ({ name }) => name === "web");
  assert.deepEqual(
    interval.services.map(({ id: { name }, active: count }) => [name, count]),
    [["web", 0]],
  );
  assert.deepEqual([interval.backends.length, interval.totals.flows, interval.active], [0, 1, 0]);
  assert.equal(interval.refused.length, 1);
});

/** Three Services with two backends, at steady rates. */
function sample(): Interval {
  const api = id(1, "api", "grpc");
  const readings = [0, 2].map((n) =>
    reading({
      at: 500 * n,
      services: [
        [web, [12 * n, 3400 * n, 5_600_000 * n], 0],
        [api, [n, 20 * n, 900 * n], 3 * n],
        [id(2, "idle"), [0, 0, 0], 0],
      ],
      backends: [
        [1, 0, 1, [8 * n, 2400 * n, 5_000_000 * n]],
        [2, 0, 1, [4 * n, 1000 * n, 600_000 * n]],
        [3, 1, 1, [n, 20 * n, 900 * n]],
      ],
      reasons: { no_backend: 3 * n, source_range: n },
    }),
  ) as [TrafficReading, TrafficReading];
  const active = {
    total: 1300,
    services: new Map([
      [0, 1234],
      [1, 66],
    ]),
    backends: new Map([
      ["4:1", 1200],
      ["4:2", 34],
    ]),
  };
  return intervalOf(...readings, active, all);
}

const picture = (state: Partial<TopState> = {}, more: Partial<Picture> = {}): Picture => ({
  interval: sample(),
  state: { ...START, ...state },
  time: "14:31:05",
  every: 1,
  trouble: null,
  ...more,
});

const screen = (given: Picture, columns: number, rows: number): string[] =>
  draw(given, { columns, rows }).map(({ text }) => text.trimEnd());

test("The object of an interval, and the lines of the table, are as they are kept", async () => {
  const time = new Date(2026, 10, 23, 14, 31, 5);
  // The clock's zone is the machine's.
  const object = { ...intervalJson(sample(), time, 1), time: "2026-11-23T14:31:05.000Z" };
  checkSchema("top", intervalJson(sample(), time, 1));
  checkSchema("top", intervalJson(intervalOf(reading({ at: 0 }), reading({ at: 0 }), null, all), time, 1));
  assertGolden("top.json", prettyJson(jsonText(object, false)));
  for (const view of ["services", "backends"] as const) {
    const terminal = new Terminal(false);
    const printer = new Printer("table", terminal.stream, terminal.stream);
    const print = linesTable(printer, { ...START, view });
    await print(sample(), time);
    await print(sample(), new Date(2026, 10, 23, 14, 31, 6));
    assertGolden(`top-${view}.txt`, terminal.text);
  }
});

test("The screen of 80 columns and 12 rows: services, the most bytes first", () => {
  assert.deepEqual(screen(picture(), 80, 12), [
    "portolan top - services   14:31:05   every 1 s",
    "new 26/s  packets 6.8k/s  10.7 MiB/s  active 1,300  (3 service ports, 3 backend…",
    "refused: no_backend 6.0/s  source_range 2.0/s",
    "  SERVICE                             NEW/S  PKTS/S   BYTES/Sv  DROPS/S   ACTIVE",
    "> default/web http/TCP                   24    6.8k   10.7 MiB        0    1,234",
    "  default/api grpc/TCP                  2.0      40   1.76 KiB      6.0       66",
    "  default/idle http/TCP                   0       0        0 B        0        0",
    "",
    "",
    "",
    "",
    "enter: its backends  s: sort  /: filter  p: pause  b: backends  ?: help  q: quit",
  ]);
});

test("Drilled into a Service, its backends are shown; they have no drops, and the title has the service port's", () => {
  assert.deepEqual(screen(picture({ view: 0 }), 80, 8), [
    "portolan top - backends of default/web http/TCP   drops 0/s   14:31:05   every …",
    "new 26/s  packets 6.8k/s  10.7 MiB/s  active 1,300  (3 service ports, 3 backend…",
    "refused: no_backend 6.0/s  source_range 2.0/s",
    "  BACKEND                             NEW/S  PKTS/S   BYTES/Sv  DROPS/S   ACTIVE",
    "> 10.244.1.1:8080                        16    4.8k   9.54 MiB        -    1,200",
    "  10.244.1.2:8080                       8.0    2.0k   1.14 MiB        -       34",
    "",
    "esc: services  s: sort  /: filter  p: pause  b: backends  ?: help  q: quit",
  ]);
});

test("A narrow screen keeps names and the first figures", () => {
  assert.deepEqual(screen(picture(), 40, 7).slice(3, 6), [
    "  SERVICE                  NEW/S  PKTS/S",
    "> default/web http/TCP        24    6.8k",
    "  default/api grpc/TCP       2.0      40",
  ]);
});

test("No line is wider, and no picture higher, than the screen, whatever its size", () => {
  const states: readonly Partial<TopState>[] = [{}, { help: true }, { view: 0 }, { filter: "x".repeat(90) }];
  for (const columns of [1, 10, 39, 40, 80, 200])
    for (const rows of [1, 2, 3, 5, 24])
      for (const state of states) {
        const lines = draw(picture(state, { trouble: "the maps cannot be read" }), { columns, rows });
        assert.equal(lines.length, rows, `${columns}x${rows}`);
        assert.ok(lines.every(({ text }) => text.length <= columns));
      }
});

test("The selected line stays on the screen, and is marked by more than a colour", () => {
  const services = Array.from({ length: 100 }, (_, i) => [id(i, `s${i}`), [i, i, i], 0] as const);
  const zero = services.map(([each]) => [each, [0, 0, 0], 0] as const);
  const interval = intervalOf(reading({ at: 0, services: zero }), reading({ at: 1000, services }), null, all);
  for (const selected of [0, 50, 99, 500]) {
    const lines = draw(picture({ selected }, { interval }), { columns: 80, rows: 24 });
    const marked = lines.filter(({ text, style }) => text.startsWith(">") && style === "selected");
    assert.equal(marked.length, 1);
    assert.match(marked[0]?.text ?? "", new RegExp(`s${99 - Math.min(selected, 99)} `));
  }
});

test("Before there are two readings, and when they fail, the screen says so", () => {
  assert.match(screen(picture({}, { interval: null }), 80, 10).join("\n"), /rates need two readings/);
  assert.match(screen(picture({}, { trouble: "no maps are pinned" }), 80, 10).join("\n"), /^! no maps are/m);
});

test("Keys sort, reverse, filter, drill, pause, explain and leave", () => {
  const interval = sample();
  const type = (state: TopState | null, ...keys: readonly string[]): TopState | null =>
    keys.reduce<TopState | null>((now, key) => {
      if (now === null) return null;
      const named = key.length > 1 ? { name: key } : { name: key.toLowerCase(), sequence: key };
      return press(now, named, linesOf(interval, now));
    }, state);
  const first = (state: TopState | null): string => {
    const [line] = linesOf(interval, state ?? START);
    return line === undefined ? "" : lineText(line);
  };
  assert.equal(first(START), "default/web:http/TCP");
  assert.equal(first(type(START, "5")), "default/api:grpc/TCP", "drops");
  assert.equal(first(type(START, "1")), "default/api:grpc/TCP", "names from A on");
  assert.equal(first(type(START, "1", "r")), "default/web:http/TCP");
  assert.equal(first(type(START, "r")), "default/idle:http/TCP");
  assert.equal(type(START, "s")?.sort, "drops");
  const filtered = type(START, "/", "i", "d", "l", "return");
  assert.deepEqual([filtered?.filter, first(filtered)], ["idl", "default/idle:http/TCP"]);
  assert.equal(type(filtered, "/", "q", "escape")?.filter, "idl", "q is a letter while it is typed");
  assert.equal(type(filtered, "escape")?.filter, "");
  const drilled = type(START, "down", "return");
  assert.equal(drilled?.view, 1);
  assert.equal(first(drilled), "default/api:grpc/TCP 10.244.1.3:8080");
  assert.equal(type(drilled, "escape")?.view, "services");
  assert.equal(type(START, "b")?.view, "backends");
  assert.equal(type(START, "p")?.paused, true);
  assert.equal(type(START, "?")?.help, true);
  assert.equal(type(START, "?", "x")?.help, false);
  assert.equal(type(START, "end")?.selected, 2);
  assert.equal(type(START, "q"), null);
  assert.equal(press(START, { name: "c", ctrl: true }, []), null);
  assert.equal(press({ ...START, typing: { before: "" } }, { name: "c", ctrl: true }, []), null);
});

test("Rates are told in three figures or so", () => {
  const cases = [0, 0.01, 0.26, 9.94, 9.96, 12.4, 999.4, 999.6, 1234, 12_345, 999_600, 5_600_000] as const;
  assert.deepEqual(cases.map(rateText), [
    "0",
    "<0.1",
    "0.3",
    "9.9",
    "10",
    "12",
    "999",
    "1.0k",
    "1.2k",
    "12k",
    "1.0M",
    "5.6M",
  ]);
  assert.equal(rateText(null), "-");
  assert.equal(cut("abcdef", 4), "abc…");
});
