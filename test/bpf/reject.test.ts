// SPDX-License-Identifier: Apache-2.0
/** No endpoint, no such port, no hook: what a client is told, and when it is told nothing (7.1 to 7.4). */
import assert from "node:assert/strict";
import { buildFrame, echo, neighbourSolicitation, tcp, text, udp } from "../support/packet.js";
import { assertSameFrame } from "../support/packet-diff.js";
import { openBench, twins } from "./support/lab.js";
import { rejected, rejectOf } from "./support/reject.js";
import { dns, opening, web } from "./support/scenario.js";
import { capture, makeWire, removeWire } from "./support/wire.js";

const bench = await openBench();

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  twins(
    bench,
    `A Service without endpoints answers ${protocol} with port unreachable from the VIP`,
    async (lab) => {
      await web(lab, { protocol, endpoints: [] });
      const packet = lab.packet("client", "vip", opening(protocol, 40000, 80));
      await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
      await lab.expectNat();
    },
  );

  twins(
    bench,
    `A port that a ClusterIP does not have answers ${protocol} with port unreachable`,
    async (lab) => {
      await web(lab, { protocol });
      const packet = lab.packet("client", "vip", opening(protocol, 40000, 81));
      await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_PORT"));
      await lab.expectNat();
    },
  );

  twins(bench, `A Service that is to be silent drops ${protocol} without an answer`, async (lab) => {
    await web(lab, { protocol, endpoints: [], whenEmpty: "drop" });
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", opening(protocol, 40000, 80)), {
      verdict: "drop",
      reasons: ["DROP_POLICY"],
    });
  });

  twins(
    bench,
    `An untranslated ${protocol} packet to a VIP is rejected where it would leave the node`,
    async (lab) => {
      await web(lab, { protocol });
      const packet = lab.packet("client", "vip", opening(protocol, 40000, 80));
      await lab.expect("ptl_net_out", packet, rejected(packet, "REJECT_UNTRANSLATED"));
    },
  );

  twins(
    bench,
    `A ${protocol} packet to a VIP on its way into a pod is no concern of the guard`,
    async (lab) => {
      await web(lab, { protocol });
      await lab.expect("ptl_pod_out", lab.packet("client", "vip", opening(protocol, 40000, 80)), {
        reasons: ["PASS_EGRESS_MISS"],
      });
    },
  );

  twins(bench, `A ${protocol} packet of another protocol's Service is rejected`, async (lab) => {
    for (const other of ["tcp", "udp", "sctp"] as const) {
      if (other !== protocol) await web(lab, { protocol: other });
    }
    const packet = lab.packet("client", "vip", opening(protocol, 40000, 80));
    await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_PORT"));
  });
}

twins(bench, "A rejected SYN with options and data is quoted up to its fixed header", async (lab) => {
  await web(lab, { endpoints: [] });
  const payload = tcp(40000, 80, "S", {
    options: Uint8Array.of(2, 4, 5, 180),
    data: text("fast open".repeat(100)),
  });
  const packet = lab.packet("client", "vip", payload);
  await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
});

twins(bench, "A rejected datagram is quoted up to its header, whatever its length", async (lab) => {
  await dns(lab, { endpoints: [] });
  for (const length of [0, 1, 2, 7, 20, 511, 1400]) {
    const packet = lab.packet("client", "vip", udp(40000, 53, "x".repeat(length)));
    await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
  }
});

twins(bench, "A rejected datagram without a checksum is quoted without one", async (lab) => {
  await dns(lab, { endpoints: [] });
  const packet = lab.packet("client", "vip", udp(40000, 53, "x", { checksum: "zero" }));
  await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
});

twins(bench, "A rejected packet's options or extension headers are quoted with it", async (lab) => {
  await web(lab, { endpoints: [] });
  const more =
    lab.family === 4
      ? { options: Uint8Array.of(148, 4, 0, 0, 1, 1, 1, 0) }
      : { extensions: [{ kind: "hop-by-hop" }, { kind: "dest-opts", data: new Uint8Array(20) }] as const };
  const packet = lab.packet("client", "vip", tcp(40000, 80), more);
  await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
});

twins(bench, "Ethernet padding behind a rejected packet is no part of the answer", async (lab) => {
  await dns(lab, { endpoints: [] });
  const packet = lab.packet("client", "vip", udp(40000, 53, ""), { trailer: new Uint8Array(18).fill(0xee) });
  await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
});

twins(bench, "A partial checksum in a rejected packet is finished before it is quoted", async (lab) => {
  // The stack may still fill it in behind us, since the packet is the same skb: the quote must survive that.
  await web(lab, { endpoints: [] });
  const asSent = lab.packet("client", "vip", tcp(40000, 80, "S", { checksum: "partial" }));
  const finished = lab.packet("client", "vip", tcp(40000, 80, "S"));
  await lab.expect("ptl_pod_in", asSent, rejected(finished, "REJECT_NO_BACKEND"));
});

twins(bench, "TCP that is no SYN is never rejected: the stack answers as it likes", async (lab) => {
  await web(lab, { endpoints: [] });
  for (const flags of ["A", "FA", "R", "SA"]) {
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, flags)), {
      reasons: ["PASS_TCP_NO_ENTRY"],
    });
    await lab.expect("ptl_net_out", lab.packet("client", "vip", tcp(40000, 80, flags)), {
      reasons: ["PASS_EGRESS_MISS"],
    });
  }
});

twins(bench, "The guard lets packets to other addresses leave", async (lab) => {
  await web(lab);
  for (const host of ["backend", "stranger"] as const) {
    await lab.expect("ptl_net_out", lab.packet("client", host, tcp(40000, 80)), {
      reasons: ["PASS_EGRESS_MISS"],
    });
    await lab.expect("ptl_net_out", lab.packet("client", host, udp(40000, 80)), {
      reasons: ["PASS_EGRESS_MISS"],
    });
  }
});

twins(bench, "An echo request to a VIP passes: no Service answers it and none is harmed", async (lab) => {
  await web(lab);
  for (const program of ["ptl_pod_in", "ptl_pod_out", "ptl_net_in", "ptl_net_out"] as const) {
    await lab.expect(program, lab.packet("client", "vip", echo(lab.family)), { reasons: ["PASS_ICMP"] });
    await lab.expect(program, lab.packet("vip", "client", echo(lab.family, true)), {
      reasons: ["PASS_ICMP"],
    });
  }
});

twins(bench, "IPv6 neighbour discovery for a VIP passes untouched", async (lab) => {
  if (lab.family === 4) return;
  await web(lab);
  for (const program of ["ptl_pod_in", "ptl_pod_out", "ptl_net_in", "ptl_net_out"] as const) {
    const packet = lab.packet("client", "vip", neighbourSolicitation(lab.at.vip), { ttl: 255 });
    await lab.expect(program, packet, { reasons: ["PASS_ICMP"] });
  }
});

twins(bench, "A rejected flow leaves the backends' other flows alone", async (lab) => {
  await web(lab);
  await web(lab, { vip: "vip2", endpoints: [] });
  await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
  const before = await lab.natEntries();
  await lab.run("ptl_pod_in", lab.packet("client", "vip2", tcp(40000, 80)));
  assert.deepEqual(await lab.natEntries(), before);
});

twins(bench, "A rejected IPv6 SYN is answered with an RST ahead of the ICMPv6 error", async (lab) => {
  if (lab.family === 4) return;
  await web(lab, { endpoints: [] });
  const options = Uint8Array.of(2, 4, 5, 180);
  const syn = lab.packet(
    "client",
    "vip",
    tcp(40000, 80, "S", { seq: 0xffffffff, options, data: text("odd") }),
  );
  const ifindex = makeWire();
  const reset = await capture("ip6 proto 6", async () => {
    const outcome = await lab.run("ptl_pod_in", syn, { ifindex });
    assert.equal(outcome.verdict, "redirect");
    assertSameFrame(outcome.frame, buildFrame(rejectOf(syn)), "the ICMPv6 answer");
  });
  removeWire();
  const expected = lab.packet("vip", "client", tcp(80, 40000, "RA", { seq: 0, ack: 0, window: 0 }), {
    eth: { src: "02:00:00:00:00:02", dst: "02:00:00:00:00:01" },
  });
  assertSameFrame(reset, buildFrame(expected), "the RST");
});

twins(bench, "A bulk of datagrams to a Service without endpoints is rejected once", async (lab) => {
  await dns(lab, { endpoints: [] });
  const packet = lab.packet("client", "vip", udp(40000, 53, "x".repeat(2000)));
  const outcome = await lab.run("ptl_pod_in", packet, { gsoSize: 1000 });
  assert.equal(outcome.verdict, "redirect");
  assert.deepEqual(outcome.reasons, { REJECT_NO_BACKEND: 1 });
  lab.assertFrame(outcome, rejectOf(packet));
});
