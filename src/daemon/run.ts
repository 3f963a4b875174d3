// SPDX-License-Identifier: Apache-2.0
/** The node agent: everything is built and wired here, and ends with one AbortSignal. */
import { type Stats, statSync } from "node:fs";
import { familyProblems } from "../config/families.js";
import { featureGates } from "../config/feature-gates.js";
import { layoutDirectory } from "../dataplane/pins.js";
import type { NodeInfo, Snapshot } from "../model/types.js";
import { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import { systemClock } from "../util/clock.js";
import { AppError, errorMessage, UserError } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { productVersion } from "../util/version.js";
import { AgentAudit } from "./agent-audit.js";
import type { AgentConfig } from "./agent-config.js";
import { type AgentParts, buildParts } from "./agent-parts.js";
import { AgentServers } from "./agent-servers.js";
import { type AgentSource, makeSource } from "./agent-source.js";
import { ApiAddress } from "./api-address.js";
import { watchConfigFile } from "./config-file.js";
import { aboutNode, EventRecorder } from "./events.js";
import { HealthState } from "./health/health-state.js";
import { readLinks } from "./hooks.js";
import { checkBridgeNetfilter } from "./host-checks.js";
import { bridgeNetfilter, bridgesWithPorts, findInvalidDrops } from "./host-facts.js";
import { hostFamilies } from "./host-families.js";
import { initOnly, setUpHost } from "./host-setup.js";
import { needsNode } from "./kernel-options.js";
import { ENDPOINT_VERSION, LocalEndpoint } from "./local-endpoint.js";
import type { LeveledLogger } from "./log.js";
import { AgentMetrics } from "./metrics/agent-metrics.js";
import { snapshotChanges } from "./metrics/sync-watch.js";
import { CompiledNode, NodeWatch, waitForNode } from "./node-watch.js";
import { onlyOne } from "./only-one.js";
import { setOomScore } from "./oom-score.js";
import { openObject } from "./open-object.js";
import { sweepRunDirectories } from "./run-directory.js";
import { neverAttached } from "./takeover.js";

export type { AgentConfig } from "./agent-config.js";

/**
 * How an agent has come to its end: it was told to, or something that it was started with is so no more (1.16, 12.3), and its
 * supervisor is to start it again.
 */
export type AgentEnd = "stopped" | "restart";

/** E_CONFIG_CHANGED: the configuration file was rewritten (12.3). */
export type ConfigErrorCode = "E_CONFIG_CHANGED";

/** Before anything is touched: an agent that would end at once shall not attach its programs first. */
function requireSource({ manifests: paths, settings }: AgentConfig): void {
  // Nothing to read is not the same as a cluster without Services.
  if (paths.length === 0 && settings === undefined) throw new UserError("no manifests are named");
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
 * Runs until the signal, and leaves the dataplane as it is then: programs and maps go on without an agent (rule 12.8). With
 * `--init-only` it sets the host up and returns.
 *
 * @returns "restart" when it ended by itself; the reason is logged
 * @throws AppError when it cannot start: another agent runs here, no permission, other layout or sizes pinned, kernel refuses the programs, no Node (1.8)
 * @throws UserError when the manifests are not there
 */
export async function runAgent(
  config: AgentConfig,
  log: Logger | LeveledLogger,
  signal: AbortSignal,
): Promise<AgentEnd> {
  const { settings } = config;
  if (settings?.action === "init-only") {
    initOnly(settings, config.bpfRoot, new NativeLibrary(), log);
    return "stopped";
  }
  requireSource(config);
  const pins = layoutDirectory(config.bpfRoot);
  const release = await onlyOne(pins);
  const ending = new AbortController();
  const work = AbortSignal.any([signal, ending.signal]);
  try {
    await new Agent(config, pins, log, ending).run(work);
  } catch (error) {
    // Whoever waited for something hears of the end in this way.
    if (!work.aborted || error !== work.reason) {
      ending.abort(error); // and whoever still waits: the Node's gate would keep a process that cannot start
      throw error;
    }
  } finally {
    await release();
  }
  if (ending.signal.aborted) return tellEnd(ending.signal.reason, log);
  log.info({}, "stopped");
  return "stopped";
}

function tellEnd(reason: unknown, log: Logger): AgentEnd {
  const { code, fields, hint } =
    reason instanceof AppError ? reason : { code: "E_AGENT", fields: {}, hint: null };
  log.error({ ...fields, code, reason: errorMessage(reason), hint }, "ended; the dataplane stays up");
  return "restart";
}

/** What klog's level 4 shows are our debug lines. */
const DEBUG_VERBOSITY = 4;
const LAST_EVENTS_MS = 2_000;

class Agent {
  readonly #config: AgentConfig;
  readonly #pins: string;
  readonly #log: Logger | LeveledLogger;
  readonly #ending: AbortController;
  readonly #started: number = systemClock.now();
  readonly #health: HealthState;
  readonly #metrics: AgentMetrics;
  readonly #library = new NativeLibrary();
  readonly #node: CompiledNode;
  /** What is to be ended, in the order of its begin. */
  readonly #closers: (() => Promise<void> | void)[] = [];

  constructor(config: AgentConfig, pins: string, log: Logger | LeveledLogger, ending: AbortController) {
    this.#config = config;
    this.#pins = pins;
    this.#log = log;
    this.#ending = ending;
    const { settings } = config;
    const families = hostFamilies();
    const timeout = settings === undefined ? {} : { timeoutMs: 2 * settings.syncPeriod };
    this.#health = new HealthState({ families, ...timeout });
    this.#metrics = new AgentMetrics({
      health: this.#health,
      log,
      families,
      version: productVersion(),
      ...(settings === undefined ? {} : { topServices: settings.portolan.topServices }),
    });
    this.#metrics.build.setFeatures(featureGates(settings?.kubeProxy.featureGates ?? {}));
    this.#node = new CompiledNode(settings?.nodeIp ?? null);
  }

  async run(signal: AbortSignal): Promise<void> {
    try {
      await this.#run(signal);
    } finally {
      for (const close of this.#closers.reverse()) await close();
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { proxy } = this.#config;
    for (const problem of proxy.warnings)
      this.#log.warn({ code: "option_ignored", problem }, "option has no effect");
    const source = await makeSource(this.#config, this.#metrics, this.#log);
    this.#closers.push(() => source.source.close());
    const events = this.#recordEvents(source);
    this.#watchConfig();
    await this.#prepareHost(source, events);
    // The source reads while the programs are loaded.
    const node = this.#startSource(source, signal);
    // The programs are told the node's ranges when they are loaded.
    const known = needsNode(proxy) ? await node : null;
    if (signal.aborted) return;
    const object = await openObject(this.#library, this.#pins, this.#config, known, this.#log);
    this.#metrics.dataplane.setMaps(object);
    this.#closers.push(() => this.#closeObject(object));
    await this.#serve(object, source, events, known, node, signal);
  }

  async #closeObject(object: LoadedObject): Promise<void> {
    this.#metrics.dataplane.setMaps(null);
    await object.close();
  }

  #recordEvents({ api }: AgentSource): EventRecorder {
    const { nodeName } = this.#config;
    const events = new EventRecorder({ nodeName, send: api?.send ?? null, log: this.#log });
    this.#closers.push(async () => {
      await events.flush(LAST_EVENTS_MS);
      await events.close();
    });
    return events;
  }

  /** 12.3. */
  #watchConfig(): void {
    const { settings, configFileText } = this.#config;
    const path = settings?.configFile ?? null;
    if (path === null || configFileText === undefined || configFileText === null) return;
    const stop = watchConfigFile(path, configFileText, () =>
      this.#end(
        new AppError<ConfigErrorCode>("E_CONFIG_CHANGED", `${path} was rewritten`, {
          fields: { path },
          hint: "The next start reads it.",
        }),
      ),
    );
    this.#closers.push(stop);
  }

  /** As kube-proxy does before anything else, and only in its place; then the servers, which answer from the start (10.2). */
  async #prepareHost({ api }: AgentSource, events: EventRecorder): Promise<void> {
    const { settings, nodeName } = this.#config;
    if (settings === undefined) return;
    if (api !== null) {
      setOomScore(settings.kubeProxy.oomScoreAdj, this.#log);
      const regarding = aboutNode(nodeName);
      setUpHost(settings, this.#log, (note) => {
        events.post({ regarding, type: "Warning", reason: "ReadOnlySysFS", action: "StartKubeProxy", note });
      });
    }
    const servers = new AgentServers({
      settings,
      flags: this.#config.flags ?? {},
      health: this.#health,
      metrics: this.#metrics,
      events,
      log: this.#log,
      setVerbosity: (level) => {
        if ("level" in this.#log) this.#log.level = level >= DEBUG_VERBOSITY ? "debug" : "info";
      },
      onHardFail: (error) => this.#end(error),
    });
    this.#closers.push(() => servers.close());
    await servers.start();
  }

  /** Starts it. The promise is the Node that it was started with (1.8); of files, the one of the first read. */
  #startSource({ source, api }: AgentSource, signal: AbortSignal): Promise<NodeInfo | null> {
    const first = source.start(signal);
    if (api === null) {
      this.#health.setNodeEligible(true);
      const node = first.then(() => source.snapshot?.node ?? null);
      node.catch(() => undefined);
      return node;
    }
    first.catch((error: unknown) => {
      if (!signal.aborted) this.#end(error);
    });
    api.source.onNode(({ eligible }) => this.#health.setNodeEligible(eligible));
    const { lastError } = api;
    const needsPodCidrs = needsNode(this.#config.proxy);
    const node = waitForNode(api.source, { needsPodCidrs, lastError, log: this.#log }, signal);
    // 1.8: also while nobody waits for it.
    node.catch((error: unknown) => this.#end(error));
    return node;
  }

  /** Works until the signal. */
  async #serve(
    object: LoadedObject,
    from: AgentSource,
    events: EventRecorder,
    known: NodeInfo | null,
    node: Promise<NodeInfo | null>,
    signal: AbortSignal,
  ): Promise<void> {
    const address = new ApiAddress({ servers: from.api?.servers ?? [], log: this.#log });
    const audit = new AgentAudit(this.#log, this.#metrics);
    const parts = buildParts(this.#config, {
      library: this.#library,
      object,
      pins: this.#pins,
      log: this.#log,
      started: this.#started,
      node: known,
      health: this.#health,
      metrics: this.#metrics,
      events,
      audit,
      reserved: () => address.reserved,
    });
    this.#askParts(audit, parts, address);
    const audits = setInterval(() => void audit.request(), this.#config.auditSeconds * 1000);
    const endpoint = this.#endpoint(object, from, parts, audit);
    this.#closers.push(async () => {
      clearInterval(audits);
      const stopped = parts.services.stop(); // or whoever waits for an audit waits for all of it
      await endpoint.close();
      await audit.idle();
      await from.source.close();
      await stopped;
      await parts.forwarding.stop();
      await Promise.all([
        parts.follower.stop(),
        parts.stale.stop(),
        parts.takeover.stop(),
        parts.marks.stop(),
        parts.checks.close(),
      ]);
    });
    await this.#startParts(parts, from);
    await endpoint.start();
    this.#refresh(address, parts);
    const started = await node;
    if (signal.aborted) return;
    if (from.api !== null && started !== null) {
      this.#checkFamilies(started);
      this.#watchNode(from, started, events);
      this.#learnVersion(from, signal);
    }
    this.#publish(from, parts, address);
    await aborted(signal);
  }

  #askParts(audit: AgentAudit, parts: AgentParts, address: ApiAddress): void {
    const { mapPins, follower, sockets, rules, stale, checks, services, forwarding, marks } = parts;
    const others = [
      () => rules?.ensure(),
      () => forwarding.look(),
      () => stale.sweep(),
      () => checks.retry(),
      async () => void marks.look(), // it may take some seconds, and finds nothing that was asked for
      async () => this.#refresh(address, parts),
    ];
    audit.setParts({ pins: mapPins, follower, sockets, services, others });
  }

  /** Who runs on this host as root may ask what this agent has compiled, and have it audit. */
  #endpoint(
    object: LoadedObject,
    { api }: AgentSource,
    { keeper, services }: AgentParts,
    audit: AgentAudit,
  ): LocalEndpoint {
    const { bpfRoot, nodeName, manifests, socketLb, cgroupRoot } = this.#config;
    return new LocalEndpoint({
      bpfRoot,
      log: this.#log,
      header: () => ({
        version: ENDPOINT_VERSION,
        pid: process.pid,
        node: nodeName,
        source:
          api === null
            ? { kind: "manifests", paths: manifests }
            : {
                kind: "api",
                server: api.servers[0] ?? "",
                resourceVersions: api.source.resourceVersions,
              },
        newest: services.compiled?.newest ?? false,
        heldBack: services.compiled?.heldBack ?? false,
        interfaces: keeper.expected,
        interfaceEntries:
          keeper.entries &&
          Object.fromEntries(
            Array.from(keeper.entries, ([ifindex, value]) => [ifindex, Buffer.from(value).toString("hex")]),
          ),
        sockets: { mode: socketLb, cgroup: cgroupRoot },
        programs: object.programs(),
      }),
      compiled: () => services.compiled?.image ?? null,
      source: () => services.compileAnew(),
      audit: () => audit.request(),
    });
  }

  async #startParts(
    { rules, follower, sockets, takeover, forwarding, marks }: AgentParts,
    { api }: AgentSource,
  ): Promise<void> {
    const { nodeName: node, manifests } = this.#config;
    const source = api === null ? { manifests } : { server: api.servers[0] };
    this.#log.info({ node, ...source, pins: this.#pins }, "starting");
    this.#library.sweep(this.#pins); // links of interfaces that went while no agent ran
    void sweepRunDirectories();
    await takeover.begin(neverAttached(this.#pins));
    await marks.begin();
    await forwarding.start(); // before the interfaces are looked at: what is open there stays so
    // Whoever waits for "ready" may count on the firewall, too.
    await Promise.all([rules?.ensure(), follower.start(), sockets.ensure()]);
    void marks.look(); // nobody waits: until then everything is looked up
    warnOfBridges(this.#library, this.#log).catch((error: unknown) =>
      this.#log.warn({ reason: errorMessage(error) }, "host check"),
    );
  }

  /** A name may take long, or need a Service to be resolved: nobody waits. */
  #refresh(address: ApiAddress, { services }: AgentParts): void {
    void address.refresh().then((changed) => {
      if (changed) services.hostChanged();
    });
  }

  /**
   * 12.11, 12.12.
   *
   * @throws UserError with what cannot work on this host
   */
  #checkFamilies({ podCIDRs, addresses }: NodeInfo): void {
    const { settings } = this.#config;
    if (settings === undefined) return;
    const primary = (settings.nodeIp ?? addresses[0])?.family ?? 4;
    const problems = familyProblems(settings, { families: hostFamilies(), primary, podCIDRs });
    for (const { code, name, message } of problems.filter(({ severity }) => severity === "warning"))
      this.#log.warn({ code, name, problem: message }, "setting");
    const errors = problems.filter(({ severity }) => severity === "error");
    if (errors.length > 0)
      throw new UserError(errors.map(({ name, message }) => `${name}: ${message}`).join("\n  "));
  }

  /** For kubernetes_build_info; nothing else asks. */
  #learnVersion({ api }: AgentSource, signal: AbortSignal): void {
    void api?.version(signal).then(
      (version) => {
        if (version !== null) this.#metrics.build.setKubernetesVersion(version);
      },
      (error: unknown) => this.#log.debug({ reason: errorMessage(error) }, "no version of the API server"),
    );
  }

  /** 1.16; and the event of a start, after the lists (13.3). */
  #watchNode({ api }: AgentSource, started: NodeInfo, events: EventRecorder): void {
    if (api === null) return;
    const { proxy, nodeName: name } = this.#config;
    const podCidrsMatter = needsNode(proxy);
    const watch = new NodeWatch({
      started,
      podCidrsMatter,
      log: this.#log,
      onEnd: (error) => this.#end(error),
    });
    api.source.onNode((state) => watch.look(state));
    watch.look(api.source.node);
    const about = { regarding: aboutNode(name), action: "StartKubeProxy" } as const;
    events.post({ ...about, type: "Normal", reason: "Starting", note: "" });
    if (this.#config.settings?.mode === "ipvs")
      events.post({
        ...about,
        type: "Warning",
        reason: "IPVSDeprecation",
        note: "mode ipvs is deprecated in Kubernetes; Portolan's eBPF programs are used in its place",
      });
  }

  /** Publishes each state of the source, with the present one when there is one. */
  #publish(
    { source, api }: AgentSource,
    { keeper, follower, services }: AgentParts,
    address: ApiAddress,
  ): void {
    const { proxy } = this.#config;
    const loaded = podRanges(source.snapshot);
    let told = false;
    let before: Snapshot | null = null;
    const publish = (given: Snapshot, lacking: readonly string[]): void => {
      const snapshot = this.#node.in(given);
      if (keeper.setNodeAddresses(given.node.addresses)) void follower.look();
      address.check(snapshot);
      services.publish(snapshot, lacking, api === null ? snapshotChanges(before, snapshot) : undefined);
      before = snapshot;
      if (api !== null || !needsNode(proxy) || told || podRanges(snapshot) === loaded) return;
      told = true;
      const fields = { code: "pod_cidr_changed", before: loaded, now: podRanges(snapshot) };
      this.#log.error(fields, "the node's podCIDRs are not those that the agent started with: restart it");
    };
    source.on((snapshot, _problems, lacking) => publish(snapshot, lacking));
    if (source.snapshot !== null) publish(source.snapshot, source.lacking ?? []);
  }

  /** The agent ends by itself; the first reason counts. */
  #end(reason: unknown): void {
    if (!this.#ending.signal.aborted) this.#ending.abort(reason);
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

const podRanges = (snapshot: Snapshot | null): string =>
  snapshot?.node.podCIDRs.map(({ text }) => text).join() ?? "";

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
