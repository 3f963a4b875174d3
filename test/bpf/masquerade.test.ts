// SPDX-License-Identifier: Apache-2.0
/**
 * Masquerade (section 8): who gets an address of the node on the way to a backend, what the flow's entries are, and that
 * everything of the flow finds its way: both directions, ICMP errors of both ends, fragments.
 */
import assert from "node:assert/strict";
import { after } from "node:test";
import { FrontendFlag } from "../../src/abi/enums.gen.js";
import { icmpError, type Packet, sctp, tcp, text, udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import type { Host } from "./support/addresses.js";
import { pieces, place } from "./support/fragments.js";
import { IFINDEX, type Lab, openBench, type ProtocolName, type ServiceSpec, twins } from "./support/lab.js";
import { answer, balancer, further, nodePort, opening, web } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";
import { makeWire, removeWire } from "./support/wire.js";

const bench = await openBench();
const twoPorts = await openBench({ snatPortBase: [20000, 0], snatPortCount: [2, 0] });
/** A second interface: the packets' own is IFINDEX. */
const uplink = makeWire();
after(removeWire);

const PROTOCOLS = ["tcp", "udp", "sctp"] as const;
const { FRONTEND_MASQUERADE: ALL, FRONTEND_MASQUERADE_OUTSIDERS: OUTSIDERS } = FrontendFlag;

/** Frontends by what they are, with the address and port that clients use. */
const FRONTENDS = {
  ClusterIP: [web, "vip", 80],
  "load balancer's address": [balancer, "lb", 80],
  NodePort: [nodePort, "nodeip", 30080],
} as const;

const sportOf = (frame: Uint8Array, protocol: ProtocolName = "tcp") =>
  Number(fieldText(dissectFrame(frame), `${protocol}.sport`));

function assertInRange(port: number): void {
  const inRange = TEST_CONFIG.snatPortBase.some((base, i) => {
    return port >= base && port < base + (TEST_CONFIG.snatPortCount[i] ?? 0);
  });
  assert.ok(inRange, `port ${port} is in no range`);
}

/** stranger:40000 to NodePort 30080, masqueraded on its way to backend:8080. Returns the masquerade port. */
async function begin(
  lab: Lab,
  protocol: ProtocolName,
  client: Host = "stranger",
  sport = 40000,
): Promise<number> {
  await lab.expect("ptl_net_in", lab.packet(client, "nodeip", opening(protocol, sport, 30080)), {
    packet: lab.packet(client, "backend", opening(protocol, sport, 8080)),
    reasons: ["FLOW_NEW"],
  });
  const outcome = await lab.run("ptl_pod_out", lab.packet(client, "backend", opening(protocol, sport, 8080)));
  assert.deepEqual(outcome.reasons, { MASQUERADED: 1 });
  const snat = sportOf(outcome.frame, protocol);
  assertInRange(snat);
  lab.assertFrame(outcome, lab.packet("node", "backend", opening(protocol, snat, 8080)));
  return snat;
}

/** One packet from the client, through both hooks. */
async function forward(
  lab: Lab,
  snat: number,
  payload: (sport: number, dport: number) => Packet["payload"],
  client: Host = "stranger",
  sport = 40000,
): Promise<void> {
  await lab.expect("ptl_net_in", lab.packet(client, "nodeip", payload(sport, 30080)), {
    packet: lab.packet(client, "backend", payload(sport, 8080)),
    reasons: ["TRANSLATED"],
  });
  await lab.expect("ptl_pod_out", lab.packet(client, "backend", payload(sport, 8080)), {
    packet: lab.packet("node", "backend", payload(snat, 8080)),
    reasons: ["TRANSLATED"],
  });
}

/** One packet from the backend, through both hooks. */
async function backward(
  lab: Lab,
  snat: number,
  payload: (sport: number, dport: number) => Packet["payload"],
  client: Host = "stranger",
  sport = 40000,
): Promise<void> {
  await lab.expect("ptl_pod_in", lab.packet("backend", "node", payload(8080, snat)), {
    packet: lab.packet("backend", client, payload(8080, sport)),
    reasons: ["TRANSLATED"],
  });
  await lab.expect("ptl_net_out", lab.packet("backend", client, payload(8080, sport)), {
    packet: lab.packet("nodeip", client, payload(30080, sport)),
    reasons: ["TRANSLATED"],
  });
}

const cluster: Partial<ServiceSpec> = { flags: ALL };

for (const [what, [frontend, at, port]] of Object.entries(FRONTENDS)) {
  for (const [flagName, flags] of [
    ["without a rule", 0],
    ["that masquerades all", ALL],
    ["that masquerades senders outside", OUTSIDERS],
  ] as const) {
    for (const client of ["client", "stranger"] as const) {
      const masquerades = flags === ALL || (flags === OUTSIDERS && client === "stranger");
      const sender = client === "client" ? "a local pod" : "a sender outside";
      twins(
        bench,
        `A ${what} ${flagName} ${masquerades ? "masquerades" : "does not masquerade"} ${sender} (8.2, 8.4, 8.5)`,
        async (lab) => {
          await frontend(lab, { flags });
          await lab.expect("ptl_net_in", lab.packet(client, at, tcp(40000, port)), {
            packet: lab.packet(client, "backend", tcp(40000, 8080)),
            reasons: ["FLOW_NEW"],
          });
          const pair = [
            `IN tcp ${client}:40000 > ${at}:${port} => backend:8080, peer 40000, forward`,
            `OUT tcp backend:8080 > ${client}:40000 => ${at}:${port}, peer 40000, forward [reply]`,
          ];
          const pending = `OUT tcp ${client}:40000 > backend:8080 => ${client}:40000, peer 8080, forward [pending masquerade]`;
          await lab.expectNat(...pair, ...(masquerades ? [pending] : []));
          const translated = lab.packet(client, "backend", tcp(40000, 8080));
          if (!masquerades) {
            for (const program of ["ptl_pod_out", "ptl_net_out"] as const)
              await lab.expect(program, translated, { reasons: ["PASS_EGRESS_MISS"] });
            return;
          }
          const out = await lab.run("ptl_pod_out", translated);
          assert.deepEqual(out.reasons, { MASQUERADED: 1 });
          const snat = sportOf(out.frame);
          lab.assertFrame(out, lab.packet("node", "backend", tcp(snat, 8080)));
          await lab.expectNat(
            ...pair,
            `OUT tcp ${client}:40000 > backend:8080 => node:${snat}, peer 8080, forward [masquerade]`,
            `IN tcp backend:8080 > node:${snat} => ${client}:40000, peer 8080, forward [reply masquerade]`,
          );
        },
      );
    }

    twins(
      bench,
      `A ${what} ${flagName} masquerades a sender that is the chosen backend (8.7)`,
      async (lab) => {
        for (const [i, self] of (["backend", "stranger2"] as const).entries()) {
          await frontend(lab, { flags, endpoints: [{ host: self, port: 8080 }] });
          await lab.run("ptl_net_in", lab.packet(self, at, tcp(40000 + i, port)));
          const out = await lab.run("ptl_net_out", lab.packet(self, self, tcp(40000 + i, 8080)));
          assert.deepEqual(out.reasons, { MASQUERADED: 1 });
          lab.assertFrame(out, lab.packet("node", self, tcp(sportOf(out.frame), 8080)));
        }
      },
    );
  }
}

for (const protocol of PROTOCOLS) {
  const again = (sport: number, dport: number) => further(protocol, sport, dport);
  const reply = (sport: number, dport: number) => answer(protocol, sport, dport);

  twins(
    bench,
    `A masqueraded ${protocol} flow is translated in both directions to its end (8.4)`,
    async (lab) => {
      await nodePort(lab, { ...cluster, protocol });
      const snat = await begin(lab, protocol);
      await backward(lab, snat, reply);
      for (let round = 0; round < 3; round++) {
        await forward(lab, snat, again);
        await backward(lab, snat, again);
      }
      if (protocol !== "tcp") return;
      await forward(lab, snat, (s, d) => tcp(s, d, "FA"));
      await backward(lab, snat, (s, d) => tcp(s, d, "FA"));
      await forward(lab, snat, (s, d) => tcp(s, d, "A"));
    },
  );

  twins(
    bench,
    `A masqueraded ${protocol} flow takes the address of the interface that it leaves by (8.1)`,
    async (lab) => {
      await nodePort(lab, { ...cluster, protocol });
      await lab.interface({ masquerade: "router", ifindex: uplink });
      await lab.run("ptl_net_in", lab.packet("stranger", "nodeip", opening(protocol, 40000, 30080)));
      const translated = lab.packet("stranger", "backend", opening(protocol, 40000, 8080));
      const out = await lab.run("ptl_net_out", translated, { ifindex: uplink });
      const snat = sportOf(out.frame, protocol);
      assertInRange(snat);
      lab.assertFrame(out, lab.packet("router", "backend", opening(protocol, snat, 8080)));
      await lab.expect("ptl_net_in", lab.packet("backend", "router", answer(protocol, 8080, snat)), {
        packet: lab.packet("backend", "stranger", answer(protocol, 8080, 40000)),
        reasons: ["TRANSLATED"],
      });
    },
  );

  twins(
    bench,
    `A masqueraded ${protocol} flow without an address on its interface is dropped and counted`,
    async (lab) => {
      await nodePort(lab, { ...cluster, protocol });
      await lab.interface({ masquerade: false });
      await lab.run("ptl_net_in", lab.packet("stranger", "nodeip", opening(protocol, 40000, 30080)));
      const translated = lab.packet("stranger", "backend", opening(protocol, 40000, 8080));
      for (const program of ["ptl_pod_out", "ptl_net_out"] as const)
        assert.deepEqual((await lab.run(program, translated)).reasons, { DROP_NO_ADDRESS: 1 });
      await lab.forgetInterface();
      const outcome = await lab.run("ptl_pod_out", translated);
      assert.deepEqual(
        { verdict: outcome.verdict, reasons: outcome.reasons },
        { verdict: "drop", reasons: { DROP_NO_ADDRESS: 1 } },
      );
    },
  );

  twins(bench, `Two clients with one ${protocol} port have masquerade ports of their own`, async (lab) => {
    await nodePort(lab, { ...cluster, protocol });
    const first = await begin(lab, protocol, "stranger");
    const second = await begin(lab, protocol, "stranger2");
    assert.notEqual(first, second);
    await backward(lab, second, reply, "stranger2");
    await backward(lab, first, reply, "stranger");
    await forward(lab, second, again, "stranger2");
    await forward(lab, first, again, "stranger");
  });

  for (const [name, program] of [
    ["the backend", "backend"],
    ["a router", "router"],
  ] as const) {
    twins(
      bench,
      `An error of ${name} about a masqueraded ${protocol} flow reaches the client as about the NodePort`,
      async (lab) => {
        await nodePort(lab, { ...cluster, protocol });
        const snat = await begin(lab, protocol);
        const body = (sport: number, dport: number) => quoted(protocol, sport, dport);
        const error = program === "backend" ? "port-unreachable" : "too-big";
        const word = program === "backend" ? 0 : 1280;
        const seen = lab.packet("node", "backend", body(snat, 8080));
        const between = lab.packet("stranger", "backend", body(40000, 8080));
        const sent = lab.packet("stranger", "nodeip", body(40000, 30080));
        await lab.expect("ptl_pod_in", lab.packet(program, "node", icmpError(error, seen, { word })), {
          packet: lab.packet(program, "stranger", icmpError(error, between, { word })),
          reasons: ["ICMP_TRANSLATED"],
        });
        const sender = program === "backend" ? "nodeip" : "router";
        await lab.expect(
          "ptl_net_out",
          lab.packet(program, "stranger", icmpError(error, between, { word })),
          {
            packet: lab.packet(sender, "stranger", icmpError(error, sent, { word })),
            reasons: ["ICMP_TRANSLATED"],
          },
        );
      },
    );
  }

  for (const name of ["stranger", "router"] as const) {
    twins(
      bench,
      `An error of the ${name === "stranger" ? "client" : "client's router"} about a masqueraded ${protocol} reply reaches the backend as about its own`,
      async (lab) => {
        await nodePort(lab, { ...cluster, protocol });
        const snat = await begin(lab, protocol);
        await backward(lab, snat, reply);
        const body = (sport: number, dport: number) => quoted(protocol, sport, dport);
        const seen = lab.packet("nodeip", "stranger", body(30080, 40000));
        const between = lab.packet("backend", "stranger", body(8080, 40000));
        const sent = lab.packet("backend", "node", body(8080, snat));
        const word = { word: 1300 };
        await lab.expect("ptl_net_in", lab.packet(name, "nodeip", icmpError("too-big", seen, word)), {
          packet: lab.packet(name, "backend", icmpError("too-big", between, word)),
          reasons: ["ICMP_TRANSLATED"],
        });
        const sender = name === "stranger" ? "node" : "router";
        await lab.expect("ptl_pod_out", lab.packet(name, "backend", icmpError("too-big", between, word)), {
          packet: lab.packet(sender, "backend", icmpError("too-big", sent, word)),
          reasons: ["ICMP_TRANSLATED"],
        });
      },
    );
  }

  twins(bench, `A retransmitted first ${protocol} packet keeps backend and masquerade port`, async (lab) => {
    await nodePort(lab, { ...cluster, protocol });
    const snat = await begin(lab, protocol);
    await forward(lab, snat, (s, d) => opening(protocol, s, d));
  });

  twins(
    twoPorts,
    `A ${protocol} flow that finds all masquerade ports in use is dropped and counted`,
    async (lab) => {
      await nodePort(lab, { ...cluster, protocol });
      const first = await begin(lab, protocol, "stranger", 40000);
      const second = await begin(lab, protocol, "stranger", 40001);
      await backward(lab, first, reply);
      await lab.run("ptl_net_in", lab.packet("stranger", "nodeip", opening(protocol, 40002, 30080)));
      const outcome = await lab.run(
        "ptl_pod_out",
        lab.packet("stranger", "backend", opening(protocol, 40002, 8080)),
      );
      assert.deepEqual(
        { verdict: outcome.verdict, reasons: outcome.reasons },
        { verdict: "drop", reasons: { DROP_NO_SOURCE_PORT: 1 } },
      );
      await forward(lab, first, again, "stranger", 40000);
      await backward(lab, second, reply, "stranger", 40001);
    },
  );

  twins(twoPorts, `A ${protocol} flow takes the masquerade port of one that has died`, async (lab) => {
    await nodePort(lab, { ...cluster, protocol });
    await begin(lab, protocol, "stranger", 40000);
    await begin(lab, protocol, "stranger", 40001);
    await lab.age(TEST_CONFIG.timeoutTcpOpening);
    const third = await begin(lab, protocol, "stranger2", 40000);
    const fourth = await begin(lab, protocol, "stranger2", 40001);
    assert.notEqual(third, fourth);
    await backward(lab, third, reply, "stranger2", 40000);
  });
}

/** As icmp.test.ts has it: a CRC over all of a packet cannot be mended where it is quoted. */
function quoted(protocol: ProtocolName, sport: number, dport: number): Packet["payload"] {
  if (protocol === "sctp") return sctp(sport, dport, "data", { checksum: 0x12345678 });
  return protocol === "tcp"
    ? tcp(sport, dport, "PA", { data: text("some data of odd length") })
    : udp(sport, dport, "some data of odd length");
}

twins(
  twoPorts,
  "A TCP flow takes the masquerade port of a connection that has just closed, when none is free",
  async (lab) => {
    await nodePort(lab, cluster);
    const first = await begin(lab, "tcp", "stranger", 40000);
    const second = await begin(lab, "tcp", "stranger", 40001);
    for (const [snat, sport] of [
      [first, 40000],
      [second, 40001],
    ] as const) {
      await backward(lab, snat, (s, d) => tcp(s, d, "SA"), "stranger", sport);
      await forward(lab, snat, (s, d) => tcp(s, d, "A"), "stranger", sport);
    }
    await forward(lab, second, (s, d) => tcp(s, d, "FA"), "stranger", 40001);
    await backward(lab, second, (s, d) => tcp(s, d, "FA"), "stranger", 40001);
    const third = await begin(lab, "tcp", "stranger2", 40000);
    assert.equal(third, second, "the closed connection's port");
    await backward(lab, third, (s, d) => tcp(s, d, "SA"), "stranger2", 40000);
    await forward(lab, first, (s, d) => tcp(s, d, "PA"), "stranger", 40000);
  },
);

twins(
  bench,
  "A TCP flow leaves alone the masquerade port of a connection that has just closed, while others are free",
  async (lab) => {
    await nodePort(lab, cluster);
    const used = new Set<number>();
    for (let i = 0; i < 8; i++) {
      // one client port, opened and closed over and over (8 times within the time that a closed connection is remembered)
      const snat = await begin(lab, "tcp");
      assert.ok(!used.has(snat), `port ${snat} again`);
      used.add(snat);
      await backward(lab, snat, (s, d) => tcp(s, d, "SA"));
      await forward(lab, snat, (s, d) => tcp(s, d, "A"));
      await forward(lab, snat, (s, d) => tcp(s, d, "FA"));
      await backward(lab, snat, (s, d) => tcp(s, d, "FA"));
      await forward(lab, snat, (s, d) => tcp(s, d, "A"));
    }
  },
);

twins(
  bench,
  "A client that opens a connection anew while the old one still looks alive is served (a port reused)",
  async (lab) => {
    await nodePort(lab, cluster);
    const first = await begin(lab, "tcp");
    await backward(lab, first, (s, d) => tcp(s, d, "SA"));
    await forward(lab, first, (s, d) => tcp(s, d, "A"));
    const second = await begin(lab, "tcp");
    assert.notEqual(second, first, "the backend may still hold the old connection");
    await backward(lab, second, (s, d) => tcp(s, d, "SA"));
    await forward(lab, second, (s, d) => tcp(s, d, "A"));
  },
);

twins(bench, "A masqueraded UDP flow whose backend has gone is masqueraded to another (9.3)", async (lab) => {
  const service = await nodePort(lab, { ...cluster, protocol: "udp" });
  const snat = await begin(lab, "udp");
  await backward(lab, snat, (s, d) => udp(s, d));
  await lab.publish(service, [{ host: "backend2", port: 8080 }]);
  await lab.expect("ptl_net_in", lab.packet("stranger", "nodeip", udp(40000, 30080)), {
    packet: lab.packet("stranger", "backend2", udp(40000, 8080)),
    reasons: ["FLOW_NEW", "BACKEND_STALE"],
  });
  const out = await lab.run("ptl_pod_out", lab.packet("stranger", "backend2", udp(40000, 8080)));
  assert.deepEqual(out.reasons, { MASQUERADED: 1 });
  const port = sportOf(out.frame, "udp");
  await lab.expect("ptl_pod_in", lab.packet("backend2", "node", udp(8080, port)), {
    packet: lab.packet("backend2", "stranger", udp(8080, 40000)),
    reasons: ["TRANSLATED"],
  });
});

twins(
  bench,
  "A masqueraded datagram in fragments is translated piece by piece, in both directions",
  async (lab) => {
    await nodePort(lab, { ...cluster, protocol: "udp" });
    const data = "x".repeat(1500);
    const start = await begin(lab, "udp");
    const cut = (src: Host, dst: Host, sport: number, dport: number, id: number) =>
      pieces(lab, src, dst, udp(sport, dport, data), { id });
    const steps = [
      ["ptl_net_in", cut("stranger", "nodeip", 40000, 30080, 7), cut("stranger", "backend", 40000, 8080, 7)],
      ["ptl_pod_out", cut("stranger", "backend", 40000, 8080, 7), cut("node", "backend", start, 8080, 7)],
      ["ptl_pod_in", cut("backend", "node", 8080, start, 8), cut("backend", "stranger", 8080, 40000, 8)],
      ["ptl_net_out", cut("backend", "stranger", 8080, 40000, 8), cut("nodeip", "stranger", 30080, 40000, 8)],
    ] as const;
    for (const [program, before, afterwards] of steps) {
      assert.equal(before.length, 4);
      for (const [i, piece] of before.entries())
        await lab.expect(program, piece, { packet: afterwards[i] as Packet, reasons: ["TRANSLATED"] });
    }
  },
);

twins(bench, "A masqueraded flow may begin with a datagram in fragments", async (lab) => {
  await nodePort(lab, { ...cluster, protocol: "udp" });
  const sent = pieces(lab, "stranger", "nodeip", udp(40000, 30080, "x".repeat(900)));
  const middle = pieces(lab, "stranger", "backend", udp(40000, 8080, "x".repeat(900)));
  for (const [i, piece] of sent.entries()) {
    await lab.expect("ptl_net_in", piece, {
      packet: middle[i] as Packet,
      reasons: [i === 0 ? "FLOW_NEW" : "TRANSLATED"],
    });
  }
  const out = await lab.run("ptl_pod_out", middle[0] as Packet);
  assert.deepEqual(out.reasons, { MASQUERADED: 1 });
  const last = pieces(lab, "node", "backend", udp(sportOf(out.frame, "udp"), 8080, "x".repeat(900)));
  lab.assertFrame(out, last[0] as Packet);
  for (let i = 1; i < middle.length; i++)
    await lab.expect("ptl_pod_out", middle[i] as Packet, {
      packet: last[i] as Packet,
      reasons: ["TRANSLATED"],
    });
});

twins(bench, "A client's source port that is a masquerade port of the node is no obstacle", async (lab) => {
  await nodePort(lab, cluster);
  const taken = await begin(lab, "tcp", "stranger", 20000);
  const second = await begin(lab, "tcp", "stranger2", taken);
  await backward(lab, second, (s, d) => tcp(s, d, "SA"), "stranger2", taken);
  await backward(lab, taken, (s, d) => tcp(s, d, "SA"), "stranger", 20000);
});

twins(bench, "A masqueraded flow is counted once a packet for its Service", async (lab) => {
  const service = await nodePort(lab, cluster);
  const before = await lab.serviceTraffic(service);
  const snat = await begin(lab, "tcp");
  await backward(lab, snat, (s, d) => tcp(s, d, "SA"));
  await forward(lab, snat, (s, d) => tcp(s, d, "A"));
  const { flows, packets } = await lab.serviceTraffic(service);
  assert.deepEqual({ flows, packets }, { flows: before.flows + 1n, packets: before.packets + 3n });
  assert.equal((await lab.backendTraffic(service.cells[0] ?? 0)).packets, 3n);
});

twins(bench, "Bulk segments of a masqueraded flow are translated as one packet each way", async (lab) => {
  await nodePort(lab, cluster);
  const snat = await begin(lab, "tcp");
  const data = { data: text("y".repeat(2000)) };
  const middle = lab.packet("stranger", "backend", tcp(40000, 8080, "PA", data));
  const outcome = await lab.run("ptl_pod_out", middle, { gsoSize: 1000, ifindex: IFINDEX });
  lab.assertFrame(outcome, lab.packet("node", "backend", tcp(snat, 8080, "PA", data)));
});

twins(
  bench,
  "A masqueraded SCTP packet in fragments is dropped and counted: its CRC32c cannot be mended here",
  async (lab) => {
    await nodePort(lab, { ...cluster, protocol: "sctp" });
    await begin(lab, "sctp");
    const whole = lab.packet("stranger", "backend", sctp(40000, 8080, "data"));
    const first = { ...whole, ...place(lab, 0, true) };
    const outcome = await lab.run("ptl_pod_out", first);
    assert.deepEqual(
      { verdict: outcome.verdict, reasons: outcome.reasons },
      { verdict: "drop", reasons: { TRANSLATED: 1, DROP_REWRITE: 1 } },
    );
  },
);

twins(bench, "A masqueraded segment in fragments is translated piece by piece", async (lab) => {
  await nodePort(lab, cluster);
  const snat = await begin(lab, "tcp");
  await backward(lab, snat, (s, d) => tcp(s, d, "SA"));
  const data = { data: text("z".repeat(900)) };
  const middle = pieces(lab, "stranger", "backend", tcp(40000, 8080, "PA", data));
  const last = pieces(lab, "node", "backend", tcp(snat, 8080, "PA", data));
  for (const [i, piece] of middle.entries())
    await lab.expect("ptl_pod_out", piece, { packet: last[i] as Packet, reasons: ["TRANSLATED"] });
});
