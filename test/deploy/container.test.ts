// SPDX-License-Identifier: Apache-2.0
// The agent as the DaemonSet runs it: from the image's last stage as a read-only root, with the arguments, mounts and capabilities that
// deploy/ says, on a node of the test's own with an API server. Only the engine is missing. Needs root.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import type { V1Container, V1DaemonSet } from "@kubernetes/client-node";
import { parse } from "yaml";
import { Rig } from "../process/support/rig.js";
import { NodeAgent } from "../support/cluster.js";
import { Container } from "./support/container.js";
import { ROOT } from "./support/rehearsal.js";

const CGROUP2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/** Bits of /proc/PID/status. */
const BITS: Readonly<Record<string, number>> = { NET_ADMIN: 12, NET_RAW: 13, PERFMON: 38, BPF: 39 };

let rig: Rig;
let container: Container;
let scratch: string;
let cgroup: string;
const agents: NodeAgent[] = [];

/** As kubeadm writes it, but for the machine's conntrack settings: they are left alone. */
const config = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection:
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s }
`;

function agentContainer(): V1Container {
  const text = readFileSync(join(ROOT, "deploy/kustomize/base/daemonset.yaml"), "utf8");
  return (parse(text) as V1DaemonSet).spec?.template.spec?.containers[0] as V1Container;
}

before(async () => {
  execFileSync("make", ["-s", "bundle"], { cwd: ROOT, stdio: "inherit" });
  rig = await Rig.start();
  scratch = mkdtempSync(join(tmpdir(), "portolan-volumes-"));
  for (const name of ["config", "run"]) mkdirSync(join(scratch, name));
  writeFileSync(join(scratch, "lock"), "");
  writeFileSync(join(scratch, "config/config.conf"), config);
  writeFileSync(join(scratch, "config/kubeconfig.conf"), inlineKubeconfig());
  mkdirSync(rig.bpfRoot, { recursive: true });
  const tree = CGROUP2.find((path) => existsSync(`${path}/cgroup.controllers`)) as string;
  cgroup = join(tree, `${rig.world.prefix}container`);
  mkdirSync(cgroup);
  container = new Container(agentContainer(), {
    "/var/lib/kube-proxy": join(scratch, "config"),
    "/sys/fs/bpf": rig.bpfRoot,
    "/host/cgroup": cgroup,
    "/run/portolan": join(scratch, "run"),
    "/run/xtables.lock": join(scratch, "lock"),
  });
});

after(async () => {
  for (const agent of agents) await agent.end("SIGKILL");
  container?.close();
  await rig?.close();
  if (scratch) rmSync(scratch, { recursive: true });
  if (cgroup) rmdirSync(cgroup);
});

/** Files of the kubeconfig become part of it or move beside it: the container sees its own directory only. */
function inlineKubeconfig(): string {
  const path = rig.kubeconfig();
  const text = readFileSync(path, "utf8");
  let copied = 0;
  return text.replaceAll(/(["']?)(\/[^\s"',}]+)\1/g, (whole, quote: string, file: string) => {
    if (!existsSync(file) || dirname(file) === "/") return whole;
    const name = `file-${copied++}`;
    writeFileSync(join(scratch, "config", name), readFileSync(file));
    return `${quote}/var/lib/kube-proxy/${name}${quote}`;
  });
}

function start(): NodeAgent {
  const agent = new NodeAgent(rig.node, container.argv(container.command(rig.node.name)));
  agents.push(agent);
  return agent;
}

/** The output of a command in the container. */
async function exec(command: readonly string[]): Promise<string> {
  const { stdout } = await rig.node.exec([...container.argv(command)], { timeoutMs: 180_000 });
  return stdout;
}

test("the agent carries traffic from a read-only root with four capabilities, and logs nothing worse than advice", async () => {
  const agent = start();
  await agent.ready();
  assert.ok(await rig.answers());
  const status = readFileSync(`/proc/${agent.pid}/status`, "utf8");
  const wanted = container.capabilities.reduce((set, name) => set | (1n << BigInt(BITS[name] as number)), 0n);
  for (const set of ["CapEff", "CapBnd", "CapPrm"]) {
    const value = BigInt(`0x${new RegExp(`^${set}:\\s+(\\w+)$`, "m").exec(status)?.[1]}`);
    assert.equal(value, wanted, set);
  }
  assert.match(status, /^NoNewPrivs:\s+1$/m);
  assert.match(readFileSync(`/proc/${agent.pid}/mountinfo`, "utf8"), /^\d+ \d+ \S+ \S+ \/ ro[, ]/m);
  const bad = agent.lines.filter(
    ({ level, code }) => !["info", "debug"].includes(String(level)) && code !== "advice",
  );
  assert.deepEqual(bad, []);
});

test("the agent serves the host's sockets through the read-only cgroup mount, and both probes say that it is well", async () => {
  const agent = agents[0] as NodeAgent;
  assert.ok(agent.lines.some(({ msg }) => msg === "socket hooks attached"));
  for (const path of ["livez", "healthz"])
    assert.equal((await rig.status(`http://${rig.node.address.ip4}:10256/${path}`, 200)).status, 200);
});

test("portolan services, run in the agent's container, says what the kernel has and finds the maps by itself", async () => {
  const { services, problemsFrom } = JSON.parse(
    await exec(["/usr/local/bin/portolan", "services", "-o", "json"]),
  ) as {
    services: readonly { name: string }[];
    problemsFrom: object | null;
  };
  assert.deepEqual(
    services.map(({ name }) => name),
    ["web"],
  );
  assert.notEqual(problemsFrom, null, "/run/portolan is the container's only other place to write");
});

test("the agent's container is replaced and no packet is missed: the pins are the host's (12.8)", async () => {
  const caller = await rig.caller;
  await agents[0]?.end("SIGTERM");
  assert.ok(await rig.answers(), "without an agent");
  assert.ok((await caller.open("kept", { dst: "10.96.7.10", port: 80 })).ok);
  const next = start();
  await next.ready();
  assert.equal(next.lines.find(({ msg }) => msg === "synced")?.writes, 0, "everything was there");
  assert.ok((await caller.ask("kept")).ok);
});

test("portolan cleanup --kube-proxy works with the container's capabilities and programs", async () => {
  const ruleset = "*nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n";
  await rig.node.exec(["sh", "-c", `printf '%s' '${ruleset}' | iptables-nft-restore --noflush`]);
  const chains = async (): Promise<string> =>
    (await rig.node.exec(["iptables-nft-save", "-t", "nat"])).stdout;
  assert.match(await chains(), /KUBE-SERVICES/);
  await exec(["/usr/local/bin/portolan", "cleanup", "--kube-proxy"]);
  assert.doesNotMatch(await chains(), /KUBE-SERVICES/);
  assert.ok(await rig.answers(), "ours stays");
});

test("portolan cleanup, run in the agent's container, takes the dataplane down", async () => {
  await agents[1]?.end("SIGTERM");
  await exec(["/usr/local/bin/portolan", "cleanup"]);
  assert.equal(existsSync(join(rig.bpfRoot, "portolan")), false);
});

test("an agent without PERFMON does not start, and says so: the four capabilities are not more than it needs", async () => {
  const few = container.capabilities.filter((name) => name !== "PERFMON");
  const agent = new NodeAgent(rig.node, container.argv(container.command(rig.node.name), few));
  agents.push(agent);
  // What the verifier holds against a program first, when its loader may not see kernel pointers, depends on the kernel.
  await assert.rejects(
    agent.ready(),
    /prohibited for !root|jumps is too complex|attempt to corrupt spilled pointer|Operation not permitted|CAP_PERFMON/,
  );
});
