// SPDX-License-Identifier: Apache-2.0
// The commands that read a node, against a real agent's maps in a network namespace.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { LAYOUT_VERSION } from "../../src/abi/abi-hash.gen.js";
import { MAP_NAMES } from "../../src/abi/maps.gen.js";
import { readProblems, removeProblems } from "../../src/daemon/problem-file.js";
import { layoutDirectory } from "../../src/dataplane/pins.js";
import type { Node } from "../../src/demo/world/index.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { Cluster } from "../support/cluster.js";
import { service } from "../support/manifests.js";
import { CLI, cli } from "./run-cli.js";

const VIP4 = "10.96.1.1";
const VIP6 = "fd00:10:96::101";
const LABELS = { app: "web" };

let cluster: Cluster;
let node: Node;

before(async () => {
  cluster = await Cluster.start({
    world: { nodes: 1 },
    pods: [
      { node: 1, name: "web-1", labels: LABELS },
      { node: 1, name: "web-2", labels: LABELS },
      { node: 1, name: "caller" },
    ],
    manifests: (world) => ({
      "services.json": [
        service("web", [VIP4, VIP6], [{ name: "http", port: 80, targetPort: 8080 }], LABELS),
        service("empty", ["10.96.1.2"], [{ name: "http", port: 80 }], { app: "nothing" }),
        service("late", ["10.96.1.2"], [{ name: "http", port: 80 }], LABELS),
      ],
      "pods.json": world.nodes.flatMap((each) => each.pods.map((pod) => pod.manifest())),
    }),
  });
  node = cluster.world.node(1);
  const caller = await cluster.at("caller");
  for (const dst of [VIP4, VIP6]) {
    const answer = await caller.connect({ dst, port: 80 });
    assert.ok(answer.ok, `${dst}: ${answer.errno}`);
  }
  await caller.open("kept", { dst: VIP4, port: 80 });
});

after(() => cluster.close());

async function table(...args: string[]): Promise<string[][]> {
  const { code, stdout, stderr } = await cluster.cli(node, args);
  assert.equal(code, 0, stderr);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {3,}/).map((cell) => cell.trim()));
}

async function json<T>(...args: string[]): Promise<T> {
  const { code, stdout, stderr } = await cluster.cli(node, [...args, "-o", "json"]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as T;
}

interface ServiceJson {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly internal: { readonly backends: readonly { address: string; port: number }[]; whenEmpty: string };
  readonly traffic: { readonly flows: number; readonly packets: number };
}

test("portolan services shows each address with its backends, and counts what went through", async () => {
  const { services } = await json<{ services: ServiceJson[] }>("services");
  assert.deepEqual(
    services.map(({ name, address, port }) => `${name} ${address} ${port}`),
    [`empty 10.96.1.2 80`, `web ${VIP4} 80`, `web ${VIP6} 80`],
  );
  const web = services[1] as ServiceJson;
  const pods = ["web-1", "web-2"].map((name) => cluster.pod(name).ip4);
  assert.deepEqual(
    web.internal.backends.map(({ address, port }) => `${address}:${port}`),
    pods.map((address) => `${address}:8080`),
  );
  assert.equal(web.traffic.flows, 3);
  assert.equal(services[0]?.internal.whenEmpty, "reject");

  const [header, empty, ...rest] = await table("services");
  assert.deepEqual(header, [
    "SERVICE",
    "PORT",
    "PROTOCOL",
    "KIND",
    "ADDRESS",
    "BACKENDS",
    "RULES",
    "FLOWS",
    "PACKETS",
    "BYTES",
  ]);
  const words = [
    "default/empty",
    "http",
    "TCP",
    "ClusterIP",
    "10.96.1.2:80",
    "none: reject",
    "-",
    "0",
    "0",
    "0 B",
  ];
  assert.deepEqual(empty, words);
  assert.equal(rest.length, 2);
});

test("portolan services NAME takes a name with and without namespace; a name that nothing has is status 1", async () => {
  for (const name of ["web", "default/web"]) {
    const { services } = await json<{ services: ServiceJson[] }>("services", name);
    assert.deepEqual([...new Set(services.map((row) => row.name))], ["web"]);
  }
  const { code, stdout, stderr } = await cluster.cli(node, ["services", "other/web"]);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
  assert.match(stderr, /no Service "other\/web"/);
});

test("portolan dump of a node is read back, without the native library, as what the node itself says", async () => {
  const directory = mkdtempSync(join(tmpdir(), "portolan-dump-"));
  try {
    const file = join(directory, "node.tar.gz");
    const { code, stderr } = await cluster.cli(node, ["dump", "-f", file]);
    assert.equal(code, 0, stderr);
    assert.equal(statSync(file).mode & 0o777, 0o600, "its owner alone may read it");
    for (const command of ["services", "backends", "interfaces", "affinity"]) {
      const there = await cli([command, "--from", file, "-o", "json"], {
        env: { PORTOLAN_BUILD_DIR: "/nonexistent" },
      });
      assert.equal(there.code, 0, there.stderr);
      assert.deepEqual(JSON.parse(there.stdout), await json(command), command);
    }
    const { stdout } = await cli(["flows", "--from", file, "-o", "name"]);
    assert.equal(stdout.trimEnd().split("\n").length, 3);
    const log = spawnSync("tar", ["xzOf", file, "portolan-dump/log.jsonl"], { encoding: "utf8" });
    assert.match(log.stdout, /"msg":"ready"/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("portolan services reports the conflict that the agent found, to whoever asks for either Service (2.22)", async () => {
  const warning =
    /^warning: \S*services\.json\S*: Service default\/late: spec\.clusterIPs: 10\.96\.1\.2:80\/TCP belongs to Service default\/empty /m;
  const empty = await cluster.cli(node, ["services", "empty"]);
  assert.equal(empty.code, 0);
  assert.match(empty.stderr, warning);
  const late = await cluster.cli(node, ["services", "late"]);
  assert.equal(late.code, 1, "it has no address");
  assert.match(late.stderr, warning);
  const { problems, problemsFrom } = await json<{
    problems: readonly { object: string }[];
    problemsFrom: { agentRunning: boolean };
  }>("services");
  assert.deepEqual(
    problems.map(({ object }) => object),
    ["Service default/late"],
  );
  assert.equal(problemsFrom.agentRunning, true);
  assert.doesNotMatch((await cluster.cli(node, ["services", "web"])).stderr, /warning/);
});

test("portolan backends shows cells, where they are, and the flows of each", async () => {
  const { backends } = await json<{
    backends: { family: number; local: boolean; chosen: boolean; traffic: { flows: number } }[];
  }>("backends", "--service", "web");
  assert.equal(backends.length, 4);
  assert.ok(backends.every(({ local, chosen }) => local && chosen));
  assert.equal(
    backends.reduce((sum, { traffic }) => sum + traffic.flows, 0),
    3,
  );
  const none = await cluster.cli(node, ["backends", "--service", "empty"]);
  assert.deepEqual({ code: none.code, stdout: none.stdout }, { code: 0, stdout: "" });
});

test("portolan flows shows the open connection as established, and filters by Service and state", async () => {
  const { flows } = await json<{
    flows: { destination: { address: string }; client: { address: string } }[];
  }>("flows", "--state", "established", "--service", "web");
  assert.equal(flows.length, 1);
  assert.equal(flows[0]?.destination.address, VIP4);
  assert.equal(flows[0]?.client.address, cluster.pod("caller").ip4);
  const [header, ...rows] = await table("flows");
  assert.equal(header?.[0], "PROTOCOL");
  assert.equal(rows.length, 3);
  const other = await cluster.cli(node, ["flows", "--service", "empty"]);
  assert.deepEqual({ code: other.code, stdout: other.stdout }, { code: 0, stdout: "" });
});

test("portolan diff live and compile --plan see no difference to the manifests that the agent follows, and write nothing", async () => {
  const manifests = `${cluster.directory}/manifests`;
  const same = await cluster.cli(node, ["diff", "live", manifests, "--node", node.name]);
  assert.deepEqual([same.code, same.stdout], [0, "nothing would be written\n"], same.stderr);
  const before = await cluster.cli(node, ["maps", "dump", "frontends4"]);
  const plan = await cluster.cli(node, [
    "compile",
    "-f",
    `${manifests}/pods.json`,
    "--node",
    node.name,
    "--plan",
  ]);
  assert.equal(plan.code, 0, plan.stderr);
  assert.match(plan.stdout, /^- default\/web:http\/TCP$/m);
  assert.match(plan.stdout, /default\/web: the backend of \d+ TCP flows is gone: they go on until they end/);
  assert.deepEqual(await cluster.cli(node, ["maps", "dump", "frontends4"]), before);
});

test("portolan interfaces shows roles, masquerade addresses, and how programs are attached", async () => {
  const { interfaces } = await json<{
    interfaces: { name: string; role: string; mode: string | null; masquerade4: string }[];
  }>("interfaces");
  const pod = cluster.pod("web-1").hostVeth;
  const found = Object.fromEntries(interfaces.map((row) => [row.name, row]));
  assert.equal(found.eth0?.role, "uplink");
  assert.equal(found.eth0?.masquerade4, node.address.ip4);
  assert.deepEqual([found.cni0?.role, found.cni0?.mode], ["bridge", null]);
  assert.equal(found[pod]?.role, "pod");
  assert.equal(found[pod]?.masquerade4, node.gateway.ip4, "a bridge port has its bridge's address");
  assert.ok(["tcx", "clsact"].includes(found[pod]?.mode ?? ""));
  const own = interfaces.find(({ role }) => role === "node");
  assert.equal(own?.masquerade4, node.address.ip4);
  assert.equal(interfaces.length, 4 + node.pods.length, "the node, eth0, cni0, flannel.1 and the pods");
});

test("portolan maps lists every map with its entries and memory", async () => {
  const { maps } = await json<{
    maps: { name: string; type: string; used: number; maxEntries: number; bytes: number }[];
  }>("maps");
  assert.deepEqual(maps.map(({ name }) => name).sort(), [...MAP_NAMES].sort());
  const used = Object.fromEntries(maps.map((row) => [row.name, row.used]));
  assert.equal(used.frontends4, 2);
  assert.equal(used.frontends6, 1);
  assert.equal(used.services, 2);
  assert.equal(used.backends4, 2);
  // A trie has no table of its own: it is charged for what is in it.
  assert.ok(maps.every(({ type, used, bytes }) => bytes > 0 || (type === "lpm_trie" && used === 0)));
  assert.ok(maps.every(({ maxEntries }) => maxEntries > 0));
});

test("portolan maps dump prints decoded entries: a table, or one JSON object a line; -o in any place", async () => {
  for (const args of [
    ["maps", "dump", "frontends4", "-o", "json"],
    ["maps", "-o", "json", "dump", "frontends4"],
  ]) {
    const { code, stdout } = await cluster.cli(node, args);
    assert.equal(code, 0);
    const entries = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { key: { addr: string; port: number } });
    assert.deepEqual(entries.map(({ key }) => key.addr).sort(), [VIP4, "10.96.1.2"].sort());
  }
  const [header, ...rows] = await table("maps", "dump", "services", "--limit", "1");
  assert.deepEqual(header, ["KEY", "VALUE"]);
  assert.equal(rows.length, 1);
  assert.match(rows[0]?.[1] ?? "", /namespaceName=default name=(web|empty) portName=http protocol=6/);
});

test("portolan maps dump of a map that is not there lists those that are", async () => {
  const { code, stderr } = await cluster.cli(node, ["maps", "dump", "frontend"]);
  assert.equal(code, 2);
  assert.match(stderr, /^portolan: there is no map "frontend"\n {2}The maps are: frontends4, /);
});

test("portolan maps dump ends quietly when the reader of its output has gone", async () => {
  const inside = node.inside([...CLI, "maps", "dump", "services", "--bpf-root", cluster.bpfRoot(node)]);
  const child = spawn(inside[0] as string, inside.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  child.stdout.destroy();
  assert.equal(await new Promise((resolve) => child.on("close", resolve)), 0);
  assert.equal(stderr, "");
});

test("portolan doctor finds a flannel node in order, and each fault with the command that mends it", async () => {
  const good = await cluster.cli(node, ["doctor"]);
  assert.equal(good.code, 0, good.stdout);
  assert.match(good.stdout, /^ok +kernel /m);
  const doctor = async (): Promise<{ code: number | null; failed: Record<string, string> }> => {
    const { code, stdout } = await cluster.cli(node, ["doctor", "-o", "json"]);
    const { checks } = JSON.parse(stdout) as { checks: { name: string; status: string; fix: string }[] };
    const failed = checks.filter(({ status }) => status === "fail").map(({ name, fix }) => [name, fix]);
    return { code, failed: Object.fromEntries(failed) as Record<string, string> };
  };
  await node.sysctl({ "net/bridge/bridge-nf-call-iptables": 0, "net/ipv4/ip_forward": 0 });
  try {
    const { code, failed } = await doctor();
    assert.equal(code, 1);
    assert.deepEqual(failed, {
      br_netfilter: "sysctl -w net.bridge.bridge-nf-call-iptables=1",
      ip_forward: "sysctl -w net.ipv4.ip_forward=1",
    });
    const text = await cluster.cli(node, ["doctor"]);
    assert.match(text.stdout, /^fail {2}br_netfilter .*cni0.*INVALID.*DROP/m, "the rule is quoted");
    assert.match(text.stdout, /^ +mend: sysctl -w net\.ipv4\.ip_forward=1$/m);
  } finally {
    await node.sysctl({ "net/bridge/bridge-nf-call-iptables": 1, "net/ipv4/ip_forward": 1 });
  }
  assert.equal((await doctor()).code, 0);
});

test("portolan doctor warns of source ports that overlap the host's own", async () => {
  const { code, stdout } = await cluster.cli(node, ["doctor", "--snat-ports", "30000-61999"]);
  assert.equal(code, 0, "a warning is no finding");
  assert.match(stdout, /^warn {2}snat_ports +30000-61999 overlaps NodePorts \(30000-32767\)/m);
});

test("portolan says in one line and a hint that no maps are pinned, with status 3", async () => {
  const root = `${cluster.bpfRoot(node)}-none`;
  for (const command of [
    ["services"],
    ["backends"],
    ["flows"],
    ["interfaces"],
    ["maps"],
    ["maps", "dump", "nat4"],
  ]) {
    const { code, stdout, stderr } = await cli([...command, "--bpf-root", root]);
    assert.deepEqual({ code, stdout }, { code: 3, stdout: "" }, command.join(" "));
    assert.match(stderr, new RegExp(`^portolan: no maps are pinned below ${root}\n {2}\\S.*--bpf-root`));
  }
});

test("portolan names both layouts when another version's maps are pinned", async () => {
  const root = `${cluster.bpfRoot(node)}-other`;
  mkdirSync(`${root}/v9999`, { recursive: true });
  try {
    for (const args of [["services"], ["agent", "--manifests", `${cluster.directory}/manifests`]]) {
      const { code, stderr } = await cli([...args, "--bpf-root", root], { inside: node.inside([]) });
      assert.equal(code, 3, args.join(" "));
      assert.match(stderr, new RegExp(`have layout v9999, this program's is v${LAYOUT_VERSION}`));
      assert.ok(!existsSync(`${root}/v${LAYOUT_VERSION}`), "nothing was made");
    }
  } finally {
    await removeProblems(root);
    rmdirSync(`${root}/v9999`);
    rmdirSync(root);
  }
});

test("portolan tells a user without the right to read maps to run it as root", async (t) => {
  const nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
  const [, main = ""] = CLI;
  if (spawnSync("setpriv", [...nobody.slice(1), "test", "-r", main]).status !== 0) {
    return t.skip(`only root may read ${main}: a repository elsewhere tries this`);
  }
  const { code, stdout, stderr } = await cli(["services", "--bpf-root", cluster.bpfRoot(node)], {
    inside: nobody,
  });
  assert.deepEqual({ code, stdout }, { code: 3, stdout: "" });
  assert.match(
    stderr,
    /^portolan: .* may not be read by this user\n {2}Pinned maps belong to root: run it with sudo\.\n$/,
  );
  assert.doesNotMatch(stderr, /\bat .*\.js:\d+/, "no stack");
});

// Last: it takes the maps away.
test("portolan cleanup removes programs, pins and directories, and may be run again", async () => {
  await cluster.agent(node).end("SIGTERM");
  const root = cluster.bpfRoot(node);
  assert.ok(existsSync(`${root}/v${LAYOUT_VERSION}/frontends4`), "a stopped agent leaves its maps");
  const stopped = await cluster.cli(node, ["services", "late"]);
  assert.match(stopped.stderr, /^found by an agent that has ended, at 2\d{3}-\S+Z$/m);
  const first = await cluster.cli(node, ["cleanup"]);
  assert.equal(first.code, 0, first.stderr);
  assert.match(
    first.stdout,
    new RegExp(`^${root}/v${LAYOUT_VERSION}: \\d+ pins and hooks removed\n(firewall: .*\n)?$`),
  );
  assert.ok(!existsSync(root));
  assert.equal(await readProblems(root), null, "what the agent told of its problems is gone too");
  const again = await cluster.cli(node, ["cleanup"]);
  assert.deepEqual(again, { ...again, code: 0, stdout: `nothing below ${root}\n`, stderr: "" });
  const caller = await cluster.at("caller");
  const answer = await caller.connect({ dst: VIP4, port: 80, timeout: 500 });
  assert.equal(answer.ok, false, "no program translates any more");
});

test("the commands that read say in a line that a map is missing among the pins", async () => {
  const root = `/sys/fs/bpf/ptl-cli-${process.pid}`;
  const pins = layoutDirectory(root);
  const object = await new NativeLibrary().open({ pins, sockets: false });
  try {
    await object.close();
    rmSync(join(pins, "services"));
    for (const command of ["services", "backends", "flows"]) {
      const { code, stdout, stderr } = await cli([command, "--bpf-root", root]);
      assert.deepEqual([code, stdout], [3, ""]);
      assert.match(stderr, /^portolan: .*services/);
      assert.doesNotMatch(stderr, /\bat .*\.js:\d+/, "no stack");
    }
  } finally {
    rmSync(root, { recursive: true });
  }
});
