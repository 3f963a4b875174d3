// SPDX-License-Identifier: Apache-2.0
/**
 * The XDP program on an uplink: which packets it finishes, byte for byte and entry for entry as the two tc hooks would, and which it
 * leaves to tc, untouched and for which reason.
 */
import assert from "node:assert/strict";
import { after } from "node:test";
import { AddressClass, BackendFlag, FrontendFlag } from "../../src/abi/enums.gen.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { icmpError, type Packet, sctp, tcp, text, udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import type { Host } from "./support/addresses.js";
import { pieces } from "./support/fragments.js";
import { isolate, ownBpffs } from "./support/isolate.js";
import {
  type Lab,
  twins as onEmptyMaps,
  openBench,
  type ReasonName,
  type ServiceSpec,
} from "./support/lab.js";
import { allowSource, only } from "./support/policy.js";
import { balancer, nodePort, opening } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";
import {
  describeUplinks,
  LOCAL,
  macOf,
  makeUplinks,
  removeUplinks,
  SILENT,
  type Wire,
} from "./support/uplink.js";
import { FAR_MAC } from "./support/wire.js";

isolate();
const pins = `${ownBpffs(new NativeLibrary())}/xdp`;
const bench = await openBench({}, undefined, { xdp: true, pins });
const wires = await makeUplinks(bench);
after(removeUplinks);

const { FRONTEND_MASQUERADE: ALL, FRONTEND_SOURCE_RANGES: RANGED } = FrontendFlag;
const PROTOCOLS = ["tcp", "udp"] as const;
type Protocol = (typeof PROTOCOLS)[number];

function twins(title: string, body: (lab: Lab) => Promise<void>): void {
  onEmptyMaps(bench, title, async (lab) => {
    await describeUplinks(lab, wires);
    await body(lab);
  });
}

/** A masqueraded NodePort 30080 on backend:8080, unless said otherwise. */
const masqueraded = (lab: Lab, protocol: Protocol = "tcp", more: Partial<ServiceSpec> = {}) =>
  nodePort(lab, { protocol, flags: ALL, ...more });

/** A packet as it comes in by a wire, and as it goes out by one. */
const arriving = (
  lab: Lab,
  src: Host,
  dst: Host,
  payload: Packet["payload"],
  more: Partial<Packet> = {},
  wire: Wire = "near",
): Packet => lab.packet(src, dst, payload, { eth: { src: FAR_MAC, dst: macOf(wire) }, ...more });
const leaving = (lab: Lab, src: Host, dst: Host, payload: Packet["payload"], wire: Wire = "near"): Packet =>
  lab.packet(src, dst, payload, { eth: { src: macOf(wire), dst: FAR_MAC }, ttl: 63 });

/** Runs the XDP program on a packet that passes untouched, for this reason. */
async function passes(lab: Lab, packet: Packet | Uint8Array, reasons: readonly ReasonName[]): Promise<void> {
  await lab.expect("ptl_xdp", packet, { reasons }, { ifindex: wires.near });
}

const sportOf = (frame: Uint8Array, protocol: Protocol) =>
  Number(fieldText(dissectFrame(frame), `${protocol}.sport`));

/** stranger:40000 opens a flow to NodePort 30080, which is sent on to backend:8080 in XDP. Returns the masquerade port. */
async function begin(lab: Lab, protocol: Protocol, more: Partial<Packet> = {}): Promise<number> {
  const first = arriving(lab, "stranger", "nodeip", opening(protocol, 40000, 30080), more);
  const outcome = await lab.run("ptl_xdp", first, { ifindex: wires.near });
  assert.deepEqual(outcome.reasons, { FLOW_NEW: 1, MASQUERADED: 1, XDP_SENT: 1 });
  assert.equal(outcome.verdict, "tx");
  const port = sportOf(outcome.frame, protocol);
  const inRange = TEST_CONFIG.snatPortBase.some(
    (base, i) => port >= base && port < base + (TEST_CONFIG.snatPortCount[i] ?? 0),
  );
  assert.ok(inRange, `port ${port} is in no range`);
  lab.assertFrame(outcome, leaving(lab, "nodeip", "backend", opening(protocol, port, 8080)));
  return port;
}

/** Sends one more packet of such a flow, either way, and expects XDP to finish it. */
async function goesOn(lab: Lab, packet: Packet, sent: Packet): Promise<void> {
  await lab.expect(
    "ptl_xdp",
    packet,
    { verdict: "tx", packet: sent, reasons: ["XDP_SENT"] },
    { ifindex: wires.near },
  );
}

for (const protocol of PROTOCOLS) {
  const payload = (flags: string, sport: number, dport: number) =>
    protocol === "tcp" ? tcp(sport, dport, flags, { data: text("odd") }) : udp(sport, dport, flags);

  twins(`a ${protocol} flow to a remote backend begins, goes on and is answered in XDP`, async (lab) => {
    const service = await masqueraded(lab, protocol);
    const port = await begin(lab, protocol);
    const reply = payload("SA", 8080, port);
    await goesOn(
      lab,
      arriving(lab, "backend", "nodeip", reply),
      leaving(lab, "nodeip", "stranger", payload("SA", 30080, 40000)),
    );
    await goesOn(
      lab,
      arriving(lab, "stranger", "nodeip", payload("A", 40000, 30080)),
      leaving(lab, "nodeip", "backend", payload("A", port, 8080)),
    );
    const seen = protocol === "tcp" ? "forward reply established" : "forward reply";
    await lab.expectNat(
      `IN ${protocol} stranger:40000 > nodeip:30080 => backend:8080, peer 40000, ${seen} [xdp]`,
      `OUT ${protocol} backend:8080 > stranger:40000 => nodeip:30080, peer 40000, ${seen} [reply xdp]`,
      `OUT ${protocol} stranger:40000 > backend:8080 => nodeip:${port}, peer 8080, ${seen} [masquerade xdp]`,
      `IN ${protocol} backend:8080 > nodeip:${port} => stranger:40000, peer 8080, ${seen} [reply masquerade xdp]`,
    );
    const { flows, packets } = await lab.serviceTraffic(service);
    assert.deepEqual({ flows, packets }, { flows: 1n, packets: 3n });
    const backend = await lab.backendTraffic(service.cells[0] as number);
    assert.equal(backend.packets, 3n);
  });

  twins(`packets of a ${protocol} flow that begins in XDP are served alike by tc`, async (lab) => {
    await masqueraded(lab, protocol);
    const port = await begin(lab, protocol);
    const between = lab.packet("stranger", "backend", payload("A", 40000, 8080));
    await lab.expect("ptl_net_in", lab.packet("stranger", "nodeip", payload("A", 40000, 30080)), {
      packet: between,
      reasons: ["TRANSLATED"],
    });
    await lab.expect("ptl_net_out", between, {
      packet: lab.packet("nodeip", "backend", payload("A", port, 8080)),
      reasons: ["TRANSLATED"],
    });
    // The stack knows nothing of the flow, and would take this for the first packet of a new one: straight to the egress hook.
    const reply = payload("A", 8080, port);
    const back = lab.packet("backend", "stranger", payload("A", 8080, 40000), { ttl: 63 });
    const near = { ifindex: wires.near };
    await lab.expect(
      "ptl_net_in",
      lab.packet("backend", "nodeip", reply),
      { verdict: "redirect", packet: back, reasons: ["TRANSLATED", "SHORTCUT"] },
      near,
    );
    await lab.expect("ptl_net_out", back, {
      packet: lab.packet("nodeip", "stranger", payload("A", 30080, 40000), { ttl: 63 }),
      reasons: ["TRANSLATED"],
    });
    await lab.expect(
      "ptl_net_in",
      lab.packet("backend", "nodeip", reply, { ttl: 1 }),
      { packet: { ...back, ttl: 1 }, reasons: ["TRANSLATED", "STACK_HOPS"] },
      near,
    );
    await goesOn(
      lab,
      arriving(lab, "stranger", "nodeip", payload("A", 40000, 30080)),
      leaving(lab, "nodeip", "backend", payload("A", port, 8080)),
    );
  });

  twins(`a ${protocol} flow that begins in tc stays there`, async (lab) => {
    await masqueraded(lab, protocol);
    const first = opening(protocol, 40000, 30080);
    await lab.run("ptl_net_in", lab.packet("stranger", "nodeip", first), { ifindex: wires.near });
    const sent = await lab.run(
      "ptl_net_out",
      lab.packet("stranger", "backend", opening(protocol, 40000, 8080)),
      { ifindex: wires.near },
    );
    const port = sportOf(sent.frame, protocol);
    await passes(lab, arriving(lab, "stranger", "nodeip", payload("A", 40000, 30080)), ["XDP_STACK_FLOW"]);
    await passes(lab, arriving(lab, "backend", "nodeip", payload("A", 8080, port)), ["XDP_STACK_FLOW"]);
  });

  twins(`a ${protocol} flow leaves by another uplink by redirection`, async (lab) => {
    await masqueraded(lab, protocol, { endpoints: [{ host: "backend2", port: 8080 }] });
    const first = arriving(lab, "stranger", "nodeip", opening(protocol, 40000, 30080));
    const outcome = await lab.run("ptl_xdp", first, { ifindex: wires.near });
    assert.equal(outcome.verdict, "redirect", JSON.stringify(outcome.reasons));
    const port = sportOf(outcome.frame, protocol);
    lab.assertFrame(outcome, leaving(lab, "nodeip", "backend2", opening(protocol, port, 8080), "second"));
  });

  /** Backends whose flows go through the stack from their first packet on, and why. */
  const STACK: readonly (readonly [string, Host, ReasonName])[] = [
    ["on this node, by a bridge", "backend4", "XDP_LOCAL"],
    ["of the node itself", LOCAL, "XDP_LOCAL"],
    ["without a route", "unused", "XDP_LOCAL"],
    ["behind an overlay", "backend3", "XDP_OVERLAY"],
    ["behind an interface without XDP", "stranger2", "XDP_ROUTE"],
    ["whose address nobody has resolved", SILENT, "XDP_NEIGHBOUR"],
  ];
  for (const [what, host, reason] of STACK) {
    twins(`a ${protocol} flow to a backend ${what} is chosen in XDP and served by tc`, async (lab) => {
      const service = await masqueraded(lab, protocol, { endpoints: [{ host, port: 8080 }] });
      const first = opening(protocol, 40000, 30080);
      await passes(lab, arriving(lab, "stranger", "nodeip", first), ["FLOW_NEW", reason]);
      await lab.expectNat(
        `IN ${protocol} stranger:40000 > nodeip:30080 => ${host}:8080, peer 40000, forward`,
        `OUT ${protocol} ${host}:8080 > stranger:40000 => nodeip:30080, peer 40000, forward [reply]`,
        `OUT ${protocol} stranger:40000 > ${host}:8080 => stranger:40000, peer 8080, forward [pending masquerade]`,
      );
      await lab.expect("ptl_net_in", lab.packet("stranger", "nodeip", first), {
        packet: lab.packet("stranger", host, opening(protocol, 40000, 8080)),
        reasons: ["TRANSLATED"],
      });
      const { flows, packets } = await lab.serviceTraffic(service);
      assert.deepEqual({ flows, packets }, { flows: 1n, packets: 1n });
      await passes(lab, arriving(lab, "stranger", "nodeip", payload("A", 40000, 30080)), ["XDP_STACK_FLOW"]);
    });
  }

  twins(`a ${protocol} flow whose client XDP cannot reach is served by tc`, async (lab) => {
    await masqueraded(lab, protocol);
    const first = arriving(lab, "stranger2", "nodeip", opening(protocol, 40000, 30080));
    await passes(lab, first, ["FLOW_NEW", "XDP_ROUTE"]);
  });

  twins(`a ${protocol} flow whose client keeps its address is served by tc`, async (lab) => {
    await masqueraded(lab, protocol, { flags: 0 });
    const first = arriving(lab, "stranger", "nodeip", opening(protocol, 40000, 30080));
    await passes(lab, first, ["FLOW_NEW", "XDP_OWN_ADDRESS"]);
  });

  twins(
    `a packet of a ${protocol} flow in XDP that cannot be finished passes and changes nothing`,
    async (lab) => {
      await masqueraded(lab, protocol);
      await begin(lab, protocol);
      const before = await lab.natEntries();
      const more = payload("A", 40000, 30080);
      const arrives = (change: Partial<Packet>) => arriving(lab, "stranger", "nodeip", more, change);
      await passes(lab, arrives({ ttl: 1 }), ["XDP_TTL"]);
      const data = text("x".repeat(1600));
      const long =
        protocol === "tcp" ? tcp(40000, 30080, "A", { data }) : udp(40000, 30080, "x".repeat(1600));
      await passes(lab, arriving(lab, "stranger", "nodeip", long), ["XDP_MTU"]);
      const options: Partial<Packet> =
        lab.family === 4
          ? { options: Uint8Array.of(1, 1, 1, 1) }
          : { extensions: [{ kind: "dest-opts", data: new Uint8Array(6) }] };
      await passes(lab, arrives(options), ["XDP_OPTIONS"]);
      for (const piece of pieces(lab, "stranger", "nodeip", long, { size: 800 }))
        await passes(lab, { ...piece, eth: { src: FAR_MAC, dst: macOf("near") } }, ["XDP_FRAGMENT"]);
      assert.deepEqual(await lab.natEntries(), before);
    },
  );
}

twins("every sum that ports and addresses can make comes out right", async (lab) => {
  await masqueraded(lab, "udp");
  const port = await begin(lab, "udp");
  for (let value = 0; value < 0x10000; value += 257) {
    const data = String.fromCharCode(1 + (value % 127), 1 + ((value >> 7) % 127));
    await goesOn(
      lab,
      arriving(lab, "stranger", "nodeip", udp(40000, 30080, data)),
      leaving(lab, "nodeip", "backend", udp(port, 8080, data)),
    );
  }
});

twins("a datagram without a checksum stays without one", async (lab) => {
  await masqueraded(lab, "udp");
  const port = await begin(lab, "udp");
  const bare = { checksum: 0 };
  await goesOn(
    lab,
    arriving(lab, "stranger", "nodeip", udp(40000, 30080, "bare", bare)),
    leaving(lab, "nodeip", "backend", udp(port, 8080, "bare", bare)),
  );
});

twins("what is no Service's passes, and leaves nothing behind", async (lab) => {
  await masqueraded(lab);
  await passes(lab, arriving(lab, "stranger", "nodeip", tcp(40000, 22)), ["XDP_OTHER"]);
  await passes(lab, arriving(lab, "stranger", "backend", udp(40000, 9)), ["XDP_OTHER"]);
  await passes(lab, arriving(lab, "stranger", "nodeip", tcp(40000, 30080, "A")), ["XDP_OTHER"]);
  const more = { eth: { src: FAR_MAC, dst: macOf("near"), type: 0x88cc } };
  await passes(lab, arriving(lab, "stranger", "nodeip", tcp(40000, 30080), more), ["XDP_OTHER"]);
  await lab.expectNat();
});

twins("a frame for another host passes, whatever its destination", async (lab) => {
  await masqueraded(lab);
  const foreign = { eth: { src: FAR_MAC, dst: "02:00:00:00:09:09" } };
  const first = arriving(lab, "stranger", "nodeip", tcp(40000, 30080), foreign);
  await passes(lab, first, ["XDP_OTHER"]);
  await lab.expectNat();
  await begin(lab, "tcp");
  await passes(lab, arriving(lab, "stranger", "nodeip", tcp(40000, 30080, "A"), foreign), ["XDP_OTHER"]);
});

twins("other protocols pass", async (lab) => {
  await masqueraded(lab);
  const quoted = lab.packet("nodeip", "stranger", tcp(30080, 40000));
  for (const payload of [sctp(40000, 30080, "init"), icmpError("port-unreachable", quoted)])
    await passes(lab, arriving(lab, "stranger", "nodeip", payload), ["XDP_PROTOCOL"]);
});

twins("headers that contradict themselves pass", async (lab) => {
  await masqueraded(lab);
  for (const lie of [{ length: 2000 }, { length: 8 }, { version: 5 }])
    await passes(lab, arriving(lab, "stranger", "nodeip", tcp(40000, 30080), { lie }), ["XDP_OTHER"]);
  await passes(lab, arriving(lab, "stranger", "nodeip", tcp(40000, 30080), { truncate: 50 }), ["XDP_OTHER"]);
});

twins("a sender outside the source ranges is dropped, one inside goes on", async (lab) => {
  const endpoints = [{ host: "backend", port: 8080 }] as const;
  const service = await balancer(lab, { flags: ALL | RANGED, endpoints });
  const first = arriving(lab, "stranger", "lb", tcp(40000, 80));
  await lab.expect(
    "ptl_xdp",
    first,
    { verdict: "drop", reasons: ["DROP_SOURCE_RANGE", "XDP_DROPPED"] },
    { ifindex: wires.near },
  );
  await lab.expectNat();
  await allowSource(lab, service, only(lab, "stranger"));
  const outcome = await lab.run("ptl_xdp", first, { ifindex: wires.near });
  assert.equal(outcome.verdict, "tx", JSON.stringify(outcome.reasons));
});

twins("a traffic policy's silence is kept in XDP, a refusal is answered by tc", async (lab) => {
  await balancer(lab, { endpoints: [], whenEmpty: "drop" });
  await masqueraded(lab, "tcp", { endpoints: [] });
  await lab.expect(
    "ptl_xdp",
    arriving(lab, "stranger", "lb", tcp(40000, 80)),
    { verdict: "drop", reasons: ["DROP_POLICY", "XDP_DROPPED"] },
    { ifindex: wires.near },
  );
  await passes(lab, arriving(lab, "stranger", "nodeip", tcp(40000, 30080)), ["XDP_ANSWER"]);
  await lab.expectNat();
});

twins("a client that its backend's own address knows by the same port passes", async (lab) => {
  await masqueraded(lab);
  await lab.addClass("backend", AddressClass.CLASS_BACKEND);
  await passes(lab, arriving(lab, "stranger", "backend", tcp(40000, 8080)), ["XDP_OTHER"]);
});

twins("a UDP flow whose backend has gone begins anew", async (lab) => {
  const service = await masqueraded(lab, "udp");
  await begin(lab, "udp");
  await lab.publish(service, [{ host: "backend2", port: 8080 }]);
  const next = arriving(lab, "stranger", "nodeip", udp(40000, 30080));
  const outcome = await lab.run("ptl_xdp", next, { ifindex: wires.near });
  assert.equal(outcome.verdict, "redirect");
  assert.deepEqual(outcome.reasons, { BACKEND_STALE: 1, FLOW_NEW: 1, MASQUERADED: 1, XDP_SENT: 1 });
});

twins(
  "a SYN that is repeated goes to the same backend, one after the connection's end begins anew",
  async (lab) => {
    await masqueraded(lab);
    const port = await begin(lab, "tcp");
    await goesOn(
      lab,
      arriving(lab, "stranger", "nodeip", tcp(40000, 30080)),
      leaving(lab, "nodeip", "backend", tcp(port, 8080)),
    );
    await goesOn(
      lab,
      arriving(lab, "stranger", "nodeip", tcp(40000, 30080, "R")),
      leaving(lab, "nodeip", "backend", tcp(port, 8080, "R")),
    );
    assert.notEqual(await begin(lab, "tcp"), 0);
  },
);

twins(
  "a client's port that goes to one backend by two NodePorts has two flows, each with its own replies",
  async (lab) => {
    await masqueraded(lab);
    await masqueraded(lab, "tcp", { port: 30081 });
    const first = await begin(lab, "tcp");
    const other = arriving(lab, "stranger", "nodeip", tcp(40000, 30081));
    const outcome = await lab.run("ptl_xdp", other, { ifindex: wires.near });
    assert.deepEqual(outcome.reasons, { SOURCE_PORT_SHIFTED: 1, FLOW_NEW: 1, MASQUERADED: 1, XDP_SENT: 1 });
    const second = sportOf(outcome.frame, "tcp");
    assert.notEqual(second, first);
    for (const [port, vip] of [
      [first, 30080],
      [second, 30081],
    ] as const)
      await goesOn(
        lab,
        arriving(lab, "backend", "nodeip", tcp(8080, port, "SA")),
        leaving(lab, "nodeip", "stranger", tcp(vip, 40000, "SA")),
      );
    assert.equal((await lab.natEntries()).length, 8);
  },
);

twins("session affinity chooses in XDP as in tc", async (lab) => {
  const sets = BackendFlag.BACKEND_CLUSTER_SET;
  const endpoints = [8080, 8081, 8082].map((port) => ({ host: "backend" as const, port, sets }));
  await masqueraded(lab, "udp", { affinitySeconds: 100, endpoints });
  const ports = new Set<string>();
  for (let sport = 41000; sport < 41008; sport++) {
    const packet = arriving(lab, "stranger", "nodeip", udp(sport, 30080));
    const { frame, verdict } = await lab.run("ptl_xdp", packet, { ifindex: wires.near });
    assert.equal(verdict, "tx");
    ports.add(fieldText(dissectFrame(frame), "udp.dport"));
  }
  const tc = await lab.run("ptl_net_in", lab.packet("stranger", "nodeip", udp(41100, 30080)));
  ports.add(fieldText(dissectFrame(tc.frame), "udp.dport"));
  assert.equal(ports.size, 1);
});

twins("an uplink that is not switched on serves nothing", async (lab) => {
  await masqueraded(lab);
  const first = arriving(lab, "stranger", "nodeip", tcp(40000, 30080), {}, "tunnel");
  await lab.expect("ptl_xdp", first, { reasons: ["XDP_OTHER"] }, { ifindex: wires.near });
  await lab.expectNat();
});
