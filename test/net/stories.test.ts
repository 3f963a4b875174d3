// SPDX-License-Identifier: Apache-2.0
/*
 * The stories of the conformance cases: what happens to flows, clients and ports over time. A title begins with the case's
 * id. Each is told over IPv4 and IPv6.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import type { Node, World } from "../../src/demo/world/index.js";
import { overlayAddress } from "../../src/demo/world/plan.js";
import { Cluster, eventually } from "../support/cluster.js";
import type { Exchange, HostAgent, Target } from "../support/host-agent.js";
import {
  clientIPAffinity,
  endpointSlice,
  type ServicePortSpec,
  type SlicePort,
  service,
  withSpec,
} from "../support/manifests.js";

const CLUSTER_CIDR = "10.244.0.0/16,fd00:10:244::/48";
const FAMILIES = [4, 6] as const;
type Family = (typeof FAMILIES)[number];
const AFFINITY_SECONDS = 3;
/** Whoever was not run for so long has seen nothing of a short affinity, and begins anew: so often. */
const AFFINITY_BEGINNINGS = 40;

const SOCKET_PROGRAMS = ["connect", "peername", "recvmsg", "sendmsg"].flatMap((name) => [
  `ptl_${name}4`,
  `ptl_${name}6`,
]);

const WEB: ServicePortSpec = { name: "web", port: 80 };
const DNS: ServicePortSpec = { name: "dns", port: 53, protocol: "UDP" };
const WEB_PODS: SlicePort = { name: "web", port: 8080 };
const DNS_PODS: SlicePort = { name: "dns", port: 5353, protocol: "UDP" };

const vip = (n: number, family: Family): string => (family === 4 ? `10.96.0.${n}` : `fd00:10:96::${n}`);
/** Routed to node 1 by the switch. */
const balancer = (n: number, family: Family): string =>
  family === 4 ? `203.0.113.${n}` : `2001:db8:ffff::${n}`;
const nodeIP = (node: Node, family: Family): string => (family === 4 ? node.address.ip4 : node.address.ip6);

/** A dual-stack Service with number n. */
function dual(n: number, ports: readonly ServicePortSpec[], spec: object = {}): object {
  const isBalancer = "type" in spec && spec.type === "LoadBalancer";
  const addresses = isBalancer ? FAMILIES.map((family) => balancer(n, family)) : [];
  return withSpec(service(`svc-${n}`, [vip(n, 4), vip(n, 6)], ports), spec, addresses);
}

/** Its slices, with these pods; each endpoint has its node's name. Those that are ending still serve. */
function slices(
  world: World,
  n: number,
  pods: readonly string[],
  ports: readonly SlicePort[],
  ending: readonly string[] = [],
): object[] {
  const all = [...pods, ...ending].map((name) => world.pod(name));
  const endpoint = (ip: string): object => {
    const pod = all.find(({ ip4, ip6 }) => [ip4, ip6].includes(ip));
    const terminating = { ready: false, serving: true, terminating: true };
    const ends = ending.some((name) => name === pod?.name);
    return { nodeName: pod?.node.name, ...(ends ? { conditions: terminating } : {}) };
  };
  return FAMILIES.map((family) => {
    const addresses = all.map((pod) => (family === 4 ? pod.ip4 : pod.ip6));
    return endpointSlice(`svc-${n}`, addresses, ports, { family, endpoint });
  });
}

const told = (answer: Exchange): string => answer.who ?? `${answer.stage}: ${answer.errno}`;
const file = (n: number): string => `svc-${n}.yaml`;

/** The addresses of the pod "client" beside its own: each is a client of its own to whoever counts addresses. */
const clientAddress = (i: number, family: Family): string =>
  family === 4 ? `10.244.${8 + (i >> 8)}.${i & 255}` : `fd00:10:244:8::${(i + 1).toString(16)}`;

/** Lets the pod "client" use 1,000 addresses more, and both nodes find them there. */
async function addClientAddresses(world: World): Promise<void> {
  const pod = world.pod("client");
  const { ip4, ip6 } = overlayAddress(1);
  await pod.sysctl({ "net/ipv6/ip_nonlocal_bind": 1 });
  await pod.ip(["route add local 10.244.8.0/22 dev lo", "route add local fd00:10:244:8::/112 dev lo"]);
  await pod.node.ip([
    `route add 10.244.8.0/22 via ${pod.ip4} dev cni0`,
    `route add fd00:10:244:8::/112 via ${pod.ip6} dev cni0`,
  ]);
  await world
    .node(2)
    .ip([
      `route add 10.244.8.0/22 via ${ip4} dev flannel.1 onlink`,
      `route add fd00:10:244:8::/112 via ${ip6} dev flannel.1 onlink`,
    ]);
}

async function routeBalancers(world: World): Promise<void> {
  const { ip4, ip6 } = world.node(1).address;
  await world.switch.ip([`route add 203.0.113.0/24 via ${ip4}`, `route add 2001:db8:ffff::/64 via ${ip6}`]);
}

/** What each of `count` clients is answered, some at a time. */
async function askAll(
  agent: HostAgent,
  count: number,
  family: Family,
  target: (i: number) => Target,
): Promise<string[]> {
  const answers: string[] = [];
  for (let start = 0; start < count; start += 25) {
    const some = Array.from({ length: Math.min(25, count - start) }, (_, i) => start + i);
    const got = await Promise.all(
      some.map((i) => agent.connect({ ...target(i), src: clientAddress(i, family) })),
    );
    answers.push(...got.map(told));
  }
  return answers;
}

function start(agentNodes?: readonly number[]): Promise<Cluster> {
  return Cluster.start({
    pods: [
      { node: 1, name: "client" },
      { node: 1, name: "near" },
      { node: 1, name: "near-2" },
      { node: 2, name: "far" },
      { node: 2, name: "far-2" },
    ],
    prepare: async (world) => {
      await addClientAddresses(world);
      await routeBalancers(world);
    },
    agentArgs: ["--cluster-cidr", CLUSTER_CIDR],
    ...(agentNodes === undefined ? {} : { agentNodes }),
  });
}

describe("stories of flows", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await start();
  });
  after(() => cluster?.close());

  /** Applies Service n with these pods. */
  const set = (n: number, serviceObject: object, pods: readonly string[], ports: readonly SlicePort[]) =>
    cluster.apply(file(n), [serviceObject, ...slices(cluster.world, n, pods, ports)]);

  it("F09: an established TCP flow survives the removal of its endpoint, which no new flow reaches", async () => {
    const client = await cluster.at("client");
    for (const family of FAMILIES) {
      await set(1, dual(1, [WEB]), ["far", "far-2"], [WEB_PODS]);
      const target = { dst: vip(1, family), port: 80 };
      await client.open("held", target);
      const used = told(await client.ask("held"));
      const other = used === "far" ? "far-2" : "far";
      await set(1, dual(1, [WEB]), [other], [WEB_PODS]);
      assert.equal(told(await client.ask("held")), used);
      const load = await client.loadCount(target, { threads: 5, count: 50 });
      assert.deepEqual([load.errors, Object.keys(load.who), load.good], [{}, [other], 50]);
      assert.equal(told(await client.ask("held")), used);
      await client.close("held");
    }
  });

  it("J05: datagrams with affinity go to one endpoint, each from a source port of its own (5.9)", async () => {
    const client = await cluster.at("client");
    await set(2, dual(2, [DNS], clientIPAffinity(60)), ["near", "near-2", "far"], [DNS_PODS]);
    for (const family of FAMILIES) {
      const got: Exchange[] = [];
      for (let i = 0; i < 50; i++)
        got.push(await client.connect({ dst: vip(2, family), port: 53, proto: "udp", sport: 40_000 + i }));
      assert.equal(new Set(got.map((answer) => answer.seenPort)).size, 50);
      const endpoints = new Set(got.map(told));
      assert.equal(endpoints.size, 1, `${[...endpoints]}`);
      assert.ok(["near", "near-2", "far"].includes([...endpoints][0] as string), `${[...endpoints]}`);
    }
  });

  it("J06: affinity with externalTrafficPolicy Local keeps to one local endpoint, which sees the client (5.3)", async () => {
    const spec = { type: "LoadBalancer", externalTrafficPolicy: "Local", ...clientIPAffinity(60) };
    await set(3, dual(3, [WEB], spec), ["near", "near-2", "far"], [WEB_PODS]);
    const outside = await cluster.at(cluster.world.client);
    for (const family of FAMILIES) {
      const target = { dst: balancer(3, family), port: 80 };
      const got: Exchange[] = [];
      for (let i = 0; i < 20; i++) got.push(await outside.connect(target));
      const endpoints = [...new Set(got.map(told))];
      assert.equal(endpoints.length, 1, `${endpoints}`);
      assert.match(endpoints[0] as string, /^near(-2)?$/);
      const { ip4, ip6 } = cluster.world.clientAddress;
      assert.deepEqual([...new Set(got.map(({ seen }) => seen))], [family === 4 ? ip4 : ip6]);
    }
  });

  it("J08: 1,000 clients come back to the endpoints that they had (5.8)", async (t) => {
    const client = await cluster.at("client");
    await set(4, dual(4, [WEB], clientIPAffinity(10_800)), ["near", "near-2"], [WEB_PODS]);
    for (const family of FAMILIES) {
      const target = (): Target => ({ dst: vip(4, family), port: 80 });
      const first = await askAll(client, 1000, family, target);
      const share = first.filter((who) => who === "near").length;
      assert.deepEqual(new Set(first), new Set(["near", "near-2"]));
      assert.ok(share > 400 && share < 600, `${share} of 1,000 clients have the first endpoint (4.14)`);
      assert.deepEqual(await askAll(client, 1000, family, target), first);
      t.diagnostic(`IPv${family}: ${share} + ${1000 - share} clients`);
    }
  });

  it("K01: a client with one source port reaches the endpoint that came for the only one, at once (9.3)", async () => {
    const spec = { type: "NodePort" };
    const ports = [{ ...DNS, nodePort: 30_053 }];
    const clients = [
      { agent: await cluster.at("client"), direct: true },
      { agent: await cluster.at(cluster.world.client), direct: false },
    ];
    for (const family of FAMILIES) {
      for (const connected of [false, true]) {
        await set(5, dual(5, ports, spec), ["far"], [DNS_PODS]);
        const ask = (timeout: number): Promise<string[]> =>
          Promise.all(clients.map(async ({ agent }) => told(await agent.ask("flow", { timeout }))));
        for (const { agent, direct } of clients) {
          const dst = direct ? vip(5, family) : nodeIP(cluster.world.node(1), family);
          const port = direct ? 53 : 30_053;
          await agent.open("flow", { dst, port, proto: "udp", sport: 12_345, connected });
        }
        for (let i = 0; i < 3; i++) assert.deepEqual(await ask(5000), ["far", "far"]);
        await set(5, dual(5, ports, spec), ["far-2"], [DNS_PODS]);
        for (let i = 0; i < 3; i++) assert.deepEqual(await ask(3000), ["far-2", "far-2"]);
        for (const { agent } of clients) await agent.close("flow");
      }
    }
  });

  it("K07: a flow follows its endpoint to another port of the same pod (9.8)", async () => {
    const spec = { type: "NodePort" };
    const ports = [{ ...DNS, nodePort: 30_080 }];
    await (await cluster.at("near")).serve("udp", 9090, "near:9090");
    const inside = await cluster.at("client");
    const outside = await cluster.at(cluster.world.client);
    for (const family of FAMILIES) {
      await set(6, dual(6, ports, spec), ["near"], [DNS_PODS]);
      const address = nodeIP(cluster.world.node(1), family);
      const flow = { proto: "udp", sport: 12_346 } as const;
      await inside.open("vip", { ...flow, dst: vip(6, family), port: 53 });
      await outside.open("node", { ...flow, dst: address, port: 30_080 });
      const ask = async (): Promise<string[]> =>
        [await inside.ask("vip", { timeout: 3000 }), await outside.ask("node", { timeout: 3000 })].map(told);
      assert.deepEqual(await ask(), ["near", "near"]);
      await set(6, dual(6, ports, spec), ["near"], [{ ...DNS_PODS, port: 9090 }]);
      assert.deepEqual(await ask(), ["near:9090", "near:9090"]);
      await inside.close("vip");
      await outside.close("node");
    }
  });

  // The other half of the story, SCTP, is in test/bpf/sctp.test.ts (crafted packets) and in the QEMU lane (sockets).
  it("K08: a TCP flow goes on although its endpoint has left the slice, as long as the pod lives (9.1)", async () => {
    const spec = { type: "NodePort" };
    const ports = [{ ...WEB, nodePort: 30_081 }];
    const inside = await cluster.at("client");
    const outside = await cluster.at(cluster.world.client);
    for (const family of FAMILIES) {
      await set(7, dual(7, ports, spec), ["near", "far"], [WEB_PODS]);
      await inside.open("vip", { dst: vip(7, family), port: 80 });
      await outside.open("node", { dst: nodeIP(cluster.world.node(1), family), port: 30_081 });
      const ask = async (): Promise<string[]> => [
        told(await inside.ask("vip")),
        told(await outside.ask("node")),
      ];
      const used = await ask();
      for (const left of [["near"], ["far"], []]) {
        await set(7, dual(7, ports, spec), left, [WEB_PODS]);
        assert.deepEqual(await ask(), used, `${left}`);
      }
      const bulk = await inside.connect({ dst: vip(7, family), port: 80 });
      assert.equal(told(bulk), "connect: ECONNREFUSED");
      await inside.close("vip");
      await outside.close("node");
    }
  });

  it("M07: a health check port that is taken opens with a later sync, and the Service works without it (6.26)", async () => {
    const node = cluster.world.node(1);
    const holder = await cluster.at(node);
    const spec = { type: "LoadBalancer", externalTrafficPolicy: "Local", healthCheckNodePort: 32_007 };
    await holder.serve("tcp", 32_007, "holder");
    const mark = cluster.agent(node).mark();
    await set(8, dual(8, [WEB], spec), ["near"], [WEB_PODS]);
    const warning = await cluster
      .agent(node)
      .line((line) => line.msg === "health check port cannot be opened", mark);
    assert.match(JSON.stringify(warning), /FailedToStartServiceHealthcheck|svc-8.*32007|32007.*svc-8/);
    const outside = await cluster.at(cluster.world.client);
    for (const family of FAMILIES)
      assert.equal(told(await outside.connect({ dst: balancer(8, family), port: 80 })), "near");
    await holder.close("tcp-32007");
    await set(8, dual(8, [WEB, { ...WEB, name: "more", port: 81 }], spec), ["near"], [WEB_PODS]);
    for (const address of [node.address.ip4, `[${node.address.ip6}]`]) {
      const text = await eventually(`the health check port of ${address} opens`, async () => {
        const got = await cluster.world.client.exec(["curl", "-sS", "-g", "-i", `http://${address}:32007/`], {
          check: false,
        });
        return got.code === 0 ? got.stdout : undefined;
      });
      assert.match(text, /^HTTP\/1.1 200 /);
      assert.match(text, /"localEndpoints": 1/);
    }
  });
});

describe("stories of session affinity", () => {
  let cluster: Cluster;
  const world = (): World => cluster.world;
  before(async () => {
    cluster = await start();
  });
  after(() => cluster?.close());

  const PODS = ["near", "near-2"];

  it("a client that is stuck by one address of a service port is stuck by all of them (5.1)", async () => {
    const ports = [{ ...WEB, nodePort: 30_090 }];
    const spec = { type: "LoadBalancer", ...clientIPAffinity(600) };
    await cluster.apply(file(1), [dual(1, ports, spec), ...slices(world(), 1, [...PODS, "far"], [WEB_PODS])]);
    const client = await cluster.at("client");
    const outside = await cluster.at(world().client);
    for (const family of FAMILIES) {
      const ways: Target[] = [
        { dst: vip(1, family), port: 80 },
        { dst: balancer(1, family), port: 80 },
        { dst: nodeIP(world().node(1), family), port: 30_090 },
      ];
      // Each client begins with another address than its neighbour, so that each address comes first for some.
      const turn =
        (round: number) =>
        (i: number): Target =>
          ways[(i + round) % ways.length] as Target;
      const first = await askAll(client, 60, family, turn(0));
      assert.ok(new Set(first).size > 1, `${first}`);
      for (const round of [1, 2]) assert.deepEqual(await askAll(client, 60, family, turn(round)), first);
      const stuck = told(await outside.connect(ways[2] as Target));
      for (const way of [...ways, ...ways, ...ways]) assert.equal(told(await outside.connect(way)), stuck);
    }
  });

  it("the node's own processes are one client, whatever address and family of socket they use (5.1)", async () => {
    const node = world().node(1);
    const ports = [{ ...WEB, nodePort: 30_091 }];
    const spec = { type: "LoadBalancer", ...clientIPAffinity(600) };
    const host = await cluster.inCgroup(node);
    const stuck = new Set<string>();
    // Three endpoints, six Services and families: that all choices are right by chance is one case in 3^54.
    for (const n of [2, 3, 4]) {
      const own = [{ ...WEB, nodePort: (ports[0]?.nodePort ?? 0) + n }];
      await cluster.apply(file(n), [dual(n, own, spec), ...slices(world(), n, [...PODS, "far"], [WEB_PODS])]);
      for (const family of FAMILIES) {
        const loopback = { dst: "127.0.0.1", port: 30_091 + n };
        const ways: Target[] = [
          { dst: vip(n, family), port: 80 },
          { dst: nodeIP(node, family), port: 30_091 + n },
          { dst: balancer(n, family), port: 80 },
          { dst: vip(n, family), port: 80, src: nodeIP(node, family) },
          ...(family === 4 ? [loopback, { dst: `::ffff:${vip(n, 4)}`, port: 80 }] : []),
        ];
        const first = told(await host.connect(ways[0] as Target));
        stuck.add(first);
        for (const way of [...ways, ...ways])
          assert.equal(told(await host.connect(way)), first, JSON.stringify(way));
      }
    }
    assert.ok(
      [...stuck].every((who) => [...PODS, "far"].includes(who)),
      `${[...stuck]}`,
    );
  });

  it("a client is the same one to the packet and to the socket hooks (5.1)", async () => {
    const n = 8;
    const node = world().node(1);
    await cluster.apply(file(n), [
      dual(n, [WEB], clientIPAffinity(600)),
      ...slices(world(), n, [...PODS, "far"], [WEB_PODS]),
    ]);
    const client = await cluster.at("client");
    const host = await cluster.inCgroup(node);
    const answers = (agent: HostAgent, family: Family): Promise<string[]> =>
      // Reset: a node does not forward what looks like a packet of its own socket in TIME_WAIT, and the pod has these addresses after it.
      askAll(agent, 30, family, () => ({ dst: vip(n, family), port: 80, rst: true }));
    const byPackets = [await answers(client, 4), await answers(client, 6)];
    for (const got of byPackets) assert.ok(new Set(got).size > 1, `${got}`);
    // The addresses move from the pod to its node.
    const local = ["10.244.8.0/22", "fd00:10:244:8::/112"];
    await node.sysctl({ "net/ipv6/ip_nonlocal_bind": 1 });
    await node.ip(local.map((range) => `route add local ${range} dev lo`));
    assert.deepEqual([await answers(host, 4), await answers(host, 6)], byPackets);
    await node.ip(local.map((range) => `route del local ${range} dev lo`));
    assert.deepEqual([await answers(client, 4), await answers(client, 6)], byPackets);
  });

  it("connections that a client opens at the same moment go to one endpoint, the first ones too (5.1)", async () => {
    const n = 9;
    await cluster.apply(file(n), [
      dual(n, [WEB], clientIPAffinity(600)),
      ...slices(world(), n, [...PODS, "far"], [WEB_PODS]),
    ]);
    const client = await cluster.at("client");
    for (const family of FAMILIES) {
      const split: string[] = [];
      for (let i = 0; i < 100; i++) {
        const target = { dst: vip(n, family), port: 80, src: clientAddress(i, family) };
        const load = await client.loadCount(target, { threads: 4, count: 4 });
        const endpoints = Object.keys(load.who);
        if (endpoints.length !== 1) split.push(`${target.src}: ${endpoints} ${Object.keys(load.errors)}`);
      }
      assert.deepEqual(split, [], `${split.length} of 100 clients over IPv${family}`);
    }
  });

  it("ports of one Service have affinity of their own (5.2)", async () => {
    const ports = [WEB, { ...WEB, name: "more", port: 81 }];
    const slicePorts = [WEB_PODS, { ...WEB_PODS, name: "more" }];
    await cluster.apply(file(5), [
      dual(5, ports, clientIPAffinity(600)),
      ...slices(world(), 5, PODS, slicePorts),
    ]);
    const client = await cluster.at("client");
    for (const family of FAMILIES) {
      const target = (port: number) => (): Target => ({ dst: vip(5, family), port });
      const [web, more] = [
        await askAll(client, 60, family, target(80)),
        await askAll(client, 60, family, target(81)),
      ];
      assert.notDeepEqual(web, more);
      assert.deepEqual(await askAll(client, 60, family, target(80)), web);
      assert.deepEqual(await askAll(client, 60, family, target(81)), more);
    }
  });

  it("an endpoint that ends while others are ready loses its clients, and the others keep theirs (5.3, 5.6)", async () => {
    const put = (pods: readonly string[], ending: readonly string[] = []): Promise<void> =>
      cluster.apply(file(6), [
        dual(6, [WEB], clientIPAffinity(600)),
        ...slices(world(), 6, pods, [WEB_PODS], ending),
      ]);
    const client = await cluster.at("client");
    for (const family of FAMILIES) {
      await put(["near", "near-2", "far"]);
      const target = (): Target => ({ dst: vip(6, family), port: 80 });
      const first = await askAll(client, 60, family, target);
      assert.deepEqual(new Set(first), new Set(["near", "near-2", "far"]));
      await put(["near-2", "far"], ["near"]);
      const second = await askAll(client, 60, family, target);
      for (const [i, who] of second.entries()) {
        if (first[i] === "near") assert.notEqual(who, "near");
        else assert.equal(who, first[i]);
      }
      await put(["near", "near-2", "far"]);
      assert.deepEqual(await askAll(client, 60, family, target), second, "the new choice is remembered");
      await put(["near-2", "far"]);
      await put(["near", "near-2", "far"]);
      assert.deepEqual(await askAll(client, 60, family, target), second, "nobody was at the one that left");
    }
  });

  it("affinity lasts from the last new connection, not from the last packet (5.5)", async (t) => {
    await cluster.apply(file(7), [
      dual(7, [WEB], clientIPAffinity(AFFINITY_SECONDS)),
      ...slices(world(), 7, PODS, [WEB_PODS]),
    ]);
    const client = await cluster.at("client");
    const clients = FAMILIES.flatMap((family) =>
      Array.from({ length: 20 }, (_, i) => ({
        handle: `sliding-${family}-${i}`,
        target: { dst: vip(7, family), port: 80, src: clientAddress(i, family) },
      })),
    );
    const connectAll = (): Promise<string[]> =>
      Promise.all(clients.map(async ({ target }) => told(await client.connect(target))));
    const askHeld = (): Promise<string[]> =>
      Promise.all(clients.map(async ({ handle }) => told(await client.ask(handle))));
    /** New connections for more than twice the affinity's time; undefined when two of a client came too far apart. */
    const keepAlive = async (): Promise<{ first: string[]; last: number } | undefined> => {
      let before = performance.now(); // no client's connection is older than this
      for (const { handle, target } of clients) {
        const opened = await client.open(handle, target);
        assert.ok(opened.ok, `${handle}: ${JSON.stringify(opened)}`);
      }
      const first = await askHeld();
      const begin = performance.now();
      while (before - begin < 2500 * AFFINITY_SECONDS) {
        const now = performance.now();
        const got = await connectAll();
        if (performance.now() - before >= 1000 * AFFINITY_SECONDS) return undefined;
        assert.deepEqual(got, first, `${now - begin} ms after the first`);
        before = now;
        await new Promise((resolve) => setTimeout(resolve, 200)); // the pace of the clients
      }
      return { first, last: performance.now() };
    };
    let kept = await keepAlive();
    for (let beginnings = 1; kept === undefined; beginnings++) {
      assert.ok(
        beginnings < AFFINITY_BEGINNINGS,
        `the machine stood still ${beginnings} times: nothing is told`,
      );
      t.diagnostic(`the machine stood still for longer than the affinity lasts: begun anew (${beginnings})`);
      for (const { handle } of clients) await client.close(handle);
      kept = await keepAlive();
    }
    const { first, last } = kept;
    // Packets do not. (2^-40: that all clients choose by chance what they had.)
    do assert.deepEqual(await askHeld(), first);
    while (performance.now() - last < 1000 * AFFINITY_SECONDS + 200);
    assert.notDeepEqual(await connectAll(), first);
    assert.deepEqual(await askHeld(), first);
    for (const { handle } of clients) await client.close(handle);
  });
});

describe("stories of the agent", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await start([2]);
  });
  after(() => cluster?.close());

  /** All chains and rules of a node, without counters and times. */
  async function rules(node: Node): Promise<string> {
    const tables = await Promise.all([node.exec(["iptables-save"]), node.exec(["ip6tables-save"])]);
    const lines = tables.flatMap(({ stdout }) => stdout.split("\n"));
    return lines
      .filter((line) => !line.startsWith("#"))
      .map((line) => line.replace(/ \[\d+:\d+\]$/, ""))
      .join("\n");
  }

  /** Names of the programs on the sockets of a node. */
  async function socketPrograms(node: Node): Promise<string[]> {
    const { stdout } = await node.exec(["bpftool", "-j", "cgroup", "show", cluster.cgroup(node) as string]);
    const shown = stdout.trim() === "" ? [] : (JSON.parse(stdout) as { name: string }[]);
    return shown.map(({ name }) => name).sort();
  }

  /** Takes every program off the node's interfaces (bpftool of Debian does not know of tcx), and tells how many. */
  async function detachPackets(node: Node): Promise<number> {
    const agent = await cluster.at(node);
    const { stdout } = await node.exec(["ip", "-j", "link", "show"]);
    let detached = 0;
    for (const { ifname } of JSON.parse(stdout) as { ifname: string }[]) {
      for (const hook of ["ingress", "egress"] as const) detached += await agent.tcxDetach(ifname, hook);
    }
    return detached;
  }

  it("N01: a killed and restarted agent costs no connection, no flow, and no client its endpoint (5.7, 9.6)", async (t) => {
    const node = cluster.world.node(1);
    const ports = [
      { ...WEB, nodePort: 30_101 },
      { ...DNS, nodePort: 30_102 },
    ];
    const pods = ["near", "near-2"];
    cluster.write(file(1), [
      dual(1, ports, { type: "NodePort" }),
      ...slices(cluster.world, 1, [...pods, "far"], [WEB_PODS, DNS_PODS]),
    ]);
    cluster.write(file(2), [
      dual(2, [WEB], clientIPAffinity(600)),
      ...slices(cluster.world, 2, pods, [WEB_PODS]),
    ]);
    await cluster.startAgent(node);
    const client = await cluster.at("client");
    const clients = [
      { agent: client, inside: true },
      { agent: await cluster.inCgroup(node), inside: true },
      { agent: await cluster.at(cluster.world.client), inside: false },
    ];
    const flows = clients.flatMap(({ agent, inside }) =>
      FAMILIES.flatMap((family) => {
        const dst = inside ? vip(1, family) : nodeIP(node, family);
        return [
          { agent, name: `tcp-${family}`, target: { dst, port: inside ? 80 : 30_101 } },
          {
            agent,
            name: `udp-${family}`,
            target: { dst, port: inside ? 53 : 30_102, proto: "udp", connected: true },
          },
        ] as const;
      }),
    );
    for (const { agent, name, target } of flows) {
      assert.ok((await agent.open(`held-${name}`, target)).ok, name);
      await agent.loadStart(`load-${name}`, target, { threads: 1, gap: 5000 });
    }
    const held = (): Promise<string[]> =>
      Promise.all(flows.map(async ({ agent, name }) => told(await agent.ask(`held-${name}`))));
    const stuck = async (): Promise<string[][]> => [
      await askAll(client, 40, 4, () => ({ dst: vip(2, 4), port: 80 })),
      await askAll(client, 40, 6, () => ({ dst: vip(2, 6), port: 80 })),
    ];
    const [flowsBefore, stuckBefore] = [await held(), await stuck()];
    assert.ok(
      flowsBefore.every((who) => /^(near|near-2|far)$/.test(who)),
      `${flowsBefore}`,
    );
    for (let round = 0; round < 3; round++) {
      await cluster.agent(node).end("SIGKILL");
      assert.deepEqual(await held(), flowsBefore);
      assert.deepEqual(await stuck(), stuckBefore);
      await cluster.startAgent(node);
      assert.deepEqual(await held(), flowsBefore);
      assert.deepEqual(await stuck(), stuckBefore);
    }
    let attempts = 0;
    for (const { agent, name } of flows) {
      const result = await agent.loadStop(`load-${name}`);
      attempts += result.attempts;
      assert.ok(result.attempts > 50, JSON.stringify(result));
      assert.deepEqual([result.errors, result.slow, result.good], [{}, 0, result.attempts], name);
      await agent.close(`held-${name}`);
    }
    t.diagnostic(`${attempts} new connections and questions over three restarts, 0 failed`);
    await cluster.agent(node).end("SIGTERM");
    assert.equal((await cluster.cli(node, ["cleanup"])).code, 0);
  });

  it("N03: cleanup takes everything away, and may be run again", async () => {
    const node = cluster.world.node(1);
    await node.exec(["iptables-restore", "--noflush"], {
      input:
        "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n" +
        "*filter\n:KUBE-FIREWALL - [0:0]\n-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n",
    });
    const rulesBefore = await rules(node);
    assert.deepEqual([await socketPrograms(node), await detachPackets(node)], [[], 0], "before");
    cluster.write(file(1), [
      dual(1, [WEB], { type: "NodePort" }),
      ...slices(cluster.world, 1, ["near"], [WEB_PODS]),
    ]);
    await cluster.startAgent(node);
    const client = await cluster.at("client");
    const host = await cluster.inCgroup(node);
    for (const family of FAMILIES) {
      for (const agent of [client, host])
        assert.equal(told(await agent.connect({ dst: vip(1, family), port: 80 })), "near");
    }
    assert.notEqual(await rules(node), rulesBefore, "the agent has rules of its own here");
    assert.deepEqual(await socketPrograms(node), SOCKET_PROGRAMS);
    await cluster.agent(node).end("SIGTERM");
    for (const round of [1, 2]) {
      const result = await cluster.cli(node, ["cleanup"]);
      assert.equal(result.code, 0, `round ${round}: ${result.stderr}`);
      const root = cluster.bpfRoot(node);
      assert.deepEqual(existsSync(root) ? readdirSync(root, { recursive: true }) : [], []);
      assert.deepEqual([await socketPrograms(node), await detachPackets(node)], [[], 0], `round ${round}`);
      assert.equal(await rules(node), rulesBefore);
      assert.match(await rules(node), /:KUBE-KUBELET-CANARY[\s\S]*-A KUBE-FIREWALL/);
    }
    for (const family of FAMILIES) {
      for (const agent of [client, host])
        assert.equal((await agent.connect({ dst: vip(1, family), port: 80, timeout: 300 })).ok, false);
    }
  });
});
