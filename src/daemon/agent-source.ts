// SPDX-License-Identifier: Apache-2.0
/** Where the cluster is read from: manifests, or an API server. The Kubernetes client is loaded for the latter only. */
import type { Problem, Snapshot } from "../model/types.js";
import { FileSource } from "../source/file/file-source.js";
import type { KubeSource } from "../source/kube/kube-source.js";
import type { ApiRequest, Transport } from "../source/kube/transport.js";
import type { Source } from "../source/source.js";
import { systemClock } from "../util/clock.js";
import { errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";
import { systemTimers } from "../util/timers.js";
import { productVersion } from "../util/version.js";
import type { AgentConfig } from "./agent-config.js";
import type { AgentMetrics } from "./metrics/agent-metrics.js";

/** A source, and the last state that it has told. */
export interface StatefulSource extends Source {
  readonly snapshot: Snapshot | null;
  readonly problems: readonly Problem[];
  /** Absent: it is always whole. */
  readonly lacking?: readonly string[];
}

/** The API server behind a source. */
export interface ApiServer {
  readonly source: KubeSource;
  /** Where connections go: the server, or the proxy in front of it. */
  readonly servers: readonly string[];
  /** Of the last request that failed; null when the last one did not. */
  readonly lastError: () => string | null;
  /** One request whose answer does not matter: of an event. */
  readonly send: (request: ApiRequest, signal: AbortSignal) => Promise<unknown>;
  /** Its Kubernetes release, such as "v1.36.1"; null when it does not say. Rejects as any request. */
  readonly version: (signal: AbortSignal) => Promise<string | null>;
}

export interface AgentSource {
  readonly source: StatefulSource;
  /** Null: files are read. */
  readonly api: ApiServer | null;
}

const VERSION_MS = 10_000;

/**
 * Makes the source, and starts nothing.
 *
 * @throws KubeConfigError when there is no way to the API server
 */
export async function makeSource(
  config: AgentConfig,
  metrics: AgentMetrics,
  log: Logger,
): Promise<AgentSource> {
  const { manifests: paths, nodeName, proxy, settings } = config;
  const { serviceCIDRs } = proxy;
  if (paths.length > 0 || settings === undefined) {
    const source = new FileSource({ paths, nodeName, serviceCIDRs }, { logger: log, clock: systemClock });
    return { source, api: null };
  }
  const [{ KubeSource }, { loadKubeConnection }, { createTransport }] = await Promise.all([
    import("../source/kube/kube-source.js"),
    import("../source/kube/kubeconfig.js"),
    import("../source/kube/transport.js"),
  ]);
  const { api } = settings;
  const connection = await loadKubeConnection(
    { kubeconfig: api.kubeconfig ?? "", master: api.master ?? "" },
    { logger: log, timers: systemTimers },
  );
  const observer = metrics.source;
  const options = { version: productVersion(), timers: systemTimers, observer };
  const remembering = new RememberingTransport(createTransport(connection, options));
  const source = new KubeSource(
    { nodeName, serviceCIDRs, watchServiceCIDRs: settings.watchServiceCIDRs },
    {
      transport: remembering,
      logger: log,
      observer,
      latency: metrics.latency,
      onObjectChange: (resource) => metrics.sync.objectChanged(resource),
      onSnapshot: () => {
        metrics.latency.published();
        metrics.sync.published();
      },
    },
  );
  metrics.source.setStats(() => source.stats());
  return {
    source,
    api: {
      source,
      servers: [connection.proxy ?? connection.server],
      lastError: () => remembering.lastError,
      send: (request, signal) => remembering.json(request, signal),
      version: async (signal) => {
        const times = { headersMs: VERSION_MS, idleMs: VERSION_MS, totalMs: VERSION_MS };
        const answer = await remembering.json({ path: "/version", ...times }, signal);
        const { gitVersion } = (answer ?? {}) as { gitVersion?: unknown };
        return typeof gitVersion === "string" ? gitVersion : null;
      },
    },
  };
}

/** Knows what the last request came to: for the message of an agent that gives up (1.8). */
class RememberingTransport implements Transport {
  readonly #inner: Transport;
  lastError: string | null = null;

  constructor(inner: Transport) {
    this.#inner = inner;
  }

  open(...request: Parameters<Transport["open"]>): ReturnType<Transport["open"]> {
    return this.#remember(this.#inner.open(...request));
  }

  json(...request: Parameters<Transport["json"]>): ReturnType<Transport["json"]> {
    return this.#remember(this.#inner.json(...request));
  }

  close(): void {
    this.#inner.close();
  }

  async #remember<T>(request: Promise<T>): Promise<T> {
    try {
      const answer = await request;
      this.lastError = null;
      return answer;
    } catch (error) {
      this.lastError = errorMessage(error);
      throw error;
    }
  }
}
