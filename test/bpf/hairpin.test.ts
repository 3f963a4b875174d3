// SPDX-License-Identifier: Apache-2.0
/** A pod that reaches itself through a VIP: its packets are masqueraded with the node's address on their way back to it. */
import assert from "node:assert/strict";
import { icmpError, tcp, udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { type Lab, openBench, type ProtocolName, twins } from "./support/lab.js";
import { answer, dns, opening, web } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";

const bench = await openBench();

const PORTS = { tcp: [80, 8080], udp: [53, 5353], sctp: [80, 8080] } as const;

/** The backend asks its own Service: ingress, then egress back to it. Returns the masquerade port. */
async function hairpin(lab: Lab, protocol: ProtocolName, sport: number): Promise<number> {
  const [port, backendPort] = PORTS[protocol];
  await lab.expect("ptl_pod_in", lab.packet("backend", "vip", opening(protocol, sport, port)), {
    packet: lab.packet("backend", "backend", opening(protocol, sport, backendPort)),
    reasons: ["FLOW_NEW"],
  });
  const translated = lab.packet("backend", "backend", opening(protocol, sport, backendPort));
  const outcome = await lab.run("ptl_pod_out", translated);
  assert.deepEqual(outcome.reasons, { MASQUERADED: 1 });
  const snat = Number(fieldText(dissectFrame(outcome.frame), `${protocol}.sport`));
  await lab.expect("ptl_pod_out", translated, {
    packet: lab.packet("node", "backend", opening(protocol, snat, backendPort)),
    reasons: ["TRANSLATED"],
  });
  return snat;
}

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  const [port, backendPort] = PORTS[protocol];
  const service = (lab: Lab) => (protocol === "udp" ? dns(lab) : web(lab, { protocol }));

  twins(
    bench,
    `A ${protocol} flow of a pod to itself is marked at ingress and masqueraded at egress`,
    async (lab) => {
      await service(lab);
      await lab.expect("ptl_pod_in", lab.packet("backend", "vip", opening(protocol, 40000, port)), {
        packet: lab.packet("backend", "backend", opening(protocol, 40000, backendPort)),
        reasons: ["FLOW_NEW"],
      });
      await lab.expectNat(
        `IN ${protocol} backend:40000 > vip:${port} => backend:${backendPort}, peer 40000, forward`,
        `OUT ${protocol} backend:${backendPort} > backend:40000 => vip:${port}, peer 40000, forward [reply]`,
        `OUT ${protocol} backend:40000 > backend:${backendPort} => backend:40000, peer ${backendPort}, forward [pending masquerade]`,
      );
      const out = await lab.run(
        "ptl_pod_out",
        lab.packet("backend", "backend", opening(protocol, 40000, backendPort)),
      );
      const snat = Number(fieldText(dissectFrame(out.frame), `${protocol}.sport`));
      await lab.expectNat(
        `IN ${protocol} backend:40000 > vip:${port} => backend:${backendPort}, peer 40000, forward`,
        `OUT ${protocol} backend:${backendPort} > backend:40000 => vip:${port}, peer 40000, forward [reply]`,
        `OUT ${protocol} backend:40000 > backend:${backendPort} => node:${snat}, peer ${backendPort}, forward [masquerade]`,
        `IN ${protocol} backend:${backendPort} > node:${snat} => backend:40000, peer ${backendPort}, forward [reply masquerade]`,
      );
    },
  );

  twins(bench, `A ${protocol} hairpin's answer finds its way back through both pairs`, async (lab) => {
    await service(lab);
    const snat = await hairpin(lab, protocol, 40000);
    await lab.expect("ptl_pod_in", lab.packet("backend", "node", answer(protocol, backendPort, snat)), {
      packet: lab.packet("backend", "backend", answer(protocol, backendPort, 40000)),
      reasons: ["TRANSLATED"],
    });
    await lab.expect("ptl_pod_out", lab.packet("backend", "backend", answer(protocol, backendPort, 40000)), {
      packet: lab.packet("vip", "backend", answer(protocol, port, 40000)),
      reasons: ["TRANSLATED"],
    });
  });

  twins(bench, `A ${protocol} hairpin takes its port from the masquerade ranges`, async (lab) => {
    await service(lab);
    for (let sport = 40000; sport < 40030; sport++) {
      const snat = await hairpin(lab, protocol, sport);
      const inRange = TEST_CONFIG.snatPortBase.some((base, i) => {
        return snat >= base && snat < base + (TEST_CONFIG.snatPortCount[i] ?? 0);
      });
      assert.ok(inRange, `port ${snat}`);
    }
  });
}

twins(bench, "Hairpin flows from different ports have different masquerade ports", async (lab) => {
  await web(lab);
  const used = new Set<number>();
  for (let sport = 40000; sport < 40100; sport++) used.add(await hairpin(lab, "tcp", sport));
  assert.equal(used.size, 100);
});

twins(bench, "A retransmitted hairpin SYN keeps its backend and its masquerade port", async (lab) => {
  await web(lab);
  const snat = await hairpin(lab, "tcp", 40000);
  await lab.expect("ptl_pod_in", lab.packet("backend", "vip", tcp(40000, 80)), {
    packet: lab.packet("backend", "backend", tcp(40000, 8080)),
    reasons: ["TRANSLATED"],
  });
  await lab.expect("ptl_pod_out", lab.packet("backend", "backend", tcp(40000, 8080)), {
    packet: lab.packet("node", "backend", tcp(snat, 8080)),
    reasons: ["TRANSLATED"],
  });
});

twins(bench, "A hairpin without an address to masquerade with is dropped and counted", async (lab) => {
  await web(lab);
  await lab.interface({ masquerade: false });
  await lab.run("ptl_pod_in", lab.packet("backend", "vip", tcp(40000, 80)));
  const outcome = await lab.run("ptl_pod_out", lab.packet("backend", "backend", tcp(40000, 8080)));
  assert.equal(outcome.verdict, "drop");
  assert.deepEqual(outcome.reasons, { DROP_NO_ADDRESS: 1 });
});

twins(bench, "A hairpin that got no address is masqueraded once the interface has one", async (lab) => {
  await web(lab);
  await lab.interface({ masquerade: false });
  await lab.run("ptl_pod_in", lab.packet("backend", "vip", tcp(40000, 80)));
  await lab.run("ptl_pod_out", lab.packet("backend", "backend", tcp(40000, 8080)));
  await lab.interface({ masquerade: true });
  const outcome = await lab.run("ptl_pod_out", lab.packet("backend", "backend", tcp(40000, 8080)));
  assert.deepEqual(outcome.reasons, { MASQUERADED: 1 });
  assert.equal(fieldText(dissectFrame(outcome.frame), "ip.src"), lab.at.node);
});

twins(bench, "A pending entry that has expired masquerades nothing", async (lab) => {
  await dns(lab);
  await lab.run("ptl_pod_in", lab.packet("backend", "vip", udp(40000, 53)));
  await lab.age(TEST_CONFIG.timeoutUdpUnreplied);
  await lab.expect("ptl_pod_out", lab.packet("backend", "backend", udp(40000, 5353)), {
    reasons: ["PASS_EGRESS_MISS"],
  });
});

twins(bench, "A flow between two pods is never masqueraded", async (lab) => {
  await web(lab);
  await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
  await lab.expect("ptl_pod_out", lab.packet("client", "backend", tcp(40000, 8080)), {
    reasons: ["PASS_EGRESS_MISS"],
  });
});

twins(bench, "A pod in the set reaches another backend as itself and itself as the node", async (lab) => {
  await web(lab, {
    endpoints: [
      { host: "backend", port: 8080 },
      { host: "backend2", port: 8080 },
    ],
  });
  const seen = new Set<string>();
  for (let sport = 41000; sport < 41040; sport++) {
    const first = await lab.run("ptl_pod_in", lab.packet("backend", "vip", tcp(sport, 80)));
    const dst = fieldText(dissectFrame(first.frame), "ip.dst");
    const second = await lab.run("ptl_pod_out", first.frame);
    const src = fieldText(dissectFrame(second.frame), "ip.src");
    assert.equal(src, dst === lab.at.backend ? lab.at.node : lab.at.backend);
    seen.add(dst);
  }
  assert.equal(seen.size, 2);
});

twins(bench, "A hairpin's port unreachable reaches the client as about the VIP", async (lab) => {
  await dns(lab);
  const snat = await hairpin(lab, "udp", 40000);
  // The pod's own stack answers: about the packet that it saw, to the address that it came from.
  const seen = lab.packet("node", "backend", udp(snat, 5353));
  const atIngress = lab.packet("backend", "node", icmpError("port-unreachable", seen));
  const half = lab.packet("backend", "backend", udp(40000, 5353));
  await lab.expect("ptl_pod_in", atIngress, {
    packet: lab.packet("backend", "backend", icmpError("port-unreachable", half)),
    reasons: ["ICMP_TRANSLATED"],
  });
  const original = lab.packet("backend", "vip", udp(40000, 53));
  await lab.expect("ptl_pod_out", lab.packet("backend", "backend", icmpError("port-unreachable", half)), {
    packet: lab.packet("vip", "backend", icmpError("port-unreachable", original)),
    reasons: ["ICMP_TRANSLATED"],
  });
});

twins(
  bench,
  "A pod that reaches itself through two VIPs from one port has two flows kept apart",
  async (lab) => {
    await web(lab);
    await web(lab, { vip: "vip2" });
    const first = await hairpin(lab, "tcp", 40000);
    const shifted = await lab.run("ptl_pod_in", lab.packet("backend", "vip2", tcp(40000, 80)));
    assert.deepEqual(shifted.reasons, { FLOW_NEW: 1, SOURCE_PORT_SHIFTED: 1 });
    const out = await lab.run("ptl_pod_out", shifted.frame);
    assert.deepEqual(out.reasons, { MASQUERADED: 1 });
    const second = Number(fieldText(dissectFrame(out.frame), "tcp.sport"));
    assert.notEqual(second, first);
    for (const [snat, vip] of [
      [first, "vip"],
      [second, "vip2"],
    ] as const) {
      const inward = await lab.run("ptl_pod_in", lab.packet("backend", "node", tcp(8080, snat, "SA")));
      const outward = await lab.run("ptl_pod_out", inward.frame);
      lab.assertFrame(outward, lab.packet(vip, "backend", tcp(80, 40000, "SA")));
    }
  },
);

twins(bench, "A hairpin on an interface that nobody has described is dropped and counted", async (lab) => {
  await web(lab);
  await lab.forgetInterface();
  await lab.run("ptl_pod_in", lab.packet("backend", "vip", tcp(40000, 80)));
  const outcome = await lab.run("ptl_pod_out", lab.packet("backend", "backend", tcp(40000, 8080)));
  assert.equal(outcome.verdict, "drop");
  assert.deepEqual(outcome.reasons, { DROP_NO_ADDRESS: 1 });
});
