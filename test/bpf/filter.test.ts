// SPDX-License-Identifier: Apache-2.0
/** TCP that belongs to no flow leaves in front of the look-up, everything that may be ours does not, and no flow is missed. */
import assert from "node:assert/strict";
import { Marks } from "../../src/abi/enums.gen.js";
import { completeMarks, distrustMarks, markCells, missingMarks } from "../../src/dataplane/flow-marks.js";
import { packIndexes } from "../../src/native/hooks.js";
import { tcp, udp } from "../support/packet.js";
import { type Lab, openBench, type ReasonName, twins } from "./support/lab.js";
import { backendSends, clientSends, establish, WEB_FLOW, web } from "./support/scenario.js";

const bench = await openBench({}, undefined, { marks: true });

/** Takes every mark away and leaves the word that they are complete: what the programs believe then is wrong. */
async function forgetMarks(lab: Lab): Promise<void> {
  const cells = packIndexes(Array.from({ length: Marks.COUNT }, (_, cell) => cell));
  const values = new Uint8Array(4 * Marks.COUNT);
  await lab.write([{ map: "flow_marks", kind: "update", count: Marks.COUNT, keys: cells, values }]);
}

/** An empty table's marks, trusted. */
async function fresh(lab: Lab): Promise<void> {
  await forgetMarks(lab);
  await lab.empty(lab.family === 4 ? "nat6" : "nat4"); // the marks are of both families
  await completeMarks(lab.kernel);
}

/** A segment of the flow, each way, passes as it came. */
async function passes(lab: Lab, flags = "A"): Promise<void> {
  const cases: readonly ["ptl_pod_in" | "ptl_pod_out", ReasonName, ReturnType<Lab["packet"]>][] = [
    ["ptl_pod_in", "PASS_TCP_NO_ENTRY", lab.packet("client", "vip", tcp(40000, 80, flags))],
    ["ptl_pod_out", "PASS_EGRESS_MISS", lab.packet("backend", "client", tcp(8080, 40000, flags))],
  ];
  for (const [program, reason, packet] of cases) await lab.expect(program, packet, { reasons: [reason] });
}

twins(
  bench,
  "A flow's marks are made with it, and without them its packets are not looked up",
  async (lab) => {
    await fresh(lab);
    await web(lab);
    await establish(lab);
    assert.deepEqual(await missingMarks(lab.kernel), []);
    await clientSends(lab, WEB_FLOW, "A");
    await backendSends(lab, WEB_FLOW, "A");
    await forgetMarks(lab); // the proof that nothing is looked up: the entries are all there
    await passes(lab);
    const missing = await missingMarks(lab.kernel);
    assert.equal(missing?.length, 2, "one cell for each entry");
    await markCells(lab.kernel, missing);
    assert.deepEqual(await missingMarks(lab.kernel), []);
    await clientSends(lab, WEB_FLOW, "A");
    await backendSends(lab, WEB_FLOW, "A");
  },
);

twins(bench, "Marks that are not complete say nothing", async (lab) => {
  await fresh(lab);
  await web(lab);
  await establish(lab);
  await forgetMarks(lab);
  await distrustMarks(lab.kernel);
  assert.equal(await missingMarks(lab.kernel), null);
  await clientSends(lab, WEB_FLOW, "A");
  await backendSends(lab, WEB_FLOW, "A");
  await completeMarks(lab.kernel); // as an agent does that finds entries without marks
  await clientSends(lab, WEB_FLOW, "A");
  await backendSends(lab, WEB_FLOW, "A");
});

twins(bench, "A flow whose Service and backend are gone goes on", async (lab) => {
  await fresh(lab);
  const service = await web(lab);
  await establish(lab);
  await lab.deleteFrontend(service.spec);
  for (const [cell] of service.cells.entries()) {
    const index = service.cells[cell] as number;
    await lab.retire(index, service.index, { host: "unspecified", port: 0 });
  }
  await completeMarks(lab.kernel);
  await clientSends(lab, WEB_FLOW, "A");
  await backendSends(lab, WEB_FLOW, "A");
});

twins(bench, "What opens a flow, or is no TCP, is looked up whatever the marks say", async (lab) => {
  await fresh(lab);
  await web(lab);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40001, 81, "S")), {
    verdict: "redirect",
    packet: (await lab.run("ptl_pod_in", lab.packet("client", "vip", tcp(40001, 81, "S")))).frame,
    reasons: ["REJECT_NO_PORT"],
  });
  await clientSends(lab, WEB_FLOW, "S");
  await lab.expect("ptl_pod_in", lab.packet("client", "stranger", udp(40000, 53)), {
    reasons: ["PASS_NO_SERVICE"],
  });
  await lab.expect("ptl_pod_in", lab.packet("client", "stranger", tcp(40000, 443, "S")), {
    reasons: ["PASS_NO_SERVICE"],
  });
});

twins(bench, "A masqueraded flow has the marks of both its pairs", async (lab) => {
  await fresh(lab);
  await web(lab, { flags: 2 }); // PTL_FRONTEND_MASQUERADE
  await clientSends(lab, WEB_FLOW, "S");
  const out = await lab.run("ptl_pod_out", lab.packet("client", "backend", tcp(40000, 8080, "S")));
  assert.equal(out.reasons.MASQUERADED, 1);
  assert.equal((await lab.natEntries()).length, 4);
  assert.deepEqual(await missingMarks(lab.kernel), []);
  // segments behind the first, which open nothing, still get the node's address
  const again = await lab.run("ptl_pod_out", lab.packet("client", "backend", tcp(40000, 8080, "A")));
  assert.deepEqual(again.reasons, { TRANSLATED: 1 });
});

twins(bench, "An entry that was put back has its mark", async (lab) => {
  await fresh(lab);
  await web(lab);
  await establish(lab);
  const entries = await lab.natEntries();
  assert.equal(entries.length, 2);
  const { keys, values } = await lab.kernel.dump(lab.map("nat"));
  const size = keys.length / 2;
  const leading = [0, 1].find((i) => keys[(i + 1) * size - 3] === 0) as number; // direction IN
  const reply = keys.subarray((1 - leading) * size, (2 - leading) * size);
  await lab.write([
    { map: lab.map("nat"), kind: "delete", count: 1, keys: reply, values: values.subarray(0, 0) },
  ]);
  await fresh(lab);
  await lab.expect("ptl_pod_in", lab.packet("client", "vip", tcp(40000, 80, "FA")), {
    packet: lab.packet("client", "backend", tcp(40000, 8080, "FA")),
    reasons: ["TRANSLATED", "PAIR_RESTORED"],
  });
  assert.deepEqual(await missingMarks(lab.kernel), []);
});
