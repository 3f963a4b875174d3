// SPDX-License-Identifier: Apache-2.0
/** `portolan monitor` without a kernel: the lines of the table, the objects, and which events pass the filters. */
import assert from "node:assert/strict";
import test from "node:test";
import { eventFilter, type FilterOptions } from "../../../src/cli/commands/monitor/filter.js";
import { eventColumns, eventJson, type TimedEvent } from "../../../src/cli/commands/monitor/print.js";
import { jsonText, tableLines } from "../../../src/cli/output.js";
import type { EventView } from "../../../src/dataplane/view.js";
import { assertGolden, prettyJson } from "../../support/golden.js";
import { checkSchema } from "../../support/json-schema.js";

const NEW: EventView = {
  time: 0n,
  type: "new",
  reason: "flow_new",
  family: 4,
  protocol: "TCP",
  hook: "ingress",
  ifindex: 3,
  service: { index: 1, namespace: "shop", name: "web", portName: "http", protocol: "TCP" },
  client: { address: "10.244.1.10", port: 40112 },
  destination: { address: "10.96.0.1", port: 80 },
  backend: { address: "10.244.2.10", port: 8080, cell: 5, generation: 2 },
  seenAs: null,
  reply: false,
  why: ["affinity", "masquerade"],
  bytes: 74,
  tcpFlags: 2,
  cookie: null,
};

const EVENTS: readonly EventView[] = [
  NEW,
  {
    ...NEW,
    type: "new",
    reason: "socket_translated",
    family: 6,
    protocol: "UDP",
    hook: "socket",
    ifindex: 0,
    client: null,
    destination: { address: "fd00:96::a", port: 53 },
    backend: { address: "fd00:244::2", port: 53, cell: 9, generation: 1 },
    service: { index: 2, namespace: "kube-system", name: "dns", portName: "dns", protocol: "UDP" },
    why: ["random"],
    bytes: 0,
    tcpFlags: 0,
    cookie: 4242n,
  },
  { ...NEW, type: "translated", reason: "translated", hook: "egress", reply: true, why: [], tcpFlags: 18 },
  {
    ...NEW,
    type: "translated",
    reason: "translated",
    hook: "egress",
    destination: null,
    seenAs: { address: "10.244.1.1", port: 20001 },
    why: [],
  },
  {
    ...NEW,
    type: "rejected",
    reason: "no_port",
    service: { index: 1, namespace: "shop", name: "web", portName: "", protocol: "TCP" },
    destination: { address: "10.96.0.1", port: 81 },
    backend: null,
    why: [],
  },
  { ...NEW, type: "dropped", reason: "source_range", backend: null, ifindex: 9, why: [] },
  { ...NEW, type: "dropped", reason: "service_address_unused", service: null, backend: null, why: [] },
  { ...NEW, type: "gone", reason: "backend_stale", protocol: "UDP", why: [], tcpFlags: 0 },
];

const TIMED: readonly TimedEvent[] = EVENTS.map((event, i) => ({
  event,
  since: 0.25 * i,
  at: new Date(Date.UTC(2026, 10, 23, 14, 31, i)),
  interfaceName: event.ifindex === 3 ? "veth1" : "",
}));

test("The table of events, narrow and wide, is as it is kept", () => {
  const narrow = tableLines(eventColumns(true), TIMED);
  const wide = tableLines(eventColumns(true), TIMED, true);
  assertGolden("monitor.txt", `${[...narrow, "", ...wide].join("\n")}\n`);
});

test("The objects of events are as they are kept", () => {
  const lines = TIMED.map((each) => jsonText(eventJson(each), false));
  assertGolden("monitor.json", prettyJson(lines.join("\n")));
  for (const line of lines) checkSchema("monitor", JSON.parse(line));
  for (const count of [7, null])
    checkSchema("monitor", { time: "2026-11-23T14:31:00.000Z", type: "lost", count });
});

/** The positions of the events that pass. */
const passing = (options: FilterOptions): number[] => {
  const { matches } = eventFilter(options);
  return EVENTS.flatMap((event, i) => (matches(event) ? [i] : []));
};

test("Filters: type, reason, Service, namespace, protocol, address", () => {
  const all = { sample: 1 };
  assert.deepEqual(passing({}), [0, 1, 4, 5, 6, 7], "translated packets only if asked for");
  assert.deepEqual(passing(all), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.deepEqual(passing({ type: ["rejected,dropped"] }), [4, 5, 6]);
  assert.deepEqual(passing({ type: ["rejected", "gone"] }), [4, 7]);
  assert.deepEqual(passing({ ...all, reason: ["no_port", "source_range"] }), [4, 5]);
  assert.deepEqual(passing({ ...all, service: "shop/web" }), [0, 2, 3, 4, 5, 7]);
  assert.deepEqual(passing({ ...all, namespace: "kube-system" }), [1]);
  assert.deepEqual(passing({ ...all, protocol: "UDP" }), [1, 7]);
  assert.deepEqual(passing({ ...all, address: ["10.244.1.1"] }), [3]);
  assert.deepEqual(passing({ ...all, address: ["fd00:244::/32", "10.96.0.1/32"] }), [0, 1, 2, 4, 5, 6, 7]);
});

test("What cannot be asked for is refused", () => {
  assert.throws(() => eventFilter({ type: ["lost"] }), /--type: there is no event "lost"/);
  assert.throws(() => eventFilter({ reason: ["none"] }), /--reason: there is no reason "none"/);
  assert.throws(() => eventFilter({ address: ["10.0.0.0/33"] }), /--address: "10\.0\.0\.0\/33"/);
  assert.throws(() => eventFilter({ service: "" }), /the name of the Service is empty/);
});
