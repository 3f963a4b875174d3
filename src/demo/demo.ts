// SPDX-License-Identifier: Apache-2.0
/**
 * The whole product in about a minute, on a real application: two nodes as flannel builds them, real redis servers in
 * pods, an ordinary Service manifest, one agent on each node. Each step measures what it claims, and fails loudly when it
 * does not hold.
 */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { errorMessage } from "../util/errors.js";
import { Cluster, type Probe, type ProbeCount, REDIS_PORT } from "./cluster.js";
import { monotonicMs } from "./probe.js";
import { Stage, StepFailed } from "./stage.js";
import type { Host, Node, Pod } from "./world/index.js";

export interface DemoOptions {
  /** Leave the world up, and print commands to try, until the signal comes. */
  readonly keep: boolean;
  /** Program and arguments which run this product's command line. */
  readonly cli: readonly string[];
  /** The directory `examples`. */
  readonly examples: string;
  readonly out: NodeJS.WriteStream;
  /** Ends the demonstration: everything is removed. */
  readonly signal: AbortSignal;
}

const VIP4 = "10.96.65.65";
const VIP6 = "fd00:10:96::6565";
const EXTERNAL_VIP = "10.96.65.66";
const CONNECTIONS = 100;

/** What the steps work with. */
interface Scene {
  readonly cluster: Cluster;
  readonly stage: Stage;
  readonly node1: Node;
  readonly node2: Node;
  /** The client pod, on node 1. */
  readonly client: Pod;
  readonly redis: readonly Pod[];
  readonly options: DemoOptions;
}

const ms = (from: number, to: number): string =>
  `${Math.max(0, to - from).toFixed(to - from < 10 ? 1 : 0)} ms`;

/** Asks a Service again and again with redis-cli, and counts which pods answered. */
async function ask(host: Host, address: string, times: number): Promise<Map<string, number>> {
  const script = `i=0; while [ $i -lt ${times} ]; do redis-cli -h ${address} -p ${REDIS_PORT} get pod; i=$((i+1)); done`;
  const { stdout } = await host.exec(["sh", "-c", script], { check: false, timeoutMs: 60_000 });
  const answers = new Map<string, number>();
  for (const name of stdout.split("\n").filter((line) => line !== "")) {
    answers.set(name, (answers.get(name) ?? 0) + 1);
  }
  return answers;
}

const total = (answers: ReadonlyMap<string, number>): number =>
  [...answers.values()].reduce((sum, count) => sum + count, 0);

function share(answers: ReadonlyMap<string, number>): string {
  return [...answers]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
}

async function build(stage: Stage, options: DemoOptions): Promise<Scene> {
  stage.step("Two nodes as flannel builds them, real redis servers in pods, one agent on each node");
  const start = monotonicMs();
  stage.working("namespaces, bridges, vxlan");
  const cluster = await Cluster.create(options.cli);
  try {
    return await populate(cluster, stage, options, start);
  } catch (error) {
    await cluster.close();
    throw error;
  }
}

async function populate(cluster: Cluster, stage: Stage, options: DemoOptions, start: number): Promise<Scene> {
  const { world } = cluster;
  const [node1, node2] = [world.node(1), world.node(2)];
  const labels = { app: "redis", role: "Logstorage" };
  const pods = await world.addPods([
    { node: 1, name: "redis-0", labels },
    { node: 2, name: "redis-1", labels },
    { node: 2, name: "redis-2", labels },
    { node: 1, name: "client", labels: { app: "client" } },
  ]);
  const redis = pods.slice(0, 3);
  stage.working("redis servers");
  await Promise.all([...redis, world.client].map((host) => cluster.startRedis(host)));
  stage.proved(
    `2 nodes, ${pods.length} pods, 1 switch, 1 outside client; ${redis.length} redis servers answer (${ms(start, monotonicMs())})`,
  );

  await cluster.writeManifest(
    "service.yaml",
    await readFile(`${options.examples}/redis/service.yaml`, "utf8"),
  );
  await cluster.writePods(redis);
  stage.working("agents");
  const ready = await Promise.all(world.nodes.map((node) => startAndWait(cluster, node)));
  for (const line of ready) stage.proved(line);
  return { cluster, stage, node1, node2, client: pods[3] as Pod, redis, options };
}

async function startAndWait(cluster: Cluster, node: Node): Promise<string> {
  const { log, startedAt } = cluster.startAgent(node);
  await log.next((line) => line.msg === "ready", `the agent on ${node.name} being ready`, 120_000);
  const took = ms(startedAt, monotonicMs());
  const writes = log.events.find((line) => line.msg === "synced")?.writes ?? "?";
  return `agent on ${node.name}: ready ${took} after its start, ${writes} map writes in one transaction`;
}

async function clientSpeaks({ stage, client, redis }: Scene): Promise<void> {
  stage.step(`A client pod speaks to ${VIP4}:${REDIS_PORT}, and no such host exists`);
  for (const address of [VIP4, VIP6]) {
    stage.working(`redis-cli -h ${address} get pod`);
    const answers = await ask(client, address, CONNECTIONS);
    const all = total(answers) === CONNECTIONS && redis.every((pod) => answers.has(pod.name));
    stage.prove(
      all,
      `${CONNECTIONS} connections to ${address}, ${total(answers)} answered: ${share(answers)}`,
    );
  }
  const hairpin = redis[0] as Pod;
  const own = await ask(hairpin, VIP4, 30);
  stage.prove(
    total(own) === 30 && own.has(hairpin.name),
    `a pod behind the Service uses it too, itself included: ${share(own)}`,
  );
  stage.working("redis-benchmark");
  const benchmark = ["redis-benchmark", "-h", VIP4, "-n", "20000", "-c", "20", "-t", "ping_mbulk", "--csv"];
  const { stdout } = await client.exec(benchmark);
  const rate = Number(/^"PING_MBULK","([\d.]+)"/m.exec(stdout)?.[1] ?? 0);
  stage.prove(rate > 0, `redis-benchmark through the Service: 20000 requests, ${Math.round(rate)} a second`);
}

async function showTables({ stage, cluster, node1 }: Scene): Promise<void> {
  stage.step("What the kernel of node n1 holds");
  for (const args of [["services"], ["backends"], ["interfaces"]]) {
    stage.command(`portolan ${args.join(" ")}`);
    stage.show(await cluster.portolan(node1, args));
  }
  const services = JSON.parse(await cluster.portolan(node1, ["services", "-o", "json"])) as {
    services: unknown[];
  };
  stage.prove(services.services.length > 0, "the table was read from the pinned maps; no agent was asked");
}

async function scale(scene: Scene, probe: Probe): Promise<void> {
  const { stage, cluster, client, redis } = scene;
  stage.step("Scale to zero, and up again, under load");
  await probe.next(0, (event) => event.kind === "new" && event.answer !== null, "a first answer");
  const emptied = await cluster.writePods([]);
  const refused = await probe.next(
    emptied,
    (event) => event.kind === "new" && event.answer === null,
    "the first refusal after the scale to zero",
  );
  stage.prove(
    refused.error === "ECONNREFUSED",
    `no pod left: ${refused.error} ${ms(emptied, refused.end)} after the file was written, not a timeout`,
  );
  for (const address of [VIP4, VIP6]) {
    const { stdout, stderr } = await client.exec(["redis-cli", "-h", address, "ping"], { check: false });
    stage.prove(/refused/.test(`${stdout}${stderr}`), `redis-cli to ${address}: connection refused at once`);
  }
  const filled = await cluster.writePods(redis);
  const answered = await probe.next(
    filled,
    (event) => event.kind === "new" && event.answer !== null,
    "an answer after the scale up",
  );
  stage.proved(
    `3 pods again: ${answered.answer} answered ${ms(filled, answered.end)} after the file was written`,
  );
}

async function handMade({ stage, cluster, client, options, node1 }: Scene): Promise<void> {
  stage.step("A Service without a selector, and Endpoints made by hand: a Redis outside of the cluster");
  const text = await readFile(`${options.examples}/redis/external.yaml`, "utf8");
  const synced = cluster.agent(node1).log.events.length;
  const written = await cluster.writeManifest("external.yaml", text);
  await cluster
    .agent(node1)
    .log.next((line) => line.msg === "synced", "the new Service in the maps", 60_000, synced);
  const took = ms(written, monotonicMs());
  const answers = await ask(client, EXTERNAL_VIP, 20);
  const outside = answers.get(cluster.world.client.name) ?? 0;
  stage.prove(
    outside === 20,
    `in the maps after ${took}; ${outside} of 20 connections to ${EXTERNAL_VIP} reached 192.168.60.2`,
  );
}

function countText(count: ProbeCount): string {
  return `${count.answered} new connections and ${count.held} requests on an old one answered, ${count.failed.length} failed`;
}

/** Waits until the probe has had this many more answers. */
async function moreAnswers(probe: Probe, from: number, wanted: number): Promise<ProbeCount> {
  for (;;) {
    await probe.next(monotonicMs(), (event) => event.kind === "new", "the next connection");
    const count = probe.count(from, monotonicMs());
    if (count.answered >= wanted || count.failed.length > 0) return count;
  }
}

async function killAndRestart({ stage, cluster, node1 }: Scene, probe: Probe): Promise<void> {
  stage.step("kill -9 of the agent on n1; traffic goes on; the restarted agent has nothing to write");
  await probe.next(monotonicMs(), (event) => event.answer !== null, "traffic before the kill");
  const killed = monotonicMs();
  await cluster.stopAgent(node1, "SIGKILL");
  stage.working("200 connections without an agent");
  const without = await moreAnswers(probe, killed, 200);
  stage.prove(without.failed.length === 0, `without an agent: ${countText(without)}`);

  const restarted = monotonicMs();
  const agent = cluster.startAgent(node1);
  await agent.log.next((line) => line.msg === "ready", "the restarted agent being ready", 120_000);
  const took = ms(restarted, monotonicMs());
  const writes = agent.log.events
    .filter((line) => line.msg === "synced")
    .reduce((sum, line) => sum + (line.writes ?? Number.NaN), 0);
  stage.prove(writes === 0, `restart: ready after ${took}, ${writes} map writes`);
  const during = await moreAnswers(probe, restarted, 100);
  stage.prove(during.failed.length === 0, `during the restart: ${countText(during)}`);
}

async function stopAndClean({ stage, cluster, client }: Scene, probe: Probe): Promise<void> {
  stage.step("Stop both agents, then portolan cleanup: nothing is left");
  const stopped = monotonicMs();
  for (const node of cluster.world.nodes) await cluster.stopAgent(node, "SIGTERM");
  const after = await moreAnswers(probe, stopped, 100);
  stage.prove(after.failed.length === 0, `both agents stopped, the dataplane stays: ${countText(after)}`);
  probe.stop();
  for (const node of cluster.world.nodes) {
    stage.command(`portolan cleanup   # on ${node.name}`);
    stage.show(await cluster.portolan(node, ["cleanup"]));
    stage.prove(!existsSync(cluster.bpfRoot(node)), `${cluster.bpfRoot(node)} is gone`);
    const { stdout } = await node.exec(["tc", "qdisc", "show"]);
    stage.prove(!/clsact/.test(stdout), `no clsact qdisc on ${node.name}`);
  }
  const { code } = await client.exec(["timeout", "1", "redis-cli", "-h", VIP4, "ping"], { check: false });
  stage.prove(code !== 0, `${VIP4} is an address like any other again: nothing answers there`);
}

/** Prints what can be tried, and waits for Ctrl-C. */
async function leaveUp({ stage, cluster, client, node1, options }: Scene): Promise<void> {
  const enter = (host: Host): string => `nsenter --net=${host.netnsPath} --`;
  const cli = `${enter(node1)} ${cluster.argv(node1, []).slice(0, options.cli.length).join(" ")}`;
  const root = `--bpf-root ${cluster.bpfRoot(node1)}`;
  stage.headline("The world stays up until Ctrl-C. In another terminal:");
  stage.command(`${enter(client)} redis-cli -h ${VIP4} get pod`);
  stage.command(`${enter(client)} redis-cli -h ${VIP6} get pod`);
  for (const command of ["services", "backends", "flows", "interfaces", "maps", "doctor"]) {
    stage.command(`${cli} ${command} ${root}`);
  }
  stage.command(`$EDITOR ${cluster.manifests}/pods.yaml   # the agents follow`);
  await new Promise<void>((resolve) => {
    const timer = setInterval(() => {}, 60_000); // waiting for a signal alone does not keep Node.js running
    options.signal.addEventListener("abort", () => {
      clearInterval(timer);
      resolve();
    });
  });
}

async function play(scene: Scene): Promise<void> {
  const { cluster, client, options } = scene;
  await clientSpeaks(scene);
  await showTables(scene);
  const probe = cluster.startProbe(client, VIP4);
  try {
    await scale(scene, probe);
    await handMade(scene);
  } finally {
    probe.stop();
  }
  // A new one: the connection which the first held open met the scale to zero.
  const steady = cluster.startProbe(client, VIP4);
  try {
    await killAndRestart(scene, steady);
    if (options.keep) steady.stop();
    else await stopAndClean(scene, steady);
  } finally {
    steady.stop();
  }
}

/** How the demonstration ended. */
export type DemoOutcome = "held" | "failed" | "interrupted";

/** Runs the demonstration, and removes all of it at its end, whatever happened. */
export async function runDemo(options: DemoOptions): Promise<DemoOutcome> {
  const stage = new Stage(options.out);
  const start = monotonicMs();
  stage.headline("Portolan: from a Service manifest to a translated packet");
  const aborted = new Promise<never>((_resolve, reject) => {
    const stop = (): void => reject(new StepFailed("interrupted"));
    if (options.signal.aborted) stop();
    options.signal.addEventListener("abort", stop, { once: true });
  });
  aborted.catch(() => {}); // it may come when nothing waits for it any more
  let scene: Scene | undefined;
  try {
    scene = await build(stage, options);
    await Promise.race([play(scene), aborted]);
    stage.headline(`Every step held. ${((monotonicMs() - start) / 1000).toFixed(0)} seconds.`);
    if (options.keep) await leaveUp(scene);
    return "held";
  } catch (error) {
    // Ctrl-C reaches the programs in the pods too, and their end may be known before our own signal.
    await new Promise((resolve) => setImmediate(resolve));
    stage.failed(options.signal.aborted ? "interrupted" : errorMessage(error));
    if (options.signal.aborted) return "interrupted";
    stage.note(`Step "${stage.title}" did not show what it should.`);
    return "failed";
  } finally {
    if (scene !== undefined) {
      stage.note("removing the world …");
      await scene.cluster.close();
    }
  }
}
