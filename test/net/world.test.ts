// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import {
  createWorld,
  type Host,
  type Pod,
  removeStaleWorlds,
  type World,
  WorldError,
  worldNamespaces,
} from "../../src/demo/world/index.js";
import { agentOf, type Exchange } from "../support/host-agent.js";

/** One exchange each over TCP and UDP, IPv4 and IPv6, from a host to a pod. */
async function reachAllWays(from: Host, pod: Pod): Promise<Exchange[]> {
  const agent = await agentOf(from);
  const ways = [pod.ip4, pod.ip6].flatMap((dst) => [
    { dst, port: 8080, proto: "tcp" as const },
    { dst, port: 5353, proto: "udp" as const },
  ]);
  return Promise.all(ways.map((way) => agent.connect(way)));
}

for (const flavour of ["bridge", "routed"] as const) {
  describe(`a world with pods on ${flavour === "bridge" ? "a bridge" : "routed veths"}`, () => {
    let world: World;
    before(async () => {
      world = await createWorld({ flavour });
      const pods = await world.addPods([
        { node: 1, name: "a" },
        { node: 1, name: "b" },
        { node: 2, name: "c" },
      ]);
      for (const pod of pods) {
        const agent = await agentOf(pod);
        await agent.serve("tcp", 8080);
        await agent.serve("udp", 5353);
      }
    });
    after(() => world?.close());

    it("pods reach a pod of the same node, over IPv4 and IPv6, with their own addresses", async () => {
      const [a, b] = [world.pod("a"), world.pod("b")];
      const seen = await reachAllWays(a, b);
      assert.deepEqual(
        seen.map((x) => [x.who, x.seen]),
        [a.ip4, a.ip4, a.ip6, a.ip6].map((ip) => ["b", ip]),
      );
    });

    it("pods reach a pod of the other node with their own addresses", async () => {
      const [a, c] = [world.pod("a"), world.pod("c")];
      const seen = await reachAllWays(a, c);
      assert.deepEqual(
        seen.map((x) => [x.who, x.seen]),
        [a.ip4, a.ip4, a.ip6, a.ip6].map((ip) => ["c", ip]),
      );
    });

    it("the outside client and the nodes reach the pods", async () => {
      const asked = [world.client, world.node(1), world.node(2)];
      const seen = await Promise.all(asked.map((host) => reachAllWays(host, world.pod("c"))));
      assert.deepEqual(
        seen.flat().map((x) => x.who),
        Array(12).fill("c"),
        JSON.stringify(seen),
      );
    });

    it("bulk data of both directions arrives whole", async () => {
      const agent = await agentOf(world.pod("a"));
      for (const dst of [world.pod("b").ip4, world.pod("c").ip6]) {
        for (const dir of ["up", "down"] as const) {
          const result = await agent.bulk({ dst, port: 8080 }, dir, 4 << 20, 7);
          assert.equal(result.ok, true, JSON.stringify(result));
          assert.equal(result.received, result.sent);
        }
      }
    });

    it("a removed pod's interface is gone at once, and its address can be given again", async () => {
      const node = world.node(1);
      const gone = await node.addPod("gone");
      await gone.removeNow();
      const links = await node.exec(["ip", "-brief", "link"]);
      assert.doesNotMatch(links.stdout, new RegExp(gone.hostVeth));
      const again = await node.addPod("gone", { ip4: gone.ip4, ip6: gone.ip6 });
      await (await agentOf(again)).serve("tcp", 8080);
      const seen = await (await agentOf(world.pod("a"))).connect({ dst: gone.ip4, port: 8080 });
      assert.equal(seen.who, "gone", JSON.stringify(seen));
    });

    it("a failed command is an error that quotes the command and what it said", async () => {
      await assert.rejects(world.node(1).ip(["link set nothing up"]), (error) => {
        assert.ok(error instanceof WorldError);
        assert.equal(error.code, "E_WORLD_COMMAND");
        assert.match(error.message, /ip -batch/);
        assert.match(error.message, /Cannot find device "nothing"/);
        assert.match(error.message, /link set nothing up/);
        return true;
      });
    });

    it("a name that is taken is refused, and nothing is made", async () => {
      await assert.rejects(
        world.addPods([
          { node: 1, name: "new" },
          { node: 1, name: "a" },
        ]),
        { code: "E_WORLD_OPTION" },
      );
      assert.throws(() => world.pod("new"), { code: "E_WORLD_OPTION" });
    });

    it("close() leaves no namespace and no process", async () => {
      const pids = world.processes();
      assert.ok(pids.length > 3);
      const prefix = world.prefix;
      await world.close();
      assert.deepEqual(
        worldNamespaces(process.pid).filter((name) => name.startsWith(prefix)),
        [],
      );
      for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
    });
  });
}

/** A program that builds a world with a process in it, says so, and then ends as it is told to. */
function startBuilder(end: "wait" | "throw"): ReturnType<typeof spawn> {
  const index = fileURLToPath(new URL("../../src/demo/world/index.ts", import.meta.url));
  const program = `
    import { createWorld } from ${JSON.stringify(index)};
    const world = await createWorld({ nodes: 1 });
    const pod = await world.node(1).addPod("web");
    pod.spawn(["sleep", "1000"], { stdio: "ignore", detached: true });
    console.log("ready", world.processes().join(" "));
    ${end === "wait" ? "setInterval(() => {}, 1000);" : 'setImmediate(() => { throw new Error("on purpose"); });'}
  `;
  return spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "ignore"],
    cwd: fileURLToPath(new URL("../../", import.meta.url)),
  });
}

describe("a world that cannot be built", () => {
  it("a world that fails half way leaves nothing, and the error names what failed", async () => {
    const before = worldNamespaces(process.pid);
    await assert.rejects(createWorld({ underlayMtu: 20 }), (error) => {
      assert.ok(error instanceof WorldError);
      assert.equal(error.code, "E_WORLD_COMMAND");
      assert.match(error.message, /mtu 20/);
      return true;
    });
    assert.deepEqual(worldNamespaces(process.pid), before);
  });

  it("a number of nodes that cannot be is refused", async () => {
    await assert.rejects(createWorld({ nodes: 0 }), { code: "E_WORLD_OPTION" });
  });
});

describe("a world whose maker ends early", () => {
  for (const [how, end] of [
    ["SIGINT", "wait"],
    ["SIGTERM", "wait"],
    ["an uncaught exception", "throw"],
  ] as const) {
    it(`a maker ended by ${how} leaves no namespace and no process`, async () => {
      const child = startBuilder(end);
      const ended = once(child, "exit");
      let text = "";
      child.stdout?.setEncoding("utf8").on("data", (part: string) => {
        text += part;
      });
      while (!text.includes("\n")) await once(child.stdout as NodeJS.ReadableStream, "data");
      const pids = text.trim().split(" ").slice(1).map(Number);
      assert.equal(pids.length, 1, text);
      if (end === "wait") child.kill(how);
      const [code, signal] = await ended;
      assert.ok(end === "wait" ? signal === how : code === 1, `ended with ${code} ${signal}`);
      assert.deepEqual(worldNamespaces(child.pid), []);
      await assertGone(pids[0] as number);
    });
  }

  it("a maker ended by SIGKILL leaves a world that is found and removed later", async () => {
    const child = startBuilder("wait");
    const ended = once(child, "exit");
    await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill("SIGKILL");
    await ended;
    const left = worldNamespaces(child.pid);
    assert.equal(left.length, 4, left.join(" ")); // switch, outside, node, pod
    assert.deepEqual(removeStaleWorlds(child.pid).sort(), left.sort());
    assert.deepEqual(worldNamespaces(child.pid), []);
  });
});

/** SIGKILL was sent; the process table may lag behind by a moment. */
async function assertGone(pid: number): Promise<void> {
  const end = performance.now() + 60_000;
  while (performance.now() < end) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`process ${pid} still lives`);
}
