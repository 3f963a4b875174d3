// SPDX-License-Identifier: Apache-2.0
// `portolan monitor` and `portolan top` on a node with a real agent, real clients and, for top, a real terminal.
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, afterEach, before, test } from "node:test";
import { promisify } from "node:util";
import type { Node } from "../../src/demo/world/index.js";
import { Cluster, eventually } from "../support/cluster.js";
import { service } from "../support/manifests.js";
import { CLI } from "./run-cli.js";

const VIP4 = "10.96.1.1";
const VIP6 = "fd00:10:96::101";
const EMPTY4 = "10.96.1.2";
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
        service(
          "web",
          [VIP4, VIP6],
          [
            { name: "http", port: 80, targetPort: 8080 },
            { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" },
          ],
          LABELS,
        ),
        service("empty", [EMPTY4], [{ name: "http", port: 80 }], { app: "nothing" }),
      ],
      "pods.json": world.nodes.flatMap((each) => each.pods.map((pod) => pod.manifest())),
    }),
    agentArgs: ["--socket-lb", "full"],
  });
  node = cluster.world.node(1);
});

/** Commands that a failed test has left. */
const running = new Set<ChildProcess>();

afterEach(async () => {
  const closed = [...running].map((child) => once(child, "close"));
  for (const child of running) child.kill("SIGKILL");
  await Promise.all(closed);
});

after(() => cluster.close());

interface EventJson {
  readonly type: string;
  readonly reason: string;
  readonly why: readonly string[];
  readonly protocol: string;
  readonly hook: string;
  readonly interface: string | null;
  readonly service: { readonly namespace: string; readonly name: string; readonly portName: string } | null;
  readonly client: { readonly address: string; readonly port: number } | null;
  readonly destination: { readonly address: string; readonly port: number } | null;
  readonly backend: { readonly address: string; readonly port: number } | null;
  readonly reply: boolean;
}

/** A command of the CLI that goes on until it is ended. */
class Running {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  stderr = "";
  readonly #closed: Promise<unknown>;

  constructor(args: readonly string[]) {
    const [program, ...rest] = node.inside([...CLI, ...args, "--bpf-root", cluster.bpfRoot(node)]);
    this.child = spawn(program as string, rest, { stdio: ["ignore", "pipe", "pipe"] });
    this.#closed = once(this.child, "close");
    running.add(this.child);
    this.child.on("close", () => running.delete(this.child));
    if (this.child.stdout)
      createInterface({ input: this.child.stdout }).on("line", (line) => this.lines.push(line));
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
  }

  /** A monitor that has begun to listen. */
  static async monitor(...args: readonly string[]): Promise<Running> {
    const monitor = new Running(["monitor", ...args]);
    await eventually("the monitor listens", async () => /^listening;/m.test(monitor.stderr) || undefined);
    return monitor;
  }

  get events(): EventJson[] {
    return this.lines.map((line) => JSON.parse(line) as EventJson);
  }

  async until(count: number): Promise<void> {
    const what = (): string => `${count} lines; there are ${this.lines.length}: ${this.stderr}`;
    await eventually(what(), async () => this.lines.length >= count || undefined).catch(() => {
      throw new Error(what());
    });
  }

  /** Ends it as Ctrl-C does. Its exit status. */
  async end(signal: NodeJS.Signals = "SIGINT"): Promise<number | null> {
    this.child.kill(signal);
    await this.#closed;
    return this.child.exitCode;
  }
}

test("Every new connection is told once, with its client, Service and the backend that answered, of both families", async () => {
  const caller = await cluster.at("caller");
  const monitor = await Running.monitor("-o", "json", "--type", "new");
  const expected: string[] = [];
  for (const [dst, proto, port] of [
    [VIP4, "tcp", 80],
    [VIP6, "tcp", 80],
    [VIP4, "udp", 53],
    [VIP6, "udp", 53],
  ] as const) {
    for (let i = 0; i < 5; i++) {
      const answer = await caller.connect({ dst, port, proto });
      assert.ok(answer.ok, `${dst} ${proto}: ${answer.stage} ${answer.errno}`);
      const pod = cluster.pod(answer.who ?? "");
      const address = dst === VIP4 ? pod.ip4 : pod.ip6;
      expected.push(`${proto.toUpperCase()} ${answer.seen} ${answer.seenPort} ${dst} ${port} ${address}`);
    }
  }
  await monitor.until(expected.length);
  assert.equal(await monitor.end(), 0);
  const told = monitor.events.map(
    ({ protocol, client, destination, backend }) =>
      `${protocol} ${client?.address} ${client?.port} ${destination?.address} ${destination?.port} ${backend?.address}`,
  );
  assert.deepEqual(told, expected);
  for (const { service: told, why, hook, interface: name, backend, protocol } of monitor.events) {
    assert.deepEqual([told?.namespace, told?.name], ["default", "web"]);
    assert.equal(told?.portName, protocol === "TCP" ? "http" : "dns");
    assert.equal(backend?.port, protocol === "TCP" ? 8080 : 5353);
    assert.deepEqual([why, hook, name], [["random"], "ingress", cluster.pod("caller").hostVeth]);
  }
  assert.match(monitor.stderr, /^20 new in [\d.]+ s; none lost$/m);
});

test("A socket of the node is told by the socket hooks, and a refused one with its reason", async () => {
  const host = await cluster.inCgroup(node);
  const monitor = await Running.monitor("-o", "json");
  for (const dst of [VIP4, VIP6]) assert.ok((await host.connect({ dst, port: 80 })).ok);
  assert.ok(!(await host.connect({ dst: EMPTY4, port: 80 })).ok);
  await monitor.until(3);
  assert.equal(await monitor.end("SIGTERM"), 0);
  assert.deepEqual(
    monitor.events.map(({ type, reason, hook, client, destination, service: told }) => ({
      type,
      reason,
      hook,
      client,
      destination: destination?.address,
      service: told?.name,
    })),
    [
      { type: "new", reason: "socket_translated", destination: VIP4, service: "web" },
      { type: "new", reason: "socket_translated", destination: VIP6, service: "web" },
      { type: "rejected", reason: "socket_refused", destination: EMPTY4, service: "empty" },
    ].map((each) => ({ ...each, hook: "socket", client: null })),
  );
});

test("With --sample 1 each packet of a connection is told, both ways; filters leave out the rest", async () => {
  const caller = await cluster.at("caller");
  const monitor = await Running.monitor("-o", "json", "--sample", "1", "-s", "web", "--protocol", "UDP");
  assert.ok((await caller.connect({ dst: EMPTY4, port: 80 })).errno !== undefined);
  assert.ok((await caller.connect({ dst: VIP4, port: 80 })).ok);
  assert.ok((await caller.connect({ dst: VIP4, port: 53, proto: "udp" })).ok);
  await monitor.until(2);
  await monitor.end();
  assert.deepEqual(
    monitor.events
      .slice(0, 2)
      .map(({ type, reply, destination }) => `${type} ${reply} ${destination?.address}:${destination?.port}`),
    [`new false ${VIP4}:53`, `translated true ${VIP4}:53`],
  );
  assert.ok(
    monitor.events.every(({ protocol, service: told }) => protocol === "UDP" && told?.name === "web"),
  );
});

test("--reason, --address and --count: the table says who was refused and why, and ends by itself", async () => {
  const caller = await cluster.at("caller");
  const { ip4 } = cluster.pod("caller");
  const args = ["--reason", "no_backend,no_port", "--address", `${ip4}/32`, "--count", "2", "--since-start"];
  const monitor = await Running.monitor(...args);
  await caller.connect({ dst: VIP4, port: 80 });
  await caller.connect({ dst: EMPTY4, port: 80, sport: 40001 });
  await caller.connect({ dst: VIP4, port: 81, sport: 40002 });
  await once(monitor.child, "close");
  assert.equal(monitor.child.exitCode, 0);
  const [header, ...lines] = monitor.lines.map((line) => line.trim().split(/ {2,}/));
  assert.deepEqual(header?.slice(0, 4), ["TIME", "EVENT", "PROTOCOL", "CLIENT"]);
  assert.deepEqual(
    lines.map(([time, ...rest]) => [/^\+\d+\.\d{3}$/.test(time ?? ""), ...rest]),
    [
      [
        true,
        "rejected",
        "TCP",
        `${ip4}:40001`,
        "->",
        "default/empty:http",
        `${EMPTY4}:80`,
        "-",
        "no_backend",
      ],
      [true, "rejected", "TCP", `${ip4}:40002`, "->", "default/web", `${VIP4}:81`, "-", "no_port"],
    ],
  );
  assert.match(monitor.stderr, /^2 rejected in /m);
});

test("A second monitor is refused and told whose turn it is; when the first was killed, the next one gets it", async () => {
  const first = await Running.monitor();
  const second = await cluster.cli(node, ["monitor", "--count", "1"]);
  assert.equal(second.code, 3);
  assert.match(second.stderr, /^portolan: another portolan monitor is listening here: process \d+\n/);
  await first.end("SIGKILL");
  const third = await Running.monitor();
  assert.equal(await third.end(), 0);
  assert.match(third.stderr, /^no event in [\d.]+ s; none lost$/m);
});

test("What there is no event, reason or address of is a mistake that is named", async () => {
  for (const [args, message] of [
    [["--type", "lost"], /^portolan: --type: there is no event "lost"\n {2}They are: new, translated, /],
    [["--reason", "none"], /^portolan: --reason: there is no reason "none"\n {2}They are: translated, /],
    [
      ["--address", "10.0.0.0/33"],
      /^portolan: --address: "10\.0\.0\.0\/33" is neither an address nor a range/,
    ],
    [["--sample", "0"], /must be a whole number from 1/],
  ] as const) {
    const { code, stderr, stdout } = await cluster.cli(node, ["monitor", ...args]);
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, message);
  }
});

interface TopJson {
  readonly seconds: number;
  readonly totals: { readonly activeFlows: number };
  readonly services: readonly {
    readonly service: { readonly name: string; readonly portName: string };
    readonly newPerSecond: number;
    readonly dropsPerSecond: number;
    readonly packetsPerSecond: number;
    readonly activeFlows: number;
  }[];
  readonly backends: readonly { readonly newPerSecond: number; readonly address: string }[];
  readonly refused: readonly { readonly reason: string }[];
}

test("The rates of top add up to what the clients did", async () => {
  const caller = await cluster.at("caller");
  await caller.open("kept", { dst: VIP4, port: 80 });
  const top = new Running(["top", "-o", "json", "--interval", "0.5"]);
  await top.until(1);
  for (let i = 0; i < 6; i++) assert.ok((await caller.connect({ dst: i % 2 ? VIP6 : VIP4, port: 80 })).ok);
  for (let i = 0; i < 3; i++) await caller.connect({ dst: EMPTY4, port: 80 });
  const intervals = (): TopJson[] => top.lines.map((line) => JSON.parse(line) as TopJson);
  const total = (name: string, figure: "newPerSecond" | "dropsPerSecond"): number =>
    Math.round(
      intervals().reduce((sum, { seconds, services }) => {
        const line = services.find((each) => each.service.name === name && each.service.portName === "http");
        return sum + seconds * (line?.[figure] ?? 0);
      }, 0),
    );
  await eventually("the last refusal", async () => total("empty", "dropsPerSecond") >= 3 || undefined);
  assert.equal(await top.end(), 0);
  assert.equal(total("web", "newPerSecond"), 6);
  assert.equal(total("empty", "dropsPerSecond"), 3);
  const backends = intervals().reduce(
    (sum, { seconds, backends: all }) => sum + all.reduce((of, each) => of + each.newPerSecond * seconds, 0),
    0,
  );
  assert.equal(Math.round(backends), 6);
  assert.ok(intervals().some(({ refused }) => refused.some(({ reason }) => reason === "no_backend")));
  assert.ok((intervals()[0]?.totals.activeFlows ?? 0) >= 1, "the kept connection is alive");
});

test("top --once is one interval: an object, or a line for each service port", async () => {
  const { code, stdout } = await cluster.cli(node, ["top", "--once", "--interval", "0.2", "-o", "json"]);
  assert.equal(code, 0);
  const { services, backends } = JSON.parse(stdout) as TopJson;
  assert.deepEqual(services.map(({ service: { name, portName } }) => `${name}:${portName}`).sort(), [
    "empty:http",
    "web:dns",
    "web:http",
  ]);
  assert.equal(backends.length, 8);
  const table = await cluster.cli(node, [
    "top",
    "--once",
    "--interval",
    "0.2",
    "--sort",
    "name",
    "-s",
    "web",
  ]);
  const [header, ...lines] = table.stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));
  assert.deepEqual(header?.slice(0, 4), ["TIME", "SERVICE", "PORT", "PROTOCOL"]);
  assert.deepEqual(
    lines.map((line) => line.slice(1, 4)),
    [
      ["default/web", "dns", "UDP"],
      ["default/web", "http", "TCP"],
    ],
  );
});

/** A terminal of its own: tmux. */
class Terminal {
  static #count = 0;
  readonly #socket = `portolan-test-${process.pid}-${Terminal.#count++}`;

  async #tmux(...args: readonly string[]): Promise<string> {
    const { stdout } = await promisify(execFile)("tmux", ["-L", this.#socket, "-f", "/dev/null", ...args]);
    return stdout;
  }

  async open(command: readonly string[], columns: number, rows: number): Promise<void> {
    const line = command.map((word) => `'${word}'`).join(" ");
    const shell = `echo before; ${line}; echo "ended with $?"; exec cat`;
    await this.#tmux("new-session", "-d", "-x", `${columns}`, "-y", `${rows}`, "sh", "-c", shell);
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#tmux("resize-window", "-x", `${columns}`, "-y", `${rows}`);
  }

  async press(...keys: readonly string[]): Promise<void> {
    await this.#tmux("send-keys", ...keys);
  }

  async screen(): Promise<string[]> {
    return (await this.#tmux("capture-pane", "-p")).split("\n").slice(0, -1);
  }

  /** Waits until the screen shows what is asked for. */
  async shows(what: RegExp): Promise<string[]> {
    let last: string[] = [];
    return await eventually(`${what}`, async () => {
      last = await this.screen();
      return what.test(last.join("\n")) ? last : undefined;
    }).catch(() => {
      throw new Error(`the screen never showed ${what}:\n${last.join("\n")}`);
    });
  }

  async close(): Promise<void> {
    await this.#tmux("kill-server").catch(() => {});
  }
}

test("top on a terminal of 80x24: figures, keys, another size, and the terminal as it was before", async () => {
  const terminal = new Terminal();
  const command = node.inside([...CLI, "top", "--interval", "0.3", "--bpf-root", cluster.bpfRoot(node)]);
  try {
    await terminal.open(command, 80, 24);
    const first = await terminal.shows(/ACTIVE[\s\S]*default\/web http\/TCP/);
    assert.equal(first.length, 24);
    assert.match(first[0] ?? "", /^portolan top - services {3}\d\d:\d\d:\d\d {3}every 0\.3 s$/);
    assert.match(first[23] ?? "", /^enter: its backends {2}s: sort {2}.* q: quit$/);
    await terminal.press("/");
    await terminal.press("-l", "http/TCP");
    await terminal.press("Enter");
    const filtered = await terminal.shows(/filter "http\/TCP"/);
    assert.ok(!filtered.some((line) => line.includes("dns/UDP")));
    await terminal.press("1");
    await terminal.press("End");
    await terminal.shows(/> default\/web http\/TCP/);
    await terminal.press("Enter");
    const backends = await terminal.shows(/backends of default\/web http\/TCP[\s\S]*:8080/);
    assert.ok(backends.some((line) => line.includes(`${cluster.pod("web-1").ip4}:8080`)));
    await terminal.resize(60, 10);
    const small = await terminal.shows(
      /^portolan top - backends of default\/web http\/TCP[\s\S]*q: quit|…$/m,
    );
    assert.ok(small.every((line) => line.length <= 60));
    await eventually("ten lines, the last one with keys", async () => {
      const lines = await terminal.screen();
      return (lines.length === 10 && lines[9]?.startsWith("esc: services")) || undefined;
    });
    await terminal.press("q");
    const after = await terminal.shows(/ended with 0/);
    assert.equal(after[0], "before", "the screen from before is back");
    assert.ok(!after.join("\n").includes("portolan top"));
  } finally {
    await terminal.close();
  }
});

test("A top that is ended by SIGTERM gives the terminal back", async () => {
  const terminal = new Terminal();
  const command = node.inside([...CLI, "top", "--interval", "0.3", "--bpf-root", cluster.bpfRoot(node)]);
  try {
    await terminal.open(
      ["sh", "-c", `echo pid $$ > ${cluster.directory}/top.pid; exec "$@"`, "sh", ...command],
      80,
      24,
    );
    await terminal.shows(/ACTIVE/);
    const { stdout } = await promisify(execFile)("cat", [`${cluster.directory}/top.pid`]);
    process.kill(Number(stdout.split(" ")[1]), "SIGTERM");
    const after = await terminal.shows(/ended with 0/);
    assert.equal(after[0], "before");
  } finally {
    await terminal.close();
  }
});
