// SPDX-License-Identifier: Apache-2.0
/** Records of the ring buffer as what they mean: who is who at each hook, and why a backend was chosen. */
import assert from "node:assert/strict";
import test from "node:test";
import {
  Direction,
  FrontendFlag,
  NatFlag,
  NO_BACKEND,
  NO_SERVICE,
  Reason,
  Tell,
  Why,
} from "../../../src/abi/enums.gen.js";
import type { FlowEvent } from "../../../src/abi/layout.gen.js";
import {
  EVENT_TYPES,
  type EventView,
  eventView,
  isNews,
  kindsOf,
  type Peer,
  serviceFinder,
  type Tables,
} from "../../../src/dataplane/view.js";
import { addressBytes } from "../../support/packet-address.js";

function bytes16(text: string): Uint8Array {
  const out = new Uint8Array(16);
  if (text !== "") out.set(addressBytes(text));
  return out;
}

type Given = Omit<Partial<FlowEvent>, "src" | "dst" | "addr"> & {
  readonly src?: string;
  readonly dst?: string;
  readonly addr?: string;
};

/** A record of a new IPv4 flow, 10.1.0.1:4000 to 10.96.0.1:80 on 10.2.0.1:8080, unless told otherwise. */
function record({ src = "10.1.0.1", dst = "10.96.0.1", addr = "10.2.0.1", ...rest }: Given = {}): FlowEvent {
  return {
    time: 7n,
    cookie: 0n,
    src: bytes16(src),
    dst: bytes16(dst),
    addr: bytes16(addr),
    sport: 4000,
    dport: 80,
    port: 8080,
    family: 4,
    protocol: 6,
    kind: Tell.NEW,
    direction: Direction.IN,
    reason: Reason.FLOW_NEW,
    ifindex: 3,
    length: 60,
    service: 1,
    backend: 5,
    generation: 2,
    natFlags: 0,
    frontendFlags: FrontendFlag.FRONTEND_CLUSTER_IP,
    why: Why.INSIDE,
    tcpFlags: 2,
    ...rest,
  };
}

const view = (given: Given = {}): EventView => eventView(record(given), () => null);
const text = (peer: Peer | null): string | null => (peer === null ? null : `${peer.address} ${peer.port}`);
const roles = (given: Given) => {
  const { client, destination, backend, seenAs, reply } = view(given);
  return {
    client: text(client),
    destination: text(destination),
    backend: text(backend),
    seenAs: text(seenAs),
    reply,
  };
};

test("A packet to a Service, its reply, and both masqueraded forms name the same client and backend", () => {
  const [client, destination, backend, seenAs] = [
    "10.1.0.1 4000",
    "10.96.0.1 80",
    "10.2.0.1 8080",
    "10.9.0.9 20001",
  ];
  assert.deepEqual(roles({}), { client, destination, backend, seenAs: null, reply: false });
  const reply: Given = {
    direction: Direction.OUT,
    natFlags: NatFlag.NAT_REPLY,
    src: "10.2.0.1",
    sport: 8080,
    dst: "10.1.0.1",
    dport: 4000,
    addr: "10.96.0.1",
    port: 80,
  };
  assert.deepEqual(roles(reply), { client, destination, backend, seenAs: null, reply: true });
  const leaving: Given = {
    direction: Direction.OUT,
    natFlags: NatFlag.NAT_MASQUERADE,
    dst: "10.2.0.1",
    dport: 8080,
    addr: "10.9.0.9",
    port: 20001,
  };
  assert.deepEqual(roles(leaving), { client, destination: null, backend, seenAs, reply: false });
  const coming: Given = {
    natFlags: NatFlag.NAT_MASQUERADE | NatFlag.NAT_REPLY,
    src: "10.2.0.1",
    sport: 8080,
    dst: "10.9.0.9",
    dport: 20001,
    addr: "10.1.0.1",
    port: 4000,
  };
  assert.deepEqual(roles(coming), { client, destination: null, backend, seenAs, reply: true });
});

test("A refused packet has no backend; a socket that is not bound has no client", () => {
  const refused = {
    addr: "",
    port: 0,
    backend: NO_BACKEND,
    kind: Tell.REJECTED,
    reason: Reason.REJECT_NO_PORT,
  };
  const { type, reason, backend, why } = view(refused);
  assert.deepEqual([type, reason, backend, why], ["rejected", "no_port", null, []]);
  const socket = view({ cookie: 77n, src: "", sport: 0, ifindex: 0 });
  assert.deepEqual([socket.hook, socket.client, socket.cookie], ["socket", null, 77n]);
  assert.equal(view({ direction: Direction.OUT }).hook, "egress");
});

test("IPv6 addresses are whole, and ICMP of both families is one protocol", () => {
  const six = view({ family: 6, src: "fd00::1", dst: "fd00:96::1", addr: "fd00::2", protocol: 58 });
  assert.equal(six.client?.address, "fd00::1");
  assert.equal(six.backend?.address, "fd00::2");
  assert.deepEqual(
    [six.protocol, view({ protocol: 1 }).protocol, view({ protocol: 132 }).protocol],
    ["ICMP", "ICMP", "SCTP"],
  );
});

test("Why a backend was chosen: affinity, traffic policy, short-circuit, masquerade", () => {
  const { FRONTEND_CLUSTER_IP, FRONTEND_EXTERNAL_LOCAL, FRONTEND_INTERNAL_LOCAL } = FrontendFlag;
  for (const [given, expected] of [
    [{}, ["random"]],
    [{ why: Why.INSIDE | Why.AFFINITY_KEPT }, ["affinity"]],
    [{ why: Why.AFFINITY_BOUND }, ["affinity-new"]],
    [{ why: 0, frontendFlags: FRONTEND_EXTERNAL_LOCAL }, ["random", "local"]],
    [{ frontendFlags: FRONTEND_EXTERNAL_LOCAL }, ["random", "short-circuit"]],
    [{ frontendFlags: FRONTEND_CLUSTER_IP | FRONTEND_EXTERNAL_LOCAL }, ["random"]],
    [{ frontendFlags: FRONTEND_CLUSTER_IP | FRONTEND_INTERNAL_LOCAL }, ["random", "local"]],
    [{ frontendFlags: FRONTEND_EXTERNAL_LOCAL | FRONTEND_INTERNAL_LOCAL }, ["random", "local"]],
    [{ natFlags: NatFlag.NAT_ASKED }, ["random", "masquerade"]],
    [{ kind: Tell.TRANSLATED, why: 0 }, []],
  ] as const)
    assert.deepEqual(view(given).why, expected, JSON.stringify(given));
});

test("Each type is one bit that the programs know", () => {
  assert.equal(kindsOf(["new"]), Tell.NEW);
  assert.equal(kindsOf(["rejected", "dropped"]), Tell.REJECTED | Tell.DROPPED);
  const all = Object.values(Tell).reduce((bits, bit) => bits | bit, 0);
  assert.equal(kindsOf(EVENT_TYPES), all);
});

test("A Service is found by its index, by its frontend, or by the address alone; and news are seen", () => {
  const web = { index: 1, namespace: "shop", name: "web", portName: "http", protocol: "TCP" } as const;
  const frontend = { address: "10.96.0.1", port: 80, service: 1 };
  const empty = { frontends: [], cells: new Map(), sourceRanges: new Map(), stats: new Map() };
  const tables = {
    services: new Map([[1, web]]),
    traffic: new Map(),
    families: { 4: { ...empty, frontends: [frontend] }, 6: empty },
  } as unknown as Tables;
  const find = serviceFinder(tables);
  assert.equal(find(record()), web);
  assert.equal(find(record({ service: 9 }))?.name, "");
  assert.equal(find(record({ service: NO_SERVICE })), web);
  assert.deepEqual(find(record({ service: NO_SERVICE, dport: 81 })), { ...web, portName: "" });
  assert.equal(find(record({ service: NO_SERVICE, dst: "10.96.0.2" })), null);
  assert.deepEqual(
    [1, 9, NO_SERVICE].map((service) => isNews(tables, record({ service }))),
    [false, true, false],
  );
});
