// SPDX-License-Identifier: Apache-2.0
/** The mark by which FORWARD rules know a translated packet (8.11): on these and no others, and other bits stay (8.9). */
import assert from "node:assert/strict";
import { FrontendFlag } from "../../src/abi/enums.gen.js";
import { icmpError, type Packet, tcp, udp } from "../support/packet.js";
import { pieces } from "./support/fragments.js";
import { openBench, type ProtocolName, twins } from "./support/lab.js";
import { serviceNetwork } from "./support/policy.js";
import { rejectOf } from "./support/reject.js";
import { answer, nodePort, opening, web } from "./support/scenario.js";

const MARK = 0x2000;
/** Bits of others, and one of kube-proxy's own. */
const OTHERS = 0x8000_4f0f;
const BOTH = (OTHERS | MARK) >>> 0;
/** kube-proxy's masquerade bit is its default; here one of its own, so that OTHERS may have that one. */
const MASQUERADE = 0x0010_0000;
const masquerading = await openBench({ mark: MARK, masqueradeMark: MASQUERADE });
const bench = await openBench({ mark: MARK });
const twoBits = await openBench({ mark: 0x4001_0000 });
const unmarked = await openBench({ mark: 0 });
const PROGRAMS = ["ptl_pod_in", "ptl_net_in"] as const;
const foreign = { mark: OTHERS } as const;

for (const protocol of ["tcp", "udp", "sctp"] as const satisfies readonly ProtocolName[]) {
  twins(
    bench,
    `A ${protocol} packet to a Service is marked, the first and the next, and keeps its other bits (8.9, 8.11)`,
    async (lab) => {
      await web(lab, { protocol });
      const packet = lab.packet("client", "vip", opening(protocol, 40000, 80));
      const expected = {
        packet: lab.packet("client", "backend", opening(protocol, 40000, 8080)),
        mark: BOTH,
      };
      await lab.expect("ptl_pod_in", packet, { ...expected, reasons: ["FLOW_NEW"] }, foreign);
      await lab.expect("ptl_pod_in", packet, { ...expected, reasons: ["TRANSLATED"] }, foreign);
      await lab.expect("ptl_net_in", packet, { ...expected, mark: MARK, reasons: ["TRANSLATED"] });
    },
  );

  twins(
    bench,
    `A ${protocol} reply that is given back its client at ingress is marked, and at egress nothing is (8.11)`,
    async (lab) => {
      await nodePort(lab, { protocol, flags: FrontendFlag.FRONTEND_MASQUERADE });
      await lab.run("ptl_net_in", lab.packet("stranger", "nodeip", opening(protocol, 20500, 30080)));
      const rest = { cell: 1 };
      await lab.editNat((entry, line) => (line.includes("pending") ? null : entry));
      await lab.setNat(
        `OUT ${protocol} stranger:20500 > backend:8080 => node:20001, peer 8080, forward [masquerade]`,
        rest,
      );
      await lab.setNat(
        `IN ${protocol} backend:8080 > node:20001 => stranger:20500, peer 8080, forward [reply masquerade]`,
        rest,
      );
      await lab.expect(
        "ptl_pod_out",
        lab.packet("stranger", "backend", opening(protocol, 20500, 8080)),
        {
          packet: lab.packet("node", "backend", opening(protocol, 20001, 8080)),
          reasons: ["TRANSLATED"],
        },
        foreign,
      );
      await lab.expect(
        "ptl_pod_in",
        lab.packet("backend", "node", answer(protocol, 8080, 20001)),
        {
          packet: lab.packet("backend", "stranger", answer(protocol, 8080, 20500)),
          mark: BOTH,
          reasons: ["TRANSLATED"],
        },
        foreign,
      );
      await lab.expect(
        "ptl_net_out",
        lab.packet("backend", "stranger", answer(protocol, 8080, 20500)),
        {
          packet: lab.packet("nodeip", "stranger", answer(protocol, 30080, 20500)),
          reasons: ["TRANSLATED"],
        },
        foreign,
      );
    },
  );

  twins(
    bench,
    `A ${protocol} packet to a backend's own address is not marked, the first and the next`,
    async (lab) => {
      await web(lab, { protocol });
      const packet = lab.packet("client", "backend", opening(protocol, 40000, 8080));
      for (let i = 0; i < 2; i++)
        await lab.expect("ptl_pod_in", packet, { reasons: ["PASS_DIRECT"] }, foreign);
    },
  );

  twins(bench, `A ${protocol} packet that passes, is dropped or rejected is not marked`, async (lab) => {
    await web(lab, { protocol, endpoints: [] });
    await web(lab, { protocol, vip: "vip2", endpoints: [], whenEmpty: "drop" });
    await serviceNetwork(lab, lab.family === 4 ? "10.96.0.0/16" : "fd00:96::/108");
    const rejected = lab.packet("client", "vip", opening(protocol, 40000, 80));
    for (const program of PROGRAMS) {
      await lab.expect(
        program,
        rejected,
        {
          verdict: "redirect",
          packet: rejectOf(rejected),
          reasons: ["REJECT_NO_BACKEND"],
        },
        foreign,
      );
      await lab.expect(
        program,
        lab.packet("client", "vip2", opening(protocol, 40000, 80)),
        {
          verdict: "drop",
          reasons: ["DROP_POLICY"],
        },
        foreign,
      );
      await lab.expect(
        program,
        lab.packet("client", "stranger", opening(protocol, 40000, 80)),
        {
          reasons: ["PASS_NO_SERVICE"],
        },
        foreign,
      );
    }
  });
}

twins(twoBits, "Whatever bits are configured are set, and no others (8.11)", async (lab) => {
  await web(lab);
  await lab.expect(
    "ptl_pod_in",
    lab.packet("client", "vip", tcp(40000, 80)),
    {
      packet: lab.packet("client", "backend", tcp(40000, 8080)),
      mark: (0x4001_0000 | OTHERS) >>> 0,
      reasons: ["FLOW_NEW"],
    },
    foreign,
  );
});

twins(unmarked, "Without a bit to set the mark is left alone", async (lab) => {
  await web(lab);
  await lab.expect(
    "ptl_pod_in",
    lab.packet("client", "vip", tcp(40000, 80)),
    {
      packet: lab.packet("client", "backend", tcp(40000, 8080)),
      mark: OTHERS,
      reasons: ["FLOW_NEW"],
    },
    foreign,
  );
});

twins(bench, "Later fragments of a translated datagram are marked like the first (8.11)", async (lab) => {
  await web(lab, { protocol: "udp" });
  const sent = pieces(lab, "client", "vip", udp(40000, 80, "x".repeat(900)));
  const translated = pieces(lab, "client", "backend", udp(40000, 8080, "x".repeat(900)));
  for (const [i, piece] of sent.entries()) {
    await lab.expect(
      "ptl_pod_in",
      piece,
      {
        packet: translated[i] as Packet,
        mark: BOTH,
        reasons: [i === 0 ? "FLOW_NEW" : "TRANSLATED"],
      },
      foreign,
    );
  }
});

twins(bench, "ICMP errors are RELATED to no rule of ours and keep their mark", async (lab) => {
  await web(lab);
  await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
  await lab.run("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, "SA")));
  const seen = lab.packet("vip", "client", tcp(80, 40000, "SA"));
  const sent = lab.packet("backend", "client", tcp(8080, 40000, "SA"));
  await lab.expect(
    "ptl_pod_in",
    lab.packet("client", "vip", icmpError("too-big", seen)),
    {
      packet: lab.packet("client", "backend", icmpError("too-big", sent)),
      reasons: ["ICMP_TRANSLATED"],
    },
    foreign,
  );
});

for (const protocol of ["tcp", "udp", "sctp"] as const satisfies readonly ProtocolName[]) {
  twins(
    masquerading,
    `A ${protocol} packet that will be masqueraded carries that bit from ingress to egress, the first and the next (8.9)`,
    async (lab) => {
      await nodePort(lab, { protocol, flags: FrontendFlag.FRONTEND_MASQUERADE });
      const packet = lab.packet("stranger", "nodeip", opening(protocol, 20500, 30080));
      const mark = (BOTH | MASQUERADE) >>> 0;
      for (const reason of ["FLOW_NEW", "TRANSLATED"] as const)
        await lab.expect(
          "ptl_net_in",
          packet,
          {
            packet: lab.packet("stranger", "backend", opening(protocol, 20500, 8080)),
            mark,
            reasons: [reason],
          },
          foreign,
        );
      const out = await lab.run(
        "ptl_pod_out",
        lab.packet("stranger", "backend", opening(protocol, 20500, 8080)),
        { mark },
      );
      assert.equal(out.mark >>> 0, BOTH, "egress takes it away, and no other bit");
    },
  );

  twins(
    masquerading,
    `A ${protocol} packet that keeps its client's address has not that bit`,
    async (lab) => {
      await web(lab, { protocol });
      const packet = lab.packet("client", "vip", opening(protocol, 40000, 80));
      await lab.expect(
        "ptl_pod_in",
        packet,
        {
          packet: lab.packet("client", "backend", opening(protocol, 40000, 8080)),
          mark: BOTH,
          reasons: ["FLOW_NEW"],
        },
        foreign,
      );
    },
  );
}
