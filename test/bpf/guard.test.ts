// SPDX-License-Identifier: Apache-2.0
/**
 * Where a packet to a Service address would leave the node untranslated, and packets to addresses of the Services'
 * networks that no Service has (6.13).
 */
import { FrontendFlag } from "../../src/abi/enums.gen.js";
import { echo, type Packet, udp } from "../support/packet.js";
import type { Host } from "./support/addresses.js";
import { pieces } from "./support/fragments.js";
import { type Lab, openBench, type ProtocolName, twins } from "./support/lab.js";
import { allowSource, only, serviceNetwork } from "./support/policy.js";
import { rejected } from "./support/reject.js";
import { balancer, further, nodePort, opening, web } from "./support/scenario.js";

const bench = await openBench();
const PROTOCOLS = ["tcp", "udp", "sctp"] as const;
const PROGRAMS = ["ptl_pod_in", "ptl_net_in"] as const;

const network = (lab: Lab) => serviceNetwork(lab, lab.family === 4 ? "10.96.0.0/16" : "fd00:96::/108");

const first = (lab: Lab, dst: Host, port: number, protocol: ProtocolName) =>
  lab.packet("client", dst, opening(protocol, 40000, port));

for (const protocol of PROTOCOLS) {
  twins(
    bench,
    `A first ${protocol} packet to an address that no Service has is dropped at ingress and where it would leave (6.13)`,
    async (lab) => {
      await web(lab, { protocol });
      await network(lab);
      for (const program of [...PROGRAMS, "ptl_net_out"] as const) {
        await lab.expect(program, first(lab, "unused", 80, protocol), {
          verdict: "drop",
          reasons: ["DROP_UNALLOCATED"],
        });
      }
      await lab.expectNat();
    },
  );

  twins(
    bench,
    `A ${protocol} packet to an address that no Service has passes on its way into a pod`,
    async (lab) => {
      await network(lab);
      await lab.expect("ptl_pod_out", first(lab, "unused", 80, protocol), { reasons: ["PASS_EGRESS_MISS"] });
    },
  );

  twins(
    bench,
    `A ${protocol} packet to an address outside the Services' networks passes (6.13)`,
    async (lab) => {
      await web(lab, { protocol });
      await network(lab);
      for (const host of ["stranger", "router", "client2", "lb"] as const) {
        for (const program of PROGRAMS)
          await lab.expect(program, first(lab, host, 80, protocol), { reasons: ["PASS_NO_SERVICE"] });
        await lab.expect("ptl_net_out", first(lab, host, 80, protocol), { reasons: ["PASS_EGRESS_MISS"] });
      }
    },
  );

  twins(
    bench,
    `A ${protocol} packet to an address that no Service has passes where no network is known`,
    async (lab) => {
      await web(lab, { protocol });
      for (const program of PROGRAMS)
        await lab.expect(program, first(lab, "unused", 80, protocol), { reasons: ["PASS_NO_SERVICE"] });
      await lab.expect("ptl_net_out", first(lab, "unused", 80, protocol), { reasons: ["PASS_EGRESS_MISS"] });
    },
  );

  twins(
    bench,
    `An address with a class is none of the unused, in whatever network it lies (${protocol})`,
    async (lab) => {
      // a pod, an external address and an address of the node inside a network of the Services
      await web(lab, { protocol });
      await balancer(lab, { protocol });
      await nodePort(lab, { protocol });
      await serviceNetwork(lab, `${lab.at.unspecified}/0`);
      for (const [host, port] of [
        ["backend", 9999],
        ["lb", 81],
        ["nodeip", 22],
      ] as const) {
        await lab.expect("ptl_net_in", first(lab, host, port, protocol), { reasons: ["PASS_NO_SERVICE"] });
        await lab.expect("ptl_net_out", first(lab, host, port, protocol), { reasons: ["PASS_EGRESS_MISS"] });
      }
    },
  );

  twins(
    bench,
    `An unknown ${protocol} port of a ClusterIP is rejected where it would leave (6.13)`,
    async (lab) => {
      await web(lab, { protocol });
      const packet = first(lab, "vip", 81, protocol);
      await lab.expect("ptl_net_out", packet, rejected(packet, "REJECT_UNTRANSLATED"));
    },
  );

  twins(
    bench,
    `A known ${protocol} port of an external address is rejected where it would leave (6.11)`,
    async (lab) => {
      await balancer(lab, { protocol });
      const packet = first(lab, "lb", 80, protocol);
      await lab.expect("ptl_net_out", packet, rejected(packet, "REJECT_UNTRANSLATED"));
    },
  );

  twins(
    bench,
    `An unknown ${protocol} port of an external address leaves: it is another's (6.12)`,
    async (lab) => {
      await balancer(lab, { protocol });
      for (const [port, other] of [
        [81, protocol],
        [80, protocol === "tcp" ? "udp" : "tcp"],
      ] as const)
        await lab.expect("ptl_net_out", first(lab, "lb", port, other), { reasons: ["PASS_EGRESS_MISS"] });
    },
  );

  for (const [what, frontend, at] of [
    ["ClusterIP", web, "vip"],
    ["external address", balancer, "lb"],
  ] as const) {
    twins(
      bench,
      `A ${protocol} packet to a silent ${what} is dropped where it would leave, not rejected (7.2)`,
      async (lab) => {
        await frontend(lab, { protocol, endpoints: [], whenEmpty: "drop" });
        await lab.expect("ptl_net_out", first(lab, at, 80, protocol), {
          verdict: "drop",
          reasons: ["DROP_POLICY"],
        });
      },
    );

    twins(
      bench,
      `A ${protocol} packet to a ${what} without endpoints is rejected where it would leave (7.1)`,
      async (lab) => {
        await frontend(lab, { protocol, endpoints: [] });
        const packet = first(lab, at, 80, protocol);
        await lab.expect("ptl_net_out", packet, rejected(packet, "REJECT_UNTRANSLATED"));
      },
    );
  }

  twins(
    bench,
    `A ${protocol} packet to an address with source ranges is dropped where it would leave (6.16)`,
    async (lab) => {
      const service = await balancer(lab, { protocol, flags: FrontendFlag.FRONTEND_SOURCE_RANGES });
      await allowSource(lab, service, only(lab, "stranger"));
      await lab.expect("ptl_net_out", first(lab, "lb", 80, protocol), {
        verdict: "drop",
        reasons: ["DROP_SOURCE_RANGE"],
      });
      await lab.expect("ptl_net_out", first(lab, "lb", 81, protocol), { reasons: ["PASS_EGRESS_MISS"] });
    },
  );

  twins(
    bench,
    `A ${protocol} packet to a NodePort of another node leaves, and so does one to this node's (7.6)`,
    async (lab) => {
      await nodePort(lab, { protocol });
      for (const host of ["router", "nodeip"] as const)
        await lab.expect("ptl_net_out", first(lab, host, 30080, protocol), { reasons: ["PASS_EGRESS_MISS"] });
    },
  );
}

for (const protocol of ["tcp", "sctp"] as const) {
  twins(
    bench,
    `A ${protocol} packet in the middle of something passes, whatever address it goes to (7.5)`,
    async (lab) => {
      await web(lab, { protocol });
      await balancer(lab, { protocol, endpoints: [], whenEmpty: "drop" });
      await network(lab);
      for (const host of ["unused", "vip", "lb"] as const) {
        const packet = lab.packet("client", host, further(protocol, 40000, 80));
        for (const program of PROGRAMS) await lab.expect(program, packet, { reasons: ["PASS_TCP_NO_ENTRY"] });
        await lab.expect("ptl_net_out", packet, { reasons: ["PASS_EGRESS_MISS"] });
      }
    },
  );
}

twins(
  bench,
  "A network of the Services holds the addresses of its prefix, to the bit (6.13)",
  async (lab) => {
    const [prefix, inside, outside] =
      lab.family === 4
        ? ["10.96.64.0/19", ["10.96.64.0", "10.96.95.255"], ["10.96.63.255", "10.96.96.0", "10.97.64.1"]]
        : [
            "fd00:96::c0:0/107",
            ["fd00:96::c0:0", "fd00:96::df:ffff"],
            ["fd00:96::bf:ffff", "fd00:96::e0:0", "fd00:97::c0:1"],
          ];
    await serviceNetwork(lab, prefix as string);
    const packet = (dst: string): Packet => ({ src: lab.at.client, dst, payload: udp(40000, 53) });
    for (const dst of inside as readonly string[])
      await lab.expect("ptl_pod_in", packet(dst), { verdict: "drop", reasons: ["DROP_UNALLOCATED"] });
    for (const dst of outside as readonly string[])
      await lab.expect("ptl_pod_in", packet(dst), { reasons: ["PASS_NO_SERVICE"] });
  },
);

twins(bench, "An echo request to an address that no Service has passes", async (lab) => {
  await network(lab);
  for (const program of [...PROGRAMS, "ptl_net_out"] as const)
    await lab.expect(program, lab.packet("client", "unused", echo(lab.family)), { reasons: ["PASS_ICMP"] });
});

twins(
  bench,
  "Every fragment of a datagram to an address that no Service has is dropped at ingress (6.13)",
  async (lab) => {
    await network(lab);
    for (const piece of pieces(lab, "client", "unused", udp(40000, 53, "x".repeat(900))))
      await lab.expect("ptl_net_in", piece, { verdict: "drop", reasons: ["DROP_UNALLOCATED"] });
  },
);

twins(
  bench,
  "A flow to a Service address that is deleted goes on, and a new one is dropped (4.15, 7.8)",
  async (lab) => {
    const service = await web(lab);
    await network(lab);
    await lab.run("ptl_pod_in", lab.packet("client", "vip", opening("tcp", 40000, 80)));
    await lab.deleteFrontend(service.spec);
    const keys = lab.addrPort("vip", 0, 0);
    await lab.write([
      { map: lab.map("addresses"), kind: "delete", count: 1, keys, values: new Uint8Array() },
    ]);
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", opening("tcp", 40000, 80)), {
      packet: lab.packet("client", "backend", opening("tcp", 40000, 8080)),
      reasons: ["TRANSLATED"],
    });
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", opening("tcp", 40001, 80)), {
      verdict: "drop",
      reasons: ["DROP_UNALLOCATED"],
    });
  },
);
