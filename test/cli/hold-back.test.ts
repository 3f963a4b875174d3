// SPDX-License-Identifier: Apache-2.0
// The agent that dies, and comes back to manifests that cannot all be read: nothing goes for want of knowledge.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Node } from "../../src/demo/world/index.js";
import { Cluster, type LogLine } from "../support/cluster.js";
import { endpointSlice, service } from "../support/manifests.js";

const PORTS = [{ name: "http", port: 80, targetPort: 8080 }];
const BROKEN = "apiVersion: v1\nkind: Service\nmetadata: {name: gone\n";

let cluster: Cluster;
let node: Node;

before(async () => {
  cluster = await Cluster.start({
    world: { nodes: 1 },
    pods: [
      { node: 1, name: "web-1" },
      { node: 1, name: "caller" },
    ],
    manifests: (world) => {
      const { ip4, ip6 } = world.pod("web-1");
      const endpoints = (name: string): object[] =>
        [ip4, ip6].map((ip) => endpointSlice(name, [ip], [{ name: "http", port: 8080 }]));
      return {
        "stays.json": [service("stays", ["10.96.1.1", "fd00:96::1"], PORTS), ...endpoints("stays")],
        "gone.json": [service("gone", ["10.96.1.2", "fd00:96::2"], PORTS), ...endpoints("gone")],
      };
    },
    agentArgs: ["--audit-interval", "1"],
  });
  node = cluster.world.node(1);
});

after(() => cluster.close());

async function answers(dst: string): Promise<boolean> {
  const caller = await cluster.at("caller");
  return (await caller.connect({ dst, port: 80 })).ok;
}

async function services(): Promise<string> {
  return (await cluster.cli(node, ["services"])).stdout;
}

const heldBack = ({ code }: LogLine): boolean => code === "held_back";

test("portolan agent started with a broken file keeps the Services that the kernel holds, and says so", async () => {
  await cluster.agent(node).end("SIGKILL");
  writeFileSync(`${cluster.directory}/manifests/gone.json`, BROKEN);
  const agent = await cluster.startAgent(node);
  const line = await agent.line(heldBack);
  assert.equal(line.level, "warn");
  assert.deepEqual([line.servicePorts, line.backends], [1, 0]);
  assert.match(String(line.files), /gone\.json$/);
  assert.ok(agent.lines.some(({ msg }) => msg === "ready"));
  // An audit, which may come before, writes the node's own entry of `interfaces`: so not ready's count of all writes.
  const synced = agent.lines.filter(({ msg, writes }) => msg === "synced" && writes !== 0);
  assert.deepEqual(synced, []);
  for (const vip of ["10.96.1.1", "fd00:96::1", "10.96.1.2", "fd00:96::2"])
    assert.ok(await answers(vip), vip);
  assert.match(await services(), /default\/gone/);
});

test("portolan agent goes on holding back, audit after audit, while the rest of the manifests changes", async () => {
  const agent = cluster.agent(node);
  await cluster.apply("new.json", [service("new", ["10.96.1.3"], PORTS)]);
  const mark = agent.mark();
  await agent.line(heldBack, mark);
  assert.ok(await answers("10.96.1.2"));
  assert.match(await services(), /default\/new/);
});

test("portolan agent removes a Service that is not in the mended file", async () => {
  const agent = cluster.agent(node);
  const mark = agent.mark();
  await cluster.apply("gone.json", [service("other", ["10.96.1.4"], PORTS)]);
  await agent.line(({ msg }) => msg === "manifests are whole, nothing is held back any more", mark);
  const listed = await services();
  assert.doesNotMatch(listed, /default\/gone/);
  assert.match(listed, /default\/stays/);
  assert.ok(await answers("10.96.1.1"));
  assert.equal(await answers("10.96.1.2"), false);
});
