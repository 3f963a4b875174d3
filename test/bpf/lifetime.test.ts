// SPDX-License-Identifier: Apache-2.0
/** The life of a nat entry: how long each state lasts, what is dead, who may take its place. */
import assert from "node:assert/strict";
import { NatState } from "../../src/abi/enums.gen.js";
import { tcp, udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { type Lab, openBench, twins } from "./support/lab.js";
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
import { TEST_CONFIG } from "./support/test-kernel.js";

const bench = await openBench();

interface TcpLife {
  readonly state: string;
  readonly ticks: number;
  readonly prepare: (lab: Lab) => Promise<void>;
}

const TCP_LIVES: readonly TcpLife[] = [
  {
    state: "a SYN without an answer",
    ticks: TEST_CONFIG.timeoutTcpOpening,
    prepare: (lab) => clientSends(lab, WEB_FLOW, "S"),
  },
  {
    state: "an answered SYN",
    ticks: TEST_CONFIG.timeoutTcpOpening,
    prepare: async (lab) => {
      await clientSends(lab, WEB_FLOW, "S");
      await backendSends(lab, WEB_FLOW, "SA");
    },
  },
  {
    state: "an established connection",
    ticks: TEST_CONFIG.timeoutTcpEstablished,
    prepare: (lab) => establish(lab),
  },
  {
    state: "a connection closed by the client alone",
    ticks: TEST_CONFIG.timeoutTcpHalfClosed,
    prepare: async (lab) => {
      await establish(lab);
      await clientSends(lab, WEB_FLOW, "FA", false);
    },
  },
  {
    state: "a connection closed by the backend alone",
    ticks: TEST_CONFIG.timeoutTcpHalfClosed,
    prepare: async (lab) => {
      await establish(lab);
      await backendSends(lab, WEB_FLOW, "FA");
    },
  },
  {
    state: "a connection closed by both",
    ticks: TEST_CONFIG.timeoutTcpClosed,
    prepare: async (lab) => {
      await establish(lab);
      await clientSends(lab, WEB_FLOW, "FA", false);
      await backendSends(lab, WEB_FLOW, "FA");
    },
  },
  {
    state: "a connection reset by the backend",
    ticks: TEST_CONFIG.timeoutTcpClosed,
    prepare: async (lab) => {
      await clientSends(lab, WEB_FLOW, "S");
      await backendSends(lab, WEB_FLOW, "RA");
    },
  },
  {
    state: "a connection reset by the client",
    ticks: TEST_CONFIG.timeoutTcpClosed,
    prepare: async (lab) => {
      await establish(lab);
      await clientSends(lab, WEB_FLOW, "R", false);
    },
  },
];

for (const { state, ticks, prepare } of TCP_LIVES) {
  twins(bench, `The entries of ${state} live for ${ticks} ticks and no longer`, async (lab) => {
    await web(lab);
    await prepare(lab);
    // Two ticks of room: a tick may begin between the last packet and the next.
    await lab.age(ticks - 2);
    await backendSends(lab, WEB_FLOW, "A");
    await lab.reset();

    await web(lab);
    await prepare(lab);
    await lab.age(ticks);
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, "A")), {
      reasons: ["PASS_EGRESS_MISS"],
    });
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, "A")), {
      reasons: ["PASS_TCP_NO_ENTRY"],
    });
  });
}

twins(bench, "A datagram without an answer is remembered for its own short time", async (lab) => {
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.age(TEST_CONFIG.timeoutUdpUnreplied - 2);
  await clientAsks(lab, DNS_FLOW, false);
  await lab.age(TEST_CONFIG.timeoutUdpUnreplied);
  await clientAsks(lab, DNS_FLOW, true);
});

twins(bench, "An answered datagram is remembered for longer", async (lab) => {
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await backendAnswers(lab, DNS_FLOW);
  await lab.age(TEST_CONFIG.timeoutUdpReplied - 2);
  await clientAsks(lab, DNS_FLOW, false);
  await lab.age(TEST_CONFIG.timeoutUdpReplied);
  await clientAsks(lab, DNS_FLOW, true);
});

/** Two backends, of which a test moves flows from one to the other. */
const both = [
  { host: "backend", port: 8080 },
  { host: "backend2", port: 8080 },
] as const;

/** Makes the next choice visible: the flow is on `backend` now, and only `backend2` can be chosen. */
async function moveOn(lab: Lab, protocol: "tcp" | "udp" = "tcp") {
  const service = await web(lab, { protocol, endpoints: [both[0]] });
  return {
    service,
    // Without retiring the old cell: its generation stays current.
    publish: () => lab.publish({ ...service, cells: [] }, [both[1]]),
  };
}

twins(
  bench,
  "A retransmitted SYN keeps the backend, even when others have been published since",
  async (lab) => {
    const { publish } = await moveOn(lab);
    await clientSends(lab, WEB_FLOW, "S");
    await publish();
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)), {
      packet: lab.packet("client", "backend", tcp(40000, 8080)),
      reasons: ["TRANSLATED"],
    });
    await backendSends(lab, WEB_FLOW, "SA");
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)), {
      packet: lab.packet("client", "backend", tcp(40000, 8080)),
      reasons: ["TRANSLATED"],
    });
  },
);

twins(bench, "A SYN on an established connection's port selects anew", async (lab) => {
  const { publish } = await moveOn(lab);
  await establish(lab);
  await publish();
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)), {
    packet: lab.packet("client", "backend2", tcp(40000, 8080)),
    reasons: ["FLOW_NEW"],
  });
  await lab.expectNat(
    "IN tcp client:40000 > vip:80 => backend2:8080, peer 40000, forward",
    "OUT tcp backend2:8080 > client:40000 => vip:80, peer 40000, forward [reply]",
  );
});

for (const [how, last] of [
  ["closed", "FA"],
  ["reset", "R"],
] as const) {
  twins(bench, `A SYN on the port of a connection just ${how} selects anew at once`, async (lab) => {
    const { publish } = await moveOn(lab);
    await establish(lab);
    await backendSends(lab, WEB_FLOW, last);
    await clientSends(lab, WEB_FLOW, last, false);
    await publish();
    await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80)), {
      packet: lab.packet("client", "backend2", tcp(40000, 8080)),
      reasons: ["FLOW_NEW"],
    });
  });
}

twins(
  bench,
  "A SYN that replaces a connection to the same backend starts with a clean state",
  async (lab) => {
    await web(lab);
    await establish(lab);
    await clientSends(lab, WEB_FLOW, "S");
    await lab.expectNat(
      "IN tcp client:40000 > vip:80 => backend:8080, peer 40000, forward",
      "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000, forward [reply]",
    );
    await backendSends(lab, WEB_FLOW, "SA");
  },
);

twins(bench, "A SYN-ACK from a client never replaces a connection", async (lab) => {
  await web(lab);
  await establish(lab);
  await clientSends(lab, WEB_FLOW, "SA", false);
});

twins(bench, "A dead entry is taken over, and the old backend's replies are nobody's", async (lab) => {
  const { publish } = await moveOn(lab, "udp");
  await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 80)));
  await publish();
  await lab.age(TEST_CONFIG.timeoutUdpUnreplied);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", udp(40000, 80)), {
    packet: lab.packet("client", "backend2", udp(40000, 8080)),
    reasons: ["FLOW_NEW"],
  });
  await lab.expectNat(
    "IN udp client:40000 > vip:80 => backend2:8080, peer 40000, forward",
    "OUT udp backend2:8080 > client:40000 => vip:80, peer 40000, forward [reply]",
  );
  await lab.expect("ptl_pod_out", lab.packet("backend", "client", udp(8080, 40000)), {
    reasons: ["PASS_EGRESS_MISS"],
  });
});

twins(bench, "A time stamp from the near future counts as now", async (lab) => {
  // Another CPU may be a tick ahead.
  await dns(lab);
  await clientAsks(lab, DNS_FLOW, true);
  await lab.age(-1);
  await clientAsks(lab, DNS_FLOW, false);
});

twins(bench, "Entries outlive the wrap of the 32-bit tick counter", async (lab) => {
  const service = await dns(lab);
  const rest = { cell: service.cells[0] ?? 0, service: service.index, age: lab.now() + 5 };
  await lab.setNat("IN udp client:40000 > vip:53 => backend:5353, peer 40000, forward reply", rest);
  // The age is now() + 5, whatever side of the wrap last_seen is on: older than any UDP flow gets.
  const live = lab.now() + 5 < TEST_CONFIG.timeoutUdpReplied;
  const outcome = await lab.run("ptl_pod_in", lab.packet("client", "vip", udp(40000, 53)));
  assert.equal(outcome.reasons[live ? "TRANSLATED" : "FLOW_NEW"], 1);
  assert.equal(fieldText(dissectFrame(outcome.frame), "ip.dst"), lab.at.backend);
});

/** How long an entry with these TCP state bits lives: the rule in words, where the programs have a table. */
function tcpLimit(state: number): number {
  const has = (bit: number) => (state & bit) !== 0;
  if (has(NatState.RST_FORWARD) || has(NatState.RST_REPLY)) return TEST_CONFIG.timeoutTcpClosed;
  if (has(NatState.FIN_FORWARD) && has(NatState.FIN_REPLY)) return TEST_CONFIG.timeoutTcpClosed;
  if (!has(NatState.ESTABLISHED)) return TEST_CONFIG.timeoutTcpOpening;
  if (has(NatState.FIN_FORWARD) || has(NatState.FIN_REPLY)) return TEST_CONFIG.timeoutTcpHalfClosed;
  return TEST_CONFIG.timeoutTcpEstablished;
}

twins(
  bench,
  "Each of the 128 combinations of what a TCP flow can have shown has its time, to the tick",
  async (lab) => {
    const service = await web(lab);
    const rest = { cell: service.cells[0] ?? 0, service: service.index };
    const line = "OUT tcp backend:8080 > client:40000 => vip:80, peer 40000,  [reply]";
    const reply = lab.packet("backend", "client", tcp(8080, 40000, "PA"));
    for (let state = 0; state < 128; state++) {
      const limit = tcpLimit(state);
      for (const [age, reason] of [
        // One tick of room, in which the clock may move on.
        [limit - 2, "TRANSLATED"],
        [limit, "PASS_EGRESS_MISS"],
      ] as const) {
        await lab.reset();
        await lab.setNat(line, { ...rest, age, state });
        const { reasons } = await lab.run("ptl_pod_out", reply);
        assert.equal(
          reasons[reason],
          1,
          `state ${state}, ${age} of ${limit} ticks old: ${JSON.stringify(reasons)}`,
        );
      }
    }
  },
);
