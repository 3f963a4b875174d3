// SPDX-License-Identifier: Apache-2.0
/** What is counted for a Service and for a backend: flows, packets and bytes of translated traffic, both directions. */
import assert from "node:assert/strict";
import { buildFrame, icmpError, tcp, udp } from "../support/packet.js";
import { type Lab, openBench, type Service, twins } from "./support/lab.js";
import { clientSends, dns, establish, WEB_FLOW, web } from "./support/scenario.js";

const bench = await openBench();

async function expectTraffic(
  lab: Lab,
  service: Service,
  expected: { flows: number; packets: number; bytes: number },
  of: readonly ("service" | "backend")[] = ["service", "backend"],
): Promise<void> {
  const wanted = {
    flows: BigInt(expected.flows),
    packets: BigInt(expected.packets),
    bytes: BigInt(expected.bytes),
  };
  if (of.includes("service"))
    assert.deepEqual(await lab.serviceTraffic(service), wanted, "the Service's counters");
  if (of.includes("backend")) {
    assert.deepEqual(await lab.backendTraffic(service.cells[0] ?? 0), wanted, "the backend's counters");
  }
}

const sizeOf = (lab: Lab) => buildFrame(lab.packet("client", "vip", tcp(1, 2))).length;

twins(
  bench,
  "A new flow counts one flow, one packet and its bytes, for the Service and for the backend",
  async (lab) => {
    const service = await web(lab);
    await clientSends(lab, WEB_FLOW, "S");
    await expectTraffic(lab, service, { flows: 1, packets: 1, bytes: sizeOf(lab) });
  },
);

twins(bench, "Packets of both directions of a flow are counted, and no further flow", async (lab) => {
  const service = await web(lab);
  await establish(lab);
  await expectTraffic(lab, service, { flows: 1, packets: 3, bytes: 3 * sizeOf(lab) });
});

twins(bench, "A retransmitted SYN is a packet and no flow", async (lab) => {
  const service = await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await clientSends(lab, WEB_FLOW, "S", false);
  await expectTraffic(lab, service, { flows: 1, packets: 2, bytes: 2 * sizeOf(lab) });
});

twins(bench, "A SYN that opens a connection anew is another flow", async (lab) => {
  const service = await web(lab);
  await establish(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await expectTraffic(lab, service, { flows: 2, packets: 4, bytes: 4 * sizeOf(lab) });
});

twins(bench, "A hairpin flow is counted once a packet, though two pairs translate it", async (lab) => {
  const service = await dns(lab);
  const frame = lab.packet("backend", "vip", udp(40000, 53));
  const first = await lab.run("ptl_pod_in", frame);
  await lab.run("ptl_pod_out", first.frame);
  await expectTraffic(lab, service, { flows: 1, packets: 1, bytes: buildFrame(frame).length });
  const second = await lab.run("ptl_pod_in", frame);
  await lab.run("ptl_pod_out", second.frame);
  await expectTraffic(lab, service, { flows: 1, packets: 2, bytes: 2 * buildFrame(frame).length });
});

twins(bench, "Direct flows, rejected packets and ICMP errors are no Service's traffic", async (lab) => {
  const service = await web(lab);
  await lab.run("ptl_pod_in", lab.packet("client", "backend", tcp(41000, 8080)));
  await lab.run("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 41000, "SA")));
  await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(41000, 81)));
  const inner = lab.packet("client", "backend", tcp(41000, 8080));
  await lab.run("ptl_pod_out", lab.packet("router", "client", icmpError("too-big", inner)));
  await expectTraffic(lab, service, { flows: 0, packets: 0, bytes: 0 });
});

twins(bench, "Traffic of one Service is not counted for another on the same backend", async (lab) => {
  const service = await web(lab);
  const other = await web(lab, { vip: "vip2" });
  await clientSends(lab, WEB_FLOW, "S");
  await expectTraffic(lab, other, { flows: 0, packets: 0, bytes: 0 });
  await expectTraffic(lab, service, { flows: 1, packets: 1, bytes: sizeOf(lab) });
});

twins(bench, "Traffic of a connection whose backend has gone is still its Service's", async (lab) => {
  const service = await web(lab);
  await establish(lab);
  await lab.publish(service, []);
  await clientSends(lab, WEB_FLOW, "PA", false);
  await expectTraffic(lab, service, { flows: 1, packets: 4, bytes: 4 * sizeOf(lab) }, ["service"]);
});
