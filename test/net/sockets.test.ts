// SPDX-License-Identifier: Apache-2.0
/*
 * Services of the node's own processes, served at their sockets: connect, sendmsg, recvmsg and getpeername, and what
 * --socket-lb makes of them.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import type { Node, World } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import type { Exchange, HostAgent, Target } from "../support/host-agent.js";
import { clientIPAffinity, endpointSlice, service, withSpec } from "../support/manifests.js";

const CLUSTER_CIDR = "10.244.0.0/16,fd00:10:244::/48";
const VIPS = ["10.96.0.1", "fd00:10:96::1", "::ffff:10.96.0.1"] as const;
const TCP_NODE_PORT = 30_080;
const UDP_NODE_PORT = 30_053;

type Way = Target & { readonly proto: "tcp" | "udp" };

/** The addresses of Service n, over a socket of each kind. */
const vips = (n: number): string[] => VIPS.map((ip) => ip.replace(/1$/, `${n}`));

/** TCP, UDP with connect(2), and UDP with sendmsg(2) to each of the addresses. */
function ways(addresses: readonly string[], tcp = 80, udp = 53): Way[] {
  return addresses.flatMap((dst): Way[] => [
    { dst, port: tcp, proto: "tcp" },
    { dst, port: udp, proto: "udp", connected: true },
    { dst, port: udp, proto: "udp" },
  ]);
}

/** What getpeername(2) and recvmsg(2) show for an address: IPv4-mapped ones as IPv4. */
const shown = (ip: string): string => ip.replace("::ffff:", "");
const label = (way: Target): string =>
  `${way.proto} ${way.dst}:${way.port}${way.connected === true ? " connected" : ""}`;
const told = (answer: Exchange): string => answer.who ?? `${answer.stage}: ${answer.errno}`;

/** A dual-stack Service with number n and these pods. */
function objects(world: World, n: number, pods: readonly string[], spec: object = {}): object[] {
  const nodePorts = "type" in spec;
  const ports = [
    { name: "web", port: 80, ...(nodePorts ? { nodePort: TCP_NODE_PORT + n } : {}) },
    {
      name: "dns",
      port: 53,
      protocol: "UDP" as const,
      ...(nodePorts ? { nodePort: UDP_NODE_PORT + n } : {}),
    },
  ];
  const slicePorts = [
    { name: "web", port: 8080 },
    { name: "dns", port: 5353, protocol: "UDP" as const },
  ];
  const chosen = pods.map((name) => world.pod(name));
  return [
    withSpec(service(`svc-${n}`, vips(n).slice(0, 2), ports), spec),
    ...([4, 6] as const).map((family) =>
      endpointSlice(
        `svc-${n}`,
        chosen.map((pod) => (family === 4 ? pod.ip4 : pod.ip6)),
        slicePorts,
        { family },
      ),
    ),
  ];
}

/** One answer for each way, by its label. */
async function each(list: readonly Way[], tell: (way: Way) => Promise<unknown>): Promise<unknown> {
  const entries: [string, unknown][] = [];
  for (const way of list) entries.push([label(way), await tell(way)]);
  return Object.fromEntries(entries);
}

const all = (list: readonly Way[], value: unknown): unknown =>
  Object.fromEntries(list.map((way) => [label(way), value]));

const asks =
  (agent: HostAgent, more: Partial<Target> = {}) =>
  async (way: Way): Promise<string> =>
    told(await agent.connect({ ...way, ...more }));

function start(agentArgs: readonly string[], manifests: (world: World) => Record<string, object[]>) {
  return Cluster.start({
    pods: [
      { node: 1, name: "client" },
      { node: 1, name: "near" },
      { node: 2, name: "far" },
    ],
    agentArgs: ["--cluster-cidr", CLUSTER_CIDR, ...agentArgs],
    manifests,
  });
}

describe("sockets of the node's own processes", () => {
  let cluster: Cluster;
  let node: Node;
  let host: HostAgent;
  before(async () => {
    cluster = await start([], (world) => ({
      "one.yaml": objects(world, 1, ["near"], { type: "NodePort" }),
      "two.yaml": objects(world, 2, ["far"]),
      "none.yaml": objects(world, 3, [], { type: "NodePort" }),
    }));
    node = cluster.world.node(1);
    host = await cluster.inCgroup(node);
  });
  after(() => cluster?.close());

  const set = (...pods: string[]): Promise<void> =>
    cluster.apply("moving.yaml", objects(cluster.world, 4, pods));

  it("a process reaches a Service by each kind of socket, near and far, and sees the address that it asked for", async () => {
    for (const [n, expected] of [
      [1, "near"],
      [2, "far"],
    ] as const) {
      for (const way of ways(vips(n))) {
        const got = await host.connect(way);
        assert.equal(told(got), expected, label(way));
        const isConnected = way.proto === "tcp" || way.connected === true;
        if (isConnected)
          assert.deepEqual([got.peer, got.peerPort], [shown(way.dst), way.port], `peer of ${label(way)}`);
        if (way.proto === "udp")
          assert.deepEqual([got.from, got.fromPort], [shown(way.dst), way.port], `sender to ${label(way)}`);
        assert.ok(got.seen !== undefined && got.seen !== shown(way.dst), label(way));
      }
    }
  });

  it("no packet to a Service leaves such a socket: what is on the wire is addressed to the pod", async () => {
    await host.sniff("wire");
    for (const way of ways(vips(2))) assert.equal(told(await host.connect(way)), "far", label(way));
    const { ip4, ip6 } = cluster.pod("far");
    const seen = await eventually("packets to the pod are seen", async () => {
      const packets = (await host.sniffed("wire")).filter((one) => [ip4, ip6].includes(one.dst));
      return packets.length >= 6 ? await host.sniffed("wire") : undefined;
    });
    await host.close("wire");
    const addresses = vips(2).map(shown);
    const stray = seen.filter(({ src, dst }) => addresses.includes(src) || addresses.includes(dst));
    assert.deepEqual(stray, []);
  });

  it("a process reaches NodePorts at the node's addresses, and at 127.0.0.0/8 but not at ::1 (6.1, 6.5)", async () => {
    const { ip4, ip6 } = node.address;
    const addresses = [
      ip4,
      ip6,
      `::ffff:${ip4}`,
      node.gateway.ip4,
      node.gateway.ip6,
      "127.0.0.1",
      "127.1.2.3",
    ];
    const list = ways([...addresses, "::ffff:127.0.0.1"], TCP_NODE_PORT + 1, UDP_NODE_PORT + 1);
    assert.deepEqual(await each(list, asks(host)), all(list, "near"));
    const loopback6 = await host.connect({ dst: "::1", port: TCP_NODE_PORT + 1 });
    assert.equal(told(loopback6), "connect: ECONNREFUSED", "nobody listens there");
    const other = cluster.world.node(2).address;
    const far = ways([other.ip4, other.ip6], TCP_NODE_PORT + 1, UDP_NODE_PORT + 1);
    assert.deepEqual(await each(far, asks(host)), all(far, "near"), "the other node's own");
  });

  it("a process gets ECONNREFUSED at once where there is no endpoint, or no such port of a ClusterIP (7.1, 7.4)", async () => {
    const refused = async (way: Way): Promise<unknown> => {
      const got = await host.connect(way);
      assert.ok(got.us < 500_000, `${label(way)}: ${got.us} us`);
      return got.errno;
    };
    const { ip4, ip6 } = node.address;
    const list = [
      ...ways(vips(3)),
      ...ways([ip4, ip6, "127.0.0.1"], TCP_NODE_PORT + 3, UDP_NODE_PORT + 3),
      ...ways(vips(1), 81, 54),
    ];
    assert.deepEqual(await each(list, refused), all(list, "ECONNREFUSED"));
  });

  it("a connected UDP socket of a removed backend gets an error, and a new one reaches the new backend (9.3)", async () => {
    for (const dst of vips(4)) {
      await set("near");
      const target: Way = { dst, port: 53, proto: "udp", connected: true };
      await host.open("old", target);
      assert.equal(told(await host.ask("old")), "near", dst);
      await set("far");
      await eventually(`the socket to ${dst} has an error`, async () => {
        const got = await host.ask("old", { timeout: 200 });
        assert.notEqual(got.who, "far", "it was told of another backend");
        return got.ok || got.errno === "ETIMEDOUT" ? undefined : got.errno;
      });
      assert.equal(told(await host.connect(target)), "far", dst);
      await host.close("old");
    }
  });

  it("a connected UDP socket stays where its backend stays, whatever else comes and goes (9.6, 9.7)", async () => {
    for (const dst of vips(4)) {
      await set("near");
      await host.open("old", { dst, port: 53, proto: "udp", connected: true });
      for (const pods of [["near", "far"], ["near"], ["far", "near"]]) {
        await set(...pods);
        assert.equal(told(await host.ask("old")), "near", `${dst} ${pods}`);
      }
      await host.close("old");
    }
  });

  it("an unconnected UDP socket moves with its next datagram, is refused at zero endpoints, and comes back (9.5)", async () => {
    for (const dst of vips(4)) {
      await set("near");
      await host.open("free", { dst, port: 53, proto: "udp" });
      const ask = async (): Promise<string> => told(await host.ask("free", { timeout: 3000 }));
      assert.equal(await ask(), "near", dst);
      await set("far");
      assert.equal(await ask(), "far", dst);
      await set();
      assert.equal(await ask(), "send: ECONNREFUSED", dst);
      await set("near");
      const got = await host.ask("free", { timeout: 3000 });
      assert.deepEqual([told(got), got.from, got.fromPort], ["near", shown(dst), 53]);
      await host.close("free");
    }
  });

  it("an unconnected UDP socket stays at its backend while that serves, and asks several Services at a time (9.6)", async () => {
    await set("near", "far");
    for (const [i, dst] of vips(4).entries()) {
      await host.open("free", { dst, port: 53, proto: "udp" });
      const first = told(await host.ask("free"));
      for (let round = 0; round < 10; round++) {
        assert.equal(told(await host.ask("free")), first, dst);
        const other = await host.ask("free", { dst: vips(2)[i] as string, port: 53 });
        assert.deepEqual([told(other), other.from], ["far", shown(vips(2)[i] as string)], dst);
      }
      await host.close("free");
    }
  });

  it("a TCP socket keeps its backend when that has left, and new ones follow, to zero and back (9.10)", async () => {
    for (const dst of vips(4)) {
      await set("near");
      await host.open("old", { dst, port: 80 });
      for (const [pods, expected] of [
        [["far"], "far"],
        [[], "connect: ECONNREFUSED"],
        [["far"], "far"],
      ] as const) {
        await set(...pods);
        assert.equal(told(await host.ask("old")), "near", dst);
        assert.equal(told(await host.connect({ dst, port: 80 })), expected, dst);
      }
      await host.close("old");
    }
  });

  it("every endpoint gets its part of a process' connections and datagrams (4.14)", async () => {
    await set("near", "far");
    for (const dst of vips(4)) {
      for (const way of [
        { dst, port: 80, proto: "tcp" },
        { dst, port: 53, proto: "udp" },
      ] as const) {
        const load = await host.loadCount(way, { threads: 4, count: 120 });
        assert.deepEqual([load.good, load.errors], [120, {}], label(way));
        for (const pod of ["near", "far"])
          assert.ok((load.who[pod]?.count ?? 0) > 20, `${label(way)}: ${JSON.stringify(load.who)}`);
      }
    }
  });

  it("sockets go on being served when the agent is killed, and by the one that comes after it", async () => {
    const list = ways(vips(1));
    for (const [i, way] of list.entries()) await host.open(`held-${i}`, way);
    const held = async (): Promise<string[]> => {
      const answers = await Promise.all(list.map((_, i) => host.ask(`held-${i}`)));
      return answers.map(told);
    };
    const near = list.map(() => "near");
    assert.deepEqual(await held(), near);
    await cluster.agent(node).end("SIGKILL");
    assert.deepEqual(await held(), near);
    assert.deepEqual(await each(list, asks(host)), all(list, "near"));
    await cluster.startAgent(node);
    assert.deepEqual(await held(), near);
    assert.deepEqual(await each(list, asks(host)), all(list, "near"));
    for (const i of list.keys()) await host.close(`held-${i}`);
    assert.deepEqual(cluster.errors(), []);
  });

  it("--iptables-localhost-nodeports=false leaves 127.0.0.0/8 alone, and nothing else (6.5)", async () => {
    await cluster.agent(node).end("SIGTERM");
    await cluster.startAgent(node, ["--iptables-localhost-nodeports=false"]);
    await host.serve("tcp", TCP_NODE_PORT + 1, "listener");
    const { ip4 } = node.address;
    for (const dst of ["127.0.0.1", "::ffff:127.0.0.1"])
      assert.equal(told(await host.connect({ dst, port: TCP_NODE_PORT + 1 })), "listener", dst);
    assert.equal(told(await host.connect({ dst: ip4, port: TCP_NODE_PORT + 1 })), "near", "6.10: shadowed");
    await host.close(`tcp-${TCP_NODE_PORT + 1}`);
    const nobody = await host.connect({ dst: "127.0.0.1", port: TCP_NODE_PORT + 1 });
    assert.equal(told(nobody), "connect: ECONNREFUSED");
  });

  it("cleanup takes the programs off the sockets", async () => {
    await cluster.agent(node).end("SIGTERM");
    for (const way of ways(vips(1))) assert.equal(told(await host.connect(way)), "near", label(way));
    assert.equal((await cluster.cli(node, ["cleanup"])).code, 0);
    const list = ways(vips(1));
    const got = (await each(list, asks(host, { timeout: 200 }))) as Record<string, string>;
    for (const [way, answer] of Object.entries(got)) assert.doesNotMatch(answer, /near/, way);
    assert.equal(existsSync(`${cluster.bpfRoot(node)}/links`), false);
  });
});

describe("--socket-lb", () => {
  const modes = (world: World): Record<string, object[]> => ({
    "one.yaml": objects(world, 1, ["near"]),
    "self.yaml": objects(world, 2, ["client"]),
    "sticky.yaml": objects(world, 3, ["near", "far"], clientIPAffinity(600)),
    "ranges.yaml": [
      ...objects(world, 4, ["near"], {
        type: "LoadBalancer",
        loadBalancerSourceRanges: ["10.0.0.0/8", "fd00:10::/32"],
      }).map((object) =>
        "spec" in object
          ? {
              ...object,
              status: { loadBalancer: { ingress: [{ ip: "203.0.113.4" }, { ip: "2001:db8:ffff::4" }] } },
            }
          : object,
      ),
    ],
  });

  /** Starts a cluster in which the pods "client" and "near" are in their node's cgroup, as on a real host. */
  async function startMode(mode: string): Promise<{ cluster: Cluster; host: HostAgent; pod: HostAgent }> {
    const cluster = await start(["--socket-lb", mode], modes);
    const host = await cluster.inCgroup(cluster.world.node(1));
    return { cluster, host, pod: await cluster.inCgroup(cluster.pod("client")) };
  }

  /** How many of the pod's packets have this address while `action` runs: none, when its socket was told of the pod. */
  async function packetsTo(
    { cluster, pod }: { cluster: Cluster; pod: HostAgent },
    address: string,
    action: () => Promise<unknown>,
  ): Promise<number> {
    const marker = cluster.pod("far").ip4;
    await pod.sniff("wire");
    await action();
    // What comes last has been seen: so has everything before it.
    await pod.connect({ dst: marker, port: 9, proto: "udp", connected: true, timeout: 1 });
    const packets = await eventually("the last packet is seen", async () => {
      const seen = await pod.sniffed("wire");
      return seen.some(({ dst, dport }) => dst === marker && dport === 9) ? seen : undefined;
    });
    await pod.close("wire");
    return packets.filter(({ src, dst }) => [src, dst].includes(address)).length;
  }

  describe("off", () => {
    let here: Awaited<ReturnType<typeof startMode>>;
    before(async () => {
      here = await startMode("off");
    });
    after(() => here?.cluster.close());

    it("packets of the node's processes to a ClusterIP are rejected where they leave, at once", async () => {
      for (const way of ways(vips(1))) {
        const got = await here.host.connect({ ...way, timeout: 3000 });
        if (way.proto === "udp" && way.connected !== true) assert.equal(got.ok, false, label(way));
        else
          assert.deepEqual(
            [got.errno, got.us < 1_000_000],
            ["ECONNREFUSED", true],
            `${label(way)} ${got.us}`,
          );
      }
    });

    it("pods are served all the same", async () => {
      const list = ways(vips(1));
      assert.deepEqual(await each(list, asks(here.pod)), all(list, "near"));
    });
  });

  describe("host-only", () => {
    let here: Awaited<ReturnType<typeof startMode>>;
    before(async () => {
      here = await startMode("host-only");
    });
    after(() => here?.cluster.close());

    it("the node's processes are served at their sockets, and pods by their packets", async () => {
      const list = ways(vips(1));
      assert.deepEqual(await each(list, asks(here.host)), all(list, "near"));
      for (const way of ways(vips(1).slice(0, 2))) {
        const seen = await packetsTo(here, way.dst, async () => {
          assert.equal(told(await here.pod.connect(way)), "near", label(way));
        });
        assert.ok(seen > 0, `${label(way)}: not one packet to the Service`);
      }
    });
  });

  describe("full", () => {
    let here: Awaited<ReturnType<typeof startMode>>;
    before(async () => {
      here = await startMode("full");
    });
    after(() => here?.cluster.close());

    it("TCP of pods is served at the socket, UDP by packets, and both see the address that they asked for", async () => {
      for (const way of ways(vips(1))) {
        const seen = await packetsTo(here, shown(way.dst), async () => {
          const got = await here.pod.connect(way);
          assert.equal(told(got), "near", label(way));
          assert.equal(got.peer ?? got.from, shown(way.dst), label(way));
        });
        assert.equal(seen > 0, way.proto === "udp", `${label(way)}: ${seen} packets`);
      }
    });

    it("a pod reaches itself through its Service (hairpin, 8.7)", async () => {
      const list = ways(vips(2));
      assert.deepEqual(await each(list, asks(here.pod)), all(list, "client"));
    });

    it("a Service with affinity or source ranges is left to the packets, where the client is known (5.1, 6.16)", async () => {
      const addresses = [...vips(3).slice(0, 2), "203.0.113.4", "2001:db8:ffff::4"];
      for (const dst of addresses) {
        const answers = new Set<string>();
        const seen = await packetsTo(here, dst, async () => {
          for (let i = 0; i < 10; i++) answers.add(told(await here.pod.connect({ dst, port: 80 })));
        });
        assert.ok(seen > 0, `${dst}: not one packet to the Service`);
        assert.equal(answers.size, 1, `${dst}: ${[...answers]}`);
        assert.match([...answers][0] as string, /^(near|far)$/, dst);
      }
    });

    it("a pod gets ECONNREFUSED at once where there is no endpoint (7.1)", async () => {
      await here.cluster.apply("one.yaml", objects(here.cluster.world, 1, []));
      const list = ways(vips(1)).filter((way) => way.proto === "tcp" || way.connected === true);
      const errno = async (way: Way): Promise<unknown> => (await here.pod.connect(way)).errno;
      assert.deepEqual(await each(list, errno), all(list, "ECONNREFUSED"));
    });
  });
});
