// SPDX-License-Identifier: Apache-2.0
import { type Stats, statSync, writeFileSync } from "node:fs";
import { flowEventCodec } from "../../../abi/layout.gen.js";
import type { MapName } from "../../../abi/maps.gen.js";
import type { PortolanConfiguration } from "../../../config/kube-proxy-configuration.js";
import type { ProxySettings } from "../../../config/proxy-settings.js";
import type { AgentConfig } from "../../../daemon/run.js";
import { findCgroup2 } from "../../../native/paths.js";
import { AppError, errorMessage, UserError } from "../../../util/errors.js";
import type { Logger } from "../../../util/log.js";
import type { CommonOptions, Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import type { Printer } from "../../output.js";
import type { CleanupOptions } from "../cleanup/handler.js";
import { flagTexts, givenFlags } from "./flags.js";
import { readSettings } from "./read-settings.js";

/** What commander gives beside the flags of the tables. */
export interface AgentOptions {
  readonly manifests?: readonly string[];
}

/** Each record of a ring buffer has a header of this many bytes, and begins at a multiple of it. */
const RING_HEADER = 8;
const PAGE = 4096;

/** The size of a ring buffer for so many events: a power of two, and whole pages. */
function ringBytes(events: number): number {
  return Math.max(PAGE, 2 ** Math.ceil(Math.log2(events * (flowEventCodec.size + RING_HEADER))));
}

/** Sizes by map: those of one family hold for both. */
function maxEntries(maps: PortolanConfiguration["maps"], serviceBase: number): AgentConfig["maxEntries"] {
  const { services, frontends, backends, slots, nat, events } = maps;
  const sizes: Readonly<Partial<Record<MapName, number>>> = {
    services,
    counters: services === 0 ? 0 : serviceBase + services,
    frontends4: frontends,
    frontends6: frontends,
    backends4: backends,
    backends6: backends,
    backend_stats4: backends,
    backend_stats6: backends,
    slots4: slots,
    slots6: slots,
    nat4: nat,
    nat6: nat,
    service_drops: services,
    events: events === 0 ? 0 : ringBytes(events),
  };
  return Object.fromEntries(Object.entries(sizes).filter(([, size]) => size !== 0));
}

/**
 * `--cgroup-root`, or the cgroup v2 file system that is mounted; null: there is none.
 *
 * @throws UserError when the directory that was given is not there
 */
export function cgroupRoot(given: string | undefined): string | null {
  if (given === undefined) return findCgroup2();
  const found: Stats | undefined = statSync(given, { throwIfNoEntry: false });
  if (found === undefined) throw new UserError(`--cgroup-root: ${given} does not exist`);
  if (!found.isDirectory()) throw new UserError(`--cgroup-root: ${given} is no directory`);
  return given;
}

/**
 * Where the cluster is read from is one of files and an API server.
 *
 * @throws UserError when both are named, or nothing is and this is no pod
 */
export function checkSource(
  manifests: readonly string[],
  { api, configFile }: Pick<ProxySettings, "api" | "configFile">,
  env: Readonly<Record<string, string | undefined>>,
): void {
  if (manifests.length > 0) {
    // A file for kube-proxy names a kubeconfig: it may be tried out on manifests.
    const other =
      api.master === null
        ? configFile === null && api.kubeconfig !== null
          ? "--kubeconfig"
          : null
        : "--master";
    if (other !== null)
      throw new UserError(`--manifests cannot stand beside ${other}: choose files or an API server`);
    return;
  }
  if (api.kubeconfig !== null || api.master !== null || env.KUBERNETES_SERVICE_HOST) return;
  throw new UserError("nothing says where the cluster's Services are to be read", {
    hint: "Give --kubeconfig, --master, a --config with clientConnection.kubeconfig, or --manifests; in a pod none of them is needed.",
  });
}

/**
 * What the agent is made of, from its settings.
 *
 * @throws UserError for source ports that are none, and for a cgroup directory that is not there
 */
export async function agentConfig(
  options: AgentOptions & Pick<CommonOptions, "bpfRoot">,
  settings: ProxySettings,
  fileText: string | null,
): Promise<AgentConfig> {
  const [ports, { bpfRoot }, { Counters }] = await Promise.all([
    import("../../../daemon/snat-ports.js"),
    import("../../../dataplane/pins.js"),
    import("../../../abi/enums.gen.js"),
  ]);
  const { portolan } = settings;
  return {
    manifests: options.manifests ?? [],
    settings,
    flags: givenFlags(options),
    configFileText: fileText,
    nodeName: settings.nodeName,
    bpfRoot: bpfRoot(options.bpfRoot),
    interfaces: { devices: portolan.devices, podInterfaces: portolan.podInterfaces },
    attach: portolan.attach,
    xdp: portolan.xdp,
    snatRanges: ports.parsePortRanges(portolan.snatPorts),
    maxEntries: maxEntries(portolan.maps, Counters.SERVICE_BASE),
    auditSeconds: settings.auditPeriod / 1000,
    proxy: settings.proxy,
    socketLb: portolan.socketLB,
    forwarding: portolan.forwarding,
    cgroupRoot: cgroupRoot(portolan.cgroupRoot || undefined),
    resetRemovedBackends: portolan.resetRemovedBackends,
    markBit: portolan.forwardMarkBit,
    masqueradeBit: (settings.mode === "nftables" ? settings.kubeProxy.nftables : settings.kubeProxy.iptables)
      .masqueradeBit,
    forwardRules: portolan.forwardRules,
  };
}

/** --write-config-to (12.4). */
async function writeConfig(settings: ProxySettings, path: string): Promise<ExitCode> {
  const { writeSettings } = await import("../../../config/write-settings.js");
  try {
    writeFileSync(path, writeSettings(settings));
  } catch (error) {
    throw new AppError(
      "E_WRITE_CONFIG",
      `--write-config-to: ${path} cannot be written: ${errorMessage(error)}`,
    );
  }
  process.stderr.write(`portolan: settings written to ${path}\n`);
  return ExitCode.ok;
}

/**
 * --cleanup (12.5): ours, and then what a kube-proxy of any mode has left, also when the first fails.
 *
 * @param cleanup `portolan cleanup`
 * @returns the first status that is not ok
 */
export async function cleanUp(
  cleanup: Handler<CleanupOptions>,
  options: CommonOptions,
  printer: Printer,
): Promise<ExitCode> {
  let own: ExitCode = ExitCode.failure;
  try {
    own = await cleanup(options, printer, []);
  } finally {
    const theirs = await cleanup({ ...options, kubeProxy: true }, printer, []);
    if (own === ExitCode.ok) own = theirs;
  }
  return own;
}

/** Runs the agent until SIGTERM or SIGINT, or does what one of kube-proxy's flags for something else asks for. */
export const agent: Handler<AgentOptions> = async (options, printer) => {
  const { settings, fileText } = await readSettings(flagTexts(options));
  switch (settings.action) {
    case "write-config":
      return await writeConfig(settings, settings.writeConfigTo ?? "");
    case "cleanup":
      return await cleanUp((await import("../cleanup/handler.js")).cleanup, options, printer);
    case "init-only":
    case "run":
      return await runUntilSignal(options, settings, fileText);
  }
};

async function runUntilSignal(
  options: AgentOptions & CommonOptions,
  settings: ProxySettings,
  fileText: string | null,
): Promise<ExitCode> {
  if (settings.action === "run") checkSource(options.manifests ?? [], settings, process.env);
  const [{ runAgent }, { createLogger }, { LogTail }, { abortOnSignals }, config] = await Promise.all([
    import("../../../daemon/run.js"),
    import("../../../daemon/log.js"),
    import("../../../daemon/log-tail.js"),
    import("../../../daemon/signals.js"),
    agentConfig(options, settings, fileText),
  ]);
  const log = createLogger(settings.logLevel, 2, new LogTail(config.bpfRoot));
  // What nobody catches ends the agent as it ends any program; its last line is JSON like the others.
  process.on("uncaughtExceptionMonitor", (err) => log.error({ err }, "unexpected error"));
  tellWarnings(settings, log);
  const controller = new AbortController();
  const release = abortOnSignals(controller, log);
  try {
    // 1.16, 12.3: ended by itself, and to be started again.
    const end = await runAgent(config, log, controller.signal);
    return end === "stopped" ? ExitCode.ok : ExitCode.finding;
  } finally {
    release();
  }
}

function tellWarnings({ warnings, configFile }: ProxySettings, log: Logger): void {
  for (const { code, name, line, message } of warnings) {
    log.warn(
      { code, name, ...(line === null ? {} : { file: configFile, line }), problem: message },
      "setting",
    );
  }
}
