// SPDX-License-Identifier: Apache-2.0
// The commands that read a node, against real maps with Services of every kind that no agent wrote.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { dirname } from "node:path";
import { before, test } from "node:test";
import { LAYOUT_VERSION } from "../../src/abi/abi-hash.gen.js";
import { socketKey6Codec, socketValue6Codec } from "../../src/abi/layout.gen.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "../../src/daemon/kernel-config.js";
import { removeProblems, writeProblems } from "../../src/daemon/problem-file.js";
import type { Problem } from "../../src/model/types.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { freshPins, isolated } from "../native/support/isolate.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import { bytesOf, client, put, SERVICES_IN_MAPS } from "../support/services-in-maps.js";
import { type CliResult, cli } from "./run-cli.js";

const SMALL = { nat4: 1024, nat6: 1024, slots4: 1024, slots6: 1024, addresses4: 1024, addresses6: 1024 };

/** What is said of a name that nothing has. */
const LISTED =
  "  `portolan services -o name` lists those that are; `portolan compile` says what a manifest comes to.\n";

const CONFLICT: Problem = {
  severity: "warning",
  origin: { file: "b.yaml", line: 3 },
  object: "Service shop/late",
  field: "spec.clusterIPs",
  message: "10.96.0.1:80/TCP belongs to Service shop/web (a.yaml:1), which is older or first by name",
};

isolated(import.meta.url, () => {
  let root: string;
  const portolan = (...args: string[]): Promise<CliResult> => cli([...args, "--bpf-root", root]);
  const table = async (...args: string[]): Promise<string[][]> => {
    const { code, stdout, stderr } = await portolan(...args);
    assert.equal(code, 0, stderr);
    const lines = stdout.trimEnd().split("\n");
    return lines.map((line) => line.split(/ {3,}/).map((word) => word.trim()));
  };
  const json = async (...args: string[]): Promise<Record<string, unknown>> =>
    JSON.parse((await portolan(...args, "-o", "json")).stdout) as Record<string, unknown>;

  before(async () => {
    execFileSync("mount", ["-t", "tmpfs", "portolan-test", "/run"]); // of this namespace alone
    const library = new NativeLibrary();
    const pins = freshPins(library).replace(/v1$/, `v${LAYOUT_VERSION}`);
    root = dirname(pins);
    const maps = await library.open({
      pins,
      config: kernelConfig([], DEFAULT_TIMEOUTS),
      maxEntries: SMALL,
    });
    const now = process.hrtime.bigint();
    const socket = {
      cookie: [77, 0] as const,
      addr: bytesOf("fd96::1"),
      port: 53,
      protocol: 17,
      direction: 1,
    };
    const { failure } = await maps.apply([
      ...SERVICES_IN_MAPS,
      client("10.9.0.9", 0, 1, now),
      client("10.9.0.10", 0, 3, now, 4),
      put(
        "socket_nat6",
        socketKey6Codec.encode(socket),
        socketValue6Codec.encode({ addr: bytesOf("fd02::1"), port: 5353, backend: 1, generation: 0 }),
      ),
    ]);
    assert.equal(failure, null);
    await maps.close();
  });

  test("portolan services shows every kind with its port, rules, and what outsiders meet", async () => {
    const [header, ...rows] = await table("services");
    assert.deepEqual(header?.slice(0, 7), [
      "SERVICE",
      "PORT",
      "PROTOCOL",
      "KIND",
      "ADDRESS",
      "BACKENDS",
      "RULES",
    ]);
    const web = "10.1.0.1:8080,10.2.0.1:8080";
    const differs = `${web} (from outside: 10.1.0.1:8080)`;
    assert.deepEqual(
      rows.map((row) => [row[0], ...row.slice(3, 7)]),
      [
        [
          "shop/dns",
          "NodePort",
          "[::]:30053",
          "none: reject (from outside: none: drop)",
          "masquerade=always,local,from=nobody",
        ],
        ["shop/web", "ClusterIP", "10.96.0.1:80", web, "masquerade=outsiders,affinity=600s"],
        [
          "shop/web",
          "External",
          "203.0.113.7:80",
          differs,
          "local=outside,affinity=600s,from=10.0.0.0/8|192.0.2.0/24|+1",
        ],
        ["shop/web", "NodePort", "0.0.0.0:30080", differs, "local=outside,affinity=600s"],
      ],
    );
    const { stderr } = await portolan("services");
    assert.equal(stderr, "NodePorts are served on 192.168.7.1, fd07::1\n");
  });

  test("portolan services -o json has kinds, rules, sets, and the NodePorts' addresses", async () => {
    const { services, nodePortAddresses, problems, problemsFrom } = await json("services", "web");
    assert.deepEqual(nodePortAddresses, ["192.168.7.1", "fd07::1"]);
    assert.deepEqual([problems, problemsFrom], [[], null]);
    const [, external] = services as Record<string, unknown>[];
    const backend = { address: "10.1.0.1", port: 8080, local: true, cell: 1, generation: 0 };
    const other = { address: "10.2.0.1", port: 8080, local: false, cell: 2, generation: 2 };
    const rest = { whenEmpty: "reject", unreadable: 0 };
    assert.deepEqual(external, {
      ...{ namespace: "shop", name: "web", portName: "http", protocol: "TCP", index: 0 },
      kind: "External",
      family: 4,
      address: "203.0.113.7",
      port: 80,
      affinitySeconds: 600,
      masquerade: "never",
      sourceRanges: ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.9/32"],
      internal: { backends: [backend, other], set: "cluster", ...rest },
      external: { backends: [backend], set: "local", ...rest },
      traffic: { flows: 0, packets: 0, bytes: 0 },
    });
  });

  test("portolan services tells the conflicts that an agent found, for both Services they concern (2.22)", async () => {
    const other = { ...CONFLICT, object: "Service shop/webs", message: "is odd" };
    const line = `warning: b.yaml:3: Service shop/late: spec.clusterIPs: ${CONFLICT.message}\n`;
    await writeProblems(root, [CONFLICT, other]);
    try {
      assert.ok(
        (await portolan("services")).stderr.endsWith(
          `${line}${line.replace(/late.*/, "webs: spec.clusterIPs: is odd")}`,
        ),
      );
      assert.ok((await portolan("services", "shop/web")).stderr.endsWith(`\n${line}`));
      const late = await portolan("services", "late");
      assert.deepEqual(late, {
        code: 1,
        stdout: "",
        stderr: `${line}no Service "late" in the maps\n${LISTED}`,
      });
      const { problems, problemsFrom } = await json("services", "web");
      assert.deepEqual(problems, [CONFLICT]);
      assert.equal((problemsFrom as { agentRunning: boolean }).agentRunning, true, "this process wrote them");
      assert.equal((await portolan("services", "dns")).stderr.includes("warning"), false);
    } finally {
      await removeProblems(root);
    }
  });

  test("portolan backends shows states and sets", async () => {
    const rows = await table("backends", "--service", "web");
    const [at, state, sets] = ["BACKEND", "STATE", "SETS"].map((name) => rows[0]?.indexOf(name) ?? -1);
    assert.deepEqual(
      rows.slice(1).map((row) => [row[at as number], row[state as number], row[sets as number]]),
      [
        ["10.1.0.1:8080", "live", "cluster,local"],
        ["10.2.0.1:8080", "live", "cluster"],
        ["10.2.0.2:8080", "draining", "-"],
      ],
    );
  });

  test("portolan affinity shows who is bound to which backend, by Service and by state", async () => {
    const [header, ...rows] = await table("affinity", "--service", "shop/web");
    assert.deepEqual(header, ["CLIENT", "SERVICE", "PORT", "PROTOCOL", "BACKEND", "AGE", "TIMEOUT", "STATE"]);
    assert.deepEqual(
      rows.map((row) => [row[0], row[4], row[6], row[7]]),
      [
        ["10.9.0.9", "10.1.0.1:8080", "600s", "valid"],
        ["10.9.0.10", "10.2.0.2:8080", "600s", "draining"],
      ],
    );
    const { affinity } = await json("affinity", "--state", "draining");
    const [row, ...more] = affinity as { client: string; backend: object; ageSeconds: number }[];
    assert.equal(more.length, 0);
    assert.deepEqual([row?.client, row?.backend], ["10.9.0.10", { address: "10.2.0.2", port: 8080 }]);
    const none = await portolan("affinity", "--service", "dns");
    assert.deepEqual(none, { code: 0, stdout: "", stderr: "no such client in the maps\n" });
  });

  for (const command of ["backends", "flows", "affinity"]) {
    test(`portolan ${command} --service of a name that nothing has is status 1, as portolan services is`, async () => {
      const found = await portolan(command, "--service", "shop/wbe");
      assert.deepEqual(found, {
        code: 1,
        stdout: "",
        stderr: `no Service "shop/wbe" in the maps\n${LISTED}`,
      });
      const elsewhere = await portolan(command, "--service", "default/web");
      assert.equal(elsewhere.stderr, 'no Service "default/web" in the maps\n  There is shop/web.\n');
      const [all] = Object.values(await json(command, "--service", "wbe"));
      assert.deepEqual(all, []);
    });
  }

  test("portolan interfaces shows the node's own addresses, and where local pods are", async () => {
    const { interfaces } = await json("interfaces");
    const common = { name: "", mode: null, xdp: null, forwardingWhy: null, others: [] };
    assert.deepEqual(interfaces, [
      {
        ...common,
        ifindex: 0,
        role: "node",
        masquerade4: "192.168.7.1",
        masquerade6: "fd07::1",
        localPods: false,
        forwarding: null,
      },
      {
        ...common,
        ifindex: 7777,
        role: "pod",
        masquerade4: null,
        masquerade6: "fd07::1",
        localPods: true,
        forwarding: "stack",
      },
    ]);
    const [, node] = await table("interfaces");
    assert.deepEqual(node?.slice(0, 4), ["(this node)", "0", "node", "-"]);
  });

  test("portolan maps dump reads sockets, ranges and clients", async () => {
    const [, socket] = await table("maps", "dump", "socket_nat6");
    assert.equal(socket?.[0], "cookie=77 addr=fd96::1 port=53 protocol=17 direction=out");
    assert.equal((await table("maps", "dump", "source_ranges4")).length, 4);
    assert.equal((await table("maps", "dump", "affinity4")).length, 3);
  });

  test("portolan explain without a source tells what the maps hold of a Service", async () => {
    const told = await portolan("explain", "shop/web");
    assert.equal(told.code, 0);
    assertGolden("explain-maps.txt", told.stdout);
    assert.match(told.stderr, /^NodePorts are served on 192\.168\.7\.1, fd07::1$/m);
    assert.match(told.stderr, /conditions, hints and slices are not in the maps/);
    assertGolden("explain-maps.json", prettyJson((await portolan("explain", "web", "-o", "json")).stdout));
    const none = await portolan("explain", "shop/wbe");
    assert.deepEqual(none, { code: 1, stdout: "", stderr: `no Service "shop/wbe" in the maps\n${LISTED}` });
  });
});
