// SPDX-License-Identifier: Apache-2.0
// The agent as a program: how it starts, follows interfaces, stops, dies and comes back.
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { layoutDirectory } from "../../src/dataplane/pins.js";
import type { Node } from "../../src/demo/world/index.js";
import { Cluster, eventually, type LogLine } from "../support/cluster.js";
import { manifestText, service } from "../support/manifests.js";
import { CLI, type CliResult, cli } from "./run-cli.js";

const VIP = "10.96.1.1";
const LABELS = { app: "web" };

let cluster: Cluster;
let node: Node;

before(async () => {
  cluster = await Cluster.start({
    world: { nodes: 1 },
    pods: [
      { node: 1, name: "web-1", labels: LABELS },
      { node: 1, name: "caller" },
    ],
    manifests: (world) => ({
      "services.json": [service("web", [VIP], [{ name: "http", port: 80, targetPort: 8080 }], LABELS)],
      "pods.json": world.nodes.flatMap((each) => each.pods.map((pod) => pod.manifest())),
    }),
    agentArgs: ["--audit-interval", "1"],
  });
  node = cluster.world.node(1);
});

after(() => cluster.close());

async function answers(): Promise<boolean> {
  const caller = await cluster.at("caller");
  return (await caller.connect({ dst: VIP, port: 80 })).ok;
}

const isAbout =
  (msg: string, iface: string) =>
  (line: LogLine): boolean =>
    line.msg === msg && line.iface === iface;

/** Runs an agent that shall not start, on the node. */
function refusedAgent(args: readonly string[]): Promise<CliResult> {
  const manifests = `${cluster.directory}/manifests`;
  return cli(["agent", "--manifests", manifests, "--bpf-root", cluster.bpfRoot(node), ...args], {
    inside: node.inside([]),
  });
}

test("portolan agent says ready once, after the first synced, with the interfaces that it serves", async () => {
  const { lines } = cluster.agent(node);
  const messages = lines.map(({ msg }) => msg);
  assert.equal(messages.filter((msg) => msg === "ready").length, 1);
  const synced = messages.indexOf("synced");
  assert.ok(synced >= 0 && synced < messages.indexOf("ready"));
  const { writes, ffiCalls, services, backends, durationMs } = lines[synced] as LogLine;
  assert.ok((writes as number) > 0 && (ffiCalls as number) > 0 && (durationMs as number) > 0);
  assert.deepEqual({ services, backends }, { services: 1, backends: 1 });
  const ready = lines.find(({ msg }) => msg === "ready");
  const pods = node.pods.map(({ hostVeth }) => hostVeth);
  assert.deepEqual(ready?.interfaces, ["eth0", "flannel.1", ...pods].sort());
  assert.ok(await answers());
});

test("portolan agent attaches to a new pod's interface at once, and lets go of it when the pod has gone", async () => {
  const agent = cluster.agent(node);
  const mark = agent.mark();
  const pod = await node.addPod("late");
  const attached = await agent.line(isAbout("attached", pod.hostVeth), mark);
  assert.equal(attached.role, "pod");
  const late = await cluster.at("late");
  assert.ok((await late.connect({ dst: VIP, port: 80 })).ok);
  await pod.removeNow();
  await agent.line(isAbout("detached", pod.hostVeth), mark);
  const { stdout } = await cluster.cli(node, ["interfaces"]);
  assert.doesNotMatch(stdout, new RegExp(pod.hostVeth));
});

test("portolan agent follows addresses: masquerading uses what the bridge has now", async () => {
  const masquerade = async (): Promise<string | undefined> => {
    const { stdout } = await cluster.cli(node, ["interfaces", "-o", "json"]);
    const { interfaces } = JSON.parse(stdout) as { interfaces: { name: string; masquerade4: string }[] };
    return interfaces.find(({ name }) => name === cluster.pod("web-1").hostVeth)?.masquerade4;
  };
  assert.equal(await masquerade(), node.gateway.ip4);
  await node.ip([
    "link add dummy-br type bridge",
    "addr add 10.9.9.9/24 dev dummy-br",
    "link set dummy-br up",
  ]);
  await node.ip([`addr del ${node.gateway.ip4}/24 dev cni0`]);
  const becomes = (address: string): Promise<true> =>
    eventually(`the address is ${address}`, async () => (await masquerade()) === address || undefined);
  await becomes(node.address.ip4);
  await node.ip([`addr add ${node.gateway.ip4}/24 dev cni0`, "link del dummy-br"]);
  await becomes(node.gateway.ip4);
});

test("portolan agent puts programs back which somebody has taken off, within its audit interval", async () => {
  await cluster.agent(node).end("SIGTERM");
  await cluster.cli(node, ["cleanup"]);
  const manifests = `${cluster.directory}/manifests`;
  const agent = await cluster.startAgent(node, ["--attach", "clsact"]);
  assert.ok(existsSync(manifests));
  const { hostVeth } = cluster.pod("web-1");
  const attached = await agent.line(isAbout("attached", hostVeth));
  assert.equal(attached.mode, "clsact");
  const mark = agent.mark();
  await node.exec(["tc", "qdisc", "del", "dev", hostVeth, "clsact"]);
  await agent.line(isAbout("programs were taken off by someone else", hostVeth), mark);
  await agent.line(isAbout("attached", hostVeth), mark);
  assert.ok(await answers());
});

test("portolan agent stops on SIGTERM with status 0 and leaves the dataplane up (12.8)", async () => {
  const agent = cluster.agent(node);
  await agent.end("SIGTERM");
  assert.equal(agent.process.exitCode, 0);
  assert.ok(agent.lines.some(({ msg }) => msg === "stopped"));
  assert.ok(existsSync(`${layoutDirectory(cluster.bpfRoot(node))}/frontends4`));
  assert.ok(await answers(), "without an agent");
});

test("portolan agent killed and started again writes nothing, and traffic goes on all the while", async () => {
  await cluster.startAgent(node);
  await cluster.agent(node).end("SIGKILL");
  assert.ok(await answers(), "after the kill");
  // An audit writes to see whether it can: none comes before a start that takes long has come to its end.
  const agent = await cluster.startAgent(node, ["--audit-interval", "3600"]);
  const ready = agent.lines.find(({ msg }) => msg === "ready");
  assert.equal(ready?.mapWrites, 0, `in all maps, \`interfaces\` included\n${agent.tail()}`);
  const writes = agent.lines.filter(({ msg }) => msg === "synced").map((line) => line.writes);
  assert.deepEqual(writes, [0]);
  assert.ok(await answers(), "after the restart");
});

test("portolan agent logs a broken manifest with file, object and field, and goes on with the rest", async () => {
  const agent = cluster.agent(node);
  const mark = agent.mark();
  writeFileSync(
    `${cluster.directory}/manifests/broken.yaml`,
    "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec: {clusterIP: 10.96.1.300, ports: [{port: 80}]}\n",
  );
  const line = await agent.line(({ msg }) => msg === "manifest error", mark);
  assert.match(String(line.file), /broken\.yaml$/);
  assert.equal(line.object, "Service default/broken");
  assert.match(String(line.field), /clusterIP/);
  assert.ok(await answers());
});

test("portolan agent reads standard input beside a directory that it watches", async () => {
  await cluster.agent(node).end("SIGTERM");
  const root = `${cluster.bpfRoot(node)}-stdin`;
  const manifests = ["--manifests", "-", "--manifests", `${cluster.directory}/manifests`];
  const child = node.spawn([...CLI, "agent", ...manifests, "--bpf-root", root], {
    stdio: ["pipe", "ignore", "pipe"],
  });
  child.stdin?.end(manifestText([service("piped", ["10.96.1.9"], [{ name: "http", port: 80 }])]));
  let log = "";
  for await (const chunk of child.stderr ?? []) {
    log += String(chunk);
    if (log.includes('"msg":"ready"')) break;
  }
  const { stdout } = await cli(["services", "--bpf-root", root]);
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
  await cli(["cleanup", "--bpf-root", root], { inside: node.inside([]) });
  assert.match(stdout, /default\/piped .*10\.96\.1\.9:80/, log);
  assert.match(stdout, /default\/web .*10\.96\.1\.1:80/);
  await cluster.startAgent(node);
});

test("portolan agent warns at start of br_netfilter off beside a bridge, with the command that mends it", async () => {
  await cluster.agent(node).end("SIGTERM");
  await node.sysctl({ "net/bridge/bridge-nf-call-iptables": 0 });
  try {
    const agent = await cluster.startAgent(node);
    const line = await agent.line(({ code }) => code === "br_netfilter_off");
    assert.equal(line.level, "warn");
    assert.match(String(line.detail), /cni0.*INVALID.*DROP/);
    assert.equal(line.fix, "sysctl -w net.bridge.bridge-nf-call-iptables=1");
  } finally {
    await node.sysctl({ "net/bridge/bridge-nf-call-iptables": 1 });
  }
});

test("portolan agent beside a running one with the same maps does not start", async () => {
  const { code, stderr } = await refusedAgent([]);
  assert.equal(code, 3);
  assert.match(
    stderr,
    new RegExp(`^portolan: another agent is running with the maps below ${cluster.bpfRoot(node)}`, "m"),
  );
  assert.ok(await answers());
});

// From here on no agent runs.
test("portolan agent stops on SIGTERM while it still reads standard input", async () => {
  await cluster.agent(node).end("SIGTERM");
  const root = `${cluster.bpfRoot(node)}-open`;
  const child = node.spawn([...CLI, "agent", "--manifests", "-", "--bpf-root", root], {
    stdio: ["pipe", "ignore", "pipe"],
  });
  const exited = once(child, "exit");
  for await (const chunk of child.stderr ?? []) if (String(chunk).includes('"msg":"starting"')) break;
  child.stdin?.write("apiVersion: v1\n");
  child.kill("SIGTERM");
  const [code] = await exited;
  child.stdin?.destroy();
  await cli(["cleanup", "--bpf-root", root], { inside: node.inside([]) });
  assert.equal(code, 0);
});

test("portolan agent with other map sizes than those pinned does not start, and names the map", async () => {
  const { code, stderr } = await refusedAgent(["--max-nat", "4096"]);
  assert.equal(code, 3);
  assert.match(stderr, /^portolan: .*nat4/m);
  assert.match(stderr, /portolan cleanup/);
  assert.ok(await answers(), "what is there is not disturbed");
});

for (const [args, says] of [
  [["--snat-ports", "5-1"], /^portolan: --snat-ports: "5-1" is no range of ports/],
  [["--manifests", "/nonexistent/manifests"], /^portolan: \/nonexistent\/manifests does not exist\n$/m],
  [["--manifests", "/dev/null"], /^portolan: \/dev\/null is no regular file and no directory\n$/m],
  [["--hostname-override", " "], /^portolan: --hostname-override: is nothing but white space/],
] as const) {
  test(`portolan agent ${args.join(" ")} is wrong usage: status 2 and one line`, async () => {
    const { code, stderr } = await refusedAgent(args);
    assert.equal(code, 2);
    assert.match(
      stderr
        .split("\n")
        .filter((line) => !line.startsWith("{"))
        .join("\n"),
      says,
    );
    assert.doesNotMatch(stderr, /\bat .*\.js:\d+/, "no stack");
  });
}
