// SPDX-License-Identifier: Apache-2.0
// What the agent says of itself and its Node: health, events, and the ends that its supervisor acts on.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { layoutDirectory } from "../../src/dataplane/pins.js";
import type { StoredObject } from "../support/apiserver/resources.js";
import { eventually, type NodeAgent } from "../support/cluster.js";
import { type KubeObject, service } from "../support/manifests.js";
import { ended, Rig, VIP } from "./support/rig.js";

const HEALTHZ = "http://127.0.0.1:10256/healthz";
const LIVEZ = "http://127.0.0.1:10256/livez";
const LB_VIP = "10.96.7.20";
const CHECK_PORT = 30_000;
/** Twice this is what makes a change that is not written unhealthy (10.2). */
const SYNC_PERIOD = ["--iptables-sync-period", "1s", "--iptables-min-sync-period", "0s"];

let rig: Rig;
let agent: NodeAgent | undefined;

before(async () => {
  rig = await Rig.start();
});

afterEach(async () => {
  await agent?.end("SIGKILL");
  rig.api.apply(rig.nodeObject());
});

after(() => rig?.close());

/** M01, M04, M07: a load balancer's Service with a health check port. */
function balanced(): KubeObject {
  const plain = service("m", [LB_VIP], [{ name: "http", port: 80 }]) as KubeObject & { spec: object };
  const spec = {
    ...plain.spec,
    type: "LoadBalancer",
    externalTrafficPolicy: "Local",
    healthCheckNodePort: CHECK_PORT,
  };
  return { ...plain, spec, status: { loadBalancer: { ingress: [{ ip: "1.2.3.4" }] } } } as KubeObject;
}

interface EventObject {
  readonly reason: string;
  readonly type: string;
  readonly action: string;
  readonly note: string;
  readonly reportingController: string;
  readonly regarding: {
    readonly kind: string;
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
  };
}

const events = (reason: string): readonly (StoredObject & EventObject)[] =>
  rig.api
    .all("events.events.k8s.io")
    .map((object) => object as StoredObject & EventObject)
    .filter((event) => event.reason === reason);

const eventOf = (reason: string): Promise<StoredObject & EventObject> =>
  eventually(`an event ${reason}`, async () => events(reason).at(-1));

test("portolan agent posts that it is starting, about its Node, as kube-proxy does (13.3)", async () => {
  agent = await rig.ready();
  const event = await eventOf("Starting");
  const { type, action, reportingController, regarding } = event;
  assert.deepEqual(
    { type, action, reportingController },
    { type: "Normal", action: "StartKubeProxy", reportingController: "kube-proxy" },
  );
  assert.deepEqual(regarding, { apiVersion: "v1", kind: "Node", name: rig.node.name });
});

test("portolan agent fails /healthz while the autoscaler's taint is on its Node, and never /livez (M05)", async () => {
  agent = await rig.ready();
  await rig.status(HEALTHZ, 200);
  rig.api.update(
    rig.nodeObject({ spec: { taints: [{ key: "ToBeDeletedByClusterAutoscaler", effect: "NoExecute" }] } }),
  );
  const { body } = await rig.status(HEALTHZ, 503);
  const { nodeEligible, healthy } = JSON.parse(body);
  assert.deepEqual({ nodeEligible, healthy }, { nodeEligible: false, healthy: true });
  const alive = await rig.get(LIVEZ);
  assert.equal(alive.status, 200);
  assert.equal("nodeEligible" in JSON.parse(alive.body), false);
  rig.api.update(rig.nodeObject());
  await rig.status(HEALTHZ, 200);
});

test("portolan agent ends with 1 when its Node's address changes, and what it wrote stays (M06, 1.16)", async () => {
  agent = await rig.ready();
  rig.api.update(rig.nodeObject({ address: "192.0.2.77" }));
  assert.equal(await ended(agent), 1);
  const last = agent.lines.at(-1);
  assert.equal(last?.code, "E_NODE_ADDRESSES_CHANGED", agent.tail());
  assert.match(String(last?.reason), new RegExp(`were ${rig.node.address.ip4} and are 192\\.0\\.2\\.77 now`));
  assert.ok(await rig.answers());
});

test("portolan agent ends with 1 when its Node is deleted, and a new one waits for it (M06, 1.16)", async () => {
  agent = await rig.ready();
  rig.api.delete(rig.nodeObject());
  assert.equal(await ended(agent), 1);
  assert.equal(agent.lines.at(-1)?.code, "E_NODE_DELETED", agent.tail());
  assert.ok(await rig.answers());
  agent = rig.spawn();
  await agent.line(({ code }) => code === "node_missing");
  assert.ok(await rig.answers());
  rig.api.create(rig.nodeObject());
  await agent.ready();
  assert.ok(await rig.answers());
});

test("portolan agent with --detect-local-mode NodeCIDR waits for podCIDRs, and ends with 1 when they are others (1.8, 1.16)", async () => {
  agent = rig.spawn([
    "--detect-local-mode",
    "NodeCIDR",
    "--feature-gates",
    "MultiCIDRServiceAllocator=false",
  ]);
  await agent.line(({ code }) => code === "E_NODE_WITHOUT_POD_CIDR");
  rig.api.update(rig.nodeObject({ spec: { podCIDRs: ["10.244.1.0/24"] } }));
  await agent.ready();
  assert.deepEqual(rig.api.openWatches({ resource: "servicecidrs" }), [], "the gate is off (1.6)");
  rig.api.update(rig.nodeObject({ spec: { podCIDRs: ["10.244.2.0/24"] } }));
  assert.equal(await ended(agent), 1);
  assert.equal(agent.lines.at(-1)?.code, "E_NODE_POD_CIDRS_CHANGED", agent.tail());
  assert.ok(await rig.answers());
});

test("portolan agent does no work for a Node whose labels and status change without meaning (1.17)", async () => {
  agent = await rig.ready();
  const mark = agent.mark();
  const node = rig.nodeObject();
  rig.api.update({
    ...node,
    metadata: { ...node.metadata, labels: { "topology.kubernetes.io/zone": "zone-a", other: "1" } },
  });
  // What comes after it in the same watch cannot be seen before it.
  rig.api.update(
    rig.nodeObject({ spec: { taints: [{ key: "ToBeDeletedByClusterAutoscaler", effect: "NoSchedule" }] } }),
  );
  await rig.status(HEALTHZ, 503);
  assert.deepEqual(
    agent.lines.slice(mark).filter(({ msg }) => msg === "synced"),
    [],
  );
});

test("portolan agent posts a Warning about a health check port that is taken, serves the Service, and opens the port when it is free (M07)", async () => {
  const squatter = rig.node.spawn(
    [
      process.execPath,
      "-e",
      `require("node:net").createServer().listen(${CHECK_PORT}, () => console.log("there"))`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await new Promise((resolve) => squatter.stdout?.once("data", resolve));
  agent = await rig.ready(["--audit-interval", "1"]);
  const { metadata } = rig.api.create(balanced());
  rig.api.create(rig.slice("m", rig.node.name));
  const event = await eventOf("FailedToStartServiceHealthcheck");
  assert.equal(event.type, "Warning");
  assert.equal(event.action, "Listen");
  assert.deepEqual(event.regarding, {
    apiVersion: "v1",
    kind: "Service",
    namespace: "default",
    name: "m",
    uid: metadata.uid,
  });
  assert.match(
    event.note,
    new RegExp(`node ${rig.node.name} .*"default/m" on port ${CHECK_PORT}: .*EADDRINUSE`),
  );
  await eventually("the load balancer's address answers", async () =>
    (await rig.answers("1.2.3.4")) ? true : undefined,
  );
  squatter.kill("SIGKILL");
  const { headers } = await rig.status(`http://127.0.0.1:${CHECK_PORT}/`, 200);
  assert.equal(headers["x-load-balancing-endpoint-weight"], "1");
  rig.api.delete(balanced());
});

/** What no program can write any more: as after a mistake with capabilities, or with memory. For good. */
async function freeze(map: string): Promise<void> {
  await rig.node.exec(["bpftool", "map", "freeze", "pinned", `${layoutDirectory(rig.bpfRoot)}/${map}`]);
}

// The last ones: frozen maps stay so.

test("portolan agent is not healthy when a change cannot be written for twice its syncPeriod (M04)", async () => {
  rig.api.apply(balanced());
  rig.api.apply(rig.slice("m", rig.node.name));
  agent = await rig.ready(SYNC_PERIOD);
  await rig.status(HEALTHZ, 200);
  await rig.status(`http://127.0.0.1:${CHECK_PORT}/`, 200);
  await freeze("frontends4");
  assert.equal((await rig.get(LIVEZ)).status, 200, "nothing waits to be written");
  rig.api.create(service("new", ["10.96.7.30"], [{ name: "http", port: 80 }]));
  const { body } = await rig.status(HEALTHZ, 503);
  const { healthy, nodeEligible } = JSON.parse(body);
  assert.deepEqual({ healthy, nodeEligible }, { healthy: false, nodeEligible: true });
  assert.equal((await rig.get(LIVEZ)).status, 503);
  const check = await rig.get(`http://127.0.0.1:${CHECK_PORT}/`);
  assert.equal(check.status, 503);
  assert.equal(JSON.parse(check.body).serviceProxyHealthy, false);
  assert.ok(await rig.answers(VIP), "what was written goes on");
  const failed = agent.lines.find(({ msg }) => msg === "cannot write the service maps");
  assert.deepEqual({ map: failed?.map, errno: failed?.errno }, { map: "frontends4", errno: "EPERM" });
});

test("portolan agent that has nothing to write finds within an audit that its maps take no writes", async () => {
  rig.api.delete(service("new", ["10.96.7.30"], [{ name: "http", port: 80 }]));
  agent = await rig.ready(["--audit-interval", "1"]);
  await rig.status(LIVEZ, 200);
  await freeze("interfaces");
  await rig.status(LIVEZ, 503);
  const metrics = await rig.get("http://127.0.0.1:10249/metrics");
  assert.equal(metrics.status, 200);
});
