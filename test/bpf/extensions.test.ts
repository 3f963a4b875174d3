// SPDX-License-Identifier: Apache-2.0
/** IPv4 options and IPv6 extension headers: they are stepped over, kept as they are, and the packet is translated. */
import type { Extension, Packet } from "../support/packet.js";
import { openBench, twins } from "./support/lab.js";
import { answer, dns, opening, web } from "./support/scenario.js";

const bench = await openBench();

interface Shape {
  readonly what: string;
  readonly family: 4 | 6;
  readonly more: Partial<Packet>;
}

const option = (...values: number[]): Partial<Packet> => ({ options: Uint8Array.from(values) });
const chain = (...extensions: Extension[]): Partial<Packet> => ({ extensions });
const destOpts: Extension = { kind: "dest-opts", data: new Uint8Array(20) };

const SHAPES: readonly Shape[] = [
  { what: "a router alert", family: 4, more: option(148, 4, 0, 0) },
  { what: "an option of odd length, padded", family: 4, more: option(7, 7, 4, 0, 0, 0, 0) },
  { what: "a loose source route that is used up", family: 4, more: option(131, 7, 8, 10, 0, 0, 1, 0) },
  { what: "forty bytes of options", family: 4, more: option(...Array.from({ length: 40 }, () => 1)) },
  { what: "a hop-by-hop header", family: 6, more: chain({ kind: "hop-by-hop" }) },
  { what: "a destination options header", family: 6, more: chain(destOpts) },
  {
    what: "a destination options header of the greatest length",
    family: 6,
    more: chain({ kind: "dest-opts", data: new Uint8Array(256 * 8 - 2) }),
  },
  {
    what: "a routing header that is used up",
    family: 6,
    more: chain({ kind: "routing", type: 4, segmentsLeft: 0, data: new Uint8Array(20) }),
  },
  { what: "an atomic fragment header", family: 6, more: chain({ kind: "fragment", offset: 0, more: false }) },
  {
    what: "hop-by-hop, destination, routing and fragment headers",
    family: 6,
    more: chain(
      { kind: "hop-by-hop" },
      destOpts,
      { kind: "routing", type: 4, segmentsLeft: 0 },
      { kind: "fragment", offset: 0, more: false },
    ),
  },
  {
    what: "seven headers",
    family: 6,
    more: chain({ kind: "hop-by-hop" }, ...Array.from({ length: 6 }, () => destOpts)),
  },
];

for (const { what, family, more } of SHAPES) {
  for (const protocol of ["tcp", "udp", "sctp"] as const) {
    const [port, backendPort] = protocol === "udp" ? [53, 5353] : [80, 8080];

    twins(bench, `A ${protocol} packet with ${what} is translated, there and back`, async (lab) => {
      if (lab.family !== family) return;
      await (protocol === "udp" ? dns(lab) : web(lab, { protocol }));
      await lab.expect("ptl_pod_in", lab.packet("client", "vip", opening(protocol, 40000, port), more), {
        packet: lab.packet("client", "backend", opening(protocol, 40000, backendPort), more),
        reasons: ["FLOW_NEW"],
      });
      await lab.expect(
        "ptl_pod_out",
        lab.packet("backend", "client", answer(protocol, backendPort, 40000), more),
        {
          packet: lab.packet("vip", "client", answer(protocol, port, 40000), more),
          reasons: ["TRANSLATED"],
        },
      );
    });
  }
}

twins(bench, "Packets of one flow may come with options and without", async (lab) => {
  await dns(lab);
  const more = lab.family === 4 ? option(148, 4, 0, 0) : chain({ kind: "hop-by-hop" });
  for (const [i, shape] of [{}, more, {}, more].entries()) {
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", opening("udp", 40000, 53), shape), {
      packet: lab.packet("client", "backend", opening("udp", 40000, 5353), shape),
      reasons: [i === 0 ? "FLOW_NEW" : "TRANSLATED"],
    });
  }
});
