// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";
import { type Link, planInterfaces } from "../../../src/dataplane/interfaces.js";
import { closedToShortcut, type ShortcutFacts } from "../../../src/dataplane/shortcut.js";

const link = (ifindex: number, kind: string, more: Partial<Link> = {}): Link => ({
  ifindex,
  name: `${kind}${ifindex}`,
  kind,
  hardwareType: 1,
  master: 0,
  peerElsewhere: kind === "veth",
  mtu: 1500,
  qdisc: "noqueue",
  ...more,
});

/** Why each of these is closed, by ifindex. The first uplink is 2. */
function closed(links: readonly Link[], facts: Partial<ShortcutFacts> = {}): Record<number, string> {
  const { plans } = planInterfaces(links, [], new Set([2]), { devices: [], podInterfaces: [] });
  const all = { others: new Map(), strict: new Set<number>(), ...facts };
  return Object.fromEntries(closedToShortcut(plans, links, all));
}

const UPLINK = link(2, "", { qdisc: "fq_codel" });

test("closedToShortcut() leaves open routed pods, uplinks with a queue, overlays, and the one bridge with its ports", () => {
  assert.deepEqual(closed([UPLINK, link(3, "veth"), link(4, "veth"), link(5, "vxlan")]), {});
  assert.deepEqual(closed([UPLINK, link(3, "bridge"), link(4, "veth", { master: 3 })]), {});
});

test("closedToShortcut() closes what somebody else would not see: programs, queues of pods, strict rp_filter", () => {
  const links = [UPLINK, link(3, "veth"), link(4, "veth", { qdisc: "tbf" }), link(5, "veth")];
  const facts = { others: new Map([[3, "cil_from_container (in, tcx)"]]), strict: new Set([2]) };
  assert.deepEqual(closed(links, facts), {
    2: "its strict rp_filter would not see packets",
    3: "cil_from_container (in, tcx) would not see its packets",
    4: "its qdisc tbf would not see its packets",
  });
});

test("closedToShortcut() closes bridges and their ports when pods hang on more than one, or beside it", () => {
  const why = "pods hang on more than one bridge, or on other links too";
  const two = [
    link(3, "bridge"),
    link(4, "bridge"),
    link(5, "veth", { master: 3 }),
    link(6, "veth", { master: 4 }),
  ];
  assert.deepEqual(closed(two), { 3: why, 4: why, 5: why, 6: why });
  const beside = [link(3, "bridge"), link(5, "veth", { master: 3 }), link(6, "veth")];
  assert.deepEqual(closed(beside), { 3: why, 5: why });
});

test("closedToShortcut() closes what it does not know the MTU or the queue of", () => {
  const { mtu: _mtu, ...noMtu } = link(3, "veth");
  const { qdisc: _qdisc, ...noQueue } = link(4, "veth");
  assert.deepEqual(closed([noMtu, noQueue]), {
    3: "its MTU is not known",
    4: "its qdisc (unknown) would not see its packets",
  });
});
