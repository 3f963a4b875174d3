// SPDX-License-Identifier: Apache-2.0
/** States of backends: one that no longer serves but is still in a slice (DRAINING), and one that has left (FREE). */
import assert from "node:assert/strict";
import { tcp, udp } from "../support/packet.js";
import { type Lab, openBench, type Service, twins } from "./support/lab.js";
import { rejected } from "./support/reject.js";
import {
  backendAnswers,
  backendSends,
  clientAsks,
  clientSends,
  DNS_FLOW,
  dns,
  establish,
  opening,
  WEB_FLOW,
  web,
} from "./support/scenario.js";

const bench = await openBench();
const cell = (service: Service) => service.cells[0] as number;
const drainWeb = (lab: Lab, service: Service) =>
  lab.drain(cell(service), service.index, { host: "backend", port: 8080 });
const drainDns = (lab: Lab, service: Service) =>
  lab.drain(cell(service), service.index, { host: "backend", port: 5353 });

twins(bench, "A UDP flow leaves a backend that no longer serves with its next packet (9.3)", async (lab) => {
  const service = await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await backendAnswers(lab, DNS_FLOW);
  await drainDns(lab, service);
  await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 5353 }]);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53)), {
    packet: lab.packet("client", "backend2", udp(40000, 5353)),
    reasons: ["FLOW_NEW", "BACKEND_STALE"],
  });
});

twins(
  bench,
  "A UDP flow to a backend that no longer serves is rejected when there is no other (9.5)",
  async (lab) => {
    const service = await dns(lab);
    await clientAsks(lab, DNS_FLOW, true);
    await drainDns(lab, service);
    await lab.publish({ ...service, cells: [] }, []);
    const packet = lab.packet("client", "vip", udp(40000, 53));
    await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND", "BACKEND_STALE"));
  },
);

twins(
  bench,
  "A UDP flow stays with a backend that serves again before its next packet (9.6)",
  async (lab) => {
    const service = await dns(lab);
    await clientAsks(lab, DNS_FLOW, true);
    await drainDns(lab, service);
    await lab.setBackend(cell(service), service.index, { host: "backend", port: 5353 });
    await clientAsks(lab, DNS_FLOW, false);
  },
);

twins(
  bench,
  "An established TCP connection stays with a backend that no longer serves (9.1, 9.10)",
  async (lab) => {
    const service = await web(lab);
    await establish(lab);
    await drainWeb(lab, service);
    await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 8080 }]);
    await clientSends(lab, WEB_FLOW, "PA", false);
    await backendSends(lab, WEB_FLOW, "PA");
    await clientSends(lab, WEB_FLOW, "FA", false);
  },
);

twins(bench, "A SYN that is sent again leaves a backend that no longer serves", async (lab) => {
  const service = await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await drainWeb(lab, service);
  await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 8080 }]);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)), {
    packet: lab.packet("client", "backend2", tcp(40000, 8080)),
    reasons: ["FLOW_NEW", "BACKEND_STALE"],
  });
});

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  for (const state of ["draining", "free"] as const) {
    twins(
      bench,
      `A ${state} backend gets no new ${protocol} flow, even while a choice still names it (4.5)`,
      async (lab) => {
        const endpoint = { host: "backend", port: 8080 } as const;
        const service = await web(lab, { protocol, endpoints: [endpoint] });
        if (state === "draining") await lab.drain(cell(service), service.index, endpoint);
        else await lab.retire(cell(service), service.index, endpoint);
        const outcome = await lab.run(
          "ptl_pod_in",
          lab.packet("client", "vip", opening(protocol, 40000, 80)),
        );
        assert.equal(outcome.verdict, "drop");
        assert.deepEqual(outcome.reasons, { DROP_BACKEND_CELL: 1, READ_RETRIED: 3 });
        await lab.expectNat();
      },
    );
  }
}

twins(bench, "A draining backend among others is passed over by reading again", async (lab) => {
  const hosts = ["backend", "backend2", "backend3", "backend4"] as const;
  const service = await web(lab, { endpoints: hosts.map((host) => ({ host, port: 8080 })) });
  await drainWeb(lab, service);
  let retried = 0;
  for (let sport = 41000; sport < 41060; sport++) {
    const { reasons, verdict } = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(sport, 80)));
    retried += reasons.READ_RETRIED ?? 0;
    // three times the same draining one: 1 flow in 64
    if (verdict === "drop") assert.deepEqual(reasons, { DROP_BACKEND_CELL: 1, READ_RETRIED: 3 });
  }
  assert.ok(retried > 0, "the draining cell was never met");
  assert.deepEqual((await lab.backendTraffic(cell(service))).flows, 0n);
});
