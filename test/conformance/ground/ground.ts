// SPDX-License-Identifier: Apache-2.0
/**
 * The test hosts of one case. The node is in the middle and routes; nothing else does:
 *
 *   outside --+                      outside: the senders from beyond the cluster, and the node's default route
 *             +-- eth0 node veth --- pod ...  a sender, the node's endpoints
 *   remote  --+                      remote: the other nodes and their pods; answers through the node
 */

import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { removeProblems } from "../../../src/daemon/problem-file.js";
import { endProcesses } from "../../../src/demo/world/host.js";
import { Host, type RunResult, run } from "../../../src/demo/world/index.js";
import { register, removeNow, unregister } from "../../../src/demo/world/registry.js";
import { attachForeignXdp } from "../../support/foreign-xdp.js";
import { cliCommand, mountBpffs } from "../../support/product.js";
import { familyOf } from "../form/address.js";
import { manifestsOf } from "../form/manifests.js";
import type { ObjectState } from "../form/state.js";
import type { ConformanceCase, ProtocolName } from "../form/types.js";
import { Agent, agentArguments } from "./agent.js";
import type { GroundPlan, Place, Sender } from "./plan.js";
import { Probe } from "./probe.js";

const CGROUP2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
const NODE_MAC = "02:00:00:00:0a:01";
const POD_GATEWAY: Readonly<Record<4 | 6, string>> = { 4: "169.254.1.1", 6: "fe80::1" };
const GATEWAY_MAC = "ee:ee:ee:ee:ee:ee";
/** A change that changes nothing in the kernel's maps may be silent. Milliseconds in which the machine runs. */
const SYNC_MS = 10_000;

let signalsHandled = false;

/** A signal ends the process in order, so that what `exit` removes is removed. */
function exitOnSignals(): void {
  if (signalsHandled) return;
  signalsHandled = true;
  const codes = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
  for (const [signal, code] of Object.entries(codes)) process.on(signal, () => process.exit(code));
}

export class Ground {
  readonly plan: GroundPlan;
  readonly nodeMac: string = NODE_MAC;
  /** Signals are dealt with here: pins and cgroup must go, too. */
  readonly handleSignals = false;
  readonly #case: ConformanceCase;
  readonly #xdp: boolean;
  readonly #prefix = `ptl-${process.pid}-${randomBytes(3).toString("hex")}-`;
  readonly #hosts = new Map<string, Host>();
  readonly #probes = new Map<string, Probe>();
  readonly #directory: string;
  readonly #bpfRoot: string;
  readonly #cgroup: string | undefined;
  /** Which place a contended address leads to at the moment. */
  readonly #leads = new Map<string, string>();
  #agent: Agent | undefined;
  #manifest = "";
  readonly #removeNow = (): void => this.#removeAtExit();

  /** @param xdp the agent serves the uplink by XDP */
  constructor(it: ConformanceCase, plan: GroundPlan, xdp = false) {
    this.#case = it;
    this.#xdp = xdp;
    this.plan = plan;
    for (const [index, place] of [...plan.places.values()].entries())
      this.#hosts.set(place.key, new Host(place.key, `${this.#prefix}${place.kind}${index}`));
    this.#directory = mkdtempSync(`${tmpdir()}/portolan-conformance-`);
    mkdirSync(`${this.#directory}/manifests`);
    this.#bpfRoot = `/sys/fs/bpf/${this.#prefix}conformance`;
    const root = CGROUP2.find((path) => existsSync(`${path}/cgroup.controllers`));
    this.#cgroup = root === undefined ? undefined : `${root}/${this.#prefix}cgroup`;
  }

  namespaces(): readonly string[] {
    return [...this.#hosts.values()].map((host) => host.netns);
  }

  processes(): readonly number[] {
    return [...this.#hosts.values()].flatMap((host) => host.pids());
  }

  host(key: string): Host {
    const host = this.#hosts.get(key);
    if (host === undefined) throw new Error(`no host ${key}`);
    return host;
  }

  probe(key: string): Probe {
    const probe = this.#probes.get(key);
    if (probe === undefined) throw new Error(`no probe on ${key}`);
    return probe;
  }

  probes(): readonly [string, Probe][] {
    return [...this.#probes];
  }

  get agent(): Agent {
    if (this.#agent === undefined) throw new Error("the agent was not started");
    return this.#agent;
  }

  /** Builds hosts and probes, and serves what the case's endpoints serve. */
  async build(): Promise<void> {
    mountBpffs();
    exitOnSignals();
    register(this);
    process.once("exit", this.#removeNow);
    if (this.#cgroup !== undefined) mkdirSync(this.#cgroup);
    await ip([...this.#hosts.values()].map((host) => `netns add ${host.netns}`));
    await Promise.all(
      [...this.plan.places.values()].map((place) => this.host(place.key).sysctl(this.#sysctls(place))),
    );
    await ip(this.#links());
    await Promise.all(
      [...this.plan.places.values()].filter((place) => place.kind !== "node").map((p) => this.#settle(p)),
    );
    await this.host("node").ip(this.#nodeLines());
    if (this.#xdp) await this.#makeReadyForXdp();
    await Promise.all([...this.#hosts.keys()].map((key) => this.#startProbe(key)));
    for (const { place, proto, port, addr } of this.plan.listeners)
      await this.probe(place).serve(proto, port, addr);
  }

  /** The uplink's other end takes what XDP sends, leaves no checksum to a device, and is known with all behind it. */
  async #makeReadyForXdp(): Promise<void> {
    const outside = this.host("outside");
    await attachForeignXdp(outside, "node");
    await outside.exec(["ethtool", "-K", "node", "tx", "off"]);
    const neighbours = (["outside", "remote"] as const).flatMap((place) =>
      Object.values(this.plan.wire[place]),
    );
    for (const address of neighbours)
      await this.host("node").exec(["ping", "-c", "1", "-W", "10", String(address)]);
  }

  /** How many packets of the node met each of the reasons (bpf/include/reasons.h), by name. */
  async reasons(): Promise<ReadonlyMap<string, number>> {
    const { stdout } = await this.cli(["maps", "dump", "counters", "-o", "json"]);
    const cells = stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as { reason?: string; value: { packets: number } });
    return new Map(cells.flatMap(({ reason, value }) => (reason ? [[reason, value.packets] as const] : [])));
  }

  /** Starts the agent with a state's objects, and waits until they are in the kernel. */
  async start(state: ObjectState): Promise<void> {
    this.#write(state);
    const paths = { manifests: `${this.#directory}/manifests`, bpfRoot: this.#bpfRoot, cgroup: this.#cgroup };
    const xdp = this.#xdp ? ["--xdp", "native"] : [];
    const argv = [...cliCommand(), ...agentArguments(this.#case.environment, paths), ...xdp];
    this.#agent = new Agent(this.host("node"), argv);
    await this.#agent.ready();
  }

  /** Ends the agent: "SIGTERM" lets it leave in order, "SIGKILL" does not. The dataplane stays. */
  async stop(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    await this.#agent?.end(signal);
  }

  /** Runs a command of the product on the node. */
  cli(args: readonly string[]): Promise<RunResult> {
    const argv = [...cliCommand(), ...args, "--bpf-root", this.#bpfRoot];
    return this.host("node").exec(argv, { check: false, timeoutMs: 180_000 });
  }

  /** Whether anything of the product is pinned. */
  get pinned(): boolean {
    return existsSync(this.#bpfRoot) && readdirSync(this.#bpfRoot).length > 0;
  }

  /** Replaces the objects, and waits until the agent has followed. */
  async apply(state: ObjectState): Promise<void> {
    const mark = this.agent.mark();
    if (this.#write(state)) await this.agent.said("synced", mark, SYNC_MS);
  }

  /** Makes the node's route to a sender's address lead to that sender, when several hosts have the address. */
  async lead(sender: Sender): Promise<void> {
    if (sender.kind === "node") return this.#ownAddress(sender.src);
    const owners = [...this.plan.places.values()].filter((place) => place.addresses.has(sender.src));
    if (owners.length < 2 || this.#leads.get(sender.src) === sender.place) return;
    this.#leads.set(sender.src, sender.place);
    const place = owners.find((one) => one.key === sender.place);
    if (place !== undefined) await this.host("node").ip([this.#routeTo(place, sender.src, "replace")]);
  }

  /** A process of the node can only send from an address which the node has. */
  async #ownAddress(address: string): Promise<void> {
    const has = this.plan.nodeAddresses.includes(address) || address === "::1" || address.startsWith("127.");
    if (has || this.#leads.has(address)) return;
    this.#leads.set(address, "node");
    await this.host("node").ip([`addr add ${single(address)} dev lo${nodad(address)}`]);
  }

  /** Takes away an address that {@link lead} gave to the node. */
  async release(sender: Sender): Promise<void> {
    if (sender.kind !== "node" || this.#leads.get(sender.src) !== "node") return;
    this.#leads.delete(sender.src);
    await this.host("node").ip([`addr del ${single(sender.src)} dev lo`]);
  }

  async serve(proto: ProtocolName, port: number, addr: string): Promise<void> {
    await this.probe("node").serve(proto, port, addr);
  }

  /** Ends and removes everything. */
  async close(): Promise<void> {
    await this.#agent?.end();
    await endProcesses([...this.#hosts.values()], 0);
    const names = this.namespaces().filter((name) => existsSync(`/run/netns/${name}`));
    await ip(names.map((name) => `netns del ${name}`));
    unregister(this);
    await removeProblems(this.#bpfRoot);
    this.#removeFiles();
    process.removeListener("exit", this.#removeNow);
  }

  #removeAtExit(): void {
    removeNow(this.namespaces(), this.processes());
    this.#removeFiles();
  }

  #removeFiles(): void {
    rmSync(this.#bpfRoot, { recursive: true, force: true });
    rmSync(this.#directory, { recursive: true, force: true });
    if (this.#cgroup === undefined) return;
    // Killed processes leave a cgroup a moment after they are gone from everywhere else.
    for (let left = 200; left > 0 && existsSync(this.#cgroup); left--) {
      try {
        rmdirSync(this.#cgroup);
      } catch {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
      }
    }
  }

  async #startProbe(key: string): Promise<void> {
    const probe = await Probe.start(this.host(key));
    // All of a node's processes are below the root that the agent serves, pods' too.
    const inside = this.plan.places.get(key)?.kind === "node" || this.plan.places.get(key)?.kind === "pod";
    if (inside && this.#cgroup !== undefined)
      writeFileSync(`${this.#cgroup}/cgroup.procs`, String(probe.pid));
    this.#probes.set(key, probe);
  }

  #write(state: ObjectState): boolean {
    const objects = manifestsOf(state, this.#case.environment.config);
    const text = objects.map((object) => `${JSON.stringify(object)}\n`).join("---\n");
    if (text === this.#manifest) return false;
    this.#manifest = text;
    writeFileSync(`${this.#directory}/draft`, text);
    renameSync(`${this.#directory}/draft`, `${this.#directory}/manifests/case.yaml`);
    return true;
  }

  #sysctls(place: Place): Record<string, string | number> {
    const { config } = this.#case.environment;
    const all = {
      "net/ipv6/conf/all/accept_dad": 0,
      "net/ipv6/conf/default/accept_dad": 0,
      "net/ipv6/conf/default/accept_ra": 0,
      "net/ipv6/conf/default/router_solicitations": 0,
      "net/ipv4/conf/all/rp_filter": 0,
      "net/ipv4/conf/default/rp_filter": 0,
      "net/ipv4/conf/all/send_redirects": 0,
      "net/ipv4/conf/default/send_redirects": 0,
    };
    if (place.kind !== "node") return all;
    // kube-proxy's iptables mode, or the kubelet, would have turned it on (6.5).
    const localnet = config.mode === "iptables" && config.localhostNodePorts ? 1 : 0;
    return {
      ...all,
      "net/ipv4/ip_forward": 1,
      "net/ipv6/conf/all/forwarding": 1,
      "net/ipv6/conf/default/forwarding": 1,
      "net/ipv4/conf/all/route_localnet": localnet,
    };
  }

  #links(): string[] {
    const [node, outside, remote] = ["node", "outside", "remote"].map((key) => this.host(key).netns);
    const pods = [...this.plan.places.values()].filter((place) => place.kind === "pod");
    return [
      `link add name ${this.plan.uplink} address ${NODE_MAC} netns ${node} type veth peer name node netns ${outside}`,
      `link add name eth0 netns ${remote} type veth peer name remote netns ${outside}`,
      ...pods.map(
        (pod) =>
          `link add name eth0 netns ${this.host(pod.key).netns} type veth peer name ${pod.veth} address ${GATEWAY_MAC} netns ${node}`,
      ),
    ];
  }

  /** Addresses and routes of a host other than the node. */
  async #settle(place: Place): Promise<void> {
    const { wire, nodeAddresses } = this.plan;
    const own = [...place.addresses].map((address) => address);
    if (place.kind === "pod") {
      await this.host(place.key).ip([
        "link set lo up",
        ...own.map((address) => `addr add ${single(address)} dev eth0${nodad(address)}`),
        "link set eth0 up",
        `route add ${POD_GATEWAY[4]} dev eth0 scope link`,
        ...([4, 6] as const).map(
          (f) => `neigh replace ${POD_GATEWAY[f]} lladdr ${GATEWAY_MAC} dev eth0 nud permanent`,
        ),
        ...([4, 6] as const).map((f) => `route add default via ${POD_GATEWAY[f]} dev eth0`),
      ]);
      return;
    }
    const dev = place.kind === "outside" ? "br0" : "eth0";
    const net = wire[place.kind === "outside" ? "outside" : "remote"];
    const bridge = [
      "link add br0 type bridge forward_delay 0",
      "link set node master br0 up",
      "link set remote master br0 up",
    ];
    const nexthops = ([4, 6] as const).flatMap((f) =>
      nodeAddresses.filter((one) => familyOf(one) === f).slice(0, 1),
    );
    await this.host(place.key).ip([
      "link set lo up",
      ...(place.kind === "outside" ? bridge : []),
      `link set ${dev} up`,
      `addr add ${net[4]}/24 dev ${dev}`,
      `addr add ${net[6]}/64 dev ${dev} nodad`,
      ...own.map((address) => `addr add ${single(address)} dev ${dev}${nodad(address)}`),
      ...nexthops.map((via) => `route add default via ${via} dev ${dev} onlink`),
    ]);
  }

  #nodeLines(): string[] {
    const { plan } = this;
    const pods = [...plan.places.values()].filter((place) => place.kind === "pod");
    const devs = pods.map(
      (pod) => `link set ${pod.veth}${plan.bridge === undefined ? "" : ` master ${plan.bridge}`} up`,
    );
    const bridge = [
      `link add ${plan.bridge} address ${GATEWAY_MAC} type bridge forward_delay 0`,
      `link set ${plan.bridge} up`,
    ];
    const routed = [...plan.places.values()].filter(
      (place) => place.kind === "pod" || place.kind === "remote",
    );
    const routes = new Map(
      routed.flatMap((place) => [...place.addresses].map((one) => [one, this.#routeTo(place, one, "add")])),
    );
    return [
      "link set lo up",
      `link set ${plan.uplink} up`,
      ...plan.nodeAddresses.map(
        (one) => `addr add ${one}/${familyOf(one) === 4 ? 24 : 64} dev ${plan.uplink}${nodad(one)}`,
      ),
      ...(plan.bridge === undefined ? [] : bridge),
      ...devs,
      ...([4, 6] as const).map(
        (f) => `route add default via ${plan.wire.outside[f]} dev ${plan.uplink} onlink`,
      ),
      ...routes.values(),
    ];
  }

  #routeTo(place: Place, address: string, verb: "add" | "replace"): string {
    const { plan } = this;
    const family = familyOf(address);
    const via = place.kind === "remote" ? plan.wire.remote[family] : plan.wire.outside[family];
    if (place.kind === "pod")
      return `route ${verb} ${single(address)} dev ${plan.bridge ?? place.veth}${family === 4 ? " scope link" : ""}`;
    return `route ${verb} ${single(address)} via ${via} dev ${plan.uplink} onlink`;
  }
}

const single = (address: string): string => `${address}/${familyOf(address) === 4 ? 32 : 128}`;
const nodad = (address: string): string => (familyOf(address) === 6 ? " nodad" : "");

async function ip(lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await run(["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}
