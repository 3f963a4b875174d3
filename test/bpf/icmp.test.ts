// SPDX-License-Identifier: Apache-2.0
/**
 * ICMP errors about flows of ours: outer header, quoted packet and every checksum are rewritten together, in both
 * directions; redirects never are.
 */
import assert from "node:assert/strict";
import {
  buildIp,
  bytes,
  echo,
  ICMP_ERROR_NAMES,
  icmpError,
  icmpRedirect,
  join,
  type Packet,
  sctp,
  tcp,
  text,
  udp,
} from "../support/packet.js";
import { addressBytes } from "../support/packet-address.js";
import { assertChecksums } from "../support/packet-diff.js";
import { type Lab, openBench, type ProtocolName, twins } from "./support/lab.js";
import { establish, web } from "./support/scenario.js";

const bench = await openBench();

/** A flow client:40000 to vip:80 on backend:8080, by its entries. */
async function flow(lab: Lab, protocol: ProtocolName, clientPort = 40000, peer = clientPort): Promise<void> {
  const service = await web(lab, { protocol });
  const rest = { cell: service.cells[0] ?? 0, service: service.index };
  const seen = protocol === "udp" ? "forward reply" : "forward reply established";
  await lab.setNat(
    `IN ${protocol} client:${clientPort} > vip:80 => backend:8080, peer ${peer}, ${seen}`,
    rest,
  );
  await lab.setNat(
    `OUT ${protocol} backend:8080 > client:${peer} => vip:80, peer ${clientPort}, ${seen} [reply]`,
    rest,
  );
}

/**
 * A packet of the flow in the middle of its life. Its CRC32c, if it has one, is the sender's: a CRC over all of a packet
 * cannot be mended where a part of it is quoted, and the addressee of an error does not look at it.
 */
function payload(protocol: ProtocolName, sport: number, dport: number) {
  if (protocol === "sctp") return sctp(sport, dport, "data", { checksum: 0x12345678 });
  return protocol === "tcp"
    ? tcp(sport, dport, "PA", { data: text("some data of odd length") })
    : udp(sport, dport, "some data of odd length");
}

/** Routers quote what they saw: a packet on its way, one hop older. */
const onItsWay = { ttl: 63, tos: 0x10, id: 0x4321 } as const;

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  for (const name of ICMP_ERROR_NAMES) {
    const word = name === "too-big" ? 1400 : 0;

    twins(
      bench,
      `A router's ${name} about a translated ${protocol} packet reaches the client as about the VIP`,
      async (lab) => {
        await flow(lab, protocol);
        const seen = lab.packet("client", "backend", payload(protocol, 40000, 8080), onItsWay);
        const sent = lab.packet("client", "vip", payload(protocol, 40000, 80), onItsWay);
        for (const program of ["ptl_pod_out", "ptl_net_out"] as const) {
          await lab.expect(program, lab.packet("router", "client", icmpError(name, seen, { word })), {
            packet: lab.packet("router", "client", icmpError(name, sent, { word })),
            reasons: ["ICMP_TRANSLATED"],
          });
        }
      },
    );

    twins(
      bench,
      `A backend's ${name} about a ${protocol} packet reaches the client from the VIP`,
      async (lab) => {
        await flow(lab, protocol);
        const seen = lab.packet("client", "backend", payload(protocol, 40000, 8080));
        const sent = lab.packet("client", "vip", payload(protocol, 40000, 80));
        await lab.expect("ptl_pod_out", lab.packet("backend", "client", icmpError(name, seen, { word })), {
          packet: lab.packet("vip", "client", icmpError(name, sent, { word })),
          reasons: ["ICMP_TRANSLATED"],
        });
      },
    );

    twins(
      bench,
      `A ${name} about a ${protocol} reply reaches the backend as about its own packet`,
      async (lab) => {
        await flow(lab, protocol);
        const seen = lab.packet("vip", "client", payload(protocol, 80, 40000), onItsWay);
        const sent = lab.packet("backend", "client", payload(protocol, 8080, 40000), onItsWay);
        for (const sender of ["client", "router"] as const) {
          for (const program of ["ptl_pod_in", "ptl_net_in"] as const) {
            await lab.expect(program, lab.packet(sender, "vip", icmpError(name, seen, { word })), {
              packet: lab.packet(sender, "backend", icmpError(name, sent, { word })),
              reasons: ["ICMP_TRANSLATED"],
            });
          }
        }
      },
    );
  }

  twins(
    bench,
    `An error that quotes a ${protocol} packet in part is translated, however little it quotes`,
    async (lab) => {
      await flow(lab, protocol);
      const header = lab.family === 4 ? 20 : 40;
      const seen = lab.packet("client", "backend", payload(protocol, 40000, 8080));
      const sent = lab.packet("client", "vip", payload(protocol, 40000, 80));
      // From the eight bytes of RFC 792 on; the transport checksum begins at 6 (UDP) or 16 (TCP).
      for (const quoted of [8, 9, 12, 15, 16, 18, 19, 20, 21, 28]) {
        const quote = header + quoted;
        await lab.expect(
          "ptl_pod_out",
          lab.packet("router", "client", icmpError("too-big", seen, { quote })),
          {
            packet: lab.packet("router", "client", icmpError("too-big", sent, { quote })),
            reasons: ["ICMP_TRANSLATED"],
          },
        );
      }
    },
  );

  twins(
    bench,
    `An error that quotes half of a ${protocol} checksum keeps right sums of its own`,
    async (lab) => {
      await flow(lab, protocol);
      const quote = (lab.family === 4 ? 20 : 40) + 17;
      const seen = lab.packet("client", "backend", payload(protocol, 40000, 8080));
      const outcome = await lab.run(
        "ptl_pod_out",
        lab.packet("router", "client", icmpError("too-big", seen, { quote })),
      );
      assert.deepEqual(outcome.reasons, { ICMP_TRANSLATED: 1 });
      assertChecksums(outcome.frame, "the error");
    },
  );

  twins(
    bench,
    `An error about a ${protocol} flow with a port of its own names the port that the client used`,
    async (lab) => {
      await flow(lab, protocol, 40000, 20007);
      const seen = lab.packet("client", "backend", payload(protocol, 20007, 8080));
      const sent = lab.packet("client", "vip", payload(protocol, 40000, 80));
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", icmpError("port-unreachable", seen)), {
        packet: lab.packet("vip", "client", icmpError("port-unreachable", sent)),
        reasons: ["ICMP_TRANSLATED"],
      });
      const reply = lab.packet("vip", "client", payload(protocol, 80, 40000));
      const replySent = lab.packet("backend", "client", payload(protocol, 8080, 20007));
      await lab.expect("ptl_pod_in", lab.packet("client", "vip", icmpError("port-unreachable", reply)), {
        packet: lab.packet("client", "backend", icmpError("port-unreachable", replySent)),
        reasons: ["ICMP_TRANSLATED"],
      });
    },
  );

  twins(bench, `A redirect about a translated ${protocol} flow is dropped at egress`, async (lab) => {
    await flow(lab, protocol);
    const seen = lab.packet("client", "backend", payload(protocol, 40000, 8080));
    for (const program of ["ptl_pod_out", "ptl_net_out"] as const) {
      await lab.expect(program, lab.packet("router", "client", icmpRedirect(lab.at.backend, seen)), {
        verdict: "drop",
        reasons: ["DROP_REDIRECT"],
      });
    }
  });

  twins(bench, `A redirect about a ${protocol} flow that is not ours passes untouched`, async (lab) => {
    await flow(lab, protocol);
    const other = lab.packet("client", "stranger", payload(protocol, 40000, 8080));
    for (const program of ["ptl_pod_out", "ptl_net_out", "ptl_pod_in", "ptl_net_in"] as const) {
      await lab.expect(program, lab.packet("router", "client", icmpRedirect(lab.at.backend, other)), {
        reasons: ["PASS_ICMP"],
      });
    }
  });
}

twins(bench, "An error that quotes a UDP packet without a checksum leaves that as it is", async (lab) => {
  await flow(lab, "udp");
  const seen = lab.packet("client", "backend", udp(40000, 8080, "x", { checksum: "zero" }));
  const sent = lab.packet("client", "vip", udp(40000, 80, "x", { checksum: "zero" }));
  await lab.expect("ptl_pod_out", lab.packet("router", "client", icmpError("too-big", seen)), {
    packet: lab.packet("router", "client", icmpError("too-big", sent)),
    reasons: ["ICMP_TRANSLATED"],
  });
});

twins(bench, "An error in an options or extension header is translated like any other", async (lab) => {
  await flow(lab, "tcp");
  const more: Partial<Packet> =
    lab.family === 4
      ? { options: Uint8Array.of(148, 4, 0, 0) }
      : { extensions: [{ kind: "hop-by-hop" }, { kind: "dest-opts", data: new Uint8Array(12) }] };
  const seen = lab.packet("client", "backend", payload("tcp", 40000, 8080), more);
  const sent = lab.packet("client", "vip", payload("tcp", 40000, 80), more);
  await lab.expect(
    "ptl_pod_out",
    lab.packet("backend", "client", icmpError("parameter-problem", seen), more),
    {
      packet: lab.packet("vip", "client", icmpError("parameter-problem", sent), more),
      reasons: ["ICMP_TRANSLATED"],
    },
  );
});

twins(bench, "An error about a flow that has died passes untouched", async (lab) => {
  await flow(lab, "udp");
  await lab.age(1000);
  const seen = lab.packet("client", "backend", payload("udp", 40000, 8080));
  await lab.expect("ptl_pod_out", lab.packet("router", "client", icmpError("too-big", seen)), {
    reasons: ["PASS_ICMP"],
  });
});

twins(bench, "An error about a stranger's flow passes untouched at every hook", async (lab) => {
  await flow(lab, "tcp");
  const others = [
    lab.packet("client", "backend", payload("udp", 40000, 8080)),
    lab.packet("client", "backend", payload("tcp", 40001, 8080)),
    lab.packet("client2", "backend", payload("tcp", 40000, 8080)),
    lab.packet("client", "backend2", payload("tcp", 40000, 8080)),
    lab.packet("client", "stranger", payload("tcp", 40000, 8080)),
  ];
  for (const inner of others) {
    for (const program of ["ptl_pod_out", "ptl_net_out", "ptl_pod_in", "ptl_net_in"] as const) {
      await lab.expect(program, lab.packet("router", "client", icmpError("too-big", inner)), {
        reasons: ["PASS_ICMP"],
      });
    }
  }
});

twins(bench, "An error that quotes what has no ports passes untouched", async (lab) => {
  await flow(lab, "tcp");
  const inner = [
    lab.packet("client", "backend", echo(lab.family)),
    lab.packet("client", "backend", { kind: "raw", protocol: 132, data: new Uint8Array(16) }),
  ];
  for (const quoted of inner) {
    await lab.expect("ptl_pod_out", lab.packet("router", "client", icmpError("too-big", quoted)), {
      reasons: ["PASS_ICMP"],
    });
  }
});

twins(bench, "An error whose quote is cut before the ports passes untouched", async (lab) => {
  await flow(lab, "tcp");
  const header = lab.family === 4 ? 20 : 40;
  const seen = lab.packet("client", "backend", payload("tcp", 40000, 8080));
  for (const quote of [0, 1, header - 1, header, header + 7]) {
    await lab.expect("ptl_pod_out", lab.packet("router", "client", icmpError("too-big", seen, { quote })), {
      reasons: ["PASS_ICMP"],
    });
  }
});

twins(bench, "An error that quotes a fragment passes untouched", async (lab) => {
  await flow(lab, "udp");
  const more: Partial<Packet> =
    lab.family === 4
      ? { fragment: { offset: 100, more: true } }
      : { extensions: [{ kind: "fragment", offset: 100, more: true }] };
  const seen = lab.packet("client", "backend", payload("udp", 40000, 8080), more);
  await lab.expect("ptl_pod_out", lab.packet("router", "client", icmpError("time-exceeded", seen)), {
    reasons: ["PASS_ICMP"],
  });
});

twins(bench, "An error about an untranslated packet to the VIP is not translated twice", async (lab) => {
  // The client's own form of the packet: the error comes from a hook's REJECT, say.
  await flow(lab, "tcp");
  const sent = lab.packet("client", "vip", payload("tcp", 40000, 80));
  await lab.expect("ptl_pod_out", lab.packet("vip", "client", icmpError("port-unreachable", sent)), {
    reasons: ["PASS_ICMP"],
  });
});

twins(bench, "An error does not count as a sign of life", async (lab) => {
  await web(lab);
  await establish(lab);
  await lab.age(50);
  const before = await lab.natEntries();
  const seen = lab.packet("client", "backend", payload("tcp", 40000, 8080));
  await lab.run("ptl_pod_out", lab.packet("router", "client", icmpError("host-unreachable", seen)));
  const now = await lab.natEntries();
  const sorted = (entries: typeof before) => entries.map((e) => JSON.stringify(e, big)).sort();
  const big = (_: string, value: unknown) => (value instanceof Uint8Array ? [...value] : value);
  if (sorted(now).join() !== sorted(before).join())
    throw new Error("an ICMP error changed the flow's entries");
});

twins(
  bench,
  "An IPv6 redirect that quotes no packet, or hides it behind broken options, passes untouched",
  async (lab) => {
    if (lab.family === 4) return;
    await flow(lab, "tcp");
    const addresses = join(addressBytes(lab.at.backend), addressBytes(lab.at.backend));
    const quoted = buildIp(lab.packet("client", "backend", payload("tcp", 40000, 8080)));
    const header = bytes(4, 1 + Math.ceil(quoted.length / 8), 0, 0, 0, 0, 0, 0);
    const linkLayer = bytes(2, 1, 2, 0, 0, 0, 0, 9);
    const bodies = {
      "no option": addresses,
      "only a link-layer address": join(addresses, linkLayer),
      "an option without length": join(addresses, bytes(2, 0, 0, 0, 0, 0, 0, 0), header, quoted),
      "an option that is cut": join(addresses, bytes(4)),
      "an option beyond the packet": join(addresses, bytes(2, 255, 0, 0, 0, 0, 0, 0), header, quoted),
      "a quote that is cut": join(addresses, header, quoted.subarray(0, 20)),
    };
    for (const [what, body] of Object.entries(bodies)) {
      const redirect = lab.packet("router", "client", { kind: "icmp", type: 137, code: 0, body });
      for (const program of ["ptl_pod_out", "ptl_net_out"] as const) {
        const { verdict, reasons } = await lab.run(program, redirect);
        assert.deepEqual({ verdict, reasons }, { verdict: "pass", reasons: { PASS_ICMP: 1 } }, what);
      }
    }
    // The same parts in order are what is dropped: the cases above differ from it in what they say.
    const whole = join(addresses, linkLayer, header, quoted);
    await lab.expect(
      "ptl_pod_out",
      lab.packet("router", "client", { kind: "icmp", type: 137, code: 0, body: whole }),
      {
        verdict: "drop",
        reasons: ["DROP_REDIRECT"],
      },
    );
  },
);
