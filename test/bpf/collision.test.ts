// SPDX-License-Identifier: Apache-2.0
/** Two flows whose replies would be one tuple: the second gets a source port of its own. No live flow loses anything. */
import assert from "node:assert/strict";
import { tcp, udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { type Lab, openBench, type ProtocolName, twins } from "./support/lab.js";
import { answer, backendSends, clientSends, establish, opening, WEB_FLOW, web } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";

const bench = await openBench();
const noPorts = await openBench({ snatPortCount: [0, 0] });
const twoPorts = await openBench({ snatPortBase: [20000, 0], snatPortCount: [2, 0] });

const OTHER_FLOW = { ...WEB_FLOW, vip: "vip2", port: 8000 } as const;

/** Two Services on one backend. */
async function twoServices(lab: Lab, protocol: ProtocolName = "tcp"): Promise<void> {
  await web(lab, { protocol });
  await web(lab, { protocol, vip: "vip2", port: 8000 });
}

/** The source port of a packet that leaves. */
const sportOf = (frame: Uint8Array, protocol = "tcp") =>
  Number(fieldText(dissectFrame(frame), `${protocol}.sport`));

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  twins(
    bench,
    `The second ${protocol} flow to one backend from one client port gets a port of its own`,
    async (lab) => {
      await twoServices(lab, protocol);
      await lab.run("ptl_pod_in", lab.packet("client", "vip", opening(protocol, 40000, 80)));
      const outcome = await lab.run(
        "ptl_pod_in",
        lab.packet("client", "vip2", opening(protocol, 40000, 8000)),
      );
      assert.deepEqual(outcome.reasons, { FLOW_NEW: 1, SOURCE_PORT_SHIFTED: 1 });
      const own = sportOf(outcome.frame, protocol);
      assert.notEqual(own, 40000);
      // Everything but the port is as always.
      await lab.expect("ptl_pod_in", lab.packet("client", "vip2", opening(protocol, 40000, 8000)), {
        packet: lab.packet("client", "backend", opening(protocol, own, 8080)),
        reasons: ["TRANSLATED"],
      });
      await lab.expectNat(
        `IN ${protocol} client:40000 > vip:80 => backend:8080, peer 40000, forward`,
        `OUT ${protocol} backend:8080 > client:40000 => vip:80, peer 40000, forward [reply]`,
        `IN ${protocol} client:40000 > vip2:8000 => backend:8080, peer ${own}, forward`,
        `OUT ${protocol} backend:8080 > client:${own} => vip2:8000, peer 40000, forward [reply]`,
      );
      // Each reply comes from the address that was asked, to the port that asked.
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, own)), {
        packet: lab.packet("vip2", "client", answer(protocol, 8000, 40000)),
        reasons: ["TRANSLATED"],
      });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, 40000)), {
        packet: lab.packet("vip", "client", answer(protocol, 80, 40000)),
        reasons: ["TRANSLATED"],
      });
    },
  );
}

twins(bench, "A flow whose entries are dead is no reason for another port", async (lab) => {
  await twoServices(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await lab.age(TEST_CONFIG.timeoutTcpOpening);
  await clientSends(lab, OTHER_FLOW, "S");
  await backendSends(lab, OTHER_FLOW, "SA");
});

twins(bench, "A connection closed a while ago is no reason for another port", async (lab) => {
  await twoServices(lab);
  await establish(lab);
  await clientSends(lab, WEB_FLOW, "FA", false);
  await backendSends(lab, WEB_FLOW, "FA");
  await lab.age(TEST_CONFIG.timeoutTcpClosed);
  await clientSends(lab, OTHER_FLOW, "S");
  await backendSends(lab, OTHER_FLOW, "SA");
});

twins(
  bench,
  "A dead flow that comes back leaves alone the live flow that took over its replies",
  async (lab) => {
    await twoServices(lab);
    await clientSends(lab, WEB_FLOW, "S");
    await lab.age(TEST_CONFIG.timeoutTcpOpening);
    await establish(lab, OTHER_FLOW);
    // vip again, from the same port: the replies of 40000 belong to the live flow to vip2 now.
    const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
    assert.deepEqual(outcome.reasons, { FLOW_NEW: 1, SOURCE_PORT_SHIFTED: 1 });
    const own = sportOf(outcome.frame);
    assert.notEqual(own, 40000);
    await backendSends(lab, OTHER_FLOW, "PA");
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", tcp(8080, own, "SA")), {
      packet: lab.packet("vip", "client", tcp(80, 40000, "SA")),
      reasons: ["TRANSLATED"],
    });
  },
);

twins(bench, "A flow that lost its reply entry to another never writes its own state there", async (lab) => {
  await twoServices(lab, "udp");
  await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 80)));
  // The reply entry is evicted, another flow's takes its place, and only then the first flow goes on.
  await lab.editNat((entry, line) => (line.startsWith("OUT") ? null : entry));
  await lab.run("ptl_pod_in", lab.packet("client", "vip2", udp(40000, 8000)));
  const stolen = `OUT udp backend:8080 > client:40000 => vip2:8000, peer 40000, forward [reply]`;
  await lab.editNat((entry, line) =>
    line === stolen
      ? { key: entry.key, value: { ...entry.value, lastSeen: entry.value.lastSeen - 10 } }
      : entry,
  );
  const before = await lab.natEntry(stolen);
  await lab.editNat((entry, line) =>
    line.includes("> vip:80")
      ? { key: entry.key, value: { ...entry.value, lastSeen: entry.value.lastSeen - 5 } }
      : entry,
  );
  await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 80)));
  assert.deepEqual(await lab.natEntry(stolen), before);
});

twins(bench, "A new client port is translated as it is, however many flows there are", async (lab) => {
  await twoServices(lab);
  for (let sport = 41000; sport < 41020; sport++) {
    await clientSends(lab, { ...WEB_FLOW, clientPort: sport }, "S");
  }
});

twins(bench, "Two clients may use the same port to one backend", async (lab) => {
  await twoServices(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await clientSends(lab, { ...OTHER_FLOW, client: "client2" }, "S");
});

twins(noPorts, "Without ports to shift to, the second flow is dropped and the first goes on", async (lab) => {
  await twoServices(lab);
  await establish(lab);
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip2", tcp(40000, 8000)));
  assert.equal(outcome.verdict, "drop");
  assert.deepEqual(outcome.reasons, { DROP_NO_SOURCE_PORT: 1 });
  await backendSends(lab, WEB_FLOW, "PA");
  await clientSends(lab, WEB_FLOW, "A", false);
});

twins(
  twoPorts,
  "Ports to shift to run out: the flow too many is dropped and no other is disturbed",
  async (lab) => {
    const vips = ["vip", "vip2", "backend3", "backend4"] as const;
    for (const vip of vips) await web(lab, { vip });
    const ports: number[] = [];
    for (const vip of vips.slice(0, 3)) {
      const outcome = await lab.run("ptl_pod_in", lab.packet("client", vip, tcp(40000, 80)));
      assert.equal(outcome.verdict, "pass");
      ports.push(sportOf(outcome.frame));
    }
    assert.deepEqual([...ports].sort(), [20000, 20001, 40000]);
    const last = await lab.run("ptl_pod_in", lab.packet("client", "backend4", tcp(40000, 80)));
    assert.equal(last.verdict, "drop");
    assert.deepEqual(last.reasons, { DROP_NO_SOURCE_PORT: 1 });
    for (const [i, vip] of vips.slice(0, 3).entries()) {
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", tcp(8080, ports[i] ?? 0, "SA")), {
        packet: lab.packet(vip, "client", tcp(80, 40000, "SA")),
        reasons: ["TRANSLATED"],
      });
    }
  },
);
