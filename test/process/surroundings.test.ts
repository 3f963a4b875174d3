// SPDX-License-Identifier: Apache-2.0
// What surrounds the agent's process in a pod: its account, its ConfigMap, its ports, and the bpf file system. What is mounted is mounted in
// namespaces of the agent's own.
import assert from "node:assert/strict";
import {
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { after, afterEach, before, test } from "node:test";
import { eventually, type NodeAgent } from "../support/cluster.js";
import { ended, Rig } from "./support/rig.js";

const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
const BPFFS = "/sys/fs/bpf";
/** The machine's conntrack settings are left alone. */
const NO_CONNTRACK = [
  ...["--conntrack-max-per-core", "0", "--conntrack-min", "0"],
  ...["--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s"],
];

/** For scripts of {@link behind}: no bpf file system, and a /run that takes with it what agents of the usual root write there. */
const gone = `mount -t tmpfs tmpfs /run\nwhile umount --lazy ${BPFFS} 2>/dev/null; do :; done`;

let rig: Rig;
let agent: NodeAgent | undefined;

before(async () => {
  rig = await Rig.start();
});

afterEach(async () => {
  await agent?.end("SIGKILL");
});

after(() => rig?.close());

/**
 * In a mount namespace of its own, after this shell script, which ends at its first failure. The script is not begun where it
 * would change the machine's mounts.
 */
const behind =
  (script: string) =>
  (argv: readonly string[]): readonly string[] => [
    ...["unshare", "--mount", "--propagation", "private", "/bin/sh", "-ec"],
    `test "$(readlink /proc/self/ns/mnt)" != "${readlinkSync("/proc/self/ns/mnt")}"\n${script}\nexec "$@"`,
    ...["agent", ...argv],
  ];

/** Without what only a pod has. */
const without = (args: readonly string[], flag: string): string[] => {
  const at = args.indexOf(flag);
  return args.filter((_, i) => i !== at && i !== at + 1);
};

test("portolan agent without a kubeconfig reads the API server by its pod's account, and its rotated token", async () => {
  const account = `${rig.api.directory}/account`;
  mkdirSync(account);
  writeFileSync(`${account}/ca.crt`, rig.api.authority.pem);
  const writeToken = (): void => writeFileSync(`${account}/token`, readFileSync(rig.api.tokenFile));
  writeToken();
  const mounts = behind(
    `mount -t tmpfs tmpfs /run\nmkdir -p ${ACCOUNT}\nmount --bind '${account}' ${ACCOUNT}`,
  );
  const environment = ["env", "KUBERNETES_SERVICE_HOST=127.0.0.1", "KUBERNETES_SERVICE_PORT=6443"];
  agent = rig.spawnBy((argv) => mounts([...environment, ...argv]), without(rig.args(), "--kubeconfig"));
  await agent.ready();
  assert.equal(agent.lines.find(({ msg }) => msg === "starting")?.server, "https://127.0.0.1:6443");
  assert.ok(agent.lines.some(({ code }) => code === "api_server_by_cluster_ip"));
  assert.ok(await rig.answers());
  rig.api.rotateToken();
  writeToken();
  const mark = rig.api.requests.length;
  rig.api.resetWatches();
  await eventually("a watch with the new token", async () =>
    rig.api.requests.slice(mark).some(({ verb, status }) => verb === "watch" && status === 200)
      ? true
      : undefined,
  );
});

test("portolan agent without a kubeconfig and without an account ends at once, and says what is missing", async () => {
  const mounts = behind("mount -t tmpfs tmpfs /run");
  const environment = ["env", "KUBERNETES_SERVICE_HOST=127.0.0.1", "KUBERNETES_SERVICE_PORT=6443"];
  agent = rig.spawnBy((argv) => mounts([...environment, ...argv]), without(rig.args(), "--kubeconfig"));
  assert.equal(await ended(agent), 3);
  assert.match(agent.tail(), /this is no pod with a service account/);
});

test("portolan agent ends with 1 when the kubelet updates its ConfigMap, and the dataplane stays up (12.3)", async () => {
  const volume = `${rig.api.directory}/config-map`;
  const text = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection:
  kubeconfig: ${rig.kubeconfig()}
conntrack: { maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
`;
  /** As the kubelet does it: a directory of its own for each version, and one link that is renamed over the old one. */
  const update = (version: string, config: string): void => {
    mkdirSync(`${volume}/${version}`);
    writeFileSync(`${volume}/${version}/config.conf`, config);
    symlinkSync(version, `${volume}/..data_tmp`);
    renameSync(`${volume}/..data_tmp`, `${volume}/..data`);
  };
  mkdirSync(volume);
  update("..2026_1", text);
  symlinkSync("..data/config.conf", `${volume}/config.conf`);
  agent = rig.spawn(["--config", `${volume}/config.conf`]);
  await agent.ready();
  update("..2026_2", text);
  rmSync(`${volume}/..2026_1`, { recursive: true });
  assert.equal(
    (await rig.get("http://127.0.0.1:10256/livez")).status,
    200,
    "another key has changed, not this file",
  );
  update("..2026_3", `${text}mode: nftables\n`);
  assert.equal(await ended(agent), 1);
  assert.equal(agent.lines.at(-1)?.code, "E_CONFIG_CHANGED", agent.tail());
  assert.ok(await rig.answers());
  agent = rig.spawn(["--config", `${volume}/config.conf`]);
  await agent.ready();
  assert.equal((await rig.get("http://127.0.0.1:10249/proxyMode")).body, "nftables");
});

for (const [server, port, reason] of [
  ["healthz", 10_256, "FailedToStartProxierHealthcheck"],
  ["metrics", 10_249, "FailedToStartMetricServer"],
] as const) {
  test(`portolan agent whose ${server} port is taken ends with 1 with --bind-address-hard-fail, after an event (10.9, 11.6)`, async () => {
    const squatter = rig.node.spawn(
      [
        ...[process.execPath, "-e"],
        `require("node:net").createServer().listen(${port}, "0.0.0.0", () => console.log("there"))`,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    await new Promise((resolve) => squatter.stdout?.once("data", resolve));
    agent = rig.spawn(["--bind-address-hard-fail"]);
    assert.equal(await ended(agent), 1);
    squatter.kill("SIGKILL");
    const last = agent.lines.at(-1);
    assert.equal(last?.code, "E_SERVER_BIND", agent.tail());
    assert.match(String(last?.reason), new RegExp(`${server}: cannot listen on .*:${port}: .*EADDRINUSE`));
    const events = rig.api.all("events.events.k8s.io") as unknown as readonly {
      reason: string;
      type: string;
    }[];
    assert.deepEqual(
      events.filter((event) => event.reason === reason).map(({ type }) => type),
      ["Warning"],
    );
  });
}

test("portolan agent --init-only mounts a bpf file system where there is none, and over nothing else", async () => {
  const init = [...without(rig.args(), "--bpf-root"), ...NO_CONNTRACK, "--init-only"];
  // What it has mounted is gone with its namespace: so it is looked at from inside.
  const look = behind(
    `${gone}\n"$@"\n"$@"\necho "mounted: $(grep -c ' ${BPFFS} .* - bpf ' /proc/self/mountinfo)" >&2\nset -- true`,
  );
  agent = rig.spawnBy(look, init);
  assert.equal(await ended(agent), 0, agent.tail());
  const told = agent.lines.filter(({ msg }) => msg === "bpf file system mounted");
  assert.deepEqual(
    told.map(({ path }) => path),
    [BPFFS],
    "the second one finds it",
  );
  assert.equal(agent.lines.at(-1)?.msg, "mounted: 1");
  agent = rig.spawnBy(behind(`${gone}\nmount -t tmpfs tmpfs ${BPFFS}`), init);
  assert.equal(await ended(agent), 3);
  assert.match(agent.tail(), /has a file system of type tmpfs/);
});

test("portolan agent itself mounts nothing: without a bpf file system it ends, and says what to do", async () => {
  agent = rig.spawnBy(behind(gone), without(rig.args(), "--bpf-root"));
  assert.equal(await ended(agent), 3);
  assert.match(agent.tail(), /is not on a bpf file system/);
  assert.match(agent.tail(), /--init-only/);
});
