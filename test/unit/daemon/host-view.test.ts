// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { HostView } from "../../../src/daemon/host-view.js";
import type { ReservedAddress } from "../../../src/model/types.js";
import { type IpAddress, parseIp } from "../../../src/net/ip.js";

const ips = (...texts: readonly string[]): IpAddress[] => texts.flatMap((text) => parseIp(text) ?? []);

test("HostView has each address once, sorted, and keeps its facts as long as nothing changes", () => {
  const host = new HostView(async () => []);
  const atFirst = host.facts;
  assert.equal(atFirst, null, "not known yet");
  assert.equal(host.setLocalAddresses(ips("fd00::1", "10.0.0.9", "10.0.0.10", "10.0.0.9")), true);
  const { facts } = host;
  assert.ok(facts);
  assert.deepEqual(
    facts.localAddresses.map(({ text }) => text),
    ["10.0.0.9", "10.0.0.10", "fd00::1"],
  );
  assert.equal(host.setLocalAddresses(ips("10.0.0.10", "10.0.0.9", "fd00::1")), false, "another order");
  assert.equal(host.facts, facts);
  assert.equal(host.setLocalAddresses(ips("10.0.0.10", "fd00::1")), true);
  assert.equal(host.facts?.localAddresses.length, 2);
});

test("HostView.refresh() tells whether programs listen elsewhere than before", async () => {
  const [address = null] = ips("10.0.0.9");
  const api: ReservedAddress = { address: null, port: 6443, protocol: "TCP", use: "a listening socket" };
  let listeners: readonly ReservedAddress[] = [];
  const host = new HostView(async () => listeners);
  assert.equal(host.setLocalAddresses([]), true, "now it is known that there are none");
  assert.equal(await host.refresh(), false);
  const changes: readonly (readonly ReservedAddress[])[] = [
    [api],
    [{ ...api, port: 6444 }],
    [{ ...api, address }],
    [{ ...api, protocol: "UDP" }],
    [{ ...api, refusesNodePorts: true }],
    [api, { ...api, port: 7 }],
    [],
  ];
  for (const change of changes) {
    listeners = change;
    assert.equal(await host.refresh(), true, JSON.stringify(change));
    listeners = change.map((each) => ({ ...each }));
    assert.equal(await host.refresh(), false, "equal, though other objects");
    assert.deepEqual(host.facts?.reserved, change);
  }
});
