// SPDX-License-Identifier: Apache-2.0
// Health follows the programs: an interface whose hook cannot be had is one where Services do not answer.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Rig } from "./support/rig.js";

const LIVEZ = "http://127.0.0.1:10256/livez";
const HEALTHZ = "http://127.0.0.1:10256/healthz";

let rig: Rig;

before(async () => {
  rig = await Rig.start();
});

after(() => rig?.close());

test("portolan agent is not healthy while an interface is without programs, and is again when it has them", async () => {
  const { hostVeth } = rig.world.pod("caller");
  const qdisc = (verb: "add" | "del") => rig.node.exec(["tc", "qdisc", verb, "dev", hostVeth, "ingress"]);
  // A clsact qdisc has no place beside it.
  await qdisc("add");
  const agent = rig.spawn(["--attach", "clsact", "--audit-interval", "1"]);
  await agent.ready();
  assert.equal((await rig.status(LIVEZ, 503)).status, 503);
  const { healthy, nodeEligible } = JSON.parse((await rig.status(HEALTHZ, 503)).body);
  assert.deepEqual({ healthy, nodeEligible }, { healthy: false, nodeEligible: true });
  await qdisc("del");
  await rig.status(LIVEZ, 200, 60_000);
  assert.ok(await rig.answers());
});
