// SPDX-License-Identifier: Apache-2.0
// What others do to maps, programs and pins: `verify` finds it, `verify --repair` mends it, and so does an agent by itself.
import assert from "node:assert/strict";
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { MapName } from "../../src/abi/maps.gen.js";
import { MAP_NAMES } from "../../src/abi/maps.gen.js";
import { AgentClient } from "../../src/daemon/agent-client.js";
import type { Finding } from "../../src/daemon/verify/finding.js";
import type { VerifyReport } from "../../src/daemon/verify/verify.js";
import { compareKernel } from "../../src/dataplane/compare.js";
import { readMirror } from "../../src/dataplane/mirror.js";
import { layoutDirectory } from "../../src/dataplane/pins.js";
import type { Node } from "../../src/demo/world/index.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { NativeMaps } from "../../src/native/maps.js";
import { SOCKET_HOOKS } from "../../src/native/sockets.js";
import { atOnce } from "../../src/util/slices.js";
import { Cluster, eventually, type LogLine } from "../support/cluster.js";
import { canHappen, corrupt, MISHAPS, WRITTEN_MAPS } from "../support/corrupt-maps.js";

const VIPS = ["10.96.1.1", "fd00:10:96::1"];
const SERVICE_NETS = "10.96.0.0/16,fd00:10:96::/112";

let cluster: Cluster;
let node: Node;
let pins: string;
const library = new NativeLibrary();

function objects(pods: readonly string[]): readonly object[] {
  const ports = [
    { name: "http", protocol: "TCP", port: 80, targetPort: 8080, nodePort: 30080 },
    { name: "dns", protocol: "UDP", port: 53, targetPort: 5353, nodePort: 30053 },
  ];
  const slice = (family: "IPv4" | "IPv6"): object => ({
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `web-${family.toLowerCase()}`,
      namespace: "default",
      labels: { "kubernetes.io/service-name": "web" },
    },
    addressType: family,
    ports: ports.map(({ name, protocol, targetPort }) => ({ name, protocol, port: targetPort })),
    endpoints: pods
      .filter((address) => address.includes(":") === (family === "IPv6"))
      .map((address) => ({ addresses: [address], nodeName: "n1", conditions: { ready: true } })),
  });
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web", namespace: "default" },
      spec: {
        type: "LoadBalancer",
        clusterIP: VIPS[0],
        clusterIPs: VIPS,
        ipFamilyPolicy: "RequireDualStack",
        ipFamilies: ["IPv4", "IPv6"],
        sessionAffinity: "ClientIP",
        loadBalancerSourceRanges: ["192.0.2.0/24", "2001:db8::/32"],
        ports,
      },
      status: { loadBalancer: { ingress: [{ ip: "198.51.100.1" }, { ip: "2001:db8:1::1" }] } },
    },
    slice("IPv4"),
    slice("IPv6"),
  ];
}

before(async () => {
  cluster = await Cluster.start({
    world: { nodes: 1 },
    pods: [
      { node: 1, name: "web-1" },
      { node: 1, name: "web-2" },
    ],
    manifests: (world) => ({
      "web.json": objects(["web-1", "web-2"].flatMap((name) => [world.pod(name).ip4, world.pod(name).ip6])),
    }),
    agentArgs: ["--audit-interval", "3600", "--service-cidr", SERVICE_NETS],
  });
  node = cluster.world.node(1);
  pins = layoutDirectory(cluster.bpfRoot(node));
});

after(() => cluster?.close());

interface Answer extends VerifyReport {
  readonly ok: boolean;
  readonly repaired: { readonly by: string } | null;
}

interface Verified {
  readonly code: number | null;
  readonly answer: Answer;
  readonly stderr: string;
}

/** `portolan verify` on the node; without the comparison of builds, unless that is what is asked. */
async function verify(...args: readonly string[]): Promise<Verified> {
  const cgroup = cluster.cgroup(node);
  const given = [...(cgroup === undefined ? [] : ["--cgroup-root", cgroup]), ...args];
  const { code, stdout, stderr } = await cluster.cli(node, ["verify", "-o", "json", ...given]);
  assert.notEqual(stdout, "", stderr);
  return { code, answer: JSON.parse(stdout) as Answer, stderr };
}

const MANIFESTS = (): readonly string[] => [
  ...["-f", `${cluster.directory}/manifests`, "--node", "n1", "--service-cidr", SERVICE_NETS],
];

function assertRight({ code, answer, stderr }: Verified): void {
  assert.deepEqual(answer.findings, [], stderr);
  assert.deepEqual([code, answer.ok], [0, true]);
}

/** Works on the maps as anybody can who may open the pins. */
async function withMaps<T>(use: (maps: NativeMaps) => Promise<T>): Promise<T> {
  const maps = library.openPins(pins, { writable: true });
  try {
    return await use(maps);
  } finally {
    await maps.close();
  }
}

const about =
  (check: Finding["check"]) =>
  (finding: Finding): boolean =>
    finding.check === check;

test("verify finds nothing behind a healthy agent: by the agent, by its manifests, by the maps alone, and of this build", async () => {
  assertRight(await verify("--agent"));
  assertRight(await verify(...MANIFESTS(), "--no-build"));
  assertRight(await verify("--no-build"));
  assertRight(await verify("--agent", ...MANIFESTS(), "--no-build"));
});

/** What the agent has compiled. */
const agentState = () => new AgentClient(cluster.bpfRoot(node)).compiled();

/** Maps in which something is not as the agent has compiled it. */
async function wrongMaps(maps: NativeMaps): Promise<ReadonlySet<string>> {
  const { image } = await agentState();
  const { differences } = atOnce(compareKernel(await readMirror(maps, {}), image));
  return new Set(differences.map(({ map }) => map));
}

/** The maps that tell of what was done to this one: slots are told by the frontends that name them. */
const toldBy = (map: MapName): string => map.replace("slots", "frontends");

describe("an audit of the agent", () => {
  for (const map of WRITTEN_MAPS) {
    for (const mishap of MISHAPS.filter((each) => canHappen(map, each))) {
      test(`finds what somebody did to ${map} (${mishap}), and puts it right`, () =>
        withMaps(async (maps) => {
          const before = await entriesOf(maps, "interfaces");
          await corrupt(maps, map, mishap);
          if (map !== "interfaces") {
            const wrong = await wrongMaps(maps);
            assert.ok(wrong.has(toldBy(map)), `found before it is healed: ${[...wrong].join()}`);
          }
          const report = await new AgentClient(cluster.bpfRoot(node)).audit();
          assert.deepEqual(report.failures, []);
          assert.ok((report.entries[map] ?? 0) > 0, JSON.stringify(report));
          assert.deepEqual([...(await wrongMaps(maps))], []);
          assert.deepEqual(await entriesOf(maps, "interfaces"), before);
        }));
    }
  }

  async function assertHealed(found: object): Promise<void> {
    const client = new AgentClient(cluster.bpfRoot(node));
    const report = await client.audit();
    assert.deepEqual({ ...report, entries: {} }, { ...NOTHING_FOUND, ...found, entries: {} });
    assert.deepEqual(await client.audit(), NOTHING_FOUND, "once");
  }

  for (const hook of ["ingress", "egress"] as const) {
    test(`puts a program back that somebody has taken off the ${hook} of a pod's interface`, async () => {
      const host = await cluster.at(node);
      assert.equal(await host.tcxDetach(cluster.pod("web-1").hostVeth, hook), 1);
      await assertHealed({ interfaces: 1 });
    });
  }

  test("pins every link of an interface again whose pin was removed, which takes the program off", async () => {
    const names = readdirSync(join(pins, "links"));
    const links = names.filter((name) => /^\d+-(in|out)$/.test(name));
    assert.equal(links.length, 2 * 4, "an uplink, an overlay, two pods");
    for (const direction of ["in", "out"]) {
      for (const name of links.filter((each) => each.endsWith(`-${direction}`)))
        rmSync(join(pins, "links", name));
      await assertHealed({ interfaces: 4 });
    }
    assert.deepEqual(readdirSync(join(pins, "links")).sort(), names.sort());
  });

  test("puts the program back on each socket hook", async () => {
    const links = SOCKET_HOOKS.map((hook) => join(pins, "links", `socket-${hook}`));
    rmSync(links[0] as string);
    await assertHealed({ sockets: 1 });
    for (const link of links) rmSync(link);
    await assertHealed({ sockets: 8 });
    for (const link of links) assert.ok(existsSync(link), link);
  });

  test("pins each map again, the very one that the programs work on", async () => {
    const ids = MAP_NAMES.map((name) => library.pinnedMap(join(pins, name)));
    rmSync(join(pins, "nat6"));
    await assertHealed({ pins: 1 });
    for (const name of MAP_NAMES) rmSync(join(pins, name));
    await assertHealed({ pins: MAP_NAMES.length });
    assert.deepEqual(
      MAP_NAMES.map((name) => library.pinnedMap(join(pins, name))),
      ids,
    );
  });

  test("is made by the agent itself, once each --audit-interval, and counted", async () => {
    await cluster.agent(node).end("SIGTERM");
    const agent = await cluster.startAgent(node, [
      "--audit-interval",
      "1",
      "--metrics-bind-address",
      "127.0.0.1:10249",
    ]);
    await withMaps(async (maps) => {
      const mark = agent.mark();
      await corrupt(maps, "services", "alter");
      rmSync(join(pins, "addresses4"));
      rmSync(join(pins, "links", "socket-connect4"));
      const says = (msg: string): Promise<LogLine> => agent.line((line) => line.msg === msg, mark);
      await says("the service maps were changed by someone else");
      await says("pins of maps were removed by someone else");
      await says("socket programs were taken off by someone else");
      await eventually("all is as it was", async () =>
        (await wrongMaps(maps)).size === 0 ? true : undefined,
      );
    });
    const script = `fetch("http://127.0.0.1:10249/metrics").then(async (r) => console.log(await r.text()))`;
    const { stdout } = await node.exec([process.execPath, "-e", script]);
    assert.match(stdout, /^portolan_audit_repaired_entries_total\{map="services"\} 1$/m);
    assert.match(stdout, /^portolan_audit_repaired_attachments_total\{kind="pin"\} 1$/m);
    assert.match(stdout, /^portolan_audit_repaired_attachments_total\{kind="socket"\} 1$/m);
    await cluster.agent(node).end("SIGTERM");
    await cluster.startAgent(node);
  });
});

const NOTHING_FOUND = { entries: {}, interfaces: 0, sockets: 0, pins: 0, failures: [] };

async function entriesOf(maps: NativeMaps, map: MapName): Promise<readonly string[]> {
  const { keySize, valueSize } = maps.info(map);
  const { count, keys, values } = await maps.dump(map);
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  return Array.from(
    { length: count },
    (_, i) =>
      `${hex(keys.subarray(i * keySize, (i + 1) * keySize))} ${hex(values.subarray(i * valueSize, (i + 1) * valueSize))}`,
  ).sort();
}

/** All that can be done at once: each map, a program of each direction, a socket hook, a pin. */
async function breakEverything(): Promise<void> {
  await withMaps(async (maps) => {
    for (const map of WRITTEN_MAPS)
      await corrupt(maps, map, map.startsWith("frontends") ? "delete" : "alter");
  });
  const host = await cluster.at(node);
  for (const hook of ["ingress", "egress"] as const)
    await host.tcxDetach(cluster.pod("web-1").hostVeth, hook);
  rmSync(join(pins, "links", "socket-sendmsg6"));
  rmSync(join(pins, "nat4"));
}

function assertFoundEverything({ answer, code }: Verified, withMapsToo: boolean): void {
  assert.deepEqual([code, answer.ok], [1, false]);
  const told = new Set(answer.findings.map(({ check, where, entry }) => `${check} ${where} ${entry}`));
  const has = (text: string): boolean => [...told].some((each) => each.startsWith(text));
  const veth = cluster.pod("web-1").hostVeth;
  for (const text of [
    `pins ${pins} nat4`,
    `programs ${veth} ingress`,
    `programs ${veth} egress`,
    "sockets cgroup sendmsg6",
    ...(withMapsToo ? ["interfaces interfaces"] : []),
  ])
    assert.ok(has(text), `${text}: ${[...told].join("\n")}`);
}

test("verify --agent finds all that was done at once, and --repair has the agent mend it", async () => {
  await breakEverything();
  assertFoundEverything(await verify("--agent", "--no-build"), true);
  const repaired = await verify("--agent", "--no-build", "--repair");
  assert.equal(repaired.answer.repaired?.by, "agent");
  assertRight(repaired);
});

test("verify finds a program that runs before ours", async () => {
  const host = await cluster.at(node);
  const { hostVeth: dev } = cluster.pod("web-1");
  await host.tcx("first", { dev, hook: "ingress", where: "before", verdict: -1 });
  const { code, answer } = await verify("--no-build");
  await host.close("first");
  assert.deepEqual(
    answer.findings.map(({ kind, where, entry }) => [kind, where, entry]),
    [["order", dev, "ingress"]],
  );
  assert.equal(code, 1);
});

test("verify -f --repair mends the same without an agent, and a new agent has nothing to write", async () => {
  await cluster.agent(node).end("SIGTERM");
  await breakEverything();
  const found = await verify(...MANIFESTS(), "--no-build");
  assertFoundEverything(found, true);
  const repaired = await verify(...MANIFESTS(), "--no-build", "--repair");
  assert.equal(repaired.answer.repaired?.by, "verify");
  assertRight(repaired);
  // A slot that names no cell any more would not lead to one that could be taken away.
  const bulk = WRITTEN_MAPS.filter((map) => map !== "interfaces" && !map.startsWith("slots"));
  await withMaps(async (maps) => {
    for (const map of bulk) await corrupt(maps, map, "delete");
  });
  const all = await verify(...MANIFESTS(), "--no-build");
  const maps = new Set(all.answer.findings.filter(about("maps")).map(({ where }) => where));
  for (const map of bulk) assert.ok(maps.has(map), map);
  assertRight(await verify(...MANIFESTS(), "--no-build", "--repair"));
  const agent = await cluster.startAgent(node);
  const ready = await agent.ready();
  assert.equal(ready.mapWrites, 0);
});

test("verify says which agent cannot be asked, and refuses nothing else", async () => {
  await cluster.agent(node).end("SIGTERM");
  const { code, stderr } = await cluster.cli(node, ["verify", "--agent"]);
  assert.equal(code, 3);
  assert.match(stderr, /no agent can be asked at \/run\/portolan\/[0-9a-f]{16}\/agent\.sock/);
  assert.match(stderr, /Is it running, with this --bpf-root\?/);
});
