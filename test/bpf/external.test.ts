// SPDX-License-Identifier: Apache-2.0
/** NodePorts, external addresses and load balancers' addresses: which packets are theirs, and which are left alone. */
import assert from "node:assert/strict";
import { AddressClass } from "../../src/abi/enums.gen.js";
import { echo } from "../support/packet.js";
import type { Host } from "./support/addresses.js";
import { type Lab, openBench, type ProtocolName, twins } from "./support/lab.js";
import { rejected } from "./support/reject.js";
import { answer, balancer, nodePort, opening, web } from "./support/scenario.js";

const bench = await openBench();
const PROTOCOLS = ["tcp", "udp", "sctp"] as const;
const PROGRAMS = ["ptl_pod_in", "ptl_net_in"] as const;
const BACKEND2 = [{ host: "backend2", port: 8080 }] as const;

/** A first packet from stranger:sport to dst:port. */
const first = (lab: Lab, dst: Host, port: number, protocol: ProtocolName = "tcp", sport = 40000) =>
  lab.packet("stranger", dst, opening(protocol, sport, port));

/** It is sent on to a backend's port 8080. */
async function reaches(
  lab: Lab,
  dst: Host,
  port: number,
  backend: Host,
  protocol: ProtocolName = "tcp",
  sport = 40000,
): Promise<void> {
  await lab.expect("ptl_net_in", first(lab, dst, port, protocol, sport), {
    packet: lab.packet("stranger", backend, opening(protocol, sport, 8080)),
    reasons: ["FLOW_NEW"],
  });
}

/** It passes both ingress hooks, and leaves by an uplink. */
async function passes(lab: Lab, dst: Host, port: number, protocol: ProtocolName): Promise<void> {
  for (const program of PROGRAMS)
    await lab.expect(program, first(lab, dst, port, protocol), { reasons: ["PASS_NO_SERVICE"] });
  await lab.expect("ptl_net_out", first(lab, dst, port, protocol), { reasons: ["PASS_EGRESS_MISS"] });
  await lab.expectNat();
}

for (const protocol of PROTOCOLS) {
  twins(bench, `A ${protocol} NodePort is served on every address of the node (6.1)`, async (lab) => {
    await nodePort(lab, { protocol });
    await lab.addClass("node", AddressClass.CLASS_NODE);
    for (const [sport, address] of [
      [40000, "nodeip"],
      [40001, "node"],
    ] as const) {
      await reaches(lab, address, 30080, "backend", protocol, sport);
      await lab.expect("ptl_net_out", lab.packet("backend", "stranger", answer(protocol, 8080, sport)), {
        packet: lab.packet(address, "stranger", answer(protocol, 30080, sport)),
        reasons: ["TRANSLATED"],
      });
    }
  });

  twins(bench, `A ${protocol} port of the node that is no NodePort is left alone (6.1)`, async (lab) => {
    await nodePort(lab, { protocol });
    for (const port of [22, 80, 30079, 30081, 8080]) await passes(lab, "nodeip", port, protocol);
  });

  twins(bench, `A ${protocol} NodePort is no other protocol's`, async (lab) => {
    await nodePort(lab, { protocol });
    for (const other of PROTOCOLS) if (other !== protocol) await passes(lab, "nodeip", 30080, other);
  });

  twins(
    bench,
    `A ${protocol} NodePort is not served on addresses that are not the node's (6.3)`,
    async (lab) => {
      await nodePort(lab, { protocol });
      await balancer(lab, { protocol });
      for (const host of ["lb", "router", "stranger2", "unspecified", "backend"] as const)
        await passes(lab, host, 30080, protocol);
    },
  );

  twins(bench, `A NodePort number on a ClusterIP is an unknown ${protocol} port (6.13)`, async (lab) => {
    await nodePort(lab, { protocol });
    await web(lab, { protocol });
    const packet = first(lab, "vip", 30080, protocol);
    await lab.expect("ptl_net_in", packet, rejected(packet, "REJECT_NO_PORT"));
  });

  twins(
    bench,
    `A ${protocol} NodePort without endpoints is rejected from the address asked (7.1)`,
    async (lab) => {
      await nodePort(lab, { protocol, endpoints: [] });
      for (const program of PROGRAMS) {
        const packet = first(lab, "nodeip", 30080, protocol);
        await lab.expect(program, packet, rejected(packet, "REJECT_NO_BACKEND"));
      }
      await lab.expectNat();
    },
  );

  for (const [what, frontend, at, port] of [
    ["NodePort", nodePort, "nodeip", 30080],
    ["load balancer's address", balancer, "lb", 80],
  ] as const) {
    twins(
      bench,
      `A ${protocol} ${what} whose Local set is empty is silent to senders outside and serves those inside (7.3)`,
      async (lab) => {
        await frontend(lab, { protocol, outside: [], whenEmptyOutside: "drop" });
        await lab.expect("ptl_net_in", first(lab, at, port, protocol), {
          verdict: "drop",
          reasons: ["DROP_POLICY"],
        });
        await lab.expectNat();
        await lab.expect("ptl_pod_in", lab.packet("client", at, opening(protocol, 40000, port)), {
          packet: lab.packet("client", "backend", opening(protocol, 40000, 8080)),
          reasons: ["FLOW_NEW"],
        });
      },
    );

    twins(
      bench,
      `A ${protocol} ${what} offers senders inside the Cluster set and those outside the Local set (4.12)`,
      async (lab) => {
        await frontend(lab, { protocol, outside: BACKEND2 });
        for (const program of PROGRAMS) {
          await lab.expect(program, lab.packet("client", at, opening(protocol, 40000, port)), {
            packet: lab.packet("client", "backend", opening(protocol, 40000, 8080)),
            reasons: [program === "ptl_pod_in" ? "FLOW_NEW" : "TRANSLATED"],
          });
          await lab.expect(program, first(lab, at, port, protocol), {
            packet: lab.packet("stranger", "backend2", opening(protocol, 40000, 8080)),
            reasons: [program === "ptl_pod_in" ? "FLOW_NEW" : "TRANSLATED"],
          });
        }
      },
    );
  }

  twins(
    bench,
    `A load balancer's address is served to ${protocol} senders of every kind (6.11)`,
    async (lab) => {
      await balancer(lab, { protocol });
      await reaches(lab, "lb", 80, "backend", protocol);
      await lab.expect("ptl_net_out", lab.packet("backend", "stranger", answer(protocol, 8080, 40000)), {
        packet: lab.packet("lb", "stranger", answer(protocol, 80, 40000)),
        reasons: ["TRANSLATED"],
      });
      await lab.expect("ptl_pod_in", lab.packet("client", "lb", opening(protocol, 40000, 80)), {
        packet: lab.packet("client", "backend", opening(protocol, 40000, 8080)),
        reasons: ["FLOW_NEW"],
      });
    },
  );

  twins(bench, `An unknown ${protocol} port of a load balancer's address passes (6.12)`, async (lab) => {
    await balancer(lab, { protocol });
    for (const port of [79, 81, 8080, 30080]) await passes(lab, "lb", port, protocol);
    for (const other of PROTOCOLS) if (other !== protocol) await passes(lab, "lb", 80, other);
  });

  twins(
    bench,
    `A load balancer's address without endpoints is rejected for ${protocol} (7.1)`,
    async (lab) => {
      await balancer(lab, { protocol, endpoints: [] });
      const packet = first(lab, "lb", 80, protocol);
      await lab.expect("ptl_net_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
    },
  );
}

twins(bench, "A frontend of an address goes before a NodePort of the same number (6.7)", async (lab) => {
  await nodePort(lab);
  await balancer(lab, { vip: "nodeip", port: 30080, endpoints: BACKEND2 });
  await reaches(lab, "nodeip", 30080, "backend2");
});

twins(bench, "A frontend without endpoints still goes before a NodePort (6.7)", async (lab) => {
  await nodePort(lab);
  await balancer(lab, { vip: "nodeip", port: 30080, endpoints: [], whenEmpty: "drop" });
  await lab.expect("ptl_net_in", first(lab, "nodeip", 30080), { verdict: "drop", reasons: ["DROP_POLICY"] });
});

twins(bench, "An external address that is the node's own serves NodePorts too (6.8)", async (lab) => {
  await nodePort(lab);
  await balancer(lab, { vip: "nodeip", port: 443, endpoints: BACKEND2 });
  await reaches(lab, "nodeip", 30080, "backend");
  await reaches(lab, "nodeip", 443, "backend2", "tcp", 40001);
});

twins(
  bench,
  "A NodePort's number beside the same number of another protocol's address is served (6.7)",
  async (lab) => {
    await nodePort(lab);
    await balancer(lab, { vip: "nodeip", port: 30080, protocol: "udp", endpoints: BACKEND2 });
    await reaches(lab, "nodeip", 30080, "backend", "tcp");
    await reaches(lab, "nodeip", 30080, "backend2", "udp");
  },
);

twins(
  bench,
  "A pod on the node's network is reached at its port beside NodePorts, as a direct flow",
  async (lab) => {
    await nodePort(lab);
    await web(lab, { endpoints: [{ host: "nodeip", port: 9090 }] });
    await lab.expect("ptl_pod_in", lab.packet("client", "nodeip", opening("tcp", 40000, 9090)), {
      reasons: ["PASS_DIRECT"],
    });
    await reaches(lab, "nodeip", 30080, "backend");
  },
);

twins(bench, "A NodePort whose backend is a pod on the node's network is sent to its port", async (lab) => {
  await nodePort(lab, { endpoints: [{ host: "nodeip", port: 8080 }] });
  await reaches(lab, "nodeip", 30080, "nodeip");
});

twins(bench, "A NodePort that is deleted is an ordinary port of the node again", async (lab) => {
  const service = await nodePort(lab);
  await lab.deleteFrontend(service.spec);
  await passes(lab, "nodeip", 30080, "tcp");
});

twins(bench, "An echo request to the node or to a load balancer's address passes (6.12)", async (lab) => {
  await nodePort(lab);
  await balancer(lab);
  for (const program of [...PROGRAMS, "ptl_net_out", "ptl_pod_out"] as const) {
    for (const host of ["nodeip", "lb"] as const)
      await lab.expect(program, lab.packet("stranger", host, echo(lab.family)), { reasons: ["PASS_ICMP"] });
  }
});

twins(bench, "Every frontend of a Service port is counted for the Service", async (lab) => {
  const service = await web(lab);
  await lab.frontend(service, { vip: "lb", kind: "external", port: 80, protocol: "tcp" });
  await lab.frontend(service, { vip: "nodeip", kind: "node-port", port: 30080, protocol: "tcp" });
  await lab.addClass("nodeip", AddressClass.CLASS_NODE);
  const before = await lab.serviceTraffic(service);
  await reaches(lab, "vip", 80, "backend", "tcp", 40000);
  await reaches(lab, "lb", 80, "backend", "tcp", 40001);
  await reaches(lab, "nodeip", 30080, "backend", "tcp", 40002);
  const { flows, packets } = await lab.serviceTraffic(service);
  assert.deepEqual({ flows, packets }, { flows: before.flows + 3n, packets: before.packets + 3n });
});
