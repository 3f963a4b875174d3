// SPDX-License-Identifier: Apache-2.0
/** Clients that use a VIP and the pods behind it directly, from one source port after another or at once. */
import assert from "node:assert/strict";
import { tcp, udp } from "../support/packet.js";
import { dissectFrame, fieldText } from "../support/packet-dissect.js";
import { type Lab, openBench, type ProtocolName, twins } from "./support/lab.js";
import { answer, opening, web } from "./support/scenario.js";
import { TEST_CONFIG } from "./support/test-kernel.js";

const bench = await openBench();

const sportOf = (frame: Uint8Array, protocol: ProtocolName) =>
  Number(fieldText(dissectFrame(frame), `${protocol}.sport`));

const viaVip = (lab: Lab, protocol: ProtocolName) =>
  lab.packet("client", "vip", opening(protocol, 40000, 80));
const direct = (lab: Lab, protocol: ProtocolName) =>
  lab.packet("client", "backend", opening(protocol, 40000, 8080));

for (const protocol of ["tcp", "udp", "sctp"] as const) {
  twins(
    bench,
    `A ${protocol} flow to a backend's own address passes untouched and is remembered`,
    async (lab) => {
      await web(lab, { protocol });
      await lab.expect("ptl_pod_in", direct(lab, protocol), { reasons: ["PASS_DIRECT"] });
      await lab.expectNat(
        `IN ${protocol} client:40000 > backend:8080 => backend:8080, peer 40000, forward [direct]`,
        `OUT ${protocol} backend:8080 > client:40000 => backend:8080, peer 40000, forward [reply direct]`,
      );
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, 40000)), {
        reasons: ["PASS_DIRECT"],
      });
      await lab.expect("ptl_pod_in", direct(lab, protocol), { reasons: ["PASS_DIRECT"] });
    },
  );

  twins(
    bench,
    `A direct ${protocol} flow beside a live one to the VIP gets a port of its own`,
    async (lab) => {
      await web(lab, { protocol });
      await lab.run("ptl_pod_in", viaVip(lab, protocol));
      const outcome = await lab.run("ptl_pod_in", direct(lab, protocol));
      assert.deepEqual(outcome.reasons, { PASS_DIRECT: 1, SOURCE_PORT_SHIFTED: 1 });
      const own = sportOf(outcome.frame, protocol);
      assert.notEqual(own, 40000);
      await lab.expect("ptl_pod_in", direct(lab, protocol), {
        packet: lab.packet("client", "backend", opening(protocol, own, 8080)),
        reasons: ["PASS_DIRECT"],
      });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, own)), {
        packet: lab.packet("backend", "client", answer(protocol, 8080, 40000)),
        reasons: ["PASS_DIRECT"],
      });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, 40000)), {
        packet: lab.packet("vip", "client", answer(protocol, 80, 40000)),
        reasons: ["TRANSLATED"],
      });
    },
  );

  twins(
    bench,
    `A ${protocol} flow to the VIP beside a live direct one gets a port of its own`,
    async (lab) => {
      await web(lab, { protocol });
      await lab.run("ptl_pod_in", direct(lab, protocol));
      const outcome = await lab.run("ptl_pod_in", viaVip(lab, protocol));
      assert.deepEqual(outcome.reasons, { FLOW_NEW: 1, SOURCE_PORT_SHIFTED: 1 });
      const own = sportOf(outcome.frame, protocol);
      assert.notEqual(own, 40000);
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, 40000)), {
        reasons: ["PASS_DIRECT"],
      });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, own)), {
        packet: lab.packet("vip", "client", answer(protocol, 80, 40000)),
        reasons: ["TRANSLATED"],
      });
    },
  );

  twins(
    bench,
    `A direct ${protocol} flow after a dead one to the VIP is not answered from the VIP`,
    async (lab) => {
      await web(lab, { protocol });
      await lab.run("ptl_pod_in", viaVip(lab, protocol));
      await lab.age(100);
      await lab.expect("ptl_pod_in", direct(lab, protocol), { reasons: ["PASS_DIRECT"] });
      await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, 40000)), {
        reasons: ["PASS_DIRECT"],
      });
    },
  );

  twins(bench, `A ${protocol} flow to the VIP after a dead direct one keeps its port`, async (lab) => {
    await web(lab, { protocol });
    await lab.run("ptl_pod_in", direct(lab, protocol));
    await lab.age(100);
    await lab.expect("ptl_pod_in", viaVip(lab, protocol), {
      packet: lab.packet("client", "backend", opening(protocol, 40000, 8080)),
      reasons: ["FLOW_NEW"],
    });
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", answer(protocol, 8080, 40000)), {
      packet: lab.packet("vip", "client", answer(protocol, 80, 40000)),
      reasons: ["TRANSLATED"],
    });
  });

  twins(
    bench,
    `A direct ${protocol} flow from another node deletes a dead reply entry and leaves no other`,
    async (lab) => {
      await web(lab, { protocol });
      await lab.run("ptl_pod_in", viaVip(lab, protocol));
      await lab.age(100);
      await lab.expect("ptl_net_in", direct(lab, protocol), { reasons: ["PASS_DIRECT"] });
      await lab.expectNat(`IN ${protocol} client:40000 > vip:80 => backend:8080, peer 40000, forward`);
    },
  );
}

twins(bench, "A backend's address on a port that is no backend's is nobody's Service", async (lab) => {
  await web(lab);
  await lab.expect("ptl_pod_in", lab.packet("client", "backend", tcp(40000, 9999)), {
    reasons: ["PASS_NO_SERVICE"],
  });
  await lab.expect("ptl_pod_in", lab.packet("client", "backend", udp(40000, 8080)), {
    reasons: ["PASS_NO_SERVICE"],
  });
  await lab.expectNat();
});

twins(bench, "A datagram from one backend to another that answers is no direct flow", async (lab) => {
  // backend answers backend2, whose source port is a backend's too.
  await web(lab, { protocol: "udp" });
  await web(lab, { protocol: "udp", vip: "vip2", endpoints: [{ host: "backend2", port: 40000 }] });
  await lab.expect("ptl_pod_in", lab.packet("backend2", "vip", udp(40000, 80)), {
    packet: lab.packet("backend2", "backend", udp(40000, 8080)),
    reasons: ["FLOW_NEW"],
  });
  await lab.expect("ptl_pod_in", lab.packet("backend", "backend2", udp(8080, 40000)), {
    reasons: ["PASS_DIRECT"],
  });
  await lab.expectNat(
    "IN udp backend2:40000 > vip:80 => backend:8080, peer 40000, forward",
    "OUT udp backend:8080 > backend2:40000 => vip:80, peer 40000, forward [reply]",
  );
  await lab.expect("ptl_pod_out", lab.packet("backend", "backend2", udp(8080, 40000)), {
    packet: lab.packet("vip", "backend2", udp(80, 40000)),
    reasons: ["TRANSLATED"],
  });
});

twins(bench, "A direct connection that was closed leaves its port to the VIP", async (lab) => {
  await web(lab);
  const both = async (flags: string, reply: string) => {
    await lab.run("ptl_pod_in", lab.packet("client", "backend", tcp(40000, 8080, flags)));
    await lab.run("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, reply)));
  };
  await both("S", "SA");
  await both("A", "A");
  await both("FA", "FA");
  await lab.age(TEST_CONFIG.timeoutTcpClosed);
  await lab.expect("ptl_pod_in", viaVip(lab, "tcp"), {
    packet: lab.packet("client", "backend", tcp(40000, 8080)),
    reasons: ["FLOW_NEW"],
  });
});

twins(bench, "A direct connection that is opened anew from the same port keeps the port", async (lab) => {
  await web(lab);
  const again = async () => {
    await lab.expect("ptl_pod_in", direct(lab, "tcp"), { reasons: ["PASS_DIRECT"] });
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, "SA")), {
      reasons: ["PASS_DIRECT"],
    });
    await lab.expect("ptl_pod_in", lab.packet("client", "backend", tcp(40000, 8080, "A")), {
      reasons: ["PASS_DIRECT"],
    });
  };
  await again();
  await again();
});

twins(bench, "A client may take turns between the VIP and the backend itself from one port", async (lab) => {
  await web(lab);
  for (let turn = 0; turn < 4; turn++) {
    await lab.expect("ptl_pod_in", viaVip(lab, "tcp"), {
      packet: lab.packet("client", "backend", tcp(40000, 8080)),
      reasons: ["FLOW_NEW"],
    });
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, "RA")), {
      packet: lab.packet("vip", "client", tcp(80, 40000, "RA")),
      reasons: ["TRANSLATED"],
    });
    await lab.age(TEST_CONFIG.timeoutTcpClosed);
    await lab.expect("ptl_pod_in", direct(lab, "tcp"), { reasons: ["PASS_DIRECT"] });
    await lab.expect("ptl_pod_out", lab.packet("backend", "client", tcp(8080, 40000, "RA")), {
      reasons: ["PASS_DIRECT"],
    });
    await lab.age(TEST_CONFIG.timeoutTcpClosed);
  }
});
