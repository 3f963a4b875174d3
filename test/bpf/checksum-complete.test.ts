// SPDX-License-Identifier: Apache-2.0
/**
 * Packets that come with the sum that a network card has computed over all of them (CHECKSUM_COMPLETE): a rewrite keeps
 * that sum right, too, or the receiver calls the packet damaged. On this kernel and as on one without BPF_F_IPV6.
 */
import assert from "node:assert/strict";
import { icmpError, type Packet, tcp, text, udp } from "../support/packet.js";
import { pieces } from "./support/fragments.js";
import { type Lab, openBench, twins } from "./support/lab.js";
import { dns, web } from "./support/scenario.js";

const KERNELS = [
  ["this kernel", await openBench()],
  ["a kernel without BPF_F_IPV6", await openBench({}, "build/test/csum-flag-unknown.bpf.o")],
] as const;

/** Flows client:40000 to vip:80 (TCP) and vip:53 (UDP), seen by the backend from port `peer`. */
async function flows(lab: Lab, peer: number): Promise<void> {
  for (const [protocol, service, port, backendPort] of [
    ["tcp", await web(lab), 80, 8080],
    ["udp", await dns(lab), 53, 5353],
  ] as const) {
    const rest = { cell: service.cells[0] ?? 0, service: service.index };
    const [forward, reply] = [`client:40000 > vip:${port}`, `backend:${backendPort} > client:${peer}`];
    await lab.setNat(
      `IN ${protocol} ${forward} => backend:${backendPort}, peer ${peer}, forward reply`,
      rest,
    );
    await lab.setNat(`OUT ${protocol} ${reply} => vip:${port}, peer 40000, forward reply [reply]`, rest);
  }
}

async function keepsTheSum(lab: Lab, program: "ptl_pod_in" | "ptl_pod_out", before: Packet, after: Packet) {
  const outcome = await lab.runComplete(program, before);
  lab.assertFrame(outcome, after);
}

for (const [kernel, bench] of KERNELS) {
  for (const peer of [40000, 20011]) {
    const shifted = peer === 40000 ? "" : " with a port of its own";
    const data = { data: text("data of odd length!") };

    twins(bench, `Translating TCP${shifted} keeps a network card's sum, on ${kernel}`, async (lab) => {
      await flows(lab, peer);
      const segment = (sport: number, dport: number) => tcp(sport, dport, "PA", data);
      await keepsTheSum(
        lab,
        "ptl_pod_in",
        lab.packet("client", "vip", segment(40000, 80)),
        lab.packet("client", "backend", segment(peer, 8080)),
      );
      await keepsTheSum(
        lab,
        "ptl_pod_out",
        lab.packet("backend", "client", segment(8080, peer)),
        lab.packet("vip", "client", segment(80, 40000)),
      );
    });

    twins(bench, `Translating UDP${shifted} keeps a network card's sum, on ${kernel}`, async (lab) => {
      await flows(lab, peer);
      await keepsTheSum(
        lab,
        "ptl_pod_in",
        lab.packet("client", "vip", udp(40000, 53)),
        lab.packet("client", "backend", udp(peer, 5353)),
      );
      await keepsTheSum(
        lab,
        "ptl_pod_out",
        lab.packet("backend", "client", udp(5353, peer)),
        lab.packet("vip", "client", udp(53, 40000)),
      );
    });

    // A later fragment has no transport checksum which an IPv6 address's change would cancel out.
    twins(bench, `Translating fragments${shifted} keeps a network card's sum, on ${kernel}`, async (lab) => {
      await flows(lab, peer);
      for (const [payload, port, backendPort] of [
        [udp, 53, 5353],
        [
          (sport: number, dport: number, data: string) => tcp(sport, dport, "PA", { data: text(data) }),
          80,
          8080,
        ],
      ] as const) {
        const long = "x".repeat(900);
        const before = pieces(lab, "client", "vip", payload(40000, port, long));
        const after = pieces(lab, "client", "backend", payload(peer, backendPort, long));
        const answer = pieces(lab, "backend", "client", payload(backendPort, peer, long), { id: 2 });
        const heard = pieces(lab, "vip", "client", payload(port, 40000, long), { id: 2 });
        for (const [i, packet] of before.entries()) {
          await keepsTheSum(lab, "ptl_pod_in", packet, after[i] as Packet);
        }
        for (const [i, packet] of answer.entries()) {
          await keepsTheSum(lab, "ptl_pod_out", packet, heard[i] as Packet);
        }
      }
    });

    twins(
      bench,
      `Translating an ICMP error${shifted} keeps a network card's sum, on ${kernel}`,
      async (lab) => {
        await flows(lab, peer);
        for (const quote of [undefined, (lab.family === 4 ? 20 : 40) + 8]) {
          const about = (inner: Packet) => icmpError("too-big", inner, quote === undefined ? {} : { quote });
          const toClient = lab.packet("client", "backend", udp(peer, 5353));
          const original = lab.packet("client", "vip", udp(40000, 53));
          await keepsTheSum(
            lab,
            "ptl_pod_out",
            lab.packet("backend", "client", about(toClient)),
            lab.packet("vip", "client", about(original)),
          );
          const toBackend = lab.packet("vip", "client", tcp(80, 40000, "PA", data));
          const reply = lab.packet("backend", "client", tcp(8080, peer, "PA", data));
          await keepsTheSum(
            lab,
            "ptl_pod_in",
            lab.packet("client", "vip", about(toBackend)),
            lab.packet("client", "backend", about(reply)),
          );
        }
      },
    );
  }

  twins(
    bench,
    `A first packet and a masqueraded one keep a network card's sum, on ${kernel}`,
    async (lab) => {
      await dns(lab);
      const first = await lab.runComplete("ptl_pod_in", lab.packet("backend", "vip", udp(40000, 53)));
      const second = await lab.runComplete("ptl_pod_out", first.frame);
      assert.deepEqual(second.reasons, { MASQUERADED: 1 });
    },
  );

  twins(bench, `A packet that passes keeps a network card's sum, on ${kernel}`, async (lab) => {
    await dns(lab);
    const packet = lab.packet("client", "stranger", udp(40000, 53));
    await keepsTheSum(lab, "ptl_pod_in", packet, packet);
  });
}
