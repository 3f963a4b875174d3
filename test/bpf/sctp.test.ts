// SPDX-License-Identifier: Apache-2.0
/**
 * SCTP associations through a Service. What they share with TCP and UDP (hairpin, collisions, REJECT, ICMP errors,
 * options) is in those files; here is what is SCTP's own: chunks, and a CRC32c over the whole packet.
 */
import assert from "node:assert/strict";
import {
  bytes,
  type Chunk,
  type ChunkName,
  icmpError,
  type Packet,
  type Sctp,
  sctp,
} from "../support/packet.js";
import { crc32c } from "../support/packet-checksum.js";
import { assertChecksums } from "../support/packet-diff.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { type Lab, openBench, type ServiceSpec, twins } from "./support/lab.js";
import { random } from "./support/random.js";
import { rejected } from "./support/reject.js";
import { web } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";

const bench = await openBench();

const IN = "IN sctp client:40000 > vip:80 => backend:8080, peer 40000,";
const OUT = "OUT sctp backend:8080 > client:40000 => vip:80, peer 40000,";

/** vip:80 on backend:8080. */
const diameter = (lab: Lab, more: Partial<ServiceSpec> = {}) => web(lab, { protocol: "sctp", ...more });

async function clientSends(
  lab: Lab,
  type: ChunkName,
  { first = false, dport = 8080, ...more }: Partial<Sctp> & { first?: boolean } = {},
): Promise<void> {
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", sctp(40000, 80, type, more)), {
    packet: lab.packet("client", "backend", sctp(40000, dport, type, more)),
    reasons: [first ? "FLOW_NEW" : "TRANSLATED"],
  });
}

async function backendSends(lab: Lab, type: ChunkName, more: Partial<Sctp> = {}): Promise<void> {
  await lab.expect("ptl_pod_out", lab.packet("backend", "client", sctp(8080, 40000, type, more)), {
    packet: lab.packet("vip", "client", sctp(80, 40000, type, more)),
    reasons: ["TRANSLATED"],
  });
}

async function establish(lab: Lab): Promise<void> {
  await clientSends(lab, "init", { first: true });
  await backendSends(lab, "initAck");
  await clientSends(lab, "cookieEcho");
  await backendSends(lab, "cookieAck");
}

/** The established association by its entries, with the client's port kept or shifted. */
async function association(lab: Lab, peer: number, spec: Partial<ServiceSpec> = {}): Promise<void> {
  const service = await diameter(lab, spec);
  const rest = { cell: service.cells[0] ?? 0, service: service.index };
  const port = spec.endpoints?.[0]?.port ?? 8080;
  const seen = "forward reply established";
  await lab.setNat(`IN sctp client:40000 > vip:80 => backend:${port}, peer ${peer}, ${seen}`, rest);
  await lab.setNat(`OUT sctp backend:${port} > client:${peer} => vip:80, peer 40000, ${seen} [reply]`, rest);
}

/** A packet of `length` bytes from the SCTP header on: one DATA chunk with bytes that look like nothing. */
function ofLength(sport: number, dport: number, length: number, seed: number = length): Sctp {
  const pick = random(seed);
  const value = Uint8Array.from({ length: Math.max(0, length - 16) }, () => pick(256));
  const chunk: Chunk = { type: "data", flags: 3, value };
  return sctp(sport, dport, "data", { tag: pick(2 ** 32), chunks: [chunk], size: length });
}

twins(bench, "An INIT selects a backend and an association runs through its states", async (lab) => {
  const service = await diameter(lab);
  await clientSends(lab, "init", { first: true });
  await lab.expectNat(`${IN} forward`, `${OUT} forward [reply]`);
  for (const { value } of await lab.natEntries()) assert.equal(value.backend, service.cells[0]);
  await backendSends(lab, "initAck");
  await clientSends(lab, "cookieEcho");
  await backendSends(lab, "cookieAck");
  for (const type of ["data", "sack", "heartbeat", "shutdown"] as const) {
    await clientSends(lab, type);
    await backendSends(lab, type);
  }
  // Each entry knows what its own direction has seen of the other.
  for (const { value } of await lab.natEntries()) assert.notEqual(value.state, 0);
});

twins(bench, "TCP, UDP and SCTP on one VIP and port are three Services", async (lab) => {
  await web(lab, { protocol: "tcp", endpoints: [{ host: "backend2", port: 8081 }] });
  await web(lab, { protocol: "udp", endpoints: [{ host: "backend3", port: 8082 }] });
  await diameter(lab);
  await clientSends(lab, "init", { first: true });
});

for (const peer of [40000, 20011]) {
  const shifted = peer === 40000 ? "" : " and a source port of the flow's own";

  twins(bench, `A packet of any length has a right CRC32c with other ports${shifted}`, async (lab) => {
    await association(lab, peer);
    const pick = random(peer);
    const lengths = [
      13,
      14,
      15,
      16,
      28,
      100,
      255,
      256,
      257,
      1400,
      ...Array.from({ length: 6 }, () => 13 + pick(1400)),
    ];
    for (const length of lengths) {
      await lab.expect("ptl_pod_in", lab.packet("client", "vip", ofLength(40000, 80, length)), {
        packet: lab.packet("client", "backend", ofLength(peer, 8080, length)),
        reasons: ["TRANSLATED"],
      });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", ofLength(8080, peer, length)), {
        packet: lab.packet("vip", "client", ofLength(80, 40000, length)),
        reasons: ["TRANSLATED"],
      });
    }
  });
}

twins(bench, "A packet whose ports stay keeps its CRC32c, right or wrong", async (lab) => {
  await association(lab, 40000, { endpoints: [{ host: "backend", port: 80 }] });
  for (const checksum of ["full", "zero", 0x12345678] as const) {
    const payload = sctp(40000, 80, "data", { checksum });
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", payload), {
      packet: lab.packet("client", "backend", payload),
      reasons: ["TRANSLATED"],
    });
  }
});

twins(
  bench,
  "A wrong CRC32c stays wrong by the same bits: damage on the way is not covered up",
  async (lab) => {
    await association(lab, 40000);
    const sum = (packet: Packet) => {
      const frame = lab.run("ptl_pod_in", packet);
      return frame.then((outcome) => Number(fieldText(dissectFrame(outcome.frame), "sctp.checksum")));
    };
    const at = (checksum: Sctp["checksum"]) =>
      lab.packet("client", "vip", sctp(40000, 80, "data", checksum === undefined ? {} : { checksum }));
    const before = Number(
      fieldText(dissectFrame((await lab.run("ptl_net_out", at("full"))).frame), "sctp.checksum"),
    );
    const right = await sum(at("full"));
    assert.equal((await sum(at((before ^ 0x00010080) >>> 0))) >>> 0, (right ^ 0x00010080) >>> 0);
  },
);

twins(bench, "A CRC32c of zero stays zero for the device that is to fill it in", async (lab) => {
  await association(lab, 40000);
  await clientSends(lab, "data", { checksum: "zero" });
  await backendSends(lab, "data", { checksum: "zero" });
});

twins(bench, "A sum over the whole packet is kept in step with the CRC32c", async (lab) => {
  await association(lab, 20011);
  for (const length of [28, 101]) {
    const outcome = await lab.runComplete(
      "ptl_pod_in",
      lab.packet("client", "vip", ofLength(40000, 80, length)),
    );
    lab.assertFrame(outcome, lab.packet("client", "backend", ofLength(20011, 8080, length)));
  }
});

twins(bench, "Padding behind the packet does not enter its CRC32c", async (lab) => {
  await association(lab, 40000);
  for (const size of [1, 3, 18, 46]) {
    const trailer = { trailer: new Uint8Array(size).fill(0xee) };
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", ofLength(40000, 80, 16), trailer), {
      packet: lab.packet("client", "backend", ofLength(40000, 8080, 16), trailer),
      reasons: ["TRANSLATED"],
    });
  }
});

twins(
  bench,
  "A retransmitted INIT keeps its backend, even when others have been published since",
  async (lab) => {
    const service = await diameter(lab);
    await clientSends(lab, "init", { first: true });
    await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 8080 }]);
    await clientSends(lab, "init");
    await backendSends(lab, "initAck");
    await clientSends(lab, "init");
  },
);

twins(bench, "A retransmitted INIT selects anew once its backend has gone", async (lab) => {
  const service = await diameter(lab);
  await clientSends(lab, "init", { first: true });
  await lab.publish(service, [{ host: "backend2", port: 8080 }]);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", sctp(40000, 80)), {
    packet: lab.packet("client", "backend2", sctp(40000, 8080)),
    reasons: ["BACKEND_STALE", "FLOW_NEW"],
  });
});

twins(bench, "An established association keeps its backend when that has gone (9.1)", async (lab) => {
  const service = await diameter(lab);
  await establish(lab);
  for (const rest of [[{ host: "backend2", port: 8080 }], []] as const) {
    await lab.publish(service, rest);
    await clientSends(lab, "data");
    await backendSends(lab, "sack");
  }
});

twins(bench, "An INIT on an established association's port selects anew", async (lab) => {
  const service = await diameter(lab);
  await establish(lab);
  await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 8080 }]);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", sctp(40000, 80)), {
    packet: lab.packet("client", "backend2", sctp(40000, 8080)),
    reasons: ["FLOW_NEW"],
  });
});

twins(
  bench,
  "A packet that is no INIT and has no entry passes untouched and selects nothing",
  async (lab) => {
    await diameter(lab);
    const types = [
      "data",
      "initAck",
      "abort",
      "shutdown",
      "cookieEcho",
      "shutdownComplete",
      "heartbeat",
    ] as const;
    for (const type of types) {
      await lab.expect("ptl_pod_in", lab.packet("client", "vip", sctp(40000, 80, type)), {
        reasons: ["PASS_TCP_NO_ENTRY"],
      });
    }
    const unknown = sctp(40000, 80, "data", { chunks: [{ type: 0xff }] });
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", unknown), { reasons: ["PASS_TCP_NO_ENTRY"] });
    await lab.expectNat();
  },
);

twins(bench, "An INIT to an address that is no Service passes untouched", async (lab) => {
  await diameter(lab);
  await lab.expect("ptl_pod_in", lab.packet("client", "stranger", sctp(40000, 80)), {
    reasons: ["PASS_NO_SERVICE"],
  });
});

/** How an association ends: who sends the last chunk, and what the entries are called then. */
const ENDS = [
  { type: "abort", by: "client", state: "rst-forward" },
  { type: "abort", by: "backend", state: "rst-reply" },
  { type: "shutdownComplete", by: "client", state: "rst-forward" },
  { type: "shutdownComplete", by: "backend", state: "rst-reply" },
] as const;

for (const { type, by, state } of ENDS) {
  twins(
    bench,
    `A ${type} of the ${by} ends the association: its entries die after the closed time`,
    async (lab) => {
      const end = async () => {
        await establish(lab);
        await (by === "client" ? clientSends(lab, type) : backendSends(lab, type));
      };
      await diameter(lab);
      await end();
      const states = (await lab.natEntries()).map(({ value }) => value.state);
      assert.equal(states.length, 2);
      await lab.expectNat(
        `${IN} forward reply established ${state}`,
        `${OUT} forward reply established ${state} [reply]`,
      );
      await lab.age(TEST_CONFIG.timeoutTcpClosed);
      await lab.expect("ptl_pod_in", lab.packet("client", "vip", sctp(40000, 80, "data")), {
        reasons: ["PASS_TCP_NO_ENTRY"],
      });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", sctp(8080, 40000, "data")), {
        reasons: ["PASS_EGRESS_MISS"],
      });
    },
  );
}

twins(bench, "An association's entries live as long as a TCP connection's in the same state", async (lab) => {
  for (const [prepare, ticks] of [
    [(): Promise<void> => clientSends(lab, "init", { first: true }), TEST_CONFIG.timeoutTcpOpening],
    [(): Promise<void> => establish(lab), TEST_CONFIG.timeoutTcpEstablished],
  ] as const) {
    await diameter(lab);
    await prepare();
    // Two ticks of room: a tick may begin between the last packet and the next.
    await lab.age(ticks - 2);
    await backendSends(lab, "heartbeat");
    await lab.age(ticks);
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", sctp(8080, 40000, "heartbeat")), {
      reasons: ["PASS_EGRESS_MISS"],
    });
    await lab.reset();
  }
});

twins(
  bench,
  "A rejected INIT is quoted up to its tag, by which its sender knows it for its own",
  async (lab) => {
    await diameter(lab, { endpoints: [] });
    const packet = lab.packet("client", "vip", sctp(40000, 80));
    const outcome = await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
    assertChecksums(outcome.frame, "the answer");
    const tag = Buffer.from(outcome.frame).subarray(-4).toString("hex");
    assert.equal(tag, "deadbeef");
  },
);

twins(
  bench,
  "The answer to an INIT without a sum is right once the kernel has put one into its quote",
  async (lab) => {
    await diameter(lab, { endpoints: [] });
    for (const sport of [40000, 40001, 1]) {
      const packet = lab.packet("client", "vip", sctp(sport, 80, "init", { checksum: "zero" }));
      const { frame, verdict } = await lab.run("ptl_pod_in", packet);
      assert.equal(verdict, "redirect");
      // CHECKSUM_PARTIAL: the sum is that of what the skb holds from the SCTP header on.
      const quote = frame.subarray(-20);
      const view = new DataView(quote.buffer, quote.byteOffset);
      assert.equal(view.getUint32(8), 0, "the kernel takes the sum over the field as it stands");
      view.setUint32(8, crc32c(quote), true);
      assertChecksums(frame, "the answer");
    }
  },
);

twins(bench, "An INIT that is cut before its tag is dropped where it would be rejected", async (lab) => {
  await diameter(lab, { endpoints: [] });
  const cut = sctp(40000, 80, "init", { size: 16 });
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", cut));
  assert.equal(outcome.verdict, "drop");
  assert.deepEqual(outcome.reasons, { REJECT_NO_BACKEND: 1, DROP_REJECT_FAILED: 1 });
});

twins(bench, "SCTP other than an INIT is never rejected", async (lab) => {
  await diameter(lab, { endpoints: [] });
  for (const type of ["data", "abort", "shutdownComplete"] as const) {
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", sctp(40000, 80, type)), {
      reasons: ["PASS_TCP_NO_ENTRY"],
    });
    await lab.expect("ptl_net_out", lab.packet("client", "vip", sctp(40000, 80, type)), {
      reasons: ["PASS_EGRESS_MISS"],
    });
  }
});

twins(
  bench,
  "An error about a packet keeps the CRC32c that it quotes, however much it quotes",
  async (lab) => {
    await association(lab, 20011);
    // The sum is right for the ports that were seen; with others it is left as it is.
    const checksum = 0x0badcafe;
    for (const quoted of [8, 11, 12, 13, 16, 40]) {
      const quote = (lab.family === 4 ? 20 : 40) + quoted;
      const seen = lab.packet("client", "backend", sctp(20011, 8080, "data", { checksum }));
      const sent = lab.packet("client", "vip", sctp(40000, 80, "data", { checksum }));
      await lab.expect(
        "ptl_pod_out",
        lab.packet("router", "client", icmpError("too-big", seen, { quote, word: 1400 })),
        {
          packet: lab.packet("router", "client", icmpError("too-big", sent, { quote, word: 1400 })),
          reasons: ["ICMP_TRANSLATED"],
        },
      );
    }
  },
);

/** One piece of a fragmented packet: its first, with the header, or a later one. */
function piece(
  lab: Lab,
  dst: "vip" | "backend",
  payload: Packet["payload"],
  offset: number,
  more: boolean,
): Packet {
  return lab.family === 4
    ? lab.packet("client", dst, payload, { id: 0x77, fragment: { offset, more } })
    : lab.packet("client", dst, payload, { extensions: [{ kind: "fragment", offset, more, id: 0x77 }] });
}

/** 64 bytes from somewhere behind the SCTP header. */
const LATER: Packet["payload"] = { kind: "raw", protocol: 132, data: new Uint8Array(64).fill(0xda) };

twins(bench, "A fragmented packet whose ports stay has its address rewritten in every piece", async (lab) => {
  await association(lab, 40000, { endpoints: [{ host: "backend", port: 80 }] });
  // The CRC32c is that of the whole packet: of no piece by itself.
  const head = sctp(40000, 80, "data", { checksum: 0x0badcafe });
  await lab.expect("ptl_pod_in", piece(lab, "vip", head, 0, true), {
    packet: piece(lab, "backend", head, 0, true),
    reasons: ["TRANSLATED"],
  });
  for (const more of [true, false]) {
    await lab.expect("ptl_pod_in", piece(lab, "vip", LATER, 7, more), {
      packet: piece(lab, "backend", LATER, 7, more),
      reasons: ["TRANSLATED"],
    });
  }
});

twins(bench, "The first piece of a fragmented packet whose ports would change is dropped", async (lab) => {
  await association(lab, 40000);
  const head = sctp(40000, 80, "data", { checksum: 0x0badcafe });
  const outcome = await lab.run("ptl_pod_in", piece(lab, "vip", head, 0, true));
  assert.equal(outcome.verdict, "drop");
  assert.deepEqual(outcome.reasons, { TRANSLATED: 1, DROP_REWRITE: 1 });
});

twins(bench, "A packet that ends before its first chunk passes as malformed", async (lab) => {
  await diameter(lab);
  for (const size of [0, 4, 8, 11, 12]) {
    const trailer = { trailer: bytes(1, 0, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12) };
    for (const more of [{}, trailer]) {
      const packet = lab.packet("client", "vip", sctp(40000, 80, "init", { size }), more);
      for (const program of ["ptl_pod_in", "ptl_pod_out"] as const) {
        await lab.expect(program, packet, { reasons: ["PASS_MALFORMED"] });
      }
    }
  }
});

twins(bench, "A truncated frame of an association passes as malformed", async (lab) => {
  await association(lab, 40000);
  const truncate = 14 + (lab.family === 4 ? 20 : 40) + 12;
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", sctp(40000, 80, "data"), { truncate }), {
    reasons: ["PASS_MALFORMED"],
  });
});
