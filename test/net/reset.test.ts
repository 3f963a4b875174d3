// SPDX-License-Identifier: Apache-2.0
/* What becomes of TCP connections whose backend is gone, with and without --reset-removed-backends (9.10). */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { World } from "../../src/demo/world/index.js";
import { Cluster } from "../support/cluster.js";
import type { HostAgent, Target } from "../support/host-agent.js";
import { endpointSlice, service, withSpec } from "../support/manifests.js";

const CLUSTER_CIDR = "10.244.0.0/16,fd00:10:244::/48";
const NODE_PORT = 30_080;
const VIPS = { 4: "10.96.0.1", 6: "fd00:10:96::1" } as const;
const FAMILIES = [4, 6] as const;

/** An endpoint that is in its slice, as `kubectl delete pod` leaves it for as long as it takes to end. */
const TERMINATING = { conditions: { ready: false, serving: false, terminating: true } };

/** The Service "web" with these pods; `ending` ones are in the slice and do not serve. */
function web(world: World, pods: readonly string[], ending: readonly string[] = []): object[] {
  const ports = [{ name: "web", port: 80, nodePort: NODE_PORT }];
  const chosen = [...pods, ...ending].map((name) => world.pod(name));
  return [
    withSpec(service("web", [VIPS[4], VIPS[6]], ports), { type: "NodePort" }),
    ...FAMILIES.map((family) =>
      endpointSlice(
        "web",
        chosen.map((pod) => (family === 4 ? pod.ip4 : pod.ip6)),
        [{ name: "web", port: 8080 }],
        {
          family,
          endpoint: (ip) =>
            ending.some((name) => [world.pod(name).ip4, world.pod(name).ip6].includes(ip)) ? TERMINATING : {},
        },
      ),
    ),
  ];
}

/** A client, and one way from it to the Service. */
interface Way {
  readonly title: string;
  readonly agent: HostAgent;
  readonly target: Target;
}

async function allWays(cluster: Cluster): Promise<Way[]> {
  const { world } = cluster;
  const clients = [
    { who: "pod", agent: await cluster.at("client") },
    { who: "outside", agent: await cluster.at(world.client) },
  ];
  return clients.flatMap(({ who, agent }) =>
    FAMILIES.flatMap((family) => {
      const { ip4, ip6 } = world.node(1).address;
      return [
        { title: `${who}-vip-${family}`, agent, target: { dst: VIPS[family], port: 80 } },
        { title: `${who}-node-${family}`, agent, target: { dst: family === 4 ? ip4 : ip6, port: NODE_PORT } },
      ];
    }),
  );
}

/** Each way with what the function says of it, for one comparison that names them all. */
async function each(ways: readonly Way[], tell: (way: Way) => Promise<unknown>): Promise<unknown> {
  return Object.fromEntries(
    await Promise.all(ways.map(async (way): Promise<[string, unknown]> => [way.title, await tell(way)])),
  );
}

const open = async ({ title, agent, target }: Way): Promise<unknown> => {
  const opened = await agent.open(title, target);
  return opened.ok ? (await agent.ask(title)).who : opened.errno;
};
const ask = async ({ title, agent }: Way): Promise<unknown> => {
  const answer = await agent.ask(title, { timeout: 3000 });
  return answer.who ?? answer.errno;
};
const fresh = async ({ agent, target }: Way): Promise<unknown> => {
  const answer = await agent.connect(target);
  return answer.who ?? answer.errno;
};
const close = ({ title, agent }: Way): Promise<void> => agent.close(title);

function start(agentArgs: readonly string[]): Promise<Cluster> {
  return Cluster.start({
    pods: [
      { node: 1, name: "client" },
      { node: 1, name: "near" },
      { node: 2, name: "far" },
    ],
    manifests: (world) => ({ "web.yaml": web(world, ["near"]) }),
    agentArgs: ["--cluster-cidr", CLUSTER_CIDR, ...agentArgs],
  });
}

describe("TCP connections of a removed backend, with --reset-removed-backends", () => {
  let cluster: Cluster;
  let ways: Way[];
  before(async () => {
    cluster = await start(["--reset-removed-backends"]);
    ways = await allWays(cluster);
  });
  after(() => cluster?.close());

  const set = (pods: readonly string[], ending: readonly string[] = []): Promise<void> =>
    cluster.apply("web.yaml", web(cluster.world, pods, ending));
  const all = (value: unknown): unknown => Object.fromEntries(ways.map(({ title }) => [title, value]));

  for (const [from, to] of [
    ["near", "far"],
    ["far", "near"],
  ] as const) {
    it(`a client gets ECONNRESET with its next segment when ${from} has left the slice, and reaches ${to} anew`, async () => {
      await set([from]);
      assert.deepEqual(await each(ways, open), all(from));
      await set([to]);
      assert.deepEqual(await each(ways, ask), all("ECONNRESET"));
      assert.deepEqual(await each(ways, fresh), all(to));
      await each(ways, close);
    });
  }

  it("a connection lasts while its backend is in the slice without serving, and is reset when that ends", async () => {
    await set(["near"]);
    assert.deepEqual(await each(ways, open), all("near"));
    await set(["far"], ["near"]);
    assert.deepEqual(await each(ways, fresh), all("far"));
    assert.deepEqual(await each(ways, ask), all("near"));
    await set([], ["near"]);
    assert.deepEqual(await each(ways, ask), all("near"), "the last endpoint has gone");
    await set(["far"]);
    assert.deepEqual(await each(ways, ask), all("ECONNRESET"));
    await each(ways, close);
  });

  it("a connection is reset when no endpoint is left, and a new one is refused (7.1)", async () => {
    await set(["near"]);
    assert.deepEqual(await each(ways, open), all("near"));
    await set([]);
    assert.deepEqual(await each(ways, ask), all("ECONNRESET"));
    assert.deepEqual(await each(ways, fresh), all("ECONNREFUSED"));
    await each(ways, close);
  });

  it("a backend that comes back is not taken for the one that was removed", async () => {
    await set(["near"]);
    assert.deepEqual(await each(ways, open), all("near"));
    await set(["far"]);
    await set(["near", "far"]);
    assert.deepEqual(await each(ways, ask), all("ECONNRESET"));
    await each(ways, close);
  });

  it("connections of backends that stay are left alone, and so are direct ones to the pod that left", async () => {
    const client = await cluster.at("client");
    await set(["near"]);
    assert.deepEqual(await each(ways, open), all("near"));
    const pods = [cluster.pod("far").ip4, cluster.pod("far").ip6];
    await set(["near", "far"]);
    for (const [i, dst] of pods.entries()) {
      assert.ok((await client.open(`direct-${i}`, { dst, port: 8080 })).ok, dst);
      assert.equal((await client.ask(`direct-${i}`)).who, "far");
    }
    await set(["near"]);
    assert.deepEqual(await each(ways, ask), all("near"));
    for (const i of [0, 1]) {
      assert.equal((await client.ask(`direct-${i}`)).who, "far");
      await client.close(`direct-${i}`);
    }
    await each(ways, close);
    assert.deepEqual(cluster.errors(), []);
  });
});

describe("TCP connections of a removed backend, without the flag", () => {
  let cluster: Cluster;
  before(async () => {
    cluster = await start([]);
  });
  after(() => cluster?.close());

  it("a connection goes on until it is closed, from pods and from outside, and new ones go elsewhere (9.10)", async () => {
    const ways = await allWays(cluster);
    const all = (value: unknown): unknown => Object.fromEntries(ways.map(({ title }) => [title, value]));
    assert.deepEqual(await each(ways, open), all("near"));
    for (const [pods, expected] of [
      [["far"], "far"],
      [[], "ECONNREFUSED"],
    ] as const) {
      await cluster.apply("web.yaml", web(cluster.world, pods));
      assert.deepEqual(await each(ways, ask), all("near"), `${pods}`);
      assert.deepEqual(await each(ways, fresh), all(expected), `${pods}`);
    }
    await each(ways, close);
  });
});
