// SPDX-License-Identifier: Apache-2.0
/**
 * Fragments: the hooks see them before the kernel puts them together. The first one carries the ports and the checksum of
 * all of them; those behind it get the address alone.
 */
import assert from "node:assert/strict";
import { Direction } from "../../src/abi/enums.gen.js";
import { fragmentCodec, fragmentKey4Codec, fragmentKey6Codec } from "../../src/abi/layout.gen.js";
import { bytes, echo, icmpError, type Packet, type Tcp, tcp, type Udp, udp } from "../support/packet.js";
import { addressBytes } from "../support/packet-address.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { likePorts, PIECE, pieces, place } from "./support/fragments.js";
import { type Lab, openBench, type ProtocolName, type ReasonName, twins } from "./support/lab.js";
import { rejectOf } from "./support/reject.js";
import { establish, web } from "./support/scenario.js";
import type { ProgramName } from "./support/test-kernel.js";

const bench = await openBench();
const PROGRAMS = ["ptl_pod_in", "ptl_pod_out", "ptl_net_in", "ptl_net_out"] as const;

/** Three fragments' worth, and an odd byte; every fragment looks like the start of a packet from 40000 to 80. */
const DATA = likePorts(2 * PIECE + 101, 40000, 80);
const datagram = (sport: number, dport: number): Udp => ({ ...udp(sport, dport), data: DATA });
const segment = (sport: number, dport: number, flags = "PA"): Tcp => tcp(sport, dport, flags, { data: DATA });

/** Fragment after fragment through a program, each expected as its counterpart and counted as its reason. */
async function each(
  lab: Lab,
  program: ProgramName,
  sent: readonly Packet[],
  expected: readonly Packet[],
  ...reasons: readonly ReasonName[]
): Promise<void> {
  for (const [i, packet] of sent.entries()) {
    const reason = reasons[Math.min(i, reasons.length - 1)] as ReasonName;
    await lab.expect(program, packet, { packet: expected[i] ?? packet, reasons: [reason] });
  }
}

for (const side of ["pod", "net"] as const) {
  const [into, out] = [`ptl_${side}_in`, `ptl_${side}_out`] as const;

  twins(bench, `A datagram's fragments are translated at a ${side}'s hooks, there and back`, async (lab) => {
    await web(lab, { protocol: "udp" });
    await each(
      lab,
      into,
      pieces(lab, "client", "vip", datagram(40000, 80)),
      pieces(lab, "client", "backend", datagram(40000, 8080)),
      "FLOW_NEW",
      "TRANSLATED",
    );
    await lab.expectNat(
      "IN udp client:40000 > vip:80 => backend:8080, peer 40000, forward",
      "OUT udp backend:8080 > client:40000 => vip:80, peer 40000, forward [reply]",
    );
    await each(
      lab,
      out,
      pieces(lab, "backend", "client", datagram(8080, 40000)),
      pieces(lab, "vip", "client", datagram(80, 40000)),
      "TRANSLATED",
    );
    await lab.expectNat(
      "IN udp client:40000 > vip:80 => backend:8080, peer 40000, forward reply",
      "OUT udp backend:8080 > client:40000 => vip:80, peer 40000, forward reply [reply]",
    );
  });

  twins(
    bench,
    `A TCP segment's fragments are translated at a ${side}'s hooks, there and back`,
    async (lab) => {
      await web(lab);
      await establish(lab);
      await each(
        lab,
        into,
        pieces(lab, "client", "vip", segment(40000, 80)),
        pieces(lab, "client", "backend", segment(40000, 8080)),
        "TRANSLATED",
      );
      await each(
        lab,
        out,
        pieces(lab, "backend", "client", segment(8080, 40000)),
        pieces(lab, "vip", "client", segment(80, 40000)),
        "TRANSLATED",
      );
      await lab.expectNat(
        "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established",
        "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established [reply]",
      );
    },
  );
}

twins(bench, "A SYN that is cut into fragments opens its connection", async (lab) => {
  await web(lab);
  await each(
    lab,
    "ptl_pod_in",
    pieces(lab, "client", "vip", segment(40000, 80, "S")),
    pieces(lab, "client", "backend", segment(40000, 8080, "S")),
    "FLOW_NEW",
    "TRANSLATED",
  );
});

twins(bench, "Fragments count as packets of their flow, with their bytes", async (lab) => {
  const service = await web(lab, { protocol: "udp" });
  const cell = service.cells[0] ?? 0;
  const sent = pieces(lab, "client", "vip", datagram(40000, 80));
  const before = await lab.serviceTraffic(service);
  let total = 0;
  for (const packet of sent) total += (await lab.run("ptl_pod_in", packet)).frame.length;
  const now = await lab.serviceTraffic(service);
  assert.deepEqual(
    [now.flows - before.flows, now.packets - before.packets, now.bytes - before.bytes],
    [1n, 3n, BigInt(total)],
  );
  assert.deepEqual(await lab.backendTraffic(cell), { flows: 1n, packets: 3n, bytes: BigInt(total) });
});

twins(
  bench,
  "The smallest first fragment, a UDP header alone, is enough for those behind it",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    const small: Udp = { ...udp(40000, 80), data: likePorts(21, 40000, 80) };
    const sent = pieces(lab, "client", "vip", small, { size: 8 });
    assert.equal(sent.length, 4);
    const expected = pieces(lab, "client", "backend", { ...small, dport: 8080 }, { size: 8 });
    await each(lab, "ptl_pod_in", sent, expected, "FLOW_NEW", "TRANSLATED");
  },
);

twins(bench, "A first fragment without a checksum is sent on without one", async (lab) => {
  await web(lab, { protocol: "udp" });
  const bare = (dport: number): Udp => ({ ...datagram(40000, dport), checksum: "zero" });
  await each(
    lab,
    "ptl_pod_in",
    pieces(lab, "client", "vip", bare(80)),
    pieces(lab, "client", "backend", bare(8080)),
    "FLOW_NEW",
    "TRANSLATED",
  );
});

twins(bench, "Later fragments may come in any order and twice", async (lab) => {
  await web(lab, { protocol: "udp" });
  const order = [0, 2, 1, 2, 0, 1];
  const pick = (all: readonly Packet[]) => order.map((i) => all[i] as Packet);
  await each(
    lab,
    "ptl_pod_in",
    pick(pieces(lab, "client", "vip", datagram(40000, 80))),
    pick(pieces(lab, "client", "backend", datagram(40000, 8080))),
    "FLOW_NEW",
    "TRANSLATED",
  );
});

twins(
  bench,
  "A later fragment that comes before its first one passes untouched and is counted",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    const sent = pieces(lab, "client", "vip", datagram(40000, 80));
    const [first, ...later] = sent as [Packet, ...Packet[]];
    for (const packet of later) {
      for (const program of PROGRAMS) await lab.expect(program, packet, { reasons: ["PASS_FRAGMENT"] });
    }
    await lab.expectNat();
    const expected = pieces(lab, "client", "backend", datagram(40000, 8080));
    await each(lab, "ptl_pod_in", [first, ...later], expected, "FLOW_NEW", "TRANSLATED");
  },
);

twins(bench, "A later fragment of another datagram is not taken for one that is known", async (lab) => {
  await web(lab, { protocol: "udp" });
  await web(lab, { protocol: "udp", vip: "vip2" });
  const id = 0x00015678;
  const rest = (
    src: Parameters<typeof pieces>[1],
    dst: Parameters<typeof pieces>[2],
    more: { id?: number; tcp?: boolean } = {},
  ) => {
    const payload = more.tcp === true ? segment(40000, 80) : datagram(40000, 80);
    return pieces(lab, src, dst, payload, { id: more.id ?? id })[1] as Packet;
  };
  const [first] = pieces(lab, "client", "vip", datagram(40000, 80), { id });
  await lab.run("ptl_pod_in", first as Packet);
  const strangers = {
    "another id": rest("client", "vip", { id: id ^ 0x0100 }),
    "another protocol": rest("client", "vip", { tcp: true }),
    "another sender": rest("client2", "vip"),
    "another destination": rest("client", "vip2"),
    "the way back": rest("vip", "client"),
    ...(lab.family === 6
      ? { "an id of which the low half is the same": rest("client", "vip", { id: 0x5678 }) }
      : {}),
  };
  for (const [what, packet] of Object.entries(strangers)) {
    const { verdict, reasons } = await lab.expect("ptl_pod_in", packet, { reasons: ["PASS_FRAGMENT"] });
    assert.deepEqual({ verdict, reasons }, { verdict: "pass", reasons: { PASS_FRAGMENT: 1 } }, what);
  }
  // What the ingress hook has seen is nothing to the egress hook.
  await lab.expect("ptl_pod_out", rest("client", "vip"), { reasons: ["PASS_FRAGMENT"] });
  await lab.expect("ptl_pod_in", rest("client", "vip"), {
    packet: pieces(lab, "client", "backend", datagram(40000, 8080), { id })[1] as Packet,
    reasons: ["TRANSLATED"],
  });
});

twins(
  bench,
  "A first fragment leaves its ports under its id, addresses, protocol and hook, a later one nothing",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    const id = 0x1234abcd;
    for (const packet of pieces(lab, "client", "vip", datagram(40000, 80), { id })) {
      await lab.run("ptl_pod_in", packet);
      const { count, keys, values } = await lab.kernel.dump(lab.map("fragments"));
      assert.equal(count, 1);
      assert.deepEqual((lab.family === 4 ? fragmentKey4Codec : fragmentKey6Codec).decode(keys), {
        src: addressBytes(lab.at.client),
        dst: addressBytes(lab.at.vip),
        id: lab.family === 4 ? 0xabcd : id,
        protocol: 17,
        direction: Direction.IN,
      });
      assert.deepEqual(fragmentCodec.decode(values), { sport: 40000, dport: 80 });
    }
  },
);

twins(bench, "Two datagrams whose fragments are mixed go each to its own backend", async (lab) => {
  await web(lab, { protocol: "udp" });
  await web(lab, { protocol: "udp", port: 81, endpoints: [{ host: "backend2", port: 8081 }] });
  const [a, b] = [{ id: 7 }, { id: 8 }];
  const sentA = pieces(lab, "client", "vip", datagram(40000, 80), a);
  const sentB = pieces(lab, "client", "vip", datagram(40000, 81), b);
  const gotA = pieces(lab, "client", "backend", datagram(40000, 8080), a);
  const gotB = pieces(lab, "client", "backend2", datagram(40000, 8081), b);
  const mixed = (x: readonly Packet[], y: readonly Packet[]) => x.flatMap((p, i) => [p, y[i] as Packet]);
  await each(lab, "ptl_pod_in", mixed(sentA, sentB), mixed(gotA, gotB), "FLOW_NEW", "FLOW_NEW", "TRANSLATED");
});

twins(
  bench,
  "Of a datagram that is rejected the first fragment is answered and the others are dropped",
  async (lab) => {
    await web(lab, { protocol: "udp", endpoints: [] });
    for (const [port, reason] of [
      [80, "REJECT_NO_BACKEND"],
      [81, "REJECT_NO_PORT"],
    ] as const) {
      const [first, ...later] = pieces(lab, "client", "vip", datagram(40000, port), { id: port });
      await lab.expect("ptl_pod_in", first as Packet, {
        verdict: "redirect",
        packet: rejectOf(first as Packet),
        reasons: [reason],
      });
      for (const packet of later)
        await lab.expect("ptl_pod_in", packet, { verdict: "drop", reasons: [reason] });
    }
    await lab.expectNat();
  },
);

twins(bench, "A SYN in fragments is rejected once; what follows opens nothing and passes", async (lab) => {
  await web(lab, { endpoints: [] });
  const [first, ...later] = pieces(lab, "client", "vip", segment(40000, 80, "S"));
  await lab.expect("ptl_pod_in", first as Packet, {
    verdict: "redirect",
    packet: rejectOf(first as Packet),
    reasons: ["REJECT_NO_BACKEND"],
  });
  for (const packet of later) await lab.expect("ptl_pod_in", packet, { reasons: ["PASS_TCP_NO_ENTRY"] });
});

twins(bench, "Of a datagram to a silent Service every fragment is dropped", async (lab) => {
  await web(lab, { protocol: "udp", endpoints: [], whenEmpty: "drop" });
  for (const packet of pieces(lab, "client", "vip", datagram(40000, 80))) {
    await lab.expect("ptl_pod_in", packet, { verdict: "drop", reasons: ["DROP_POLICY"] });
  }
});

twins(
  bench,
  "Where an untranslated datagram would leave the node, its first fragment alone is answered",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    const [first, ...later] = pieces(lab, "client", "vip", datagram(40000, 80));
    await lab.expect("ptl_net_out", first as Packet, {
      verdict: "redirect",
      packet: rejectOf(first as Packet),
      reasons: ["REJECT_UNTRANSLATED"],
    });
    for (const packet of later) await lab.expect("ptl_net_out", packet, { reasons: ["PASS_EGRESS_MISS"] });
  },
);

twins(bench, "A pod's fragments to itself are masqueraded, there and back", async (lab) => {
  await web(lab, { protocol: "udp" });
  const asked = { id: 21 };
  await each(
    lab,
    "ptl_pod_in",
    pieces(lab, "backend", "vip", datagram(40000, 80), asked),
    pieces(lab, "backend", "backend", datagram(40000, 8080), asked),
    "FLOW_NEW",
    "TRANSLATED",
  );
  const [first, ...later] = pieces(lab, "backend", "backend", datagram(40000, 8080), asked);
  const outcome = await lab.run("ptl_pod_out", first as Packet);
  assert.deepEqual(outcome.reasons, { MASQUERADED: 1 });
  const snat = Number(fieldText(dissectFrame(outcome.frame), "udp.sport"));
  const [masqueraded, ...others] = pieces(lab, "node", "backend", datagram(snat, 8080), asked);
  lab.assertFrame(outcome, masqueraded as Packet);
  await each(lab, "ptl_pod_out", later, others, "TRANSLATED");
  const answered = { id: 22 };
  await each(
    lab,
    "ptl_pod_in",
    pieces(lab, "backend", "node", datagram(8080, snat), answered),
    pieces(lab, "backend", "backend", datagram(8080, 40000), answered),
    "TRANSLATED",
  );
  await each(
    lab,
    "ptl_pod_out",
    pieces(lab, "backend", "backend", datagram(8080, 40000), answered),
    pieces(lab, "vip", "backend", datagram(80, 40000), answered),
    "TRANSLATED",
  );
});

twins(
  bench,
  "A flow with a source port of its own has it in the first fragment, there and back",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    await web(lab, { protocol: "udp", vip: "vip2" });
    await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 80)));
    const [first, ...later] = pieces(lab, "client", "vip2", datagram(40000, 80));
    const outcome = await lab.run("ptl_pod_in", first as Packet);
    assert.deepEqual(outcome.reasons, { FLOW_NEW: 1, SOURCE_PORT_SHIFTED: 1 });
    const own = Number(fieldText(dissectFrame(outcome.frame), "udp.sport"));
    assert.notEqual(own, 40000);
    const [moved, ...others] = pieces(lab, "client", "backend", datagram(own, 8080));
    lab.assertFrame(outcome, moved as Packet);
    await each(lab, "ptl_pod_in", later, others, "TRANSLATED");
    await each(
      lab,
      "ptl_pod_out",
      pieces(lab, "backend", "client", datagram(8080, own)),
      pieces(lab, "vip2", "client", datagram(80, 40000)),
      "TRANSLATED",
    );
  },
);

twins(bench, "Fragments to a backend's own address pass as they are, there and back", async (lab) => {
  await web(lab, { protocol: "udp" });
  const sent = pieces(lab, "client", "backend", datagram(40000, 8080));
  await each(lab, "ptl_pod_in", sent, sent, "PASS_DIRECT");
  const back = pieces(lab, "backend", "client", datagram(8080, 40000));
  await each(lab, "ptl_pod_out", back, back, "PASS_DIRECT");
});

twins(
  bench,
  "A direct flow with a source port of its own keeps it when egress sees each fragment before the next one comes",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 80)));
    const [first, ...later] = pieces(lab, "client", "backend", datagram(40000, 8080));
    const outcome = await lab.run("ptl_pod_in", first as Packet);
    assert.deepEqual(outcome.reasons, { PASS_DIRECT: 1, SOURCE_PORT_SHIFTED: 1 });
    const own = Number(fieldText(dissectFrame(outcome.frame), "udp.sport"));
    const [moved, ...others] = pieces(lab, "client", "backend", datagram(own, 8080));
    lab.assertFrame(outcome, moved as Packet);
    const entries = (await lab.natEntries()).length;
    await lab.expect("ptl_net_out", outcome.frame, { reasons: ["PASS_EGRESS_MISS"] });
    for (const [i, packet] of later.entries()) {
      await each(lab, "ptl_pod_in", [packet], [others[i] as Packet], "PASS_DIRECT");
      await lab.expect("ptl_net_out", packet, { reasons: ["PASS_EGRESS_MISS"] });
    }
    assert.equal((await lab.natEntries()).length, entries, "a fragment has started a flow of its own");
  },
);

twins(bench, "A later fragment whose flow has been forgotten starts it again", async (lab) => {
  await web(lab, { protocol: "udp" });
  const [first, next] = pieces(lab, "client", "vip", datagram(40000, 80));
  await lab.run("ptl_pod_in", first as Packet);
  await lab.editNat(() => null);
  await lab.expect("ptl_pod_in", next as Packet, {
    packet: pieces(lab, "client", "backend", datagram(40000, 8080))[1] as Packet,
    reasons: ["FLOW_NEW"],
  });
});

twins(bench, "An atomic fragment is a whole packet and tells nothing to later fragments", async (lab) => {
  if (lab.family === 4) return;
  await web(lab, { protocol: "udp" });
  const atomic = place(lab, 0, false, { id: 5 });
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", datagram(40000, 80), atomic), {
    packet: lab.packet("client", "backend", datagram(40000, 8080), atomic),
    reasons: ["FLOW_NEW"],
  });
  const [, later] = pieces(lab, "client", "vip", datagram(40000, 80), { id: 5 });
  await lab.expect("ptl_pod_in", later as Packet, { reasons: ["PASS_FRAGMENT"] });
});

twins(
  bench,
  "Fragments with options or extension headers before the fragment header are translated",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    const cut = {
      options: bytes(148, 4, 0, 0),
      before: [
        { kind: "hop-by-hop" },
        { kind: "dest-opts", data: new Uint8Array(20) },
        { kind: "routing", type: 4, segmentsLeft: 0 },
      ],
    } as const;
    await each(
      lab,
      "ptl_pod_in",
      pieces(lab, "client", "vip", datagram(40000, 80), cut),
      pieces(lab, "client", "backend", datagram(40000, 8080), cut),
      "FLOW_NEW",
      "TRANSLATED",
    );
  },
);

twins(
  bench,
  "A later fragment whose header names no protocol with ports of ours passes untouched",
  async (lab) => {
    await web(lab, { protocol: "udp" });
    const [first, later] = pieces(lab, "client", "vip", datagram(40000, 80)) as [Packet, Packet];
    await lab.run("ptl_pod_in", first);
    // IPv6: destination options inside the datagram, which the first fragment alone carries. IPv4: DCCP.
    const protocol = lab.family === 4 ? 33 : 60;
    const odd: Packet = { ...later, payload: { kind: "raw", protocol, data: DATA.subarray(0, PIECE) } };
    for (const program of PROGRAMS) await lab.expect(program, odd, { reasons: ["PASS_FRAGMENT"] });
  },
);

twins(
  bench,
  "A first fragment that ends inside the TCP header passes untouched, and so do the others",
  async (lab) => {
    await web(lab);
    await establish(lab);
    const whole = pieces(lab, "client", "vip", segment(40000, 80))[0] as Packet;
    const protocol = 6;
    for (const length of [8, 16]) {
      const cut = { id: 90 + length };
      const tiny: Packet = {
        ...whole,
        ...place(lab, 0, true, cut),
        payload: { kind: "raw", protocol, data: likePorts(length, 40000, 80) },
      };
      const rest: Packet = {
        ...whole,
        ...place(lab, length / 8, false, cut),
        payload: { kind: "raw", protocol, data: DATA },
      };
      for (const program of PROGRAMS) {
        await lab.expect(program, tiny, { reasons: ["PASS_MALFORMED"] });
        await lab.expect(program, rest, { reasons: ["PASS_FRAGMENT"] });
      }
    }
  },
);

twins(bench, "Fragments of a ping pass untouched, also to a Service address", async (lab) => {
  await web(lab, { protocol: "udp" });
  const ping = lab.packet(
    "client",
    "vip",
    echo(lab.family, false, "x".repeat(PIECE - 8)),
    place(lab, 0, true),
  );
  const protocol = lab.family === 4 ? 1 : 58;
  const rest = lab.packet(
    "client",
    "vip",
    { kind: "raw", protocol, data: DATA },
    place(lab, PIECE / 8, false),
  );
  for (const program of PROGRAMS) {
    await lab.expect(program, ping, { reasons: ["PASS_ICMP"] });
    await lab.expect(program, rest, { reasons: ["PASS_FRAGMENT"] });
  }
  await lab.expectNat();
});

for (const protocol of ["tcp", "udp"] as const satisfies readonly ProtocolName[]) {
  twins(bench, `An error about the first fragment of a ${protocol} packet is translated`, async (lab) => {
    await web(lab, { protocol });
    if (protocol === "tcp") await establish(lab);
    const payload = protocol === "tcp" ? segment : datagram;
    await lab.run("ptl_pod_in", pieces(lab, "client", "vip", payload(40000, 80))[0] as Packet);
    const [seen] = pieces(lab, "client", "backend", payload(40000, 8080));
    const [original] = pieces(lab, "client", "vip", payload(40000, 80));
    // Time exceeded in reassembly: the one error that is about fragments alone.
    const error = (about: Packet) => ({ ...icmpError("time-exceeded", about), code: 1 });
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", error(seen as Packet)), {
      packet: lab.packet("vip", "client", error(original as Packet)),
      reasons: ["ICMP_TRANSLATED"],
    });
  });
}
