// SPDX-License-Identifier: Apache-2.0
/**
 * The shortcut past the stack: which flows take it, that both directions do, that they keep their way, and what a packet
 * looks like that has taken it. What cannot is left to the stack, by reason.
 */
import assert from "node:assert/strict";
import { FrontendFlag, InterfaceFlag, Option } from "../../src/abi/enums.gen.js";
import { icmpError, type Packet, tcp, udp } from "../support/packet.js";
import type { Host } from "./support/addresses.js";
import { type Lab, openBench, type ReasonName, twins } from "./support/lab.js";
import {
  buildRoads,
  forgetNeighbour,
  knowNeighbour,
  moveHost,
  openRoads,
  type Road,
} from "./support/routed.js";
import { answer, dns, opening, web } from "./support/scenario.js";
import type { ProgramName } from "./support/test-kernel.js";

const bench = await openBench({ options: Option.SHORTCUT });
const roads = buildRoads();
const ALL = Object.values(roads);
const PORTS = { tcp: [80, 8080], udp: [53, 5353], sctp: [80, 8080] } as const;
const TTL = 64;

interface Sent {
  readonly by: Road;
  readonly program?: ProgramName;
  readonly gsoSize?: number;
  readonly complete?: boolean;
}

/** What leaves by a road when `packet` has been translated: one hop less, and a pod's link addresses. */
function gone(packet: Packet, to: Road): Packet {
  const ttl = (packet.ttl ?? TTL) - 1;
  return to === roads.uplink ? { ...packet, ttl } : { ...packet, ttl, eth: { src: to.mac, dst: to.next } };
}

/** The packet takes the shortcut to `to`, as `after`. */
async function short(
  lab: Lab,
  before: Packet,
  after: Packet,
  to: Road,
  { by, program = "ptl_pod_in", gsoSize, complete }: Sent,
  ...reasons: ReasonName[]
): Promise<void> {
  await lab.expect(
    program,
    before,
    { verdict: "redirect", packet: gone(after, to), reasons: [...reasons, "SHORTCUT"] },
    {
      ifindex: by.ifindex,
      ...(gsoSize === undefined ? {} : { gsoSize }),
      ...(complete === undefined ? {} : { checksumComplete: complete }),
    },
  );
}

/** The packet is translated and left to the stack. */
async function stack(
  lab: Lab,
  before: Packet,
  after: Packet,
  by: Road,
  reasons: readonly ReasonName[],
  gsoSize = 0,
): Promise<void> {
  await lab.expect("ptl_pod_in", before, { packet: after, reasons }, { ifindex: by.ifindex, gsoSize });
}

const opened: readonly ReasonName[] = ["SHORTCUT_FLOW", "FLOW_NEW"];

/** Opens client:40000 > vip:80 on `backend`, by the shortcut. */
async function start(lab: Lab, backend: Host = "backend", to: Road = roads.backend): Promise<void> {
  const before = lab.packet("client", "vip", tcp(40000, 80, "S"));
  await short(
    lab,
    before,
    lab.packet("client", backend, tcp(40000, 8080, "S")),
    to,
    { by: roads.client },
    ...opened,
  );
}

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  const [port, backendPort] = PORTS[protocol];
  const service = (lab: Lab, host: Host) => {
    const endpoints = [{ host, port: backendPort }];
    return protocol === "udp" ? dns(lab, { endpoints }) : web(lab, { protocol, endpoints });
  };

  twins(
    bench,
    `A ${protocol} flow goes straight into a pod of this node, and its replies straight back`,
    async (lab) => {
      await openRoads(lab, ALL);
      await service(lab, "backend");
      const there = lab.packet("client", "vip", opening(protocol, 40000, port));
      const arrived = lab.packet("client", "backend", opening(protocol, 40000, backendPort));
      const back = lab.packet("backend", "client", answer(protocol, backendPort, 40000));
      const returned = lab.packet("vip", "client", answer(protocol, port, 40000));
      await short(lab, there, arrived, roads.backend, { by: roads.client }, ...opened);
      await short(lab, back, returned, roads.client, { by: roads.backend }, "TRANSLATED");
      await short(lab, there, arrived, roads.backend, { by: roads.client }, "TRANSLATED");
      await lab.expectNat(
        `IN ${protocol} client:40000 > vip:${port} => backend:${backendPort}, peer 40000, forward reply [shortcut]`,
        `OUT ${protocol} backend:${backendPort} > client:40000 => vip:${port}, peer 40000, forward reply [reply shortcut]`,
      );
    },
  );

  twins(
    bench,
    `A ${protocol} flow goes out to another node by its neighbour, and its replies come straight in`,
    async (lab) => {
      await openRoads(lab, ALL);
      await service(lab, "backend3");
      const there = lab.packet("client", "vip", opening(protocol, 40000, port));
      const arrived = lab.packet("client", "backend3", opening(protocol, 40000, backendPort));
      const back = lab.packet("backend3", "client", answer(protocol, backendPort, 40000));
      const returned = lab.packet("vip", "client", answer(protocol, port, 40000));
      await short(lab, there, arrived, roads.uplink, { by: roads.client }, ...opened);
      const program = "ptl_net_in";
      await short(lab, back, returned, roads.client, { by: roads.uplink, program }, "TRANSLATED");
      await short(lab, there, arrived, roads.uplink, { by: roads.client }, "TRANSLATED");
    },
  );
}

twins(bench, "A network card's sum over the packet still fits", async (lab) => {
  await openRoads(lab, ALL);
  await dns(lab);
  const there = lab.packet("client", "vip", udp(40000, 53));
  const arrived = lab.packet("client", "backend", udp(40000, 5353));
  await short(lab, there, arrived, roads.backend, { by: roads.client, complete: true }, ...opened);
  const back = lab.packet("backend", "client", udp(5353, 40000, "odd"));
  const returned = lab.packet("vip", "client", udp(53, 40000, "odd"));
  await short(lab, back, returned, roads.client, { by: roads.backend, complete: true }, "TRANSLATED");
});

twins(bench, "A flow keeps the shortcut when the interfaces are closed to new ones", async (lab) => {
  await openRoads(lab, ALL);
  await web(lab);
  await start(lab);
  await openRoads(lab, ALL, false);
  const back = lab.packet("backend", "client", tcp(8080, 40000, "SA"));
  await short(
    lab,
    back,
    lab.packet("vip", "client", tcp(80, 40000, "SA")),
    roads.client,
    { by: roads.backend },
    "TRANSLATED",
  );
  const ack = lab.packet("client", "vip", tcp(40000, 80, "A"));
  await short(
    lab,
    ack,
    lab.packet("client", "backend", tcp(40000, 8080, "A")),
    roads.backend,
    { by: roads.client },
    "TRANSLATED",
  );
  const next = lab.packet("client", "vip", tcp(40001, 80, "S"));
  await stack(lab, next, lab.packet("client", "backend", tcp(40001, 8080, "S")), roads.client, [
    "STACK_INTERFACE",
    "FLOW_NEW",
  ]);
});

twins(bench, "A flow keeps the stack when the interfaces are opened", async (lab) => {
  await openRoads(lab, ALL, false);
  await web(lab);
  const syn = lab.packet("client", "vip", tcp(40000, 80, "S"));
  await stack(lab, syn, lab.packet("client", "backend", tcp(40000, 8080, "S")), roads.client, [
    "STACK_INTERFACE",
    "FLOW_NEW",
  ]);
  await openRoads(lab, ALL);
  const synAck = lab.packet("backend", "client", tcp(8080, 40000, "SA"));
  await lab.expect(
    "ptl_pod_in",
    synAck,
    { reasons: ["PASS_TCP_NO_ENTRY"] },
    { ifindex: roads.backend.ifindex },
  );
  await lab.expect("ptl_pod_out", synAck, {
    packet: lab.packet("vip", "client", tcp(80, 40000, "SA")),
    reasons: ["TRANSLATED"],
  });
  const ack = lab.packet("client", "vip", tcp(40000, 80, "A"));
  await stack(lab, ack, lab.packet("client", "backend", tcp(40000, 8080, "A")), roads.client, ["TRANSLATED"]);
});

const CLOSED: readonly [string, Road][] = [
  ["client's", roads.client],
  ["backend's", roads.backend],
];
for (const [whose, closed] of CLOSED) {
  twins(bench, `A flow goes through the stack when the ${whose} interface alone is closed`, async (lab) => {
    await openRoads(lab, ALL);
    await openRoads(lab, [closed], false);
    await web(lab);
    const syn = lab.packet("client", "vip", tcp(40000, 80, "S"));
    await stack(lab, syn, lab.packet("client", "backend", tcp(40000, 8080, "S")), roads.client, [
      "STACK_INTERFACE",
      "FLOW_NEW",
    ]);
  });
}

twins(bench, "A flow that is to be masqueraded goes through the stack", async (lab) => {
  await openRoads(lab, ALL);
  await web(lab, { flags: FrontendFlag.FRONTEND_MASQUERADE });
  const syn = lab.packet("client", "vip", tcp(40000, 80, "S"));
  await stack(lab, syn, lab.packet("client", "backend", tcp(40000, 8080, "S")), roads.client, [
    "STACK_MASQUERADE",
    "FLOW_NEW",
  ]);
});

twins(bench, "A flow from another node goes through the stack", async (lab) => {
  await openRoads(lab, ALL);
  await web(lab, { kind: "external", vip: "lb" });
  const syn = lab.packet("stranger", "lb", tcp(40000, 80, "S"));
  await lab.expect(
    "ptl_net_in",
    syn,
    {
      packet: lab.packet("stranger", "backend", tcp(40000, 8080, "S")),
      reasons: ["STACK_CLIENT", "FLOW_NEW"],
    },
    { ifindex: roads.uplink.ifindex },
  );
});

twins(bench, "A backend that no route leads to is left to the stack", async (lab) => {
  await openRoads(lab, ALL);
  await web(lab, { endpoints: [{ host: "stranger2", port: 8080 }] });
  const syn = lab.packet("client", "vip", tcp(40000, 80, "S"));
  await stack(lab, syn, lab.packet("client", "stranger2", tcp(40000, 8080, "S")), roads.client, [
    "STACK_ROUTE",
    "FLOW_NEW",
  ]);
});

twins(
  bench,
  "A pod that sends in another's name is left to the stack, when a flow starts and afterwards",
  async (lab) => {
    await openRoads(lab, ALL);
    await web(lab);
    const syn = lab.packet("client", "vip", tcp(40001, 80, "S"));
    await stack(lab, syn, lab.packet("client", "backend", tcp(40001, 8080, "S")), roads.backend2, [
      "STACK_SENDER",
      "FLOW_NEW",
    ]);
    await start(lab);
    const ack = lab.packet("client", "vip", tcp(40000, 80, "A"));
    const translated = lab.packet("client", "backend", tcp(40000, 8080, "A"));
    await stack(lab, ack, translated, roads.backend2, ["TRANSLATED", "STACK_SENDER"]);
    const reply = lab.packet("backend", "client", tcp(8080, 40000, "SA"));
    await stack(lab, reply, reply, roads.backend2, ["STACK_SENDER"]);
  },
);

twins(
  bench,
  "A pod whose link address is not known is left to the neighbour table, until it is known; then that is not asked",
  async (lab) => {
    await openRoads(lab, ALL);
    await web(lab, { endpoints: [{ host: "backend2", port: 8080 }] });
    forgetNeighbour("backend2", roads.backend2);
    const syn = lab.packet("client", "vip", tcp(40000, 80, "S"));
    const arrived = lab.packet("client", "backend2", tcp(40000, 8080, "S"), { ttl: TTL - 1 });
    await lab.expect(
      "ptl_pod_in",
      syn,
      { verdict: "redirect", packet: arrived, reasons: [...opened, "SHORTCUT"] },
      { ifindex: roads.client.ifindex },
    );
    knowNeighbour("backend2", roads.backend2);
    await nextTick(lab);
    const data = lab.packet("client", "vip", tcp(40000, 80, "A"));
    await short(
      lab,
      data,
      lab.packet("client", "backend2", tcp(40000, 8080, "A")),
      roads.backend2,
      { by: roads.client },
      "TRANSLATED",
    );
    forgetNeighbour("backend2", roads.backend2);
    const ack = lab.packet("client", "vip", tcp(40000, 80, "A"));
    const translated = lab.packet("client", "backend2", tcp(40000, 8080, "A"));
    await nextTick(lab);
    await short(lab, ack, translated, roads.backend2, { by: roads.client }, "TRANSLATED");
    knowNeighbour("backend2", roads.backend2);
  },
);

twins(bench, "A pod that gets another interface is reached there within a tick", async (lab) => {
  await openRoads(lab, ALL);
  await web(lab);
  await start(lab);
  moveHost("backend", roads.backend, roads.backend2);
  const ack = lab.packet("client", "vip", tcp(40000, 80, "A"));
  const translated = lab.packet("client", "backend", tcp(40000, 8080, "A"));
  await nextTick(lab);
  await short(lab, ack, translated, roads.backend2, { by: roads.client }, "TRANSLATED");
  moveHost("backend", roads.backend2, roads.backend);
  await nextTick(lab);
  await short(lab, ack, translated, roads.backend, { by: roads.client }, "TRANSLATED");
});

twins(bench, "A packet whose last hop this is goes through the stack, which says so", async (lab) => {
  await openRoads(lab, ALL);
  await dns(lab);
  const packet = (ttl: number) => lab.packet("client", "vip", udp(40000, 53), { ttl });
  const translated = (ttl: number) => lab.packet("client", "backend", udp(40000, 5353), { ttl });
  await short(lab, packet(2), translated(2), roads.backend, { by: roads.client }, ...opened);
  await stack(lab, packet(1), translated(1), roads.client, ["TRANSLATED", "STACK_HOPS"]);
});

twins(bench, "A packet that is larger than the path goes through the stack, which says so", async (lab) => {
  await openRoads(lab, ALL);
  await dns(lab, { endpoints: [{ host: "backend3", port: 5353 }] });
  const headers = (lab.family === 4 ? 20 : 40) + 8;
  const packet = (host: Host, port: number, length: number) =>
    lab.packet("client", host, udp(40000, port, "x".repeat(length - headers)), { dontFragment: true });
  await short(
    lab,
    packet("vip", 53, 1400),
    packet("backend3", 5353, 1400),
    roads.uplink,
    { by: roads.client },
    ...opened,
  );
  await stack(lab, packet("vip", 53, 1401), packet("backend3", 5353, 1401), roads.client, [
    "TRANSLATED",
    "STACK_SIZE",
  ]);
});

twins(bench, "Of a bulk of segments each is measured", async (lab) => {
  await openRoads(lab, ALL);
  await web(lab, { endpoints: [{ host: "backend3", port: 8080 }] });
  await start(lab, "backend3", roads.uplink);
  const fits = 1400 - (lab.family === 4 ? 20 : 40) - 20;
  const bulk = (host: Host, port: number) =>
    lab.packet("client", host, tcp(40000, port, "A", { data: new Uint8Array(2600) }));
  const [before, after] = [bulk("vip", 80), bulk("backend3", 8080)];
  await short(lab, before, after, roads.uplink, { by: roads.client, gsoSize: fits }, "TRANSLATED");
  await stack(lab, before, after, roads.client, ["TRANSLATED", "STACK_SIZE"], fits + 1);
});

twins(
  bench,
  "A packet with options that routers look at goes through the stack, and so does a flow that begins so",
  async (lab) => {
    await openRoads(lab, ALL);
    await web(lab);
    const more: Partial<Packet> =
      lab.family === 4
        ? { options: new Uint8Array([7, 3, 4, 0]) } // record route
        : { extensions: [{ kind: "hop-by-hop", data: new Uint8Array([5, 2, 0, 0, 1, 0]) }] }; // router alert
    const syn = lab.packet("client", "vip", tcp(40001, 80, "S"), more);
    await stack(lab, syn, lab.packet("client", "backend", tcp(40001, 8080, "S"), more), roads.client, [
      "STACK_OPTIONS",
      "FLOW_NEW",
    ]);
    await start(lab);
    const ack = lab.packet("client", "vip", tcp(40000, 80, "A"), more);
    await stack(lab, ack, lab.packet("client", "backend", tcp(40000, 8080, "A"), more), roads.client, [
      "TRANSLATED",
      "STACK_OPTIONS",
    ]);
  },
);

twins(bench, "A bridge port's packet goes to whom the bridge leads to", async (lab) => {
  await openRoads(lab, [roads.client, roads.backend]);
  const flags = InterfaceFlag.INTERFACE_SHORTCUT;
  const { ifindex } = roads.backend;
  await lab.interface({ masquerade: true, ifindex, role: 4, mtu: 1500, flags });
  await lab.interface({ masquerade: true, ifindex: roads.client.ifindex, role: 4, mtu: 1500, flags });
  await openRoads(lab, [roads.backend2]);
  await nextTick(lab);
  await web(lab);
  const syn = lab.packet("client", "vip", tcp(40000, 80, "S"));
  const arrived = lab.packet("client", "backend", tcp(40000, 8080, "S"), { ttl: TTL - 1 });
  await lab.expect(
    "ptl_pod_in",
    syn,
    { verdict: "redirect", packet: arrived, reasons: [...opened, "SHORTCUT"] },
    { ifindex: roads.backend2.ifindex },
  );
  await openRoads(lab, ALL);
  await nextTick(lab);
});

twins(
  bench,
  "An ICMP error about a flow that takes the shortcut takes it, too: a backend's, a router's, a client's",
  async (lab) => {
    await openRoads(lab, ALL);
    await dns(lab);
    const there = lab.packet("client", "vip", udp(40000, 53));
    const arrived = lab.packet("client", "backend", udp(40000, 5353));
    await short(lab, there, arrived, roads.backend, { by: roads.client }, ...opened);
    const back = lab.packet("backend", "client", udp(5353, 40000, "answer"));
    const returned = lab.packet("vip", "client", udp(53, 40000, "answer"));
    await short(lab, back, returned, roads.client, { by: roads.backend }, "TRANSLATED");
    await short(
      lab,
      lab.packet("backend", "client", icmpError("port-unreachable", arrived)),
      lab.packet("vip", "client", icmpError("port-unreachable", there)),
      roads.client,
      { by: roads.backend },
      "ICMP_TRANSLATED",
    );
    await short(
      lab,
      lab.packet("router", "client", icmpError("too-big", arrived, { word: 1280 })),
      lab.packet("router", "client", icmpError("too-big", there, { word: 1280 })),
      roads.client,
      { by: roads.uplink, program: "ptl_net_in" },
      "ICMP_TRANSLATED",
    );
    await short(
      lab,
      lab.packet("client", "vip", icmpError("port-unreachable", returned)),
      lab.packet("client", "backend", icmpError("port-unreachable", back)),
      roads.backend,
      { by: roads.client },
      "ICMP_TRANSLATED",
    );
  },
);

twins(bench, "An ICMP error about a flow of the stack is left to the stack", async (lab) => {
  await openRoads(lab, ALL, false);
  await dns(lab);
  const there = lab.packet("client", "vip", udp(40000, 53));
  const arrived = lab.packet("client", "backend", udp(40000, 5353));
  await stack(lab, there, arrived, roads.client, ["STACK_INTERFACE", "FLOW_NEW"]);
  const error = lab.packet("backend", "client", icmpError("port-unreachable", arrived));
  await lab.expect("ptl_pod_in", error, { reasons: ["PASS_ICMP"] }, { ifindex: roads.backend.ifindex });
});

/** The routing table is asked anew in the next tick of the programs' clock. */
async function nextTick(lab: Lab): Promise<void> {
  const now = lab.now();
  while (lab.now() === now) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(lab.now() > now, "the clock goes on");
}
