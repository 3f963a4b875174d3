// SPDX-License-Identifier: Apache-2.0
// A real agent on a node of the test's own, with kernel maps, against an API server: the fixture, and a real one where there is one.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { nodeAddress } from "../../src/demo/world/plan.js";
import { AgentFollower, oneNode } from "../support/apiserver/agent-follower.js";
import { backends, NOT_REAL } from "../support/apiserver/backend.js";
import { RealApi } from "../support/apiserver/real-api.js";
import { eventually } from "../support/cluster.js";
import { drivesMapsByControllers } from "./controllers.js";
import { slice, suite, web } from "./suite.js";

const NODE = { name: "n1", address: nodeAddress(1).ip4 };
const PROXY_NAME = "service.kubernetes.io/service-proxy-name";
const VIP = "10.96.7.200";

for (const choice of backends())
  describe(`portolan agent against ${choice.name}`, () => {
    let world: World;
    before(async () => {
      world = await oneNode();
    });
    after(() => world?.close());

    const bench = suite("portolan agent", choice, NODE, (backend, gate) =>
      AgentFollower.start(world, backend, gate),
    );

    test(`portolan agent, against ${choice.name}, carries traffic to a Service, and an established flow outlives the proxy-name label (1.2)`, async () => {
      const { admin } = bench.backend();
      const caller = await bench.follower().caller;
      await admin.create(web("traffic", 200));
      await admin.create(slice("traffic", world.pod("web").ip4));
      await bench.same("the Service is there");
      const target = { dst: VIP, port: 80, timeout: 2000 };
      assert.ok((await caller.open("kept", target)).ok);
      await admin.mergePatch(web("traffic", 200), { metadata: { labels: { [PROXY_NAME]: "" } } });
      await bench.same("the Service has gone");
      assert.ok((await caller.ask("kept")).ok, "the flow goes on");
      assert.ok(!(await caller.connect(target)).ok, "a new one does not come through");
      await admin.mergePatch(web("traffic", 200), { metadata: { labels: { [PROXY_NAME]: null } } });
      await bench.same("the Service is back");
      assert.ok((await caller.ask("kept")).ok);
      assert.ok((await caller.connect(target)).ok);
    });

    test(`portolan agent, against ${choice.name}, carries traffic while the server is away`, async () => {
      const caller = await bench.follower().caller;
      bench.gate().cut();
      assert.ok((await caller.connect({ dst: VIP, port: 80 })).ok);
      await bench.gate().open();
      await eventually("it is connected again", async () => (bench.gate().count > 0 ? true : undefined));
      await bench.same("nothing is lost");
      bench.follower().check();
    });

    test(`portolan agent, against ${choice.name}, is driven by a Deployment whose Pods are faked`, async (t) => {
      const backend = bench.backend();
      if (!(backend instanceof RealApi && backend.hasControllers))
        return t.skip("NOT RUN: no kube-controller-manager in KUBEBUILDER_ASSETS");
      await drivesMapsByControllers(backend, bench, NODE.name);
    });
  });

test("portolan agent is tested against a real kube-apiserver", {
  skip: backends().length > 1 ? false : "KUBEBUILDER_ASSETS is not set",
}, () => {});

if (backends().length === 1) process.stderr.write(NOT_REAL);
