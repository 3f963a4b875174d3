// SPDX-License-Identifier: Apache-2.0
/** The node agent: everything is built and wired here, and ends with one AbortSignal. */
import { type Stats, statSync } from "node:fs";
import type { MapName } from "../abi/maps.gen.js";
import { InterfaceKeeper } from "../dataplane/attach.js";
import type { InterfaceOptions } from "../dataplane/interfaces.js";
import { DEFAULT_BPFFS, layoutDirectory, refuseOtherLayouts } from "../dataplane/pins.js";
import { Reconciler } from "../dataplane/reconciler.js";
import type { HookMode } from "../native/hooks.js";
import { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import { FileSource } from "../source/file/file-source.js";
import { systemClock } from "../util/clock.js";
import { errorMessage, UserError } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { NativeHooks, readLinks } from "./hooks.js";
import { checkBridgeNetfilter } from "./host-checks.js";
import { bridgeNetfilter, bridgesWithPorts, findInvalidDrops, localPortRange } from "./host-facts.js";
import { InterfaceFollower } from "./interface-follower.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "./kernel-config.js";
import { onlyOne } from "./only-one.js";
import { ServiceSync } from "./service-sync.js";
import { NODE_PORTS, type PortRange, rangeText, usablePorts } from "./snat-ports.js";

export interface AgentConfig {
  /** Directories and files of manifests; "-" is standard input, read once. */
  readonly manifests: readonly string[];
  readonly nodeName: string;
  readonly bpfRoot: string;
  readonly interfaces: InterfaceOptions;
  readonly attach: HookMode;
  readonly snatRanges: readonly PortRange[];
  /** max_entries where it differs from the default. */
  readonly maxEntries: Readonly<Partial<Record<MapName, number>>>;
  readonly auditSeconds: number;
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
  log: Logger,
): Promise<LoadedObject> {
  if (config.bpfRoot.startsWith(`${DEFAULT_BPFFS}/`) && library.mountBpffs(DEFAULT_BPFFS)) {
    log.info({ path: DEFAULT_BPFFS }, "bpf file system mounted");
  }
  refuseOtherLayouts(
    config.bpfRoot,
    "An upgrade between these layouts is not possible yet: portolan cleanup first.",
  );
  return await library.open({
    pins,
    config: kernelConfig(snatRanges(config, log), DEFAULT_TIMEOUTS),
    maxEntries: config.maxEntries,
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
  const library = new NativeLibrary();
  const object = await openObject(library, pins, config, log);
  const hooks = new NativeHooks(library, object, pins);
  const keeper = new InterfaceKeeper(config.attach, config.interfaces, { hooks, maps: object, log });
  const follower = new InterfaceFollower({ watcher: library, keeper, log });
  const services = new ServiceSync({
    reconciler: new Reconciler({ kernel: object, logger: log }),
    log,
    onReady: () => {
      const startMs = Math.round(systemClock.now() - started);
      log.info({ interfaces: keeper.attachedNames, mapWrites: object.stats.mapWrites, startMs }, "ready");
    },
  });
  const source = new FileSource(
    { paths: config.manifests, nodeName: config.nodeName },
    { logger: log, clock: systemClock },
  );
  const audit = setInterval(() => {
    void follower.look(true);
    services.audit().catch((error: unknown) => log.error({ err: error }, "audit failed"));
  }, config.auditSeconds * 1000);
  try {
    log.info({ node: config.nodeName, manifests: config.manifests, pins }, "starting");
    library.sweep(pins); // links of interfaces that went while no agent ran
    await follower.start();
    warnOfBridges(library, log).catch((error: unknown) =>
      log.warn({ reason: errorMessage(error) }, "host check"),
    );
    source.on((snapshot, _problems, lacking) => services.publish(snapshot, lacking));
    if (!signal.aborted) await source.start(signal);
    await aborted(signal);
  } finally {
    clearInterval(audit);
    await source.close();
    await services.stop();
    await follower.stop();
    await object.close();
  }
}
