// SPDX-License-Identifier: Apache-2.0
// The agent and its node: sockets of the host's own programs, addresses, the firewall, health check ports.
import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { after, before, test } from "node:test";
import { layoutDirectory } from "../../src/dataplane/pins.js";
import type { Node } from "../../src/demo/world/index.js";
import { Cluster, type LogLine } from "../support/cluster.js";
import type { HostAgent } from "../support/host-agent.js";
import { type CliResult, cli } from "./run-cli.js";

const VIP = "10.96.1.1";
const HEALTH_PORT = 31999;

let cluster: Cluster;
let node: Node;
let host: HostAgent;

/** A load balancer's Service of both protocols, and its endpoints: a pod of this node, or nobody. */
function objects(pod: string | null): readonly object[] {
  const ports = [
    { name: "http", protocol: "TCP", port: 80, targetPort: 8080, nodePort: 30080 },
    { name: "dns", protocol: "UDP", port: 53, targetPort: 5353, nodePort: 30053 },
  ];
  const spec = {
    type: "LoadBalancer",
    clusterIP: VIP,
    clusterIPs: [VIP],
    externalTrafficPolicy: "Local",
    healthCheckNodePort: HEALTH_PORT,
    ports,
  };
  const slicePorts = ports.map(({ name, protocol, targetPort }) => ({ name, protocol, port: targetPort }));
  const endpoints = pod === null ? [] : [{ addresses: [pod], nodeName: "n1", conditions: { ready: true } }];
  const labels = { "kubernetes.io/service-name": "web" };
  return [
    { apiVersion: "v1", kind: "Service", metadata: { name: "web", namespace: "default" }, spec },
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "web-1", namespace: "default", labels },
      addressType: "IPv4",
      ports: slicePorts,
      endpoints,
    },
  ];
}

before(async () => {
  cluster = await Cluster.start({
    world: { nodes: 1 },
    pods: [{ node: 1, name: "web-1" }],
    manifests: (world) => ({ "web.json": objects(world.pod("web-1").ip4) }),
    agentArgs: ["--audit-interval", "1"],
  });
  node = cluster.world.node(1);
  host = await cluster.inCgroup(node);
});

after(() => cluster?.close());

const says =
  (msg: string) =>
  (line: LogLine): boolean =>
    line.msg === msg;

async function nodePortAddresses(): Promise<readonly string[]> {
  const { stdout } = await cluster.cli(node, ["services", "-o", "json"]);
  return (JSON.parse(stdout) as { nodePortAddresses: readonly string[] }).nodePortAddresses;
}

/** Status and body of what answers on the node's own address. */
async function health(): Promise<string> {
  const url = `http://${node.address.ip4}:${HEALTH_PORT}/`;
  const script = `fetch("${url}").then(async (r) => console.log(r.status, JSON.stringify(await r.json())))`;
  return (await node.exec([process.execPath, "-e", script])).stdout;
}

test("portolan agent serves programs of the host at their sockets: ClusterIP, NodePort, and loopback NodePort (6.5)", async () => {
  for (const [dst, port] of [
    [VIP, 80],
    [node.address.ip4, 30080],
    ["127.0.0.1", 30080],
  ] as const) {
    const answer = await host.connect({ dst, port, timeout: 2000 });
    assert.equal(answer.who, "web-1", `${dst}:${port} ${JSON.stringify(answer)}`);
  }
  const udp = await host.connect({ dst: VIP, port: 53, proto: "udp", timeout: 2000 });
  assert.deepEqual([udp.who, udp.from, udp.fromPort], ["web-1", VIP, 53], "the Service answers");
});

test("portolan agent ends a connected UDP socket whose backend is gone, and its Service refuses then (9.3)", async () => {
  const agent = cluster.agent(node);
  const target = { dst: VIP, port: 53, proto: "udp", connected: true, timeout: 2000 } as const;
  assert.ok((await host.open("resolver", target)).ok);
  const mark = agent.mark();
  await cluster.apply("web.json", objects(null));
  await agent.line(says("sockets of removed backends ended"), mark);
  const asked = await host.ask("resolver", { timeout: 2000 });
  assert.equal(asked.ok, false);
  assert.notEqual(asked.errno, "ETIMEDOUT", `it is told at once: ${JSON.stringify(asked)}`);
  await host.close("resolver");
  const refused = await host.connect({ dst: VIP, port: 80, timeout: 2000 });
  assert.deepEqual([refused.stage, refused.errno], ["connect", "ECONNREFUSED"]);
  await cluster.apply("web.json", objects(cluster.pod("web-1").ip4));
  assert.ok((await host.connect({ dst: VIP, port: 80 })).ok);
});

test("portolan agent leaves a connected UDP socket alone whose backend still serves", async () => {
  const target = { dst: VIP, port: 53, proto: "udp", connected: true, timeout: 2000 } as const;
  assert.ok((await host.open("resolver", target)).ok);
  const [service, slice] = objects(cluster.pod("web-1").ip4);
  const other = { ...service, metadata: { name: "other", namespace: "default" } };
  const spec = { ...(service as { spec: object }).spec, clusterIP: "10.96.1.2", clusterIPs: ["10.96.1.2"] };
  const plain = {
    ...spec,
    type: "ClusterIP",
    externalTrafficPolicy: undefined,
    healthCheckNodePort: undefined,
  };
  const ports = [{ name: "dns", protocol: "UDP", port: 53 }];
  await cluster.apply("web.json", [
    service as object,
    slice as object,
    { ...other, spec: { ...plain, ports } },
  ]);
  assert.equal((await host.ask("resolver", { timeout: 2000 })).who, "web-1");
  await host.close("resolver");
  await cluster.apply("web.json", objects(cluster.pod("web-1").ip4));
});

test("portolan agent answers on the health check port with the local endpoints that the maps have (6.20 to 6.25)", async () => {
  assert.match(await health(), /^200 .*"localEndpoints":1,"serviceProxyHealthy":true/);
  await cluster.apply("web.json", objects(null));
  assert.match(await health(), /^503 .*"localEndpoints":0/);
  await cluster.apply("web.json", objects(cluster.pod("web-1").ip4));
  assert.match(await health(), /^200 /);
});

test("portolan agent serves NodePorts on an address that comes later, and not on one that has gone (6.1)", async () => {
  const agent = cluster.agent(node);
  assert.ok((await nodePortAddresses()).includes(node.address.ip4));
  let mark = agent.mark();
  await node.ip(["addr add 192.168.50.77/24 dev eth0"]);
  await agent.line(says("synced"), mark);
  assert.ok((await nodePortAddresses()).includes("192.168.50.77"));
  assert.equal((await host.connect({ dst: "192.168.50.77", port: 30080, timeout: 2000 })).who, "web-1");
  mark = agent.mark();
  await node.ip(["addr del 192.168.50.77/24 dev eth0"]);
  await agent.line(says("synced"), mark);
  assert.ok(!(await nodePortAddresses()).includes("192.168.50.77"));
});

test("portolan agent puts socket programs back which somebody has taken off, within its audit interval", async () => {
  const agent = cluster.agent(node);
  const mark = agent.mark();
  const pin = `${layoutDirectory(cluster.bpfRoot(node))}/links/socket-connect4`;
  rmSync(pin);
  await agent.line(says("socket programs were taken off by someone else"), mark);
  assert.ok(existsSync(pin));
  assert.ok((await host.connect({ dst: VIP, port: 80 })).ok);
});

test("portolan agent lets translated packets through a FORWARD that comes to drop, and cleanup takes its rules away (8.11)", async () => {
  const rules = async (): Promise<string> => (await node.exec(["iptables-nft-save", "-t", "filter"])).stdout;
  const agent = cluster.agent(node);
  const mark = agent.mark();
  await node.exec(["iptables-nft", "-P", "FORWARD", "DROP"]);
  if (!(await rules()).includes("-A FORWARD -j PORTOLAN-FORWARD"))
    await agent.line(says("firewall rules changed"), mark);
  assert.match(await rules(), /-A PORTOLAN-FORWARD -m mark --mark 0x2000\/0x2000 -j ACCEPT/);
  await agent.end("SIGTERM");
  assert.match(await rules(), /PORTOLAN-FORWARD/, "they stay, as the dataplane does (12.8)");
  const { stdout } = await cluster.cli(node, ["cleanup", "-o", "json"]);
  assert.ok((JSON.parse(stdout) as { firewallTables: number }).firewallTables > 0, stdout);
  assert.doesNotMatch(await rules(), /PORTOLAN/);
  await node.exec(["iptables-nft", "-P", "FORWARD", "ACCEPT"]);
});

test("portolan agent --socket-lb off takes off what an agent before it has left; host programs reach nothing", async () => {
  await cluster.startAgent(node);
  assert.ok((await host.connect({ dst: VIP, port: 80 })).ok);
  await cluster.agent(node).end("SIGTERM");
  const agent = await cluster.startAgent(node, ["--socket-lb", "off"]);
  assert.equal(agent.lines.find(says("socket hooks detached"))?.hooks, 8);
  assert.equal((await host.connect({ dst: VIP, port: 80, timeout: 500 })).ok, false);
  await agent.end("SIGTERM");
});

// From here on no agent runs.
function refusedAgent(...args: readonly string[]): Promise<CliResult> {
  const common = ["--manifests", `${cluster.directory}/manifests`, "--bpf-root", cluster.bpfRoot(node)];
  return cli(["agent", ...common, ...args], { inside: node.inside([]) });
}

test("portolan agent --detect-local-mode NodeCIDR does not start without the Node's podCIDRs, and says whose", async () => {
  const { code, stderr } = await refusedAgent("--detect-local-mode=NodeCIDR", "--hostname-override=n7");
  assert.equal(code, 3);
  assert.match(
    stderr,
    /^portolan: --detect-local-mode NodeCIDR: the manifests have no Node n7 with spec\.podCIDRs$/m,
  );
});

for (const [option, says] of [
  ["--nodeport-addresses=primary,10.0.0.0/8", /^portolan: --nodeport-addresses: primary cannot stand beside/],
  ["--cgroup-root=/nonexistent", /^portolan: --cgroup-root: \/nonexistent does not exist/],
  ["--socket-lb=some", /^portolan: --socket-lb: must be one of full, host-only, off, not "some"/],
] as const) {
  test(`portolan agent ${option} is wrong usage: status 2, and the option is named`, async () => {
    const { code, stderr } = await refusedAgent(option);
    assert.equal(code, 2);
    assert.match(stderr, says);
  });
}
