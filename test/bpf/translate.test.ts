// SPDX-License-Identifier: Apache-2.0
/** ClusterIP from pods: the first packet of a flow and those that follow it. */
import assert from "node:assert/strict";
import { tcp, text, udp } from "../support/packet.js";
import { assertChecksums } from "../support/packet-diff.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { openBench, twins } from "./support/lab.js";
import { clientAsks, clientSends, DNS_FLOW, dns, establish, WEB_FLOW, web } from "./support/scenario.js";

const bench = await openBench();

twins(bench, "A SYN for a VIP goes to its backend and both directions are remembered", async (lab) => {
  const service = await web(lab);
  const syn = tcp(40000, 80, "S", { options: Uint8Array.of(2, 4, 5, 180) });
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", syn), {
    packet: lab.packet("client", "backend", { ...syn, dport: 8080 }),
    reasons: ["FLOW_NEW"],
  });
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward [reply]",
  );
  for (const { value } of await lab.natEntries()) {
    assert.equal(value.backend, service.cells[0]);
    assert.equal(value.generation, 1);
    assert.equal(value.service, service.index);
    assert.ok(Math.abs(value.lastSeen - lab.now()) <= 1, "last_seen is the time of the packet");
  }
});

twins(bench, "A datagram for a VIP goes to its backend and both directions are remembered", async (lab) => {
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.expectNat(
    "IN udp client:40000 > vip:53 => backend:5353, peer 40000, forward",
    "OUT udp backend:5353 > client:40000 => vip:53, peer 40000, forward [reply]",
  );
});

twins(bench, "A backend that listens on the Service's own port keeps the port", async (lab) => {
  await web(lab, { endpoints: [{ host: "backend", port: 80 }] });
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)), {
    packet: lab.packet("client", "backend", tcp(40000, 80)),
    reasons: ["FLOW_NEW"],
  });
});

twins(bench, "TCP and UDP on one VIP and port are two Services", async (lab) => {
  await web(lab, { port: 53, endpoints: [{ host: "backend2", port: 5300 }] });
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await clientSends(lab, { ...WEB_FLOW, port: 53, backend: "backend2", backendPort: 5300 }, "S");
});

twins(bench, "Data of odd length keeps a right checksum", async (lab) => {
  await web(lab);
  await establish(lab);
  const data = { data: text(`${"x".repeat(1398)}!`) };
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, "PA", data)), {
    packet: lab.packet("client", "backend", tcp(40000, 8080, "PA", data)),
    reasons: ["TRANSLATED"],
  });
});

twins(bench, "A flow keeps the backend that its first packet was given", async (lab) => {
  const endpoints = (["backend", "backend2", "backend3", "backend4"] as const).map((host) => ({
    host,
    port: 5353,
  }));
  await dns(lab, { endpoints });
  for (let port = 40000; port < 40016; port++) {
    const packet = lab.packet("client", "vip", udp(port, 53));
    const first = await lab.run("ptl_pod_in", packet);
    for (let i = 0; i < 4; i++) {
      const again = await lab.run("ptl_pod_in", packet);
      assert.deepEqual(again.frame, first.frame, `port ${port}: packet ${i + 2} went elsewhere`);
      assert.deepEqual(again.reasons, { TRANSLATED: 1 });
    }
  }
});

twins(bench, "New flows are spread over all backends and no other address", async (lab) => {
  const hosts = ["backend", "backend2", "backend3", "backend4"] as const;
  await web(lab, { endpoints: hosts.map((host) => ({ host, port: 8080 })) });
  const seen = new Map<string, number>();
  for (let port = 1024; port < 1024 + 200; port++) {
    const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(port, 80)));
    assertChecksums(outcome.frame, `port ${port}`);
    const dst = fieldText(dissectFrame(outcome.frame), "ip.dst");
    seen.set(dst, (seen.get(dst) ?? 0) + 1);
  }
  assert.deepEqual([...seen.keys()].sort(), hosts.map((host) => lab.at[host]).sort());
  // 200 flows on 4 backends: fewer than 20 on one has a probability below 1e-8.
  for (const [host, flows] of seen) assert.ok(flows >= 20, `${host} got ${flows} of 200 flows`);
});

twins(bench, "A packet to an address that is no Service passes untouched", async (lab) => {
  await web(lab);
  await lab.expect("ptl_pod_in", lab.packet("client", "stranger", tcp(40000, 80)), {
    reasons: ["PASS_NO_SERVICE"],
  });
  await lab.expect("ptl_pod_in", lab.packet("client", "stranger", udp(40000, 53)), {
    reasons: ["PASS_NO_SERVICE"],
  });
  await lab.expectNat();
});

twins(bench, "TCP that opens nothing and has no entry passes untouched and selects nothing", async (lab) => {
  await web(lab);
  for (const flags of ["A", "PA", "FA", "R", "RA", "SA", "SF", "SR", "", "FPU"]) {
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, flags)), {
      reasons: ["PASS_TCP_NO_ENTRY"],
    });
  }
  await lab.expectNat();
});

twins(bench, "A packet of a flow is translated also at a node interface", async (lab) => {
  await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await lab.expect("ptl_net_in", lab.packet("client", "vip", tcp(40000, 80, "A")), {
    packet: lab.packet("client", "backend", tcp(40000, 8080, "A")),
    reasons: ["TRANSLATED"],
  });
});

twins(bench, "Every field that is not an address, a port or a checksum survives translation", async (lab) => {
  await web(lab);
  const segment = tcp(40000, 80, "S", {
    seq: 0xfffffffe,
    window: 1,
    options: Uint8Array.of(2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0),
    data: text("fast open"),
  });
  const more = {
    tos: 0xb9,
    ttl: 3,
    id: 0xffff,
    dontFragment: false,
    flowLabel: 0xfffff,
    trailer: new Uint8Array(3),
  };
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", segment, more), {
    packet: lab.packet("client", "backend", { ...segment, dport: 8080 }, more),
    reasons: ["FLOW_NEW"],
  });
});

twins(
  bench,
  "A deleted frontend takes no new flow while its VIP's class is still there: REJECT",
  async (lab) => {
    const service = await web(lab);
    await lab.deleteFrontend(service.spec);
    const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
    assert.equal(outcome.verdict, "redirect");
    assert.deepEqual(outcome.reasons, { REJECT_NO_PORT: 1 });
    assert.equal(fieldText(dissectFrame(outcome.frame), "ip.dst"), lab.at.client);
  },
);

twins(
  bench,
  "A chosen cell that is not live is read again, and after three reads the packet is dropped",
  async (lab) => {
    const service = await web(lab);
    await lab.retire(service.cells[0] ?? 0, service.index, { host: "backend", port: 8080 });
    const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
    assert.equal(outcome.verdict, "drop");
    assert.deepEqual(outcome.reasons, { DROP_BACKEND_CELL: 1, READ_RETRIED: 3 });
    await lab.expectNat();
  },
);

twins(bench, "A cell that belongs to another Service is never used", async (lab) => {
  const service = await web(lab);
  await lab.setBackend(service.cells[0] ?? 0, service.index + 1, { host: "backend2", port: 8080 });
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)));
  assert.equal(outcome.verdict, "drop");
  await lab.expectNat();
});

twins(bench, "Translated sums are right across the whole range of source ports", async (lab) => {
  await dns(lab);
  for (let port = 1; port <= 0xffff; port += 257) {
    const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(port, 53)));
    assertChecksums(outcome.frame, `port ${port}`);
    const dissection = dissectFrame(outcome.frame);
    assert.equal(fieldText(dissection, "ip.dst"), lab.at.backend);
    assert.equal(fieldText(dissection, "udp.dport"), "5353");
    assert.equal(fieldText(dissection, "udp.sport"), String(port));
  }
});

twins(bench, "Senders inside and outside the cluster each get their own choice", async (lab) => {
  const service = await web(lab);
  await lab.publish(service, [{ host: "backend", port: 8080 }], [{ host: "backend2", port: 8080 }]);
  await clientSends(lab, WEB_FLOW, "S");
  await lab.expect("ptl_net_in", lab.packet("stranger", "vip", tcp(40000, 80)), {
    packet: lab.packet("stranger", "backend2", tcp(40000, 8080)),
    reasons: ["FLOW_NEW"],
  });
});

twins(
  bench,
  "Senders outside may have no backend where those inside have one, and the reverse",
  async (lab) => {
    const service = await web(lab);
    const other = await web(lab, { vip: "vip2" });
    await lab.publish(service, [{ host: "backend", port: 8080 }], []);
    await lab.publish(other, [], [{ host: "backend", port: 8080 }]);
    const verdict = async (sender: "client" | "stranger", vip: "vip" | "vip2") =>
      (await lab.run("ptl_net_in", lab.packet(sender, vip, tcp(41000, 80)))).verdict;
    assert.equal(await verdict("stranger", "vip"), "redirect");
    assert.equal(await verdict("client", "vip"), "pass");
    assert.equal(await verdict("client", "vip2"), "redirect");
    assert.equal(await verdict("stranger", "vip2"), "pass");
  },
);

twins(bench, "A bulk of segments is translated as one packet", async (lab) => {
  await web(lab);
  await establish(lab);
  const data = { data: text("x".repeat(2000)) };
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, "PA", data)), {
    gsoSize: 1000,
  });
  assert.deepEqual(outcome.reasons, { TRANSLATED: 1 });
  lab.assertFrame(outcome, lab.packet("client", "backend", tcp(40000, 8080, "PA", data)));
});
