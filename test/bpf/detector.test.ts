// SPDX-License-Identifier: Apache-2.0
/** Who counts as a pod of this node (8.3), and what follows for what a sender is offered (4.12, 8.6). */
import assert from "node:assert/strict";
import { Detector, FrontendFlag } from "../../src/abi/enums.gen.js";
import { tcp } from "../support/packet.js";
import { addressBytes } from "../support/packet-address.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { IFINDEX, type Lab, openBench, twins } from "./support/lab.js";
import { rejected } from "./support/reject.js";
import { balancer, nodePort, web } from "./support/scenario.js";

/** Borders inside a byte, and for IPv6 inside the third word. */
const network = await openBench({
  localNetwork4: addressBytes("10.244.4.0"),
  localMask4: addressBytes("255.255.252.0"),
  localNetwork6: addressBytes("fd00:244:0:0:8::"),
  localMask6: addressBytes("ffff:ffff:ffff:ffff:fff8::"),
});
const byInterface = await openBench({
  detector4: Detector.DETECT_INTERFACE,
  detector6: Detector.DETECT_INTERFACE,
});
const none = await openBench({ detector4: Detector.DETECT_NONE, detector6: Detector.DETECT_NONE });
const fourOnly = await openBench({ detector6: Detector.DETECT_NONE });
const sixOnly = await openBench({ detector4: Detector.DETECT_NONE });

/** lb:80 is backend to senders inside and backend2 to those outside. */
const split = (lab: Lab) => balancer(lab, { outside: [{ host: "backend2", port: 8080 }] });

/** Which of them a sender gets. */
async function side(lab: Lab, src: string): Promise<"inside" | "outside"> {
  const seen = new Set<string>();
  for (const program of ["ptl_pod_in", "ptl_net_in"] as const) {
    const payload = tcp(program === "ptl_pod_in" ? 40000 : 40001, 80);
    const outcome = await lab.run(program, { src, dst: lab.at.lb, payload });
    assert.equal(outcome.verdict, "pass");
    seen.add(fieldText(dissectFrame(outcome.frame), "ip.dst"));
  }
  assert.equal(seen.size, 1, "both hooks see a sender alike");
  return seen.has(lab.at.backend) ? "inside" : "outside";
}

twins(
  network,
  "A sender is a local pod when its address is in the local network, to the bit (8.3)",
  async (lab) => {
    await split(lab);
    const cases: readonly (readonly [string, "inside" | "outside"])[] =
      lab.family === 4
        ? [
            ["10.244.4.0", "inside"],
            ["10.244.7.255", "inside"],
            ["10.244.3.255", "outside"],
            ["10.244.8.0", "outside"],
            ["10.245.4.1", "outside"],
            ["11.244.4.1", "outside"],
          ]
        : [
            ["fd00:244:0:0:8::1", "inside"],
            ["fd00:244::f:ffff:ffff:ffff", "inside"],
            ["fd00:244::7:ffff:ffff:ffff", "outside"],
            ["fd00:244:0:0:10::1", "outside"],
            ["fd00:244:0:1:8::1", "outside"],
            ["fd00:245::8:0:0:1", "outside"],
            ["fd01:244::8:0:0:1", "outside"],
          ];
    for (const [src, expected] of cases) assert.equal(await side(lab, src), expected, src);
  },
);

twins(
  byInterface,
  "A sender is a local pod when it comes by a local pods' interface, whatever its address (8.3)",
  async (lab) => {
    await split(lab);
    await lab.interface({ masquerade: true, localPods: true });
    assert.equal(await side(lab, lab.at.client), "inside");
    assert.equal(await side(lab, lab.at.stranger), "inside");
  },
);

twins(
  byInterface,
  "A sender that comes by another interface is no local pod, whatever its address (8.3)",
  async (lab) => {
    await split(lab);
    assert.equal(await side(lab, lab.at.client), "outside");
    assert.equal(await side(lab, lab.at.stranger), "outside");
  },
);

twins(
  byInterface,
  "A sender by an interface that nobody has described is no local pod (8.3)",
  async (lab) => {
    await split(lab);
    await lab.interface({ masquerade: true, localPods: true, ifindex: IFINDEX + 1 });
    await lab.forgetInterface();
    assert.equal(await side(lab, lab.at.client), "outside");
  },
);

twins(none, "Every sender is outside when no detector is configured (8.6)", async (lab) => {
  await split(lab);
  await lab.interface({ masquerade: true, localPods: true });
  assert.equal(await side(lab, lab.at.client), "outside");
  assert.equal(await side(lab, lab.at.stranger), "outside");
});

twins(fourOnly, "A detector of IPv4 detects nobody in IPv6 (8.3)", async (lab) => {
  await split(lab);
  assert.equal(await side(lab, lab.at.client), lab.family === 4 ? "inside" : "outside");
});

twins(sixOnly, "A detector of IPv6 detects nobody in IPv4 (8.3)", async (lab) => {
  await split(lab);
  assert.equal(await side(lab, lab.at.client), lab.family === 6 ? "inside" : "outside");
});

for (const [name, bench] of Object.entries({ network, byInterface, none })) {
  twins(bench, `A ClusterIP offers all senders the same with the detector "${name}" (4.10)`, async (lab) => {
    await web(lab);
    for (const src of [lab.at.client, lab.at.stranger]) {
      const outcome = await lab.run("ptl_pod_in", { src, dst: lab.at.vip, payload: tcp(40000, 80) });
      assert.equal(fieldText(dissectFrame(outcome.frame), "ip.dst"), lab.at.backend);
    }
  });
}

for (const [name, bench, clientIs] of [
  ["a network", network, "outside"],
  ["interfaces", byInterface, "inside"],
  ["nobody", none, "outside"],
] as const) {
  twins(
    bench,
    `A NodePort without endpoints answers a sender by the side it is on, with ${name} detected (7.1, 7.3, 8.6)`,
    async (lab) => {
      await lab.interface({ masquerade: true, localPods: true });
      await nodePort(lab, { endpoints: [], whenEmpty: "reject", whenEmptyOutside: "drop" });
      const packet = lab.packet("client", "nodeip", tcp(40000, 30080));
      await lab.expect(
        "ptl_net_in",
        packet,
        clientIs === "outside"
          ? { verdict: "drop", reasons: ["DROP_POLICY"] }
          : rejected(packet, "REJECT_NO_BACKEND"),
      );
    },
  );

  twins(
    bench,
    `A frontend that masquerades senders outside asks for it by the side they are on, with ${name} detected (8.2)`,
    async (lab) => {
      await lab.interface({ masquerade: true, localPods: true });
      await web(lab, { flags: FrontendFlag.FRONTEND_MASQUERADE_OUTSIDERS });
      await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
      const outcome = await lab.run("ptl_pod_out", lab.packet("client", "backend", tcp(40000, 8080)));
      assert.deepEqual(
        outcome.reasons,
        clientIs === "outside" ? { MASQUERADED: 1 } : { PASS_EGRESS_MISS: 1 },
      );
    },
  );
}
