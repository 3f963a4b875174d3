// SPDX-License-Identifier: Apache-2.0
/** What is none of our business passes with every byte as it was, and is counted under the right reason. */
import { buildFrame, buildIp, bytes, icmpError, join, type Packet, tcp, udp } from "../support/packet.js";
import { type Expectation, type Lab, openBench, twins } from "./support/lab.js";
import { establish, web } from "./support/scenario.js";

const bench = await openBench();
const PROGRAMS = ["ptl_pod_in", "ptl_pod_out", "ptl_net_in", "ptl_net_out"] as const;

/** A live flow in the maps, so that whatever is misread would find something. */
async function ready(lab: Lab): Promise<void> {
  await web(lab);
  await establish(lab);
}

/** Passes all four programs untouched and starts nothing. */
async function passes(
  lab: Lab,
  packet: Packet | Uint8Array,
  reason: Expectation["reasons"][number],
): Promise<void> {
  const before = (await lab.natEntries()).length;
  for (const program of PROGRAMS) await lab.expect(program, packet, { reasons: [reason] });
  const now = (await lab.natEntries()).length;
  if (now !== before) throw new Error(`${now - before} nat entries came of a packet that is not ours`);
}

const toVip = (lab: Lab, more: Partial<Packet>, payload: Packet["payload"] = tcp(40000, 80, "S")) =>
  lab.packet("client", "vip", payload, more);

for (const [what, type] of [
  ["ARP", 0x0806],
  ["LLDP", 0x88cc],
  ["an unknown Ethernet type", 0x9999],
] as const) {
  twins(bench, `A frame of ${what} passes untouched`, async (lab) => {
    await ready(lab);
    await passes(lab, toVip(lab, { eth: { type } }), "PASS_NOT_IP");
  });
}

twins(bench, "A tagged frame on an interface without that VLAN passes untouched", async (lab) => {
  await ready(lab);
  await passes(lab, toVip(lab, { vlan: 7 }), "PASS_NOT_IP");
});

for (const [name, protocol] of [
  ["DCCP", 33],
  ["GRE", 47],
  ["IPIP", 4],
  ["ESP", 50],
  ["AH", 51],
  ["an unknown protocol", 253],
] as const) {
  twins(bench, `${name} to a VIP passes untouched`, async (lab) => {
    await ready(lab);
    const data = bytes(0x9c, 0x40, 0, 80, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0);
    await passes(lab, toVip(lab, {}, { kind: "raw", protocol, data }), "PASS_PROTOCOL");
  });
}

twins(bench, "A frame that is cut anywhere inside a header passes untouched", async (lab) => {
  await ready(lab);
  const header = lab.family === 4 ? 20 : 40;
  // The kernel's test-run takes no frame with less than the network header: those lengths are the fuzzer's subject.
  for (let cut = 14 + header; cut < 14 + header + 20; cut++) {
    await passes(lab, toVip(lab, { truncate: cut }, tcp(40000, 80, "PA")), "PASS_MALFORMED");
  }
  for (let cut = 14 + header; cut < 14 + header + 8; cut++) {
    await passes(lab, toVip(lab, { truncate: cut }, udp(40000, 80)), "PASS_MALFORMED");
  }
});

twins(bench, "A header of the wrong IP version passes untouched", async (lab) => {
  await ready(lab);
  for (const version of [0, 5, 15, lab.family === 4 ? 6 : 4]) {
    await passes(lab, toVip(lab, { lie: { version } }, tcp(40000, 80, "PA")), "PASS_MALFORMED");
  }
});

twins(bench, "An IPv4 header shorter than itself passes untouched", async (lab) => {
  if (lab.family === 6) return;
  await ready(lab);
  for (const headerWords of [0, 1, 4]) {
    await passes(lab, toVip(lab, { lie: { headerWords } }, tcp(40000, 80, "PA")), "PASS_MALFORMED");
  }
});

twins(
  bench,
  "A packet that ends before its transport header passes untouched: padding is no header",
  async (lab) => {
    await ready(lab);
    const header = lab.family === 4 ? 20 : 0;
    for (const length of [header, header + 1, header + 7, header + 12, header + 19]) {
      await passes(lab, toVip(lab, { lie: { length } }, tcp(40000, 80, "PA")), "PASS_MALFORMED");
    }
    for (const length of [header, header + 4, header + 7]) {
      await passes(lab, toVip(lab, { lie: { length } }, udp(40000, 80)), "PASS_MALFORMED");
    }
  },
);

twins(bench, "An IPv4 length below the header's own passes untouched", async (lab) => {
  if (lab.family === 6) return;
  await ready(lab);
  for (const length of [0, 1, 19]) {
    await passes(lab, toVip(lab, { lie: { length } }, tcp(40000, 80, "PA")), "PASS_MALFORMED");
  }
});

twins(bench, "A TCP header that claims fewer than its 20 bytes passes untouched", async (lab) => {
  await ready(lab);
  for (const dataOffset of [0, 1, 4]) {
    await passes(lab, toVip(lab, {}, tcp(40000, 80, "PA", { dataOffset })), "PASS_MALFORMED");
  }
});

twins(bench, "An extension header that reaches beyond the packet passes untouched", async (lab) => {
  if (lab.family === 4) return;
  await ready(lab);
  const packet = toVip(
    lab,
    { extensions: [{ kind: "dest-opts", data: new Uint8Array(6) }] },
    tcp(40000, 80, "PA"),
  );
  const frame = buildFrame(packet);
  frame[14 + 40 + 1] = 255;
  await passes(lab, frame, "PASS_MALFORMED");
});

twins(bench, "A chain of more extension headers than are followed passes untouched", async (lab) => {
  if (lab.family === 4) return;
  await ready(lab);
  const extensions = Array.from({ length: 12 }, () => ({ kind: "dest-opts" }) as const);
  await passes(lab, toVip(lab, { extensions }, tcp(40000, 80, "PA")), "PASS_MALFORMED");
});

twins(bench, "What lies behind AH, ESP or no-next-header passes untouched", async (lab) => {
  if (lab.family === 4) return;
  await ready(lab);
  for (const kind of ["ah", "esp", "none"] as const) {
    await passes(lab, toVip(lab, { extensions: [{ kind }] }, tcp(40000, 80, "PA")), "PASS_PROTOCOL");
    const behind = [{ kind: "hop-by-hop" }, { kind }] as const;
    await passes(lab, toVip(lab, { extensions: behind }, tcp(40000, 80, "PA")), "PASS_PROTOCOL");
  }
});

twins(
  bench,
  "A packet that is still on a source route passes untouched: its checksum covers another address",
  async (lab) => {
    if (lab.family === 4) return;
    await ready(lab);
    for (const type of [0, 2, 4]) {
      const extensions = [{ kind: "routing", type, segmentsLeft: 1, data: new Uint8Array(20) }] as const;
      await passes(lab, toVip(lab, { extensions }, tcp(40000, 80, "PA")), "PASS_PROTOCOL");
    }
  },
);

twins(bench, "An ICMP message that is cut inside its header passes untouched", async (lab) => {
  await ready(lab);
  const inner = lab.packet("client", "backend", tcp(40000, 8080, "PA"));
  const packet = lab.packet("router", "client", icmpError("too-big", inner));
  const header = lab.family === 4 ? 20 : 40;
  await passes(lab, { ...packet, truncate: 14 + header }, "PASS_MALFORMED");
  for (let cut = 14 + header + 1; cut < 14 + 2 * header + 8 + 8; cut += 3) {
    await passes(lab, { ...packet, truncate: cut }, "PASS_ICMP");
  }
});

twins(bench, "ICMPv6 in IPv4 and ICMP in IPv6 pass untouched", async (lab) => {
  await ready(lab);
  const inner = lab.packet("client", "backend", tcp(40000, 8080, "PA"));
  const message = join(bytes(lab.family === 4 ? 1 : 3, 3, 0, 0, 0, 0, 0, 0), buildIp(inner));
  const protocol = lab.family === 4 ? 58 : 1;
  await passes(
    lab,
    lab.packet("router", "client", { kind: "raw", protocol, data: message }),
    "PASS_PROTOCOL",
  );
});
