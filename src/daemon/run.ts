// SPDX-License-Identifier: Apache-2.0
/** The node agent: everything is built and wired here, and ends with one AbortSignal. */
import { type Stats, statSync } from "node:fs";
import type { MapName } from "../abi/maps.gen.js";
import { type ProxyOptions, proxyConfig } from "../config/proxy-options.js";
import type { ProxySettings } from "../config/proxy-settings.js";
import { InterfaceKeeper } from "../dataplane/attach.js";
import type { InterfaceOptions } from "../dataplane/interfaces.js";
import { DEFAULT_BPFFS, layoutDirectory, refuseOtherLayouts } from "../dataplane/pins.js";
import { Reconciler } from "../dataplane/reconciler.js";
import type { NodeInfo, Problem, Snapshot } from "../model/types.js";
import type { HookMode } from "../native/hooks.js";
import { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import { FileSource } from "../source/file/file-source.js";
import type { SnapshotListener } from "../source/source.js";
import { systemClock } from "../util/clock.js";
import { errorMessage, UserError } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import { ForwardRules } from "./forward-rules.js";
import { HealthChecks } from "./health-checks.js";
import { NativeHooks, readLinks } from "./hooks.js";
import { checkBridgeNetfilter } from "./host-checks.js";
import { bridgeNetfilter, bridgesWithPorts, findInvalidDrops, localPortRange } from "./host-facts.js";
import { HostView } from "./host-view.js";
import { InterfaceFollower } from "./interface-follower.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "./kernel-config.js";
import {
  detectorNode,
  type KernelChoices,
  kernelOptions,
  needsNode,
  type SocketLb,
  withLocalPods,
} from "./kernel-options.js";
import { readListeners } from "./local-listeners.js";
import { kernelAbilities, socketKernel, udpDestroyer } from "./native-sockets.js";
import { onlyOne } from "./only-one.js";
import { sweepProblems, writeProblems } from "./problem-file.js";
import { ServiceSync } from "./service-sync.js";
import { NODE_PORTS, type PortRange, rangeText, usablePorts } from "./snat-ports.js";
import { SocketHooks } from "./socket-hooks.js";
import { StaleSockets } from "./stale-sockets.js";

export interface AgentConfig extends KernelChoices {
  /** Directories and files of manifests; "-" is standard input, read once. */
  readonly manifests: readonly string[];
  /** Everything that kube-proxy's flags and file and our own settings say; without it, a program that is no kube-proxy runs the agent. */
  readonly settings?: ProxySettings;
  /** The text of `settings.configFile` as it was parsed: its watch compares (12.3). */
  readonly configFileText?: string | null;
  readonly nodeName: string;
  readonly bpfRoot: string;
  readonly interfaces: InterfaceOptions;
  readonly attach: HookMode;
  readonly snatRanges: readonly PortRange[];
  /** max_entries where it differs from the default. */
  readonly maxEntries: Readonly<Partial<Record<MapName, number>>>;
  readonly auditSeconds: number;
  /** kube-proxy's options. */
  readonly proxy: ProxyOptions;
  readonly socketLb: SocketLb;
  /** The cgroup v2 directory whose sockets are served; null: there is none. */
  readonly cgroupRoot: string | null;
  /** Rules in the host's firewall let through what is translated (8.11) and health checks (6.27). */
  readonly forwardRules: boolean;
}

/** The ranges that are free here; what is not is said. */
function snatRanges(config: AgentConfig, log: Logger): readonly PortRange[] {
  const local = localPortRange();
  const taken = [
    { range: NODE_PORTS, by: "NodePorts" },
    ...(local === null ? [] : [{ range: local, by: "net.ipv4.ip_local_port_range" }]),
  ];
  const { ranges, conflicts } = usablePorts(config.snatRanges, taken);
  for (const { range, taken: other, by } of conflicts) {
    const fields = { range: rangeText(range), by, taken: rangeText(other), left: ranges.map(rangeText) };
    log.warn({ code: "snat_ports_overlap", ...fields }, "source port range overlaps");
  }
  return ranges;
}

async function openObject(
  library: NativeLibrary,
  pins: string,
  config: AgentConfig,
  node: NodeInfo | null,
  log: Logger,
): Promise<LoadedObject> {
  const abilities = kernelAbilities(library);
  const options = kernelOptions(config, node, abilities);
  if (config.bpfRoot.startsWith(`${DEFAULT_BPFFS}/`) && library.mountBpffs(DEFAULT_BPFFS)) {
    log.info({ path: DEFAULT_BPFFS }, "bpf file system mounted");
  }
  refuseOtherLayouts(
    config.bpfRoot,
    "An upgrade between these layouts is not possible yet: portolan cleanup first.",
  );
  return await library.open({
    pins,
    config: kernelConfig(snatRanges(config, log), DEFAULT_TIMEOUTS, options),
    maxEntries: config.maxEntries,
    sockets: config.socketLb !== "off" && config.cgroupRoot !== null && abilities.socketHooks,
  });
}

/** br_netfilter off beside a bridge: found at start, since what it breaks shows only after a connection's first answer. */
async function warnOfBridges(library: NativeLibrary, log: Logger): Promise<void> {
  const bridges = bridgesWithPorts(readLinks(library).links);
  const settings = bridgeNetfilter();
  if (bridges.length === 0 || Object.values(settings).every((value) => value === "1")) return;
  const { status, detail, fix } = checkBridgeNetfilter({
    bridges,
    ...settings,
    invalidDrops: await findInvalidDrops(),
  });
  if (status !== "ok") log.warn({ code: "br_netfilter_off", detail, fix }, "host check");
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

/** Before anything is touched: an agent that would end at once shall not attach its programs first. */
function requireManifests(paths: readonly string[]): void {
  // Nothing to read is not the same as a cluster without Services.
  if (paths.length === 0) throw new UserError("no manifests are named");
  for (const path of paths.filter((each) => each !== "-")) {
    let kind: Stats;
    try {
      kind = statSync(path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const reason = code === "ENOENT" ? "does not exist" : `cannot be read: ${errorMessage(error)}`;
      throw new UserError(`${path} ${reason}`, { fields: { path } });
    }
    if (!kind.isFile() && !kind.isDirectory())
      throw new UserError(`${path} is no regular file and no directory`, { fields: { path } });
  }
}

/**
 * Runs until the signal, and leaves the dataplane as it is then: programs and maps go on without an agent (rule 12.8).
 *
 * @throws AppError when it cannot start: another agent runs here, no permission, other layout or sizes pinned, kernel refuses the programs
 * @throws UserError when the manifests are not there
 */
export async function runAgent(config: AgentConfig, log: Logger, signal: AbortSignal): Promise<void> {
  requireManifests(config.manifests);
  const pins = layoutDirectory(config.bpfRoot);
  const release = await onlyOne(pins);
  try {
    await runAlone(config, pins, log, signal);
  } finally {
    await release();
  }
  log.info({}, "stopped");
}

async function runAlone(config: AgentConfig, pins: string, log: Logger, signal: AbortSignal): Promise<void> {
  const started = systemClock.now();
  for (const problem of config.proxy.warnings)
    log.warn({ code: "option_ignored", problem }, "option has no effect");
  const library = new NativeLibrary();
  const { manifests: paths, nodeName, proxy } = config;
  const source = new FileSource(
    { paths, nodeName, serviceCIDRs: proxy.serviceCIDRs },
    { logger: log, clock: systemClock },
  );
  try {
    // The programs are told the node's ranges when they are loaded.
    if (needsNode(proxy)) await source.start(signal);
    if (signal.aborted) return;
    const node = source.snapshot?.node ?? null;
    const object = await openObject(library, pins, config, node, log);
    try {
      const parts = build(config, { library, object, pins, log, started, node });
      await follow(config, { source, signal, library, pins, log }, parts);
    } finally {
      await object.close();
    }
  } finally {
    await source.close();
  }
}

interface Kernel {
  readonly library: NativeLibrary;
  readonly object: LoadedObject;
  readonly pins: string;
  readonly log: Logger;
  /** Of the agent. Milliseconds of the system's clock. */
  readonly started: number;
  /** As far as it was read before the programs were loaded. */
  readonly node: NodeInfo | null;
}

interface Parts {
  readonly keeper: InterfaceKeeper;
  readonly follower: InterfaceFollower;
  readonly services: ServiceSync;
  readonly sockets: SocketHooks;
  readonly stale: StaleSockets;
  readonly rules: ForwardRules | null;
  readonly health: HealthChecks;
}

/** Everything that works beside the source, not yet at work. */
function build(config: AgentConfig, { library, object, pins, log, started, node }: Kernel): Parts {
  const proxy = proxyConfig(config.proxy, detectorNode(config.proxy, node));
  const rules = config.forwardRules ? new ForwardRules({ markBit: config.markBit, log }) : null;
  const host = new HostView(() => readListeners(health.listening));
  const keeper = new InterfaceKeeper(config.attach, withLocalPods(config.interfaces, config.proxy), {
    hooks: new NativeHooks(library, object, pins),
    maps: object,
    log,
    onLinks: ({ localAddresses }) => {
      if (host.setLocalAddresses(localAddresses)) services.hostChanged();
    },
  });
  const stale = new StaleSockets({ maps: object, destroy: udpDestroyer(library), log });
  const services = new ServiceSync({
    reconciler: new Reconciler({ kernel: object, logger: log }),
    log,
    proxy,
    host,
    onReady: () => {
      const startMs = Math.round(systemClock.now() - started);
      log.info({ interfaces: keeper.attachedNames, mapWrites: object.stats.mapWrites, startMs }, "ready");
    },
    onCommitted: (image, snapshot) => {
      void stale.committed(image);
      void health.committed(image, snapshot);
    },
    onProblems: problemWriter(config.bpfRoot, log),
  });
  const health = new HealthChecks({
    nodePortAddresses: proxy.nodePortAddresses,
    healthy: () => services.healthy,
    rules,
    log,
  });
  return {
    keeper,
    follower: new InterfaceFollower({ watcher: library, keeper, log }),
    services,
    sockets: new SocketHooks({
      mode: config.socketLb,
      cgroup: config.cgroupRoot,
      kernel: socketKernel(library, object, pins),
      log,
    }),
    stale,
    rules,
    health,
  };
}

interface Following {
  readonly source: FileSource;
  readonly signal: AbortSignal;
  readonly library: NativeLibrary;
  readonly pins: string;
  readonly log: Logger;
}

/** Works until the signal. */
async function follow(config: AgentConfig, following: Following, parts: Parts): Promise<void> {
  const { source, signal, library, pins, log } = following;
  const { follower, services, sockets, stale, rules, health } = parts;
  const audit = setInterval(() => {
    void follower.look(true);
    void sockets.ensure();
    void rules?.ensure();
    void stale.sweep();
    void health.retry();
    services.audit().catch((error: unknown) => log.error({ err: error }, "audit failed"));
  }, config.auditSeconds * 1000);
  try {
    log.info({ node: config.nodeName, manifests: config.manifests, pins }, "starting");
    library.sweep(pins); // links of interfaces that went while no agent ran
    void sweepProblems();
    // Whoever waits for "ready" may count on the firewall, too.
    await Promise.all([rules?.ensure(), follower.start(), sockets.ensure()]);
    warnOfBridges(library, log).catch((error: unknown) =>
      log.warn({ reason: errorMessage(error) }, "host check"),
    );
    await followSource(config, source, signal, parts, log);
    await aborted(signal);
  } finally {
    clearInterval(audit);
    await source.close();
    await services.stop();
    await Promise.all([follower.stop(), stale.stop(), health.close()]);
  }
}

/** Publishes each state of the manifests, the first when it returns. */
async function followSource(
  { proxy }: AgentConfig,
  source: FileSource,
  signal: AbortSignal,
  { keeper, follower, services }: Parts,
  log: Logger,
): Promise<void> {
  const loaded = podRanges(source.snapshot);
  let told = false;
  const publish: SnapshotListener = (snapshot, _problems, lacking) => {
    if (keeper.setNodeAddresses(snapshot.node.addresses)) void follower.look();
    services.publish(snapshot, lacking);
    if (!needsNode(proxy) || told || podRanges(snapshot) === loaded) return;
    told = true;
    const fields = { code: "pod_cidr_changed", before: loaded, now: podRanges(snapshot) };
    log.error(fields, "the node's podCIDRs are not those that the agent started with: restart it");
  };
  source.on(publish);
  if (source.snapshot !== null) publish(source.snapshot, source.problems, source.lacking);
  else if (!signal.aborted) await source.start(signal);
}

const podRanges = (snapshot: Snapshot | null): string =>
  snapshot?.node.podCIDRs.map(({ text }) => text).join() ?? "";

/** Writes them where `portolan services` finds them, the newest last. */
function problemWriter(bpfRoot: string, log: Logger): (problems: readonly Problem[]) => void {
  let newest: readonly Problem[] = [];
  const lane = new Lane(() => writeProblems(bpfRoot, newest));
  return (problems) => {
    newest = problems;
    lane.request().catch((error: unknown) => {
      log.warn({ reason: errorMessage(error) }, "problems cannot be shown to other programs");
    });
  };
}
