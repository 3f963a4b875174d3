// SPDX-License-Identifier: Apache-2.0
/** healthz and metrics as the settings have them (sections 10 and 11). */
import type { HostPort } from "../config/host-port.js";
import type { ProxySettings } from "../config/proxy-settings.js";
import { kubeProxyDocument } from "../config/write-settings.js";
import { AppError } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { productVersion } from "../util/version.js";
import { aboutNode, type EventRecorder } from "./events.js";
import { HealthServer } from "./health/health-server.js";
import type { HealthState } from "./health/health-state.js";
import type { AgentMetrics } from "./metrics/agent-metrics.js";
import { type BindAddress, bindAddressText } from "./servers/bind-address.js";
import type { BindFailure } from "./servers/kept-server.js";
import { MetricsServer } from "./servers/metrics-server.js";

/** E_SERVER_BIND: bindAddressHardFail, and a server's address cannot be had. */
export type ServerErrorCode = "E_SERVER_BIND";

export interface AgentServersOptions {
  readonly settings: ProxySettings;
  /** For /flagz. */
  readonly flags: Readonly<Record<string, string>>;
  readonly health: HealthState;
  readonly metrics: AgentMetrics;
  readonly events: EventRecorder;
  readonly log: Logger;
  /** PUT /debug/flags/v. */
  readonly setVerbosity: (level: number) => void;
  /** bindAddressHardFail (10.9, 11.6): the agent ends. */
  readonly onHardFail: (error: AppError<ServerErrorCode>) => void;
}

/** Servers that are asked for; an address that is "" asks for none. */
export class AgentServers {
  readonly #servers: readonly (HealthServer | MetricsServer)[];

  constructor({
    settings,
    flags,
    health,
    metrics,
    events,
    log,
    setVerbosity,
    onHardFail,
  }: AgentServersOptions) {
    const { healthz, metrics: metricsAddress, kubeProxy, nodeName, mode } = settings;
    const hardFail = (reason: string): ((failure: BindFailure) => void) | null =>
      kubeProxy.bindAddressHardFail
        ? ({ server, address, message }) => {
            const note = `${server}: cannot listen on ${bindAddressText(address)}: ${message}`;
            events.post({
              regarding: aboutNode(nodeName),
              type: "Warning",
              reason,
              action: "StartKubeProxy",
              note,
            });
            onHardFail(
              new AppError<ServerErrorCode>("E_SERVER_BIND", note, {
                hint: "Free the address, choose another, or unset bindAddressHardFail: then it is tried again every 5 s.",
              }),
            );
          }
        : null;
    this.#servers = [
      ...(healthz === null
        ? []
        : [
            new HealthServer({
              address: bindAddress(healthz),
              state: health,
              counter: metrics.probes,
              log,
              onHardFail: hardFail("FailedToStartProxierHealthcheck"),
            }),
          ]),
      ...(metricsAddress === null
        ? []
        : [
            new MetricsServer({
              address: bindAddress(metricsAddress),
              registry: metrics.registry,
              slis: metrics.slis,
              proxyMode: mode,
              config: () => kubeProxyDocument(kubeProxy),
              flags,
              version: productVersion(),
              profiling: kubeProxy.enableProfiling,
              setVerbosity,
              log,
              onHardFail: hardFail("FailedToStartMetricServer"),
            }),
          ]),
    ];
  }

  /** Resolves after the first attempt of each. Never rejects. */
  async start(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.start()));
  }

  async close(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.close()));
  }
}

const bindAddress = ({ address, port }: HostPort): BindAddress => ({ host: address.text, port });
