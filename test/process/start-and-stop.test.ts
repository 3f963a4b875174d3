// SPDX-License-Identifier: Apache-2.0
// The agent's process with an API server: the order of its start, how it ends, and what stays in the kernel meanwhile.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, afterEach, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { awakeNow, undisturbed } from "../support/awake.js";
import type { NodeAgent } from "../support/cluster.js";
import { service } from "../support/manifests.js";
import { ended, Rig, VIP } from "./support/rig.js";

const NEW_VIP = "10.96.7.11";
const PORTS = [{ name: "http", port: 80 }];

let rig: Rig;
let agent: NodeAgent | undefined;

before(async () => {
  rig = await Rig.start();
});

afterEach(async () => {
  rig.api.clearFaults();
  await rig.gate.open();
  await agent?.end("SIGKILL");
});

after(() => rig?.close());

test("portolan agent waits for its Node (1.8) and for the lists of Services and of slices (1.9) before it writes", async () => {
  rig.api.delete(rig.nodeObject());
  const slices = rig.api.fault({ resource: "endpointslices" }, { kind: "status", code: 500 });
  agent = rig.spawn();
  await rig.api.watched("services");
  await agent.line(({ msg }) => msg === "attached");
  assert.deepEqual(await rig.rows(), []);
  rig.api.create(rig.nodeObject());
  await rig.api.watched("nodes");
  const asked = slices.hits;
  await rig.api.until("slices are asked for again", () => slices.hits > asked);
  assert.deepEqual(await rig.rows(), [], "half of what there is would reject what is served");
  slices.remove();
  await agent.ready();
  assert.deepEqual(
    (await rig.rows()).map(({ key }) => key),
    ["default/web:http/TCP"],
  );
  assert.ok(await rig.answers());
});

test("portolan agent that was killed comes back, and no connection fails before, between and after (N01)", async () => {
  agent = await rig.ready();
  const caller = await rig.caller;
  assert.ok((await caller.open("kept", { dst: VIP, port: 80 })).ok);
  await caller.loadStart("steady", { dst: VIP, port: 80, rst: true }, { threads: 2, gap: 5_000 });
  await agent.end("SIGKILL");
  const before = agent.lines.length;
  assert.ok(await rig.answers());
  agent = await rig.ready();
  const synced = agent.lines.find(({ msg }) => msg === "synced");
  assert.equal(synced?.writes, 0, `nothing has changed (${before})`);
  const { attempts, good } = await caller.loadStop("steady");
  assert.ok(attempts > 20);
  assert.equal(good, attempts);
  assert.ok((await caller.ask("kept")).ok);
  await caller.close("kept");
});

test("portolan agent that starts without its API server keeps what it finds pinned: traffic flows, nothing is deleted", async () => {
  agent = await rig.ready();
  const rows = await rig.rows();
  await agent.end("SIGKILL");
  rig.gate.cut();
  agent = rig.spawn();
  await agent.line(({ msg }) => msg === "attached");
  // Longer than the first steps of its back-off.
  const end = awakeNow() + 3_000;
  while (awakeNow() < end) {
    assert.ok(await rig.answers());
    await pause(100);
  }
  assert.deepEqual(await rig.rows(), rows);
  const { status, body } = await rig.get("http://127.0.0.1:10256/healthz");
  assert.equal(status, 503, "no Node is known");
  assert.equal(JSON.parse(body).healthy, true);
  assert.equal((await rig.get("http://127.0.0.1:10256/livez")).status, 200);
  rig.api.create(service("late", [NEW_VIP], PORTS));
  rig.api.create(rig.slice("late"));
  await rig.gate.open();
  await agent.ready();
  assert.ok(await rig.answers(NEW_VIP));
  rig.api.delete(service("late", [NEW_VIP], PORTS));
});

test("portolan agent starts with unknown fields in its file, says so, and follows the others (N05)", async () => {
  const path = `${rig.api.directory}/lenient.yaml`;
  writeFileSync(
    path,
    `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
noSuchField: 1
metricsBindAddress: 127.0.0.1:10777
clientConnection:
  kubeconfig: ${rig.kubeconfig()}
conntrack:
  maxPerCore: 0
`,
  );
  agent = await rig.ready(["--config", path]);
  const told = agent.lines.find(({ msg, name }) => msg === "setting" && name === "noSuchField");
  assert.equal(told?.level, "warn");
  assert.equal((await rig.get("http://127.0.0.1:10777/proxyMode")).body, "iptables");
  const metrics = await rig.get("http://127.0.0.1:10777/metrics");
  assert.match(metrics.body, /^portolan_source_synced\{resource="services"\} 1$/m);
  assert.match(metrics.body, /^kubeproxy_sync_proxy_rules_service_changes_total 1$/m);
});

test("portolan agent ends with 1 when its configuration is rewritten, and the dataplane stays up (12.3)", async () => {
  const path = `${rig.api.directory}/rewritten.yaml`;
  const text = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection:
  kubeconfig: ${rig.kubeconfig()}
conntrack:
  maxPerCore: 0
`;
  writeFileSync(path, text);
  agent = await rig.ready(["--config", path]);
  writeFileSync(path, `${text}mode: nftables\n`);
  assert.equal(await ended(agent), 1);
  const last = agent.lines.at(-1);
  assert.equal(last?.code, "E_CONFIG_CHANGED", agent.tail());
  assert.match(String(last?.reason), /rewritten\.yaml was rewritten/);
  assert.ok(await rig.answers());
});

test("portolan agent ends with 0 on SIGTERM and leaves the dataplane up (12.8)", async () => {
  agent = await rig.ready();
  agent.process.kill("SIGTERM");
  assert.equal(await ended(agent), 0);
  assert.equal(agent.lines.at(-1)?.msg, "stopped");
  assert.ok(await rig.answers());
});

test("portolan agent ends at once on a second Ctrl-C", async (t) => {
  // Its first event is not taken: the end waits for it, for a moment, in which the second signal must come.
  const create = { verb: "create", where: ({ status }: { status: number }) => status === 0 } as const;
  rig.api.fault({ verb: "create" }, { kind: "no-headers" });
  await undisturbed(t, async () => {
    await agent?.end("SIGKILL");
    const before = rig.api.requestsOf(create).length;
    agent = await rig.ready();
    await rig.api.request(create, before + 1);
    agent.process.kill("SIGINT");
    await agent.line(({ msg }) => msg === "stopping; the dataplane stays up");
    agent.process.kill("SIGINT");
    assert.equal(await ended(agent), 130);
  });
  assert.ok(await rig.answers());
});

test("portolan agent prepares nothing but the host with --init-only, and ends with 0 (12.7)", async () => {
  agent = rig.spawn(["--init-only", "--conntrack-tcp-timeout-established", "12h"]);
  assert.equal(await ended(agent), 0);
  const { stdout } = await rig.node.exec([
    "cat",
    "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
  ]);
  assert.equal(stdout.trim(), "43200");
  const written = agent.lines.find(({ msg }) => msg === "kernel setting written");
  assert.equal(written?.value, 43200);
  assert.equal(
    agent.lines.some(({ msg }) => msg === "starting"),
    false,
  );
});
