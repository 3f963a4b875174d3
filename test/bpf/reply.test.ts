// SPDX-License-Identifier: Apache-2.0
/** Replies: from the backend, seen by the client as the Service's; and the pair of entries that both directions share. */
import assert from "node:assert/strict";
import { tcp, udp } from "../support/packet.js";
import { openBench, twins } from "./support/lab.js";
import { natText } from "./support/nat-entry.js";
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

twins(bench, "A SYN-ACK comes from the VIP and both entries note the reply", async (lab) => {
  await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await backendSends(lab, WEB_FLOW, "SA");
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply [reply]",
  );
});

twins(bench, "A datagram's answer comes from the VIP and both entries note the reply", async (lab) => {
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await backendAnswers(lab, DNS_FLOW);
  await lab.expectNat(
    "IN udp client:40000 > vip:53 => backend:5353, peer 40000, forward reply",
    "OUT udp backend:5353 > client:40000 => vip:53, peer 40000, forward reply [reply]",
  );
});

twins(bench, "A reply is translated at a node interface's egress too", async (lab) => {
  await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  await lab.expect("ptl_net_out", lab.packet("backend", "client", tcp(8080, 40000, "SA")), {
    packet: lab.packet("vip", "client", tcp(80, 40000, "SA")),
    reasons: ["TRANSLATED"],
  });
});

twins(bench, "The client's ACK after the reply establishes the connection in both entries", async (lab) => {
  await web(lab);
  await establish(lab);
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established [reply]",
  );
});

twins(bench, "FINs of both sides are noted in both entries, each as its sender's", async (lab) => {
  await web(lab);
  await establish(lab);
  await clientSends(lab, WEB_FLOW, "FA", false);
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established fin-forward",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established fin-forward [reply]",
  );
  await backendSends(lab, WEB_FLOW, "FA");
  await clientSends(lab, WEB_FLOW, "A", false);
  const lines = (await lab.natEntries()).map(natText);
  for (const line of lines) assert.match(line, /established fin-forward fin-reply/);
});

twins(bench, "An RST is noted in both entries as its sender's", async (lab) => {
  await web(lab);
  await establish(lab);
  await backendSends(lab, WEB_FLOW, "RA");
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established rst-reply",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established rst-reply [reply]",
  );
});

twins(bench, "An RST whose alleged sender goes on talking is taken back", async (lab) => {
  await web(lab);
  await establish(lab);
  await backendSends(lab, WEB_FLOW, "R");
  await backendSends(lab, WEB_FLOW, "PA");
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established [reply]",
  );
});

twins(bench, "A packet from a backend that belongs to no flow of ours leaves untouched", async (lab) => {
  await web(lab);
  await clientSends(lab, WEB_FLOW, "S");
  const others = [
    lab.packet("backend", "client", tcp(8080, 40001, "SA")),
    lab.packet("backend", "client", tcp(8081, 40000, "SA")),
    lab.packet("backend", "client2", tcp(8080, 40000, "SA")),
    lab.packet("backend2", "client", tcp(8080, 40000, "SA")),
    lab.packet("backend", "client", udp(8080, 40000)),
    lab.packet("client", "backend", tcp(40000, 8080, "A")),
  ];
  for (const packet of others) {
    await lab.expect("ptl_pod_out", packet, { reasons: ["PASS_EGRESS_MISS"] });
    await lab.expect("ptl_net_out", packet, { reasons: ["PASS_EGRESS_MISS"] });
  }
});

twins(bench, "A lost reply entry is put back by the client's next packet in a later tick", async (lab) => {
  await web(lab);
  await establish(lab);
  await lab.editNat((entry, line) => (line.startsWith("OUT") ? null : entry));
  await lab.age(2);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, "PA")), {
    packet: lab.packet("client", "backend", tcp(40000, 8080, "PA")),
    reasons: ["TRANSLATED", "PAIR_RESTORED"],
  });
  await backendSends(lab, WEB_FLOW, "A");
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established [reply]",
  );
});

twins(bench, "A lost forward entry is put back by the backend's next packet in a later tick", async (lab) => {
  await web(lab);
  await establish(lab);
  await lab.editNat((entry, line) => (line.startsWith("IN") ? null : entry));
  await lab.age(2);
  await lab.expect("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, "PA")), {
    packet: lab.packet("vip", "client", tcp(80, 40000, "PA")),
    reasons: ["TRANSLATED", "PAIR_RESTORED"],
  });
  await clientSends(lab, WEB_FLOW, "A", false);
});

twins(bench, "A packet refreshes last_seen of both entries", async (lab) => {
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.age(20);
  await clientAsks(lab, DNS_FLOW, false);
  for (const { value } of await lab.natEntries()) {
    assert.ok(
      Math.abs(value.lastSeen - lab.now()) <= 1,
      `last_seen is ${lab.now() - value.lastSeen} ticks ago`,
    );
  }
});

twins(bench, "An entry whose check does not fit its key is never used", async (lab) => {
  await web(lab);
  await establish(lab);
  await lab.corruptNat();
  const forward = await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, "A")));
  assert.equal(forward.verdict, "pass");
  assert.deepEqual(forward.reasons, { READ_RETRIED: 3, PASS_TCP_NO_ENTRY: 1 });
  const reply = await lab.run("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, "A")));
  assert.deepEqual(reply.reasons, { READ_RETRIED: 3, PASS_EGRESS_MISS: 1 });
});
