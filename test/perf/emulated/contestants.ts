// SPDX-License-Identifier: Apache-2.0
/** The files of each contestant's machine: what its node is given at each number of Services, and what is then measured. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InterfaceFlag, Role } from "../../../src/abi/enums.gen.js";
import { interfaceCodec, ptlConfigCodec } from "../../../src/abi/layout.gen.js";
import { DEFAULT_KERNEL_OPTIONS, DEFAULT_TIMEOUTS, kernelConfig } from "../../../src/daemon/kernel-config.js";
import { DEFAULT_SNAT_RANGES, takenPorts, usablePorts } from "../../../src/daemon/snat-ports.js";
import { dryRun } from "../../../src/dataplane/dry-run.js";
import { nodeRules } from "../../../src/demo/world/netfilter.js";
import {
  CLUSTER_CIDR4,
  CLUSTER_CIDR6,
  nodeAddress,
  podAddress,
  podSubnet,
  SERVICE_CIDR4,
  SERVICE_CIDR6,
} from "../../../src/demo/world/plan.js";
import { createCompiler } from "../../../src/image/compile.js";
import type { Image } from "../../../src/image/types.js";
import type { MapWrite } from "../../../src/native/kernel.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { parseCidr } from "../../../src/net/cidr.js";
import { type Family, parseIp } from "../../../src/net/ip.js";
import { readManifests } from "../../../src/source/file/read-manifests.js";
import { ipvsNode } from "../../support/kube-proxy-ipvs.js";
import { iptablesRules, type RuleNode } from "../../support/kube-proxy-rules.js";
import { nodeObject } from "../../support/manifests.js";
import { clusterIpTarget, proxiedPorts, SERVED, serviceObjects, type Tested } from "../path/services.js";

export const CONTESTANTS = ["direct", "portolan-tc", "portolan-shortcut", "ipvs", "iptables"] as const;
export type Contestant = (typeof CONTESTANTS)[number];
export const KINDS = ["tcp-crr", "tcp-rr"] as const;

export interface Plan {
  readonly family: Family;
  /** Ascending. */
  readonly services: readonly number[];
  readonly rounds: number;
  /** Of the machine's clock: each instruction takes a nanosecond. */
  readonly seconds: number;
}

const LOCAL_PORTS = { first: 32_768, last: 60_999 };
const NODE = nodeAddress(1);
const SERVER = podAddress(1, 1);
const LINK_MTU = 1500;

const of = <T>(family: Family, four: T, six: T): T => (family === 4 ? four : six);
export const serverAddress = (family: Family): string => of(family, SERVER.ip4, SERVER.ip6);

function testedOf(family: Family): Tested {
  return { family, servers: new Map([["same node", serverAddress(family)]]), nodePorts: false };
}

function ruleNode(family: Family): RuleNode {
  const node = of(family, NODE.ip4, NODE.ip6);
  return {
    family,
    clusterCidr: of(family, CLUSTER_CIDR4, CLUSTER_CIDR6),
    serviceCidr: of(family, SERVICE_CIDR4, SERVICE_CIDR6),
    nodePortAddresses: [node],
  };
}

/** Writes the files of one contestant below `root`, /init's own script among them. */
export async function writeMachine(root: string, contestant: Contestant, plan: Plan): Promise<void> {
  const { family } = plan;
  const machine = new Machine(root, family);
  const subnet = podSubnet(1);
  const choice = { flannelRules: true, dropInvalid: true };
  machine.file("cni", nodeRules(family, of(family, subnet.ip4, subnet.ip6), choice) ?? "");
  const restore = of(family, "iptables-legacy-restore", "ip6tables-legacy-restore");
  machine.run(`${restore} </cni`);
  if (contestant.startsWith("portolan")) preparePortolan(machine, contestant === "portolan-shortcut");
  const writes = contestant.startsWith("portolan") ? await recordedWrites(plan) : new Map();
  for (const services of contestant === "direct" ? [1] : plan.services) {
    if (contestant === "iptables") loadIptables(machine, services, restore);
    if (contestant === "ipvs") loadIpvs(machine, services, restore);
    if (contestant.startsWith("portolan")) loadPortolan(machine, services, writes.get(services) ?? []);
    measure(machine, contestant, services, plan);
  }
  machine.write();
}

/** Collects files and the lines of /bench.sh. */
class Machine {
  readonly family: Family;
  readonly #root: string;
  readonly #lines: string[] = [];

  constructor(root: string, family: Family) {
    this.#root = root;
    this.family = family;
    mkdirSync(root, { recursive: true });
  }

  file(name: string, content: string | Uint8Array): void {
    writeFileSync(join(this.#root, name), content);
  }

  run(line: string): void {
    this.#lines.push(`current='${line}'`, line);
  }

  write(): void {
    this.file("bench.sh", `${this.#lines.join("\n")}\n`);
  }
}

function measure(machine: Machine, contestant: Contestant, services: number, plan: Plan): void {
  const { family, rounds, seconds } = plan;
  const server = serverAddress(family);
  const vip = clusterIpTarget(family, "same node");
  const to = contestant === "direct" ? `${server} ${SERVED.tcp}` : `${vip.address} ${vip.tcp}`;
  for (const kind of KINDS)
    for (let round = 0; round < rounds; round++)
      machine.run(`measure ${services} ${kind} ${to} ${server} ${seconds}`);
}

function loadIptables(machine: Machine, services: number, restore: string): void {
  const ports = proxiedPorts(services, testedOf(machine.family));
  machine.file(`rules-${services}`, iptablesRules(ports, ruleNode(machine.family)));
  // Without --noflush the tables are emptied first: of the Services before.
  machine.run(`${restore} </cni`);
  machine.run(`${restore} --noflush </rules-${services}`);
}

/** The tested Service in the middle: in IPVS' hash the newest comes first. */
function loadIpvs(machine: Machine, services: number, restore: string): void {
  const { family } = machine;
  const all = proxiedPorts(services, testedOf(family));
  const others = all.filter(({ name }) => !name.startsWith("default/tested:"));
  const middle = Math.floor(others.length / 2);
  const tested = all.filter(({ name }) => name.startsWith("default/tested:"));
  const ports = [...others.slice(0, middle), ...tested, ...others.slice(middle)];
  const node = ipvsNode(ports, new Set([serverAddress(family)]), ruleNode(family));
  for (const part of ["links", "servers", "sets", "rules"] as const)
    machine.file(`${part}-${services}`, node[part]);
  machine.run(`${restore} </cni`);
  machine.run("ipvsadm -C");
  machine.run("ipset destroy");
  machine.run("/sbin/ip link del kube-ipvs0 2>/dev/null || true");
  for (const [name, value] of Object.entries(node.sysctls)) machine.run(`echo ${value} >/proc/sys/${name}`);
  machine.run(`/sbin/ip -batch /links-${services}`);
  machine.run(`ipset restore </sets-${services}`);
  machine.run(`ipvsadm -R </servers-${services}`);
  machine.run(`${restore} --noflush </rules-${services}`);
}

function preparePortolan(machine: Machine, shortcut: boolean): void {
  const { ranges } = usablePorts(DEFAULT_SNAT_RANGES, takenPorts(LOCAL_PORTS));
  const detectors = { 4: required(parseCidr(CLUSTER_CIDR4)), 6: required(parseCidr(CLUSTER_CIDR6)) };
  const options = { ...DEFAULT_KERNEL_OPTIONS, shortcut, detectors };
  machine.file("config", ptlConfigCodec.encode(kernelConfig(ranges, DEFAULT_TIMEOUTS, options)));
  const pod = interfaceCodec.encode({
    role: Role.POD,
    mtu: LINK_MTU,
    masquerade4: required(parseIp(NODE.ip4)).bytes,
    masquerade6: required(parseIp(NODE.ip6)).bytes,
    flags: InterfaceFlag.INTERFACE_PEER | (shortcut ? InterfaceFlag.INTERFACE_SHORTCUT : 0),
  });
  machine.file("interface", pod);
  machine.run("dataplane start /portolan.bpf.o /config /interface client server");
}

function loadPortolan(machine: Machine, services: number, writes: readonly MapWrite[]): void {
  machine.file(`writes-${services}`, packed(writes));
  machine.run(`dataplane apply /writes-${services}`);
}

function required<T>(value: T | null): T {
  if (value === null) throw new Error("an address of the plan is none");
  return value;
}

/** What an agent would write to come from one number of Services to the next one. */
async function recordedWrites({ family, services }: Plan): Promise<Map<number, MapWrite[]>> {
  const kernel = new MemoryKernel();
  const recorded = new Map<number, MapWrite[]>();
  for (const count of services) {
    const { transactions, result } = await dryRun(kernel, await imageOf(count, family));
    if (result.failure !== null || result.refused.length > 0)
      throw new Error(`${count} Services do not go into the maps`);
    recorded.set(count, transactions.flat());
  }
  return recorded;
}

async function imageOf(services: number, family: Family): Promise<Image> {
  const directory = mkdtempSync(join(tmpdir(), "portolan-bench-"));
  try {
    const file = join(directory, "services.json");
    const items = [nodeObject("n1", [NODE.ip4, NODE.ip6]), ...serviceObjects(services, testedOf(family))];
    writeFileSync(file, JSON.stringify({ apiVersion: "v1", kind: "List", items }));
    const { snapshot, problems } = await readManifests([file], { nodeName: "n1" });
    const [problem] = problems;
    if (problem !== undefined) throw new Error(`manifests: ${problem.message}`);
    return createCompiler().compile(snapshot);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const NAME_BYTES = 16;
const HEAD_BYTES = NAME_BYTES + 8;
/** enum ptl_run_kind. */
const RUN_KINDS = { update: 1, delete: 2 } as const;

const padded = (size: number): number => Math.ceil(size / 8) * 8;

/** As dataplane.c reads it. */
function packed(writes: readonly MapWrite[]): Buffer {
  const parts = writes
    .filter(({ count }) => count > 0)
    .map(({ map, kind, count, keys, values }) => {
      const valuesAt = HEAD_BYTES + padded(keys.length);
      const part = Buffer.alloc(valuesAt + (kind === "delete" ? 0 : padded(values.length)));
      part.write(map, 0, NAME_BYTES, "latin1");
      part.writeUInt32LE(RUN_KINDS[kind], NAME_BYTES);
      part.writeUInt32LE(count, NAME_BYTES + 4);
      part.set(keys, HEAD_BYTES);
      if (kind !== "delete") part.set(values, valuesAt);
      return part;
    });
  return Buffer.concat(parts);
}
