// SPDX-License-Identifier: Apache-2.0
/** --reset-removed-backends: a client whose backend has left the Service is told so by an RST (RFC 9293 3.10.7.1). */
import assert from "node:assert/strict";
import { FrontendFlag, Option } from "../../src/abi/enums.gen.js";
import { type Packet, type Tcp, tcp, text } from "../support/packet.js";
import { pieces } from "./support/fragments.js";
import { type Lab, openBench, type Service, type ServiceSpec, twins } from "./support/lab.js";
import {
  backendSends,
  balancer,
  clientAsks,
  clientSends,
  DNS_FLOW,
  dns,
  establish,
  further,
  nodePort,
  WEB_FLOW,
  web,
} from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";

const bench = await openBench({ options: Option.RESET_REMOVED });
const off = await openBench();
const ENDPOINT = { host: "backend", port: 8080 } as const;
const cell = (service: Service) => service.cells[0] as number;
const gone = (lab: Lab, service: Service) => lab.retire(cell(service), service.index, ENDPOINT);

/** An established connection whose backend has left the Service. */
async function orphan(lab: Lab, more: Partial<ServiceSpec> = {}): Promise<Service> {
  const service = await web(lab, more);
  await establish(lab);
  await gone(lab, service);
  return service;
}

const segment = (lab: Lab, flags: string, more: Partial<Tcp> = {}, rest: Partial<Packet> = {}) =>
  lab.packet("client", "vip", tcp(40000, 80, flags, more), rest);

/** The RST to a segment: it goes the way that this came, with the segment's own network header turned round. */
function resetTo(packet: Packet, fields: { seq?: number; ack?: number; flags?: "R" | "RA" } = {}): Packet {
  const { sport, dport, ack = 2000, checksum } = packet.payload as Tcp;
  const { flags = "R", seq = flags === "R" ? ack : 0 } = fields;
  return {
    ...packet,
    trailer: new Uint8Array(),
    src: packet.dst,
    dst: packet.src,
    eth: { src: "02:00:00:00:00:02", dst: "02:00:00:00:00:01" },
    payload: tcp(dport, sport, flags, { seq, ack: fields.ack ?? 0, window: 0, checksum: checksum ?? "full" }),
  };
}

async function resets(lab: Lab, packet: Packet, answer: Packet = resetTo(packet)): Promise<void> {
  await lab.expect("ptl_pod_in", packet, {
    verdict: "redirect",
    packet: answer,
    reasons: ["RESET_REMOVED"],
  });
}

for (const [what, frontend, at, port] of [
  ["ClusterIP", web, "vip", 80],
  ["load balancer's address", balancer, "lb", 80],
  ["NodePort", nodePort, "nodeip", 30080],
] as const) {
  for (const sender of ["client", "stranger"] as const) {
    twins(
      bench,
      `A segment of ${sender === "client" ? "a pod" : "a client outside"} through a ${what} is answered with an RST when its backend has gone`,
      async (lab) => {
        const service = await frontend(lab);
        const flow = { ...WEB_FLOW, client: sender, vip: at, port };
        await establish(lab, flow);
        await clientSends(lab, flow, "PA", false);
        await gone(lab, service);
        const packet = lab.packet(sender, at, tcp(40000, port, "PA", { ack: 0x89abcdef }));
        await lab.expect("ptl_net_in", packet, {
          verdict: "redirect",
          packet: resetTo(packet),
          reasons: ["RESET_REMOVED"],
        });
      },
    );
  }
}

twins(bench, "The RST takes its sequence number from what the segment acknowledges", async (lab) => {
  await orphan(lab);
  for (const ack of [1, 0x7fffffff, 0x80000000, 0xffffffff]) await resets(lab, segment(lab, "A", { ack }));
});

for (const [flags, length] of [
  ["P", 0],
  ["P", 5],
  ["F", 0],
  ["FP", 300],
  ["U", 1],
] as const) {
  twins(
    bench,
    `A segment that acknowledges nothing (${flags}, ${length} bytes) is itself acknowledged by the RST`,
    async (lab) => {
      await orphan(lab);
      const sequence = length + (flags.includes("F") ? 1 : 0);
      for (const seq of [1000, 0xffffffff]) {
        const packet = segment(lab, flags, { seq, data: text("x".repeat(length)) });
        await resets(lab, packet, resetTo(packet, { flags: "RA", ack: (seq + sequence) >>> 0 }));
      }
    },
  );
}

twins(bench, "TCP options are no data that the RST would acknowledge", async (lab) => {
  await orphan(lab);
  const options = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2);
  const packet = segment(lab, "P", { seq: 1000, options, data: text("data!") });
  await resets(lab, packet, resetTo(packet, { flags: "RA", ack: 1005 }));
});

twins(bench, "Padding of the frame is neither in the RST nor counted as data", async (lab) => {
  await orphan(lab);
  const trailer = { trailer: new Uint8Array(6).fill(0xee) };
  await resets(lab, segment(lab, "A", {}, trailer));
  const bare = segment(lab, "F", { seq: 1000 }, trailer);
  await resets(lab, bare, resetTo(bare, { flags: "RA", ack: 1001 }));
});

twins(bench, "Data and TCP options of a segment are not in the RST", async (lab) => {
  await orphan(lab);
  for (const length of [1, 2, 511, 1400]) {
    const options = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2);
    await resets(lab, segment(lab, "PA", { options, data: text("y".repeat(length)) }));
  }
});

twins(bench, "IPv4 options and IPv6 extension headers stay in front of the RST", async (lab) => {
  await orphan(lab);
  const more: Partial<Packet> =
    lab.family === 4
      ? { options: Uint8Array.of(148, 4, 0, 0, 1, 1, 1, 0) }
      : { extensions: [{ kind: "hop-by-hop" }, { kind: "dest-opts", data: new Uint8Array(20) }] };
  await resets(lab, segment(lab, "PA", { data: text("data") }, more));
});

twins(
  bench,
  "A segment whose sum the kernel is still to finish is answered with such an RST",
  async (lab) => {
    await orphan(lab);
    for (const data of ["", "odd"])
      await resets(lab, segment(lab, "PA", { checksum: "partial", data: text(data) }));
  },
);

twins(bench, "The RST has a whole way before it, however long the segment's was", async (lab) => {
  await orphan(lab);
  const packet = segment(lab, "PA", {}, { ttl: 3 });
  await resets(lab, packet, { ...resetTo(packet), ttl: 64 });
});

twins(bench, "A segment that ends the connection is answered too", async (lab) => {
  await orphan(lab);
  await resets(lab, segment(lab, "FA"));
});

twins(bench, "An RST is never answered with an RST", async (lab) => {
  await orphan(lab);
  for (const flags of ["R", "RA"]) {
    await lab.expect("ptl_pod_in", segment(lab, flags), {
      packet: lab.packet("client", "backend", tcp(40000, 8080, flags)),
      reasons: ["TRANSLATED"],
    });
  }
});

twins(bench, "Whoever did not hear the RST is told again", async (lab) => {
  await orphan(lab);
  for (let i = 0; i < 3; i++) await resets(lab, segment(lab, "PA", { seq: 1000 + i }));
});

twins(bench, "Whoever was silent for long and did not hear the RST is told again", async (lab) => {
  await orphan(lab);
  await lab.age(TEST_CONFIG.timeoutTcpClosed + 100);
  for (let i = 0; i < 2; i++) await resets(lab, segment(lab, "PA", { seq: 1000 + i }));
});

twins(bench, "The connection is over in the table: it is reset by the Service's side", async (lab) => {
  await orphan(lab);
  await resets(lab, segment(lab, "PA"));
  const [entry] = (await lab.natEntries()).filter(({ key }) => key.dport === 80);
  assert.ok(entry !== undefined);
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established rst-reply",
    "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established [reply]",
  );
});

twins(bench, "A new connection from the same port chooses a new backend", async (lab) => {
  const service = await orphan(lab);
  await resets(lab, segment(lab, "PA"));
  await lab.publish({ ...service, cells: [] }, [{ host: "backend2", port: 8080 }]);
  await lab.expect("ptl_pod_in", segment(lab, "S"), {
    packet: lab.packet("client", "backend2", tcp(40000, 8080)),
    reasons: ["FLOW_NEW"],
  });
});

twins(bench, "A cell that another backend has now is a removed backend", async (lab) => {
  const service = await web(lab);
  await establish(lab);
  await lab.setBackend(cell(service), service.index, { host: "backend2", port: 8080 }, 2);
  await resets(lab, segment(lab, "PA"));
});

twins(
  bench,
  "A backend that no longer serves but is in a slice keeps its connections (9.10)",
  async (lab) => {
    const service = await web(lab);
    await establish(lab);
    await lab.drain(cell(service), service.index, ENDPOINT);
    await clientSends(lab, WEB_FLOW, "PA", false);
    await backendSends(lab, WEB_FLOW, "PA");
  },
);

twins(bench, "Connections of backends that stay go on beside those that are reset", async (lab) => {
  await orphan(lab);
  await web(lab, { vip: "vip2", endpoints: [{ host: "backend2", port: 8080 }] });
  const other = { ...WEB_FLOW, vip: "vip2", backend: "backend2" } as const;
  await establish(lab, other);
  await resets(lab, segment(lab, "PA"));
  await clientSends(lab, other, "PA", false);
});

twins(bench, "What a removed backend still says reaches its client", async (lab) => {
  await orphan(lab);
  await backendSends(lab, WEB_FLOW, "PA");
  await backendSends(lab, WEB_FLOW, "FA");
});

twins(bench, "A direct connection to a backend's own address is never reset", async (lab) => {
  const service = await web(lab);
  const direct = (flags: string) => lab.packet("client", "backend", tcp(41000, 8080, flags));
  await lab.expect("ptl_pod_in", direct("S"), { reasons: ["PASS_DIRECT"] });
  await gone(lab, service);
  await lab.expect("ptl_pod_in", direct("PA"), { reasons: ["PASS_DIRECT"] });
});

twins(bench, "A fragment of a segment is translated and not answered", async (lab) => {
  await orphan(lab);
  const sent = pieces(lab, "client", "vip", tcp(40000, 80, "PA", { data: text("z".repeat(900)) }));
  const there = pieces(lab, "client", "backend", tcp(40000, 8080, "PA", { data: text("z".repeat(900)) }));
  for (const [i, piece] of sent.entries())
    await lab.expect("ptl_pod_in", piece, { packet: there[i] as Packet, reasons: ["TRANSLATED"] });
});

twins(bench, "A UDP flow is never reset: it chooses anew (9.1, 9.3)", async (lab) => {
  const service = await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.publish(service, [{ host: "backend2", port: 5353 }]);
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", further("udp", 40000, 53)));
  assert.deepEqual(outcome.reasons, { FLOW_NEW: 1, BACKEND_STALE: 1 });
});

twins(bench, "An SCTP association is never reset by an RST (9.1)", async (lab) => {
  const service = await web(lab, { protocol: "sctp" });
  const rest = { cell: cell(service), service: service.index };
  await lab.setNat(
    "IN sctp client:40000 > vip:80 => backend:8080, peer 40000, forward reply established",
    rest,
  );
  await lab.setNat(
    "OUT sctp backend:8080 > client:40000 => vip:80, peer 40000, forward reply established [reply]",
    rest,
  );
  await gone(lab, service);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", further("sctp", 40000, 80)), {
    packet: lab.packet("client", "backend", further("sctp", 40000, 8080)),
    reasons: ["TRANSLATED"],
  });
});

twins(
  bench,
  "Packets of a masqueraded connection are reset towards the client, and replies are not",
  async (lab) => {
    const service = await nodePort(lab, { flags: FrontendFlag.FRONTEND_MASQUERADE });
    const rest = { cell: cell(service), service: service.index };
    const seen = "forward reply established";
    await lab.setNat(`IN tcp stranger:40000 > nodeip:30080 => backend:8080, peer 40000, ${seen}`, rest);
    await lab.setNat(
      `OUT tcp backend:8080 > stranger:40000 => nodeip:30080, peer 40000, ${seen} [reply]`,
      rest,
    );
    await lab.setNat(
      `OUT tcp stranger:40000 > backend:8080 => node:20001, peer 8080, ${seen} [masquerade]`,
      rest,
    );
    await lab.setNat(
      `IN tcp backend:8080 > node:20001 => stranger:40000, peer 8080, ${seen} [reply masquerade]`,
      rest,
    );
    await gone(lab, service);
    const reply = lab.packet("backend", "node", tcp(8080, 20001, "PA"));
    await lab.expect("ptl_pod_in", reply, {
      packet: lab.packet("backend", "stranger", tcp(8080, 40000, "PA")),
      reasons: ["TRANSLATED"],
    });
    const packet = lab.packet("stranger", "nodeip", tcp(40000, 30080, "PA"));
    await lab.expect("ptl_net_in", packet, {
      verdict: "redirect",
      packet: resetTo(packet),
      reasons: ["RESET_REMOVED"],
    });
  },
);

twins(bench, "Bulk segments are answered with one RST", async (lab) => {
  await orphan(lab);
  const packet = segment(lab, "PA", { data: text("x".repeat(2000)) });
  const outcome = await lab.run("ptl_pod_in", packet, { gsoSize: 1000 });
  assert.deepEqual(
    { verdict: outcome.verdict, reasons: outcome.reasons },
    { verdict: "redirect", reasons: { RESET_REMOVED: 1 } },
  );
  lab.assertFrame(outcome, resetTo(packet));
});

twins(bench, "The RST is no Service's traffic, and is not marked", async (lab) => {
  const service = await orphan(lab);
  const before = await lab.serviceTraffic(service);
  await resets(lab, segment(lab, "PA"));
  assert.deepEqual(await lab.serviceTraffic(service), before);
});

twins(
  off,
  "Without the option a connection whose backend has gone is translated to its end (9.10)",
  async (lab) => {
    await orphan(lab);
    for (const flags of ["A", "PA", "FA"]) await clientSends(lab, WEB_FLOW, flags, false);
  },
);
