// SPDX-License-Identifier: Apache-2.0
/** Everything that works beside the source, put together and not yet at work. */
import { proxyConfig } from "../config/proxy-options.js";
import { InterfaceKeeper } from "../dataplane/attach.js";
import { FlowMarks } from "../dataplane/flow-marks.js";
import { Reconciler } from "../dataplane/reconciler.js";
import { XdpKeeper } from "../dataplane/xdp.js";
import type { NodeInfo, Problem, ReservedAddress, Snapshot } from "../model/types.js";
import type { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import { systemClock } from "../util/clock.js";
import { errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import type { AgentAudit } from "./agent-audit.js";
import type { AgentConfig } from "./agent-config.js";
import { dataplaneState } from "./dataplane-health.js";
import type { EventRecorder } from "./events.js";
import { ForwardRules } from "./forward-rules.js";
import { hostTools } from "./forward-rules-tools.js";
import { Forwarding, type ForwardingDecision } from "./forwarding.js";
import { writeForwarding } from "./forwarding-file.js";
import type { HealthState } from "./health/health-state.js";
import type { HealthCheckFailure } from "./health-check-server.js";
import { HealthChecks } from "./health-checks.js";
import { NativeHooks, otherPrograms } from "./hooks.js";
import { HostView } from "./host-view.js";
import { InterfaceFollower } from "./interface-follower.js";
import { detectorNode, withLocalPods } from "./kernel-options.js";
import { readListeners } from "./local-listeners.js";
import { MapPins } from "./map-pins.js";
import type { AgentMetrics } from "./metrics/agent-metrics.js";
import { socketKernel, udpDestroyer } from "./native-sockets.js";
import { readObstacles } from "./netfilter-obstacles.js";
import { writeProblems } from "./problem-file.js";
import { ServiceSync } from "./service-sync.js";
import { SocketHooks } from "./socket-hooks.js";
import { StaleSockets } from "./stale-sockets.js";
import { Takeover } from "./takeover.js";
import { NativeXdpHooks } from "./xdp-hooks.js";

export interface PartsContext {
  readonly library: NativeLibrary;
  readonly object: LoadedObject;
  readonly pins: string;
  readonly log: Logger;
  /** Of the agent. Milliseconds of the system's clock. */
  readonly started: number;
  /** As far as it was read before the programs were loaded. */
  readonly node: NodeInfo | null;
  readonly health: HealthState;
  readonly metrics: AgentMetrics;
  readonly events: EventRecorder;
  /** Told what the parts find. */
  readonly audit: AgentAudit;
  /** Addresses of others that no frontend may capture, beside the host's own listeners. */
  readonly reserved: () => readonly ReservedAddress[];
}

export interface AgentParts {
  readonly keeper: InterfaceKeeper;
  readonly mapPins: MapPins;
  readonly follower: InterfaceFollower;
  readonly services: ServiceSync;
  readonly sockets: SocketHooks;
  readonly stale: StaleSockets;
  readonly takeover: Takeover;
  readonly marks: FlowMarks;
  readonly rules: ForwardRules | null;
  readonly forwarding: Forwarding;
  readonly checks: HealthChecks;
}

export function buildParts(config: AgentConfig, context: PartsContext): AgentParts {
  const { library, object, pins, log, node, health, audit } = context;
  const proxy = proxyConfig(config.proxy, detectorNode(config.proxy, node));
  const rules = config.forwardRules ? new ForwardRules({ markBit: config.markBit, log }) : null;
  const host = new HostView(async () => [...context.reserved(), ...(await readListeners(checks.listening))]);
  const xdp = new XdpKeeper(config.xdp, {
    hooks: new NativeXdpHooks(library, object, pins),
    maps: object,
    log,
  });
  const keeper = new InterfaceKeeper(config.attach, withLocalPods(config.interfaces, config.proxy), {
    hooks: new NativeHooks(library, object, pins),
    maps: object,
    log,
    onLinks: ({ localAddresses }) => {
      if (host.setLocalAddresses(localAddresses)) services.hostChanged();
    },
    onFound: (found) => audit.interfacesFound(found),
    xdp,
  });
  const stale = new StaleSockets({ maps: object, destroy: udpDestroyer(library), log });
  const takeover = new Takeover({
    maps: object,
    tracker: library,
    log,
    onDeleted: (family, entries, ms) => context.metrics.takeover.conntrackDeleted(family, entries, ms),
  });
  const committed = new Committed({ config, context, keeper });
  const reconciler = new Reconciler({ kernel: object, logger: log });
  context.metrics.dataplane.setSlots((family) => reconciler.slotsTaken(family));
  const services = new ServiceSync({
    reconciler,
    log,
    proxy,
    host,
    onReady: () => committed.ready(),
    onCommitted: (image, snapshot) => {
      committed.snapshot = snapshot;
      void stale.committed(image);
      void takeover.committed(image);
      void checks.committed(image, snapshot);
    },
    onProblems: problemWriter(config.bpfRoot, log),
    watcher: context.metrics.syncWatch,
    ...(config.settings === undefined ? {} : { syncPeriodMs: config.settings.syncPeriod }),
  });
  const checks = new HealthChecks({
    nodePortAddresses: proxy.nodePortAddresses,
    healthy: () => health.healthy,
    rules,
    log,
    onProblem: (failure) => committed.checkFailed(failure),
  });
  const tellForwarding = forwardingWriter(config.bpfRoot, keeper, () => forwarding.decision, log);
  const onLook = (error: unknown): void => {
    audit.looked(error);
    health.setDataplane(dataplaneState(keeper, error));
    tellForwarding();
  };
  const follower = new InterfaceFollower({ watcher: library, keeper, log, onLook });
  const forwarding = new Forwarding({
    setting: config.forwarding,
    log,
    obstacles: () => readObstacles(),
    generation: () =>
      [library.nftGeneration(), hostTools.legacyTables(4), hostTools.legacyTables(6)].join(" "),
    onDecision: async (decision) => {
      context.metrics.forwarding.set(decision);
      keeper.setShortcut(decision.way === "stack" ? null : { cautious: config.forwarding === "auto" });
      await follower.changed();
    },
  });
  return {
    keeper,
    mapPins: new MapPins({ library, object, pins, log, onFound: (count) => audit.pinsFound(count) }),
    follower,
    services,
    sockets: new SocketHooks({
      mode: config.socketLb,
      cgroup: config.cgroupRoot,
      kernel: socketKernel(library, object, pins),
      log,
      onFound: (hooks) => audit.socketsFound(hooks),
    }),
    stale,
    takeover,
    marks: new FlowMarks({ maps: object, others: () => otherPrograms(library, object), log }),
    rules,
    forwarding,
    checks,
  };
}

/** Writes the decision, and which interfaces are closed all the same, where `portolan interfaces` finds it: when it has changed. */
function forwardingWriter(
  bpfRoot: string,
  keeper: InterfaceKeeper,
  decision: () => ForwardingDecision | null,
  log: Logger,
): () => void {
  let written = "";
  const lane = new Lane(async () => {
    const now = decision();
    if (now === null) return;
    const closed = Array.from(keeper.closed, ([ifindex, why]) => ({ ifindex, why }));
    const text = JSON.stringify({ now, closed });
    if (text === written) return;
    await writeForwarding(bpfRoot, { decision: now, closed });
    written = text;
  });
  return () => {
    lane.request().catch((error: unknown) => {
      log.warn({ reason: errorMessage(error) }, "forwarding cannot be shown to other programs");
    });
  };
}

/** What is said about the state that the kernel holds. */
class Committed {
  /** That the kernel's image was compiled from; null: none yet. */
  snapshot: Snapshot | null = null;
  readonly #config: AgentConfig;
  readonly #context: PartsContext;
  readonly #keeper: InterfaceKeeper;

  constructor(parts: { config: AgentConfig; context: PartsContext; keeper: InterfaceKeeper }) {
    this.#config = parts.config;
    this.#context = parts.context;
    this.#keeper = parts.keeper;
  }

  ready(): void {
    const { log, object, started } = this.#context;
    const startMs = Math.round(systemClock.now() - started);
    const { mapWrites } = object.stats;
    log.info({ interfaces: this.#keeper.attachedNames, mapWrites, startMs }, "ready");
  }

  /** 13.3, 6.26. */
  checkFailed({ namespace, name, port, message }: HealthCheckFailure): void {
    const uid = this.snapshot?.services.get(`${namespace}/${name}`)?.uid ?? "";
    this.#context.events.post({
      regarding: { kind: "Service", namespace, name, uid },
      type: "Warning",
      reason: "FailedToStartServiceHealthcheck",
      action: "Listen",
      note: `node ${this.#config.nodeName} failed to start healthcheck "${namespace}/${name}" on port ${port}: ${message}`,
    });
  }
}

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
