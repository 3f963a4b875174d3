// SPDX-License-Identifier: Apache-2.0
/** Backends that leave: UDP notices with the next packet, TCP goes on to the end (9.10), a reused cell is another backend. */
import assert from "node:assert/strict";
import { icmpError, tcp, udp } from "../support/packet.js";
import { openBench, twins } from "./support/lab.js";
import { rejected } from "./support/reject.js";
import {
  backendAnswers,
  backendSends,
  clientAsks,
  clientSends,
  DNS_FLOW,
  dns,
  establish,
  WEB_FLOW,
  web,
} from "./support/scenario.js";

const bench = await openBench();

twins(bench, "A UDP flow whose backend has gone is given another with its next packet", async (lab) => {
  const service = await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await backendAnswers(lab, DNS_FLOW);
  await lab.publish(service, [{ host: "backend2", port: 5353 }]);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53)), {
    packet: lab.packet("client", "backend2", udp(40000, 5353)),
    reasons: ["FLOW_NEW", "BACKEND_STALE"],
  });
  await lab.expectNat(
    "IN udp client:40000 > vip:53 => backend2:5353, peer 40000, forward",
    "OUT udp backend2:5353 > client:40000 => vip:53, peer 40000, forward [reply]",
  );
});

twins(bench, "A UDP flow is rejected as soon as its Service is scaled to zero", async (lab) => {
  const service = await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.publish(service, []);
  const packet = lab.packet("client", "vip", udp(40000, 53));
  await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND", "BACKEND_STALE"));
});

twins(bench, "A UDP flow works again as soon as its Service is scaled up", async (lab) => {
  const service = await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  const empty = await lab.publish(service, []);
  await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53)));
  await lab.publish(empty, [{ host: "backend2", port: 5353 }]);
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53)));
  assert.equal(outcome.verdict, "pass");
  assert.equal(outcome.reasons.FLOW_NEW, 1);
});

twins(
  bench,
  "A UDP flow whose cell another backend has now goes there by choice, not by accident",
  async (lab) => {
    const service = await dns(lab);
    const cell = service.cells[0] ?? 0;
    await clientAsks(lab, DNS_FLOW, true);
    await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 5353 }]);
    // The cell is live again, one generation later, for somebody else.
    await lab.setBackend(cell, service.index + 1, { host: "backend3", port: 1 }, 2);
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53)), {
      packet: lab.packet("client", "backend2", udp(40000, 5353)),
      reasons: ["FLOW_NEW", "BACKEND_STALE"],
    });
  },
);

twins(bench, "A UDP flow whose backend stays is not disturbed when others come and go", async (lab) => {
  const service = await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 5353 }]);
  await clientAsks(lab, DNS_FLOW, false);
});

twins(bench, "An established TCP connection goes on when its backend has left the Service", async (lab) => {
  const service = await web(lab);
  await establish(lab);
  await lab.publish(service, [{ host: "backend2", port: 8080 }]);
  await clientSends(lab, WEB_FLOW, "PA", false);
  await backendSends(lab, WEB_FLOW, "PA");
  await clientSends(lab, WEB_FLOW, "FA", false);
});

twins(bench, "An established TCP connection goes on when its Service has no backend left", async (lab) => {
  const service = await web(lab);
  await establish(lab);
  await lab.publish(service, []);
  await clientSends(lab, WEB_FLOW, "PA", false);
  await backendSends(lab, WEB_FLOW, "PA");
});

twins(bench, "A retransmitted SYN whose backend has gone is given another", async (lab) => {
  const service = await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await lab.publish(service, [{ host: "backend2", port: 8080 }]);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)), {
    packet: lab.packet("client", "backend2", tcp(40000, 8080)),
    reasons: ["FLOW_NEW", "BACKEND_STALE"],
  });
});

twins(bench, "A retransmitted SYN is rejected once its Service has no backend", async (lab) => {
  const service = await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await lab.publish(service, []);
  const syn = lab.packet("client", "vip", tcp(40000, 80));
  await lab.expect("ptl_pod_in", syn, rejected(syn, "REJECT_NO_BACKEND", "BACKEND_STALE"));
});

twins(
  bench,
  "Replies of a UDP backend that has gone still come from the VIP while the flow lives",
  async (lab) => {
    const service = await dns(lab);
    await clientAsks(lab, DNS_FLOW, true);
    await lab.publish(service, [{ host: "backend2", port: 5353 }]);
    await backendAnswers(lab, DNS_FLOW);
  },
);

twins(bench, "An ICMP error about a UDP flow whose backend has gone is still translated", async (lab) => {
  const service = await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.publish(service, []);
  const translated = lab.packet("client", "backend", udp(40000, 5353));
  const original = lab.packet("client", "vip", udp(40000, 53));
  await lab.expect(
    "ptl_pod_out",
    lab.packet("backend", "client", icmpError("port-unreachable", translated)),
    {
      packet: lab.packet("vip", "client", icmpError("port-unreachable", original)),
      reasons: ["ICMP_TRANSLATED"],
    },
  );
});
