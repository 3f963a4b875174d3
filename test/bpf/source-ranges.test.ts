// SPDX-License-Identifier: Apache-2.0
/** loadBalancerSourceRanges (6.15 to 6.19): who may open a flow to a load balancer's address. */
import { FrontendFlag } from "../../src/abi/enums.gen.js";
import { type Packet, tcp, udp } from "../support/packet.js";
import type { Host } from "./support/addresses.js";
import { pieces } from "./support/fragments.js";
import { type Lab, openBench, type ProtocolName, type ServiceSpec, twins } from "./support/lab.js";
import { allowSource, only } from "./support/policy.js";
import { rejected } from "./support/reject.js";
import { answer, balancer, further, nodePort, opening } from "./support/scenario.js";

const bench = await openBench();
const RANGES = FrontendFlag.FRONTEND_SOURCE_RANGES;
const PROGRAMS = ["ptl_pod_in", "ptl_net_in"] as const;

const ranged = (lab: Lab, more: Partial<ServiceSpec> = {}) => balancer(lab, { flags: RANGES, ...more });

async function allowed(
  lab: Lab,
  src: Host,
  protocol: ProtocolName = "tcp",
  at: Host = "lb",
  port = 80,
  sport = 40000,
): Promise<void> {
  await lab.expect("ptl_net_in", lab.packet(src, at, opening(protocol, sport, port)), {
    packet: lab.packet(src, "backend", opening(protocol, sport, 8080)),
    reasons: ["FLOW_NEW"],
  });
}

/** Dropped at both ingress hooks, without a trace. */
async function denied(
  lab: Lab,
  src: Host,
  protocol: ProtocolName = "tcp",
  at: Host = "lb",
  port = 80,
  sport = 40000,
): Promise<void> {
  const before = (await lab.natEntries()).length;
  for (const program of PROGRAMS) {
    await lab.expect(program, lab.packet(src, at, opening(protocol, sport, port)), {
      verdict: "drop",
      reasons: ["DROP_SOURCE_RANGE"],
    });
  }
  const now = (await lab.natEntries()).length;
  if (now !== before) throw new Error(`${now - before} nat entries came of a flow that is not allowed`);
}

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  twins(bench, `A ${protocol} sender in a range is served and every other is dropped (6.16)`, async (lab) => {
    const service = await ranged(lab, { protocol });
    await allowSource(lab, service, only(lab, "stranger"));
    await allowed(lab, "stranger", protocol);
    await denied(lab, "stranger2", protocol);
  });

  twins(
    bench,
    `A ${protocol} pod of this node outside the ranges is dropped: there is no exemption (6.16)`,
    async (lab) => {
      const service = await ranged(lab, { protocol });
      await allowSource(lab, service, only(lab, "stranger"));
      for (const pod of ["client", "backend", "node"] as const) await denied(lab, pod, protocol);
    },
  );

  twins(
    bench,
    `An open ${protocol} flow goes on when its sender is in the ranges no more (6.16, 7.5)`,
    async (lab) => {
      const service = await ranged(lab, { protocol, flags: 0 });
      await allowed(lab, "stranger", protocol);
      await lab.expect("ptl_net_out", lab.packet("backend", "stranger", answer(protocol, 8080, 40000)), {
        packet: lab.packet("lb", "stranger", answer(protocol, 80, 40000)),
        reasons: ["TRANSLATED"],
      });
      await lab.frontend(service, { ...service.spec, flags: RANGES });
      await lab.expect("ptl_net_in", lab.packet("stranger", "lb", further(protocol, 40000, 80)), {
        packet: lab.packet("stranger", "backend", further(protocol, 40000, 8080)),
        reasons: ["TRANSLATED"],
      });
      await denied(lab, "stranger", protocol, "lb", 80, 40001);
    },
  );
}

twins(bench, "A range holds the addresses of its prefix, to the bit (6.16)", async (lab) => {
  const service = await ranged(lab);
  const [network, inside, outside] =
    lab.family === 4
      ? [
          "198.51.96.0/21",
          ["198.51.96.0", "198.51.103.255"],
          ["198.51.95.255", "198.51.104.0", "199.51.96.1"],
        ]
      : [
          "2001:db8:5:8::/61",
          ["2001:db8:5:8::", "2001:db8:5:f:ffff:ffff:ffff:ffff"],
          ["2001:db8:5:7:ffff:ffff:ffff:ffff", "2001:db8:5:10::", "2001:db9:5:8::1"],
        ];
  await allowSource(lab, service, network as string);
  const packet = (src: string): Packet => ({ src, dst: lab.at.lb, payload: tcp(40000, 80) });
  for (const src of inside as readonly string[])
    await lab.expect("ptl_net_in", packet(src), {
      packet: { ...packet(src), dst: lab.at.backend, payload: tcp(40000, 8080) },
      reasons: ["FLOW_NEW"],
    });
  for (const src of outside as readonly string[])
    await lab.expect("ptl_net_in", packet(src), { verdict: "drop", reasons: ["DROP_SOURCE_RANGE"] });
});

twins(
  bench,
  "Any one of several ranges is enough, and the whole world is a range too (6.16)",
  async (lab) => {
    const service = await ranged(lab);
    await allowSource(lab, service, only(lab, "router"));
    await allowSource(lab, service, only(lab, "stranger2"));
    await allowed(lab, "stranger2");
    await allowed(lab, "router");
    await denied(lab, "stranger");
    await allowSource(lab, service, `${lab.at.unspecified}/0`);
    await allowed(lab, "stranger");
  },
);

twins(bench, "Without a range of its family nobody is let in by the flag alone (6.15)", async (lab) => {
  await ranged(lab);
  await denied(lab, "stranger");
});

twins(bench, "The ranges of one Service port are no other's (6.15)", async (lab) => {
  const one = await ranged(lab);
  const two = await ranged(lab, { vip: "lb2" });
  await allowSource(lab, one, only(lab, "stranger"));
  await allowSource(lab, two, only(lab, "stranger2"));
  await allowed(lab, "stranger", "tcp", "lb");
  await denied(lab, "stranger2", "tcp", "lb");
  await allowed(lab, "stranger2", "tcp", "lb2");
  await denied(lab, "stranger", "tcp", "lb2");
});

twins(
  bench,
  "Ranges do not touch the same Service port's ClusterIP, externalIP and NodePort (6.9, 6.19)",
  async (lab) => {
    const service = await ranged(lab);
    await allowSource(lab, service, only(lab, "stranger"));
    await nodePort(lab);
    await lab.frontend(service, { vip: "vip", port: 80, protocol: "tcp" });
    await lab.frontend(service, { vip: "lb2", kind: "external", port: 80, protocol: "tcp" });
    await lab.frontend(service, { vip: "nodeip", kind: "node-port", port: 30080, protocol: "tcp" });
    await allowed(lab, "stranger2", "tcp", "vip", 80, 40000);
    await allowed(lab, "stranger2", "tcp", "lb2", 80, 40001);
    await allowed(lab, "stranger2", "tcp", "nodeip", 30080, 40002);
    await denied(lab, "stranger2", "tcp", "lb", 80, 40003);
  },
);

for (const whenEmpty of ["reject", "drop"] as const) {
  twins(
    bench,
    `A sender outside the ranges is dropped before a Service without endpoints would ${whenEmpty} it (6.18)`,
    async (lab) => {
      const service = await ranged(lab, { endpoints: [], whenEmpty });
      await allowSource(lab, service, only(lab, "stranger"));
      await denied(lab, "stranger2");
      const packet = lab.packet("stranger", "lb", tcp(40000, 80));
      await lab.expect(
        "ptl_net_in",
        packet,
        whenEmpty === "reject"
          ? rejected(packet, "REJECT_NO_BACKEND")
          : { verdict: "drop", reasons: ["DROP_POLICY"] },
      );
    },
  );
}

twins(bench, "TCP that opens nothing is no matter for the ranges (7.5)", async (lab) => {
  await ranged(lab);
  for (const flags of ["A", "FA", "R", "SA"])
    await lab.expect("ptl_net_in", lab.packet("stranger", "lb", tcp(40000, 80, flags)), {
      reasons: ["PASS_TCP_NO_ENTRY"],
    });
});

twins(bench, "A connection opened anew is a new flow: the ranges are asked again (6.16)", async (lab) => {
  const service = await ranged(lab, { flags: 0 });
  await allowed(lab, "stranger");
  await lab.run("ptl_net_out", lab.packet("backend", "stranger", tcp(8080, 40000, "SA")));
  await lab.run("ptl_net_in", lab.packet("stranger", "lb", tcp(40000, 80, "A")));
  await lab.frontend(service, { ...service.spec, flags: RANGES });
  await denied(lab, "stranger");
});

twins(bench, "Every fragment of a datagram that is not allowed is dropped (6.16)", async (lab) => {
  await ranged(lab, { protocol: "udp" });
  for (const piece of pieces(lab, "stranger", "lb", udp(40000, 80, "x".repeat(900))))
    await lab.expect("ptl_net_in", piece, { verdict: "drop", reasons: ["DROP_SOURCE_RANGE"] });
});
