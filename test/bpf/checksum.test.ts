// SPDX-License-Identifier: Apache-2.0
/**
 * Checksums at the edges of one's complement arithmetic, which has two zeroes, and UDP's "no checksum". What the
 * kernel keeps beside a packet is in checksum-partial.test.ts and checksum-complete.test.ts.
 */
import assert from "node:assert/strict";
import { buildFrame, bytes, type Checksum, icmpError, type Packet, tcp, udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { type Lab, openBench, twins } from "./support/lab.js";
import { rejected } from "./support/reject.js";
import { dns, web } from "./support/scenario.js";

const bench = await openBench();

/** A flow client:40000 to vip:53 on backend:5353 with the client's port kept or shifted. */
async function flow(lab: Lab, protocol: "tcp" | "udp", peer: number): Promise<void> {
  const service = await (protocol === "tcp" ? web(lab, { port: 53 }) : dns(lab));
  const rest = { cell: service.cells[0] ?? 0, service: service.index };
  const seen = protocol === "tcp" ? "forward reply established" : "forward reply";
  await lab.setNat(`IN ${protocol} client:40000 > vip:53 => backend:5353, peer ${peer}, ${seen}`, rest);
  await lab.setNat(
    `OUT ${protocol} backend:5353 > client:${peer} => vip:53, peer 40000, ${seen} [reply]`,
    rest,
  );
}

/** One word of data: it can bring a sum to any value. */
const word = (value: number) => ({ data: bytes(value >> 8, value & 0xff) });

function checksumOf(frame: Packet, field: string): number {
  return Number.parseInt(fieldText(dissectFrame(buildFrame(frame)), field), 16);
}

/**
 * The data word with which the built packet's sum comes out as `wanted`. With data of zero the field is ~s; a word w
 * makes it ~(s + w).
 */
function dataFor(build: (data: number) => Packet, field: string, wanted: number): number {
  const rest = ~checksumOf(build(0), field) & 0xffff;
  const sum = (~wanted & 0xffff) - rest;
  return sum >= 0 ? sum : sum + 0xffff;
}

const INTERESTING = [0x0000, 0x0001, 0x7fff, 0x8000, 0xfffe] as const;

for (const peer of [40000, 20011]) {
  const shifted = peer === 40000 ? "" : " with a port of its own";

  twins(
    bench,
    `A UDP datagram without a checksum${shifted} stays without one, there and back`,
    async (lab) => {
      await flow(lab, "udp", peer);
      const none = { checksum: "zero" } satisfies { checksum: Checksum };
      await lab.expect("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53, "x", none)), {
        packet: lab.packet("client", "backend", udp(peer, 5353, "x", none)),
        reasons: ["TRANSLATED"],
      });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", udp(5353, peer, "x", none)), {
        packet: lab.packet("vip", "client", udp(53, 40000, "x", none)),
        reasons: ["TRANSLATED"],
      });
    },
  );

  for (const protocol of ["tcp", "udp"] as const) {
    const payload = (sport: number, dport: number, data: number) =>
      protocol === "tcp" ? tcp(sport, dport, "PA", word(data)) : udp(sport, dport, "", word(data));

    twins(
      bench,
      `A ${protocol} checksum${shifted} is right where sums come to one of their two zeroes`,
      async (lab) => {
        await flow(lab, protocol, peer);
        const before = (data: number) => lab.packet("client", "vip", payload(40000, 53, data));
        const after = (data: number) => lab.packet("client", "backend", payload(peer, 5353, data));
        for (const wanted of INTERESTING) {
          const field = `${protocol}.checksum`;
          for (const build of [before, after]) {
            const data = dataFor(build, field, wanted);
            const expected = protocol === "udp" && wanted === 0 ? 0xffff : wanted;
            assert.equal(checksumOf(build(data), field), expected, "the test's own arithmetic");
            await lab.expect("ptl_pod_in", before(data), { packet: after(data), reasons: ["TRANSLATED"] });
          }
        }
      },
    );

    twins(
      bench,
      `A ${protocol} reply's checksum${shifted} is right where sums come to one of their two zeroes`,
      async (lab) => {
        await flow(lab, protocol, peer);
        const before = (data: number) => lab.packet("backend", "client", payload(5353, peer, data));
        const after = (data: number) => lab.packet("vip", "client", payload(53, 40000, data));
        for (const wanted of INTERESTING) {
          for (const build of [before, after]) {
            const data = dataFor(build, `${protocol}.checksum`, wanted);
            await lab.expect("ptl_pod_out", before(data), { packet: after(data), reasons: ["TRANSLATED"] });
          }
        }
      },
    );

    twins(
      bench,
      `An ICMP error's sums${shifted} are right where those of the quoted ${protocol} packet come to zero`,
      async (lab) => {
        await flow(lab, protocol, peer);
        const seen = (data: number) => lab.packet("client", "backend", payload(peer, 5353, data));
        const sent = (data: number) => lab.packet("client", "vip", payload(40000, 53, data));
        for (const wanted of INTERESTING) {
          for (const build of [seen, sent]) {
            const data = dataFor(build, `${protocol}.checksum`, wanted);
            await lab.expect(
              "ptl_pod_out",
              lab.packet("router", "client", icmpError("too-big", seen(data))),
              {
                packet: lab.packet("router", "client", icmpError("too-big", sent(data))),
                reasons: ["ICMP_TRANSLATED"],
              },
            );
          }
        }
      },
    );
  }
}

twins(bench, "An IPv4 header checksum is right where it comes to one of the two zeroes", async (lab) => {
  if (lab.family === 6) return;
  await flow(lab, "udp", 40000);
  const before = (id: number) => lab.packet("client", "vip", udp(40000, 53), { id });
  const after = (id: number) => lab.packet("client", "backend", udp(40000, 5353), { id });
  for (const wanted of INTERESTING) {
    for (const build of [before, after]) {
      const id = dataFor(build, "ip.checksum", wanted);
      assert.equal(checksumOf(build(id), "ip.checksum"), wanted, "the test's own arithmetic");
      await lab.expect("ptl_pod_in", before(id), { packet: after(id), reasons: ["TRANSLATED"] });
    }
  }
});

twins(
  bench,
  "A wrong checksum stays wrong by the same amount: damage on the way is not covered up",
  async (lab) => {
    await flow(lab, "tcp", 40000);
    const right = (src: "client", dst: "vip" | "backend", port: number, checksum: Checksum) =>
      lab.packet(src, dst, tcp(40000, port, "PA", { checksum }));
    const good = checksumOf(right("client", "vip", 53, "full"), "tcp.checksum");
    const goodAfter = checksumOf(right("client", "backend", 5353, "full"), "tcp.checksum");
    const damage = 0x0123;
    // One's complement addition, and both sums far from zero.
    const add = (a: number, b: number) => ((a + b) & 0xffff) + Math.floor((a + b) / 0x10000);
    await lab.expect("ptl_pod_in", right("client", "vip", 53, add(good, damage)), {
      packet: right("client", "backend", 5353, add(goodAfter, damage)),
      reasons: ["TRANSLATED"],
    });
  },
);

twins(bench, "A REJECT's sums are right whatever the rejected packet's are", async (lab) => {
  await dns(lab, { endpoints: [] });

  const build = (data: number) => lab.packet("client", "vip", udp(40000, 53, "", word(data)));
  for (const wanted of INTERESTING) {
    const packet = build(dataFor(build, "udp.checksum", wanted));
    await lab.expect("ptl_pod_in", packet, rejected(packet, "REJECT_NO_BACKEND"));
  }
});
