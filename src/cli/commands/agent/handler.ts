// SPDX-License-Identifier: Apache-2.0
import { type Stats, statSync } from "node:fs";
import type { MapName } from "../../../abi/maps.gen.js";
import type { ProxyOptionTexts } from "../../../config/proxy-options.js";
import { findCgroup2 } from "../../../native/paths.js";
import { UserError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { nodeName } from "../../node-name.js";

/** The agent's options as commander gives them. */
export interface AgentOptions extends ProxyOptionTexts {
  readonly manifests: readonly string[];
  readonly hostnameOverride?: string;
  readonly devices?: readonly string[];
  readonly podInterfaces?: readonly string[];
  readonly attach: "auto" | "tcx" | "clsact";
  readonly socketLb: "full" | "host-only" | "off";
  readonly cgroupRoot?: string;
  readonly resetRemovedBackends: boolean;
  readonly forwardMarkBit: number;
  readonly iptablesMasqueradeBit: number;
  readonly forwardRules: boolean;
  readonly snatPorts?: string;
  readonly maxServices?: number;
  readonly maxFrontends?: number;
  readonly maxBackends?: number;
  readonly maxSlots?: number;
  readonly maxNat?: number;
  readonly auditInterval: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

/** Sizes by map: those of one family hold for both. */
function maxEntries(options: AgentOptions, serviceBase: number): Partial<Record<MapName, number>> {
  const { maxServices, maxFrontends, maxBackends, maxSlots, maxNat } = options;
  return {
    ...(maxServices === undefined ? {} : { services: maxServices, counters: serviceBase + maxServices }),
    ...(maxFrontends === undefined ? {} : { frontends4: maxFrontends, frontends6: maxFrontends }),
    ...(maxBackends === undefined
      ? {}
      : {
          backends4: maxBackends,
          backends6: maxBackends,
          backend_stats4: maxBackends,
          backend_stats6: maxBackends,
        }),
    ...(maxSlots === undefined ? {} : { slots4: maxSlots, slots6: maxSlots }),
    ...(maxNat === undefined ? {} : { nat4: maxNat, nat6: maxNat }),
  };
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

/** Runs the agent until SIGTERM or SIGINT. */
export const agent: Handler<AgentOptions> = async (options) => {
  const [
    { runAgent },
    { createLogger },
    { abortOnSignals },
    ports,
    { bpfRoot },
    { Counters },
    { parseProxyOptions },
  ] = await Promise.all([
    import("../../../daemon/run.js"),
    import("../../../daemon/log.js"),
    import("../../../daemon/signals.js"),
    import("../../../daemon/snat-ports.js"),
    import("../../../dataplane/pins.js"),
    import("../../../abi/enums.gen.js"),
    import("../../../config/proxy-options.js"),
  ]);
  const config = {
    manifests: options.manifests,
    nodeName: nodeName(options.hostnameOverride, "--hostname-override"),
    bpfRoot: bpfRoot(options.bpfRoot),
    interfaces: { devices: options.devices ?? [], podInterfaces: options.podInterfaces ?? [] },
    attach: options.attach,
    snatRanges:
      options.snatPorts === undefined ? ports.DEFAULT_SNAT_RANGES : ports.parsePortRanges(options.snatPorts),
    maxEntries: maxEntries(options, Counters.SERVICE_BASE),
    auditSeconds: options.auditInterval,
    proxy: parseProxyOptions(options),
    socketLb: options.socketLb,
    cgroupRoot: cgroupRoot(options.cgroupRoot),
    resetRemovedBackends: options.resetRemovedBackends,
    markBit: options.forwardMarkBit,
    masqueradeBit: options.iptablesMasqueradeBit,
    forwardRules: options.forwardRules,
  };
  const log = createLogger(options.logLevel);
  // What nobody catches ends the agent as it ends any program; its last line is JSON like the others.
  process.on("uncaughtExceptionMonitor", (err) => log.error({ err }, "unexpected error"));
  const controller = new AbortController();
  const release = abortOnSignals(controller, log);
  try {
    await runAgent(config, log, controller.signal);
  } finally {
    release();
  }
  return ExitCode.ok;
};
