// SPDX-License-Identifier: Apache-2.0
import type { MapName } from "../../../abi/maps.gen.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { nodeName } from "../../node-name.js";

/** The agent's options as commander gives them. */
export interface AgentOptions {
  readonly manifests: readonly string[];
  readonly hostnameOverride?: string;
  readonly devices?: readonly string[];
  readonly podInterfaces?: readonly string[];
  readonly attach: "auto" | "tcx" | "clsact";
  readonly cgroupRoot?: string;
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

/** Runs the agent until SIGTERM or SIGINT. */
export const agent: Handler<AgentOptions> = async (options) => {
  const [{ runAgent }, { createLogger }, { abortOnSignals }, ports, { bpfRoot }, { Counters }] =
    await Promise.all([
      import("../../../daemon/run.js"),
      import("../../../daemon/log.js"),
      import("../../../daemon/signals.js"),
      import("../../../daemon/snat-ports.js"),
      import("../../../dataplane/pins.js"),
      import("../../../abi/enums.gen.js"),
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
