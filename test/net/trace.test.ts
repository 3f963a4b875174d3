// SPDX-License-Identifier: Apache-2.0
/*
 * `portolan trace` tells the truth: what it says of a packet is what then happens to a real one, over hundreds of random cases on
 * a node with the real agent. And it leaves nothing behind.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface, type Interface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { REASONS } from "../../src/abi/enums.gen.js";
import { trafficCodec } from "../../src/abi/layout.gen.js";
import type { Node, World } from "../../src/demo/world/index.js";
import { random } from "../bpf/support/random.js";
import { Cluster } from "../support/cluster.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import type { Exchange, HostAgent } from "../support/host-agent.js";
import { agentOf } from "../support/host-agent.js";
import { checkSchema } from "../support/json-schema.js";
import {
  anyService,
  clientIPAffinity,
  nodeObject,
  type ServiceExtras,
  slicesOf,
  withSpec,
} from "../support/manifests.js";
import { cliCommand } from "../support/product.js";

const CASES = 240;
const SEED = Number(process.env.PORTOLAN_TRACE_SEED ?? 20_261_123);
const CLUSTER_CIDR = ["--cluster-cidr", "10.244.0.0/16,fd00:10:244::/48"];
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
type Proto = "tcp" | "udp";
type From = "client" | "near" | "outside" | "host";

const SLICE_PORTS = [
  { name: "web", port: 8080 },
  { name: "dns", port: 5353, protocol: "UDP" as const },
];

/** Services by name, each with ClusterIPs, NodePorts, a balancer's addresses and externalIPs. */
const SERVICES: Readonly<
  Record<string, { n: number; pods: readonly string[]; extras?: ServiceExtras; spec?: object }>
> = {
  "all-pods": { n: 1, pods: ["near", "near2", "far"] },
  "far-only": { n: 2, pods: ["far"] },
  "near-only": { n: 3, pods: ["near"] },
  "local-near": {
    n: 4,
    pods: ["near", "far"],
    extras: { externalTrafficPolicy: "Local", healthCheckNodePort: 32_004 },
  },
  "local-far": {
    n: 5,
    pods: ["far"],
    extras: { externalTrafficPolicy: "Local", healthCheckNodePort: 32_005 },
  },
  "inside-far": { n: 6, pods: ["far"], extras: { internalTrafficPolicy: "Local" } },
  nobody: { n: 7, pods: [] },
  sticky: { n: 8, pods: ["near", "near2", "far"], spec: clientIPAffinity(10_800) },
  "ranges-out": {
    n: 9,
    pods: ["near", "far"],
    extras: { loadBalancerSourceRanges: ["198.51.100.0/24", "2001:db8:51::/64"] },
  },
  "ranges-in": {
    n: 10,
    pods: ["near", "far"],
    extras: {
      loadBalancerSourceRanges: ["192.168.60.0/24", "fd00:60::/64", "10.244.0.0/16", "fd00:10:244::/48"],
    },
  },
};
const NAMES = Object.keys(SERVICES);

const clusterIP = (n: number, family: Family): string =>
  family === 4 ? `10.96.0.${n}` : `fd00:10:96::${n.toString(16)}`;
const balancer = (n: number, family: Family): string =>
  family === 4 ? `203.0.113.${n}` : `2001:db8:203::${n.toString(16)}`;
const external = (n: number, family: Family): string =>
  family === 4 ? `203.0.113.${100 + n}` : `2001:db8:203::1:${n.toString(16)}`;

function manifests(world: World): Record<string, readonly object[]> {
  const services = Object.entries(SERVICES).flatMap(([name, { n, pods, extras = {}, spec = {} }]) => [
    withSpec(
      anyService(
        name,
        FAMILIES.map((family) => clusterIP(n, family)),
        [
          { name: "web", port: 80, nodePort: 30_080 + n },
          { name: "dns", port: 53, nodePort: 30_053 + 100 + n, protocol: "UDP" },
        ],
        {
          type: "LoadBalancer",
          ingress: FAMILIES.map((family) => balancer(n, family)),
          externalIPs: FAMILIES.map((family) => external(n, family)),
          ...extras,
        },
      ),
      spec,
    ),
    ...slicesOf(
      name,
      pods.map((pod) => {
        const { ip4, ip6, node } = world.pod(pod);
        return { ip4, ip6, nodeName: node.name };
      }),
      SLICE_PORTS,
    ),
  ]);
  const nodes = world.nodes.map((node) => nodeObject(node.name, [node.address.ip4, node.address.ip6]));
  return { "all.yaml": [...nodes, ...services] };
}

/** Picks one: a failure names its case, and the seed gives it again. */
function randomOf(seed: number): <T>(of: readonly T[]) => T {
  const below = random(seed);
  return (of) => of[below(of.length)] as (typeof of)[number];
}

/** A process of a node that traces: see trace-host.ts. */
class TraceHost {
  readonly #child: ChildProcess;
  readonly #lines: Interface;
  readonly #answers: ((line: string) => void)[] = [];

  constructor(node: Node, pins: string) {
    const script = fileURLToPath(new URL("../support/trace-host.ts", import.meta.url));
    const argv = [process.execPath, "--import", "tsx", script, pins];
    this.#child = node.spawn(argv, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface({ input: this.#child.stdout as NonNullable<ChildProcess["stdout"]> });
    this.#lines.on("line", (line) => this.#answers.shift()?.(line));
    this.#child.on("exit", () => {
      for (const answer of this.#answers.splice(0)) answer('{"error":"the trace host has ended"}');
    });
  }

  async ask<T>(command: object): Promise<T> {
    const answer = new Promise<string>((resolve) => this.#answers.push(resolve));
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    const result = JSON.parse(await answer) as T & { error?: string };
    assert.equal(result.error, undefined, JSON.stringify(command));
    return result;
  }

  async end(): Promise<void> {
    const exit = once(this.#child, "exit");
    this.#child.stdin?.end();
    await exit;
  }
}

interface Side {
  readonly address: string;
  readonly port: number;
}

interface Told {
  readonly outcome: {
    readonly verdict: string;
    readonly reason: { readonly name: string } | null;
    readonly packet: { readonly source: Side; readonly destination: Side };
    readonly choice: {
      readonly kind: string;
      readonly backend: string;
      readonly candidates: readonly string[];
    } | null;
    readonly service: string | null;
  };
  readonly reply: {
    readonly verdict: string;
    readonly packet: { readonly source: Side; readonly destination: Side };
  } | null;
  readonly legs: readonly {
    readonly kind: string;
    readonly steps?: readonly { readonly reason: string | null }[];
  }[];
}

interface Case {
  readonly from: From;
  readonly family: Family;
  readonly proto: Proto;
  readonly dst: string;
  readonly dport: number;
  readonly sport: number;
  readonly kind: string;
}

describe("portolan trace", () => {
  let cluster: Cluster;
  let node: Node;
  let tracer: TraceHost;
  let agents: Record<From, HostAgent>;
  /** Pod by "address:port" of a backend. */
  const pods = new Map<string, string>();
  const addresses = {} as Record<From, Record<Family, string>>;

  before(async () => {
    cluster = await Cluster.start({
      pods: [
        { node: 1, name: "client" },
        { node: 1, name: "near" },
        { node: 1, name: "near2" },
        { node: 2, name: "far" },
      ],
      agentArgs: CLUSTER_CIDR,
      manifests,
    });
    node = cluster.world.node(1);
    const { ip4, ip6 } = node.address;
    // A host that is asked for closed ports time and again says no to some of it only: that is no affair of ours here.
    const answers = { "net/ipv4/icmp_ratelimit": 0, "net/ipv6/icmp/ratelimit": 0 };
    const hosts = [...cluster.world.nodes, ...cluster.world.nodes.flatMap(({ pods: each }) => each)];
    await Promise.all([...hosts, cluster.world.client].map((host) => host.sysctl(answers)));
    await cluster.world.switch.ip([
      `route add 203.0.113.0/24 via ${ip4}`,
      `route add 2001:db8:203::/64 via ${ip6}`,
    ]);
    for (const name of ["near", "near2", "far"]) {
      const pod = cluster.pod(name);
      for (const port of [8080, 5353]) {
        pods.set(`${pod.ip4}:${port}`, name);
        pods.set(`[${pod.ip6}]:${port}`, name);
      }
    }
    agents = {
      client: await cluster.at("client"),
      near: await cluster.at("near"),
      outside: await agentOf(cluster.world.client),
      host: await cluster.inCgroup(node),
    };
    const outside = cluster.world.clientAddress;
    addresses.client = { 4: cluster.pod("client").ip4, 6: cluster.pod("client").ip6 };
    addresses.near = { 4: cluster.pod("near").ip4, 6: cluster.pod("near").ip6 };
    addresses.outside = { 4: outside.ip4, 6: outside.ip6 };
    addresses.host = { 4: ip4, 6: ip6 };
    tracer = new TraceHost(node, `${cluster.bpfRoot(node)}/v2`);
  });
  after(async () => {
    await tracer?.end();
    await cluster?.close();
  });

  const pins = (): string => cluster.bpfRoot(node);

  function goalOf(
    pick: ReturnType<typeof randomOf>,
    family: Family,
    proto: Proto,
  ): Pick<Case, "dst" | "dport" | "kind"> {
    const name = pick(NAMES);
    const { n } = SERVICES[name] as { n: number };
    const port = proto === "tcp" ? 80 : 53;
    const nodePort = proto === "tcp" ? 30_080 + n : 30_153 + n;
    const nodeAddress = family === 4 ? node.address.ip4 : node.address.ip6;
    const pod = cluster.pod(pick(["near", "near2", "far"]));
    const podPort = proto === "tcp" ? 8080 : 5353;
    return pick([
      { kind: `ClusterIP of ${name}`, dst: clusterIP(n, family), dport: port },
      { kind: `ClusterIP of ${name}`, dst: clusterIP(n, family), dport: port },
      { kind: `NodePort of ${name}`, dst: nodeAddress, dport: nodePort },
      { kind: `NodePort of ${name}`, dst: nodeAddress, dport: nodePort },
      { kind: `balancer of ${name}`, dst: balancer(n, family), dport: port },
      { kind: `balancer of ${name}`, dst: balancer(n, family), dport: port },
      { kind: `externalIP of ${name}`, dst: external(n, family), dport: port },
      { kind: `unknown port of the ClusterIP of ${name}`, dst: clusterIP(n, family), dport: 81 },
      { kind: "unknown port of the node", dst: nodeAddress, dport: 29_000 },
      { kind: `pod ${pod.name}`, dst: family === 4 ? pod.ip4 : pod.ip6, dport: podPort },
      { kind: `pod ${pod.name}`, dst: family === 4 ? pod.ip4 : pod.ip6, dport: podPort },
    ]);
  }

  function caseOf(pick: ReturnType<typeof randomOf>, index: number): Case {
    const family = pick(FAMILIES);
    const proto = pick(["tcp", "udp"] as const);
    const from = pick(["client", "client", "near", "outside", "outside", "host"] as const);
    return { from, family, proto, sport: 33_000 + index, ...goalOf(pick, family, proto) };
  }

  const tell = async (of: Case): Promise<Told> => {
    const told = await tracer.ask<Told>({
      what: "trace",
      protocol: of.proto,
      src: addresses[of.from][of.family],
      sport: of.sport,
      dst: of.dst,
      dport: of.dport,
      flags: of.proto === "tcp" ? ["syn"] : [],
      ...(of.from === "host"
        ? { from: "host" }
        : of.from === "outside"
          ? { from: "uplink" }
          : { from: "pod" }),
      reply: true,
    });
    checkSchema("trace", told);
    return told;
  };

  const send = (of: Case, timeout: number): Promise<Exchange> =>
    agents[of.from].connect({
      dst: of.dst,
      port: of.dport,
      proto: of.proto,
      src: addresses[of.from][of.family],
      sport: of.sport,
      connected: true,
      rst: true,
      timeout,
    });

  /** The real packet had the fate that was told. */
  async function compare(of: Case, told: Told): Promise<string> {
    const { verdict, choice, packet } = told.outcome;
    const label = (): string => JSON.stringify({ of, outcome: told.outcome, reply: told.reply });
    const silent = verdict === "dropped";
    const real = await send(of, silent ? 400 : 5_000);
    const all = (): string => `${label()}\nreal: ${JSON.stringify(real)}`;
    const reaches = (verdict === "sent" || verdict === "delivered") && choice !== null;
    if (silent) {
      assert.deepEqual([real.ok, real.errno], [false, "ETIMEDOUT"], all());
      return `dropped ${told.outcome.reason?.name}`;
    }
    if (verdict === "rejected" || verdict === "refused") {
      assert.deepEqual([real.ok, real.errno], [false, "ECONNREFUSED"], all());
      return `${verdict} ${told.outcome.reason?.name}`;
    }
    if (!reaches) {
      const direct = pods.get(of.family === 4 ? `${of.dst}:${of.dport}` : `[${of.dst}]:${of.dport}`);
      if (direct !== undefined) {
        assert.equal(real.who, direct, all());
        return "direct";
      }
      assert.equal(real.ok, false, all());
      if (verdict === "delivered") assert.equal(real.errno, "ECONNREFUSED", all());
      return `${verdict} elsewhere`;
    }
    const any = choice.kind === "random" || choice.kind === "affinity-new";
    const expected = (any ? choice.candidates : [choice.backend]).map((backend) => pods.get(backend));
    assert.ok(expected.includes(real.who), `reached ${real.who}: ${all()}`);
    const same = pods.get(choice.backend) === real.who;
    // flannel's own rules change the source of what the node itself sends to other nodes' pods: no affair of trace's
    if (same && of.from !== "host") {
      assert.equal(real.seen, packet.source.address, `the backend sees another address: ${all()}`);
      assert.equal(real.seenPort, packet.source.port, `the backend sees another port: ${all()}`);
    }
    assert.ok(
      told.reply?.verdict === "sent" || told.reply?.verdict === "delivered",
      `the answer is lost: ${all()}`,
    );
    if (of.from !== "host")
      assert.deepEqual(
        [told.reply.packet.source.address, told.reply.packet.source.port],
        [of.dst, of.dport],
        `the answer does not come from what was asked: ${all()}`,
      );
    return `${choice.kind} ${told.outcome.service === null ? "without a Service" : "to a Service"}`;
  }

  it(`says of ${CASES} random packets what then happens to real ones`, async (t) => {
    const pick = randomOf(SEED);
    const seen = new Map<string, number>();
    for (let i = 0; i < CASES; i += 1) {
      const of = caseOf(pick, i);
      const what = await compare(of, await tell(of));
      seen.set(what, (seen.get(what) ?? 0) + 1);
      // a third of the flows goes on: now there is an entry, or an affinity
      if (pick([true, false, false])) {
        const again = await tell(of);
        const more = `again: ${await compare(of, again)}`;
        seen.set(more, (seen.get(more) ?? 0) + 1);
      }
    }
    t.diagnostic(`seed ${SEED}: ${JSON.stringify(Object.fromEntries([...seen].sort()))}`);
    for (const kind of [
      "random to a Service",
      "affinity to a Service",
      "again: flow to a Service",
      "direct without a Service",
    ])
      assert.ok((seen.get(kind) ?? 0) > 0, `no case was "${kind}": ${[...seen.keys()].join(", ")}`);
    assert.ok(
      [...seen.keys()].some((kind) => kind.startsWith("dropped")),
      "no case was dropped",
    );
    assert.ok(
      [...seen.keys()].some((kind) => kind.startsWith("rejected")),
      "no case was rejected",
    );
  });

  /** Neighbour discovery and the like go on meanwhile: they are counted, and touch nothing else. */
  const NOISE: readonly string[] = ["icmp_no_flow", "not_ip", "protocol_other"];

  function quiet(counters: string): string {
    const bytes = Buffer.from(counters, "hex");
    for (const { id, name } of REASONS)
      if (NOISE.includes(name)) bytes.fill(0, id * trafficCodec.size, (id + 1) * trafficCodec.size);
    return bytes.toString("hex");
  }

  it("leaves every map as it was, byte for byte, after 30 packets and their answers", async () => {
    const pick = randomOf(SEED + 1);
    const dump = async (): Promise<Record<string, string>> => {
      const maps = await tracer.ask<Record<string, string>>({ what: "maps" });
      return { ...maps, counters: quiet(maps.counters ?? "") };
    };
    // The tail of real connections may still pass: then another try is made. What traces left behind would show in each.
    for (let tries = 0; ; tries += 1) {
      const before = await dump();
      assert.ok(Number.parseInt(before.nat4 ?? "", 10) > 0, "there are flows");
      for (let i = 0; i < 30; i += 1) await tell(caseOf(pick, i));
      const behind = await dump();
      if (tries < 4 && JSON.stringify(behind) !== JSON.stringify(before)) continue;
      assert.deepEqual(behind, before);
      return;
    }
  });

  const options = (proto: string, src: string, dst: string, ...more: string[]): string[] => [
    "trace",
    ...["--proto", proto, "--src", src, "--dst", dst],
    ...more,
  ];
  const cli = (...args: string[]) => cluster.cli(node, args);

  it("prints what docs/cli.md shows", async () => {
    const { ip4 } = cluster.pod("client");
    const args = options("tcp", `${ip4}:50001`, "10.96.0.2:80", "--reply");
    const { code, stdout, stderr } = await cli(...args);
    assert.equal(code, 0, stderr);
    assert.equal(evened(stdout), evened(documented(`portolan ${args.join(" ")}`)));
    assertGolden("trace.txt", `${evened(stdout)}\n`);
  });

  it("ends quietly when nobody reads what it prints", async () => {
    const { ip4 } = cluster.pod("client");
    const args = [...options("tcp", `${ip4}:50004`, "10.96.0.2:80"), "--bpf-root", cluster.bpfRoot(node)];
    const shell = ["sh", "-c", '"$@" | true', "sh", ...cliCommand(), ...args];
    const { stdout, stderr } = await node.exec(shell, { check: false });
    assert.deepEqual([stdout, stderr], ["", ""]);
  });

  it("prints the same as JSON", async () => {
    const { code, stdout } = await cli(
      ...options("udp", `[${addresses.client[6]}]:50002`, "[fd00:10:96::3]:53", "-o", "json"),
    );
    assert.equal(code, 0);
    checkSchema("trace", JSON.parse(stdout));
    assertGolden("trace.json", evened(prettyJson(stdout)));
    const told = JSON.parse(stdout) as Told & { packet: { family: number }; from: string };
    assert.equal(told.packet.family, 6);
    assert.equal(told.from, "pod");
    assert.equal(told.outcome.verdict, "sent");
    assert.equal(told.outcome.service, "default/near-only:dns/UDP");
    assert.equal(told.outcome.choice?.backend, `[${cluster.pod("near").ip6}]:5353`);
    assert.deepEqual(
      told.legs.map(({ kind }) => kind),
      ["ingress", "route", "egress"],
    );
  });

  it("traces SCTP and ICMP", async () => {
    const sctp = await cli(...options("sctp", `${addresses.client[4]}:50003`, "10.96.0.1:80"));
    assert.match(sctp.stdout, /packet: REJECTED: .*\(no_port\), answered with icmp .* port unreachable/);
    const ping = await cli(...options("icmp", addresses.client[4], cluster.pod("near").ip4));
    assert.match(ping.stdout, /echo request[\s\S]*icmp_no_flow[\s\S]*packet: sent as icmp/);
  });

  it("says what is wrong with a question, and what to do", async () => {
    const wrong: [string[], number, RegExp][] = [
      [options("tcp", "10.0.0.1:1", "[fd00::1]:1"), 2, /two families[\s\S]*Give both/],
      [options("tcp", "10.0.0.1", "10.0.0.2:80"), 2, /10\.0\.0\.1 needs a port/],
      [options("icmp", "10.0.0.1", "10.0.0.2:80"), 2, /icmp has no ports/],
      [options("udp", "10.0.0.1:1", "10.0.0.2:80", "--flags", "syn"), 2, /udp has no flags/],
      [options("tcp", "10.0.0.300:1", "10.0.0.2:80"), 2, /--src "10\.0\.0\.300:1" is no address/],
      [options("tcp", "10.0.0.1:70000", "10.0.0.2:80"), 2, /a port is a number/],
      [options("tcp", "10.0.0.1:1", "10.0.0.2:80", "--flags", "sin"), 2, /"sin" is none of/],
      [
        options("tcp", "10.0.0.1:1", "10.0.0.2:80", "--interface", "nope"),
        3,
        /no interface "nope"[\s\S]*programs are on/,
      ],
      [
        options("tcp", "10.0.0.1:1", "10.0.0.2:80", "--from", "host", "--interface", "eth0"),
        2,
        /--from host/,
      ],
    ];
    for (const [args, code, message] of wrong) {
      const got = await cli(...args);
      assert.match(got.stderr, message, args.join(" "));
      assert.equal(got.code, code, `${args.join(" ")}: ${got.stderr}`);
      assert.doesNotMatch(got.stderr, /\n {4}at /, "a stack trace");
    }
  });

  it("says so where no agent is at work", async () => {
    const elsewhere = cluster.world.client;
    const argv = [...cliCommand(), ...options("tcp", "10.0.0.1:1", "10.0.0.2:80"), "--bpf-root", pins()];
    const { stdout, stderr, code } = await elsewhere.exec(argv, { check: false });
    assert.equal(stdout, "");
    assert.equal(code, 3);
    assert.match(stderr, /no interface of this network namespace carries Portolan's programs/);
  });
});

/** The lines behind a command line in docs/cli.md. */
function documented(command: string): string {
  const page = readFileSync(new URL("../../docs/cli.md", import.meta.url), "utf8");
  const block = page.split(`$ ${command}\n`)[1]?.split("```")[0];
  assert.ok(block !== undefined, `docs/cli.md has no "$ ${command}"`);
  return block.trimEnd();
}

/** Without what is not the same in each world: interfaces, cells, slots, indexes, and how long ago it was. */
function evened(text: string): string {
  return text
    .replaceAll(/by \S+ \((pod|overlay); [^)]*\)/g, "by INTERFACE ($1)")
    .replaceAll(/idle \d+ s/g, "idle N s")
    .replaceAll(/slots \d+ to \d+/g, "slots N to N")
    .replaceAll(/cell \d+/g, "cell N")
    .replaceAll(/slots4\[\d+\]/g, "slots4[N]")
    .replaceAll(/"key": "\d+"/g, '"key": "N"')
    .replaceAll(/"service": \d+/g, '"service": 0')
    .replaceAll(/"interface": "veth\w+"/g, '"interface": "INTERFACE"')
    .trimEnd();
}
