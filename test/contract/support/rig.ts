// SPDX-License-Identifier: Apache-2.0
/** A source before an API server of the test's own, on fake time, with everything that it says kept. */
import { EventEmitter, once } from "node:events";
import type { TestContext } from "node:test";
import type { Problem, Snapshot } from "../../../src/model/types.js";
import {
  KubeSource,
  type KubeSourceDependencies,
  type KubeSourceOptions,
  type NodeState,
} from "../../../src/source/kube/kube-source.js";
import { type KubeConnection, loadKubeConnection } from "../../../src/source/kube/kubeconfig.js";
import type { ResourceName } from "../../../src/source/kube/resources.js";
import type { ResourceStats } from "../../../src/source/kube/stats.js";
import { createTransport, type Transport } from "../../../src/source/kube/transport.js";
import type { Logger } from "../../../src/util/log.js";
import { FakeApi, type FakeApiOptions } from "../../support/apiserver/fake-api.js";
import { endpointSlice, type KubeObject, service } from "../../support/manifests.js";
import { FakeTimers } from "./fake-timers.js";

export interface Line {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Only so that a test which waits in vain says for what: no machine is so slow. */
const PATIENCE_MS = 180_000;

export class Rig {
  readonly api: FakeApi;
  readonly timers: FakeTimers = new FakeTimers();
  readonly lines: Line[] = [];
  readonly snapshots: Snapshot[] = [];
  problems: readonly Problem[] = [];
  readonly nodes: NodeState[] = [];
  /** Codes of all requests so far. */
  readonly codes: string[] = [];
  readonly triggers: string[] = [];
  readonly changes: ResourceName[] = [];
  connection!: KubeConnection;
  transport!: Transport;
  source!: KubeSource;
  readonly abort: AbortController = new AbortController();
  /** Of start(). */
  started: Promise<void> = Promise.resolve();
  readonly #events = new EventEmitter();

  private constructor(api: FakeApi) {
    this.api = api;
    this.#events.setMaxListeners(0);
  }

  /** A server with a Node, and a source that is not started. Both end with the test. */
  static async make(
    t: TestContext,
    api: FakeApiOptions = {},
    options: Partial<KubeSourceOptions> = {},
    dependencies: Partial<KubeSourceDependencies> = {},
  ): Promise<Rig> {
    const rig = new Rig(await FakeApi.start({ bookmarkMs: 0, ...api }));
    t.after(async () => {
      await rig.source?.close();
      await rig.api.close();
    });
    rig.api.create(nodeObject());
    await rig.#build(options, dependencies);
    return rig;
  }

  async #build(
    options: Partial<KubeSourceOptions>,
    dependencies: Partial<KubeSourceDependencies>,
  ): Promise<void> {
    const { timers, logger } = this;
    const kubeconfig = this.api.kubeconfig({ tokenFile: true });
    this.connection = await loadKubeConnection({ kubeconfig, master: "" }, { logger, timers });
    const observer = { request: (_m: string, _h: string, code: string) => this.#keep(this.codes, code) };
    this.transport = createTransport(this.connection, { version: "0.1.0", timers, observer });
    this.source = new KubeSource(
      { nodeName: "node-a", ...options },
      {
        transport: this.transport,
        logger,
        timers,
        random: () => 0.5,
        onObjectChange: (resource) => void this.changes.push(resource),
        latency: {
          changed: (name, family, at) => void this.triggers.push(`${name} ${family} ${at}`),
          deleted: (name, family) => void this.triggers.push(`${name} ${family} deleted`),
        },
        ...dependencies,
      },
    );
    this.source.on((snapshot, problems) => {
      this.problems = problems;
      this.#keep(this.snapshots, snapshot);
    });
    this.source.onNode((state) => this.#keep(this.nodes, state));
  }

  #keep<T>(list: T[], item: T): void {
    list.push(item);
    this.#events.emit("change");
  }

  get logger(): Logger {
    const write =
      (level: Line["level"]) =>
      (fields: Readonly<Record<string, unknown>>, message: string): void =>
        this.#keep(this.lines, { level, message, fields });
    return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  }

  /** Starts, and waits for the first Snapshot. */
  async start(): Promise<void> {
    this.begin();
    await this.until("all resources are listed", () => this.source.synced);
    await this.publish();
    await this.started;
  }

  /** Starts only. */
  begin(): void {
    this.started = this.source.start(this.abort.signal);
    this.started.catch(() => undefined);
  }

  /** Lets the burst of now become a Snapshot. */
  async publish(): Promise<void> {
    await this.timers.advance(10);
  }

  /** Waits for a log line, a Snapshot, an answer, or something that the server sees. */
  async until(what: string, holds: () => boolean): Promise<void> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (!holds()) {
      const changed = new AbortController();
      try {
        await Promise.race([
          once(this.#events, "change", { signal: AbortSignal.any([signal, changed.signal]) }),
          this.api.until("", () => false, 5).catch(() => undefined),
        ]);
      } catch {
        const last = this.lines
          .slice(-8)
          .map((line) => `  ${line.level} ${line.message} ${JSON.stringify(line.fields)}`);
        throw new Error(`not within ${PATIENCE_MS} ms: ${what}\n${last.join("\n")}`);
      } finally {
        changed.abort();
      }
    }
  }

  /** Waits until a change in the API has come to the newest Snapshot, and returns that. */
  async snapshot(what: string, holds: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
    const newest = (): Snapshot | undefined => this.snapshots.at(-1);
    const signal = AbortSignal.timeout(PATIENCE_MS);
    for (;;) {
      const found = newest();
      if (found !== undefined && holds(found)) return found;
      if (signal.aborted) throw new Error(`no Snapshot in which ${what}`);
      await this.publish();
    }
  }

  logged(message: string, resource?: ResourceName): readonly Line[] {
    return this.lines.filter(
      (line) => line.message === message && (resource === undefined || line.fields.resource === resource),
    );
  }

  stats(resource: ResourceName): ResourceStats {
    const found = this.source.stats().find((each) => each.resource === resource);
    if (found === undefined) throw new Error(`no statistics of ${resource}`);
    return found;
  }

  /** Lines that speak of trouble. */
  get troubles(): readonly Line[] {
    return this.lines.filter(({ level }) => level === "warn" || level === "error");
  }

  /** Watches of all four resources are open. */
  async watching(): Promise<void> {
    for (const resource of ["services", "endpointslices", "nodes", "servicecidrs"] as const) {
      await this.api.watched(resource);
    }
  }
}

export function nodeObject(more: Readonly<Record<string, unknown>> = {}): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "node-a", labels: { "topology.kubernetes.io/zone": "zone-1" } },
    spec: {},
    status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] },
    ...more,
  } as KubeObject;
}

/** Service number `i`. */
export function numbered(i: number, labels: Readonly<Record<string, string>> = {}): KubeObject {
  const made = service(`web-${i}`, [`10.96.${i >> 8}.${i & 255}`], [{ name: "http", port: 80 }]);
  return { ...made, metadata: { ...made.metadata, labels } };
}

/** Its slice of so many endpoints. */
export function sliceOf(i: number, endpoints = 2, trigger?: string): KubeObject {
  const addresses = Array.from({ length: endpoints }, (_, n) => {
    const number = i * endpoints + n;
    return `10.${(number >> 16) + 1}.${(number >> 8) & 255}.${number & 255}`;
  });
  const made = endpointSlice(`web-${i}`, addresses, [{ name: "http", port: 8080 }]);
  if (trigger === undefined) return made;
  const annotations = { "endpoints.kubernetes.io/last-change-trigger-time": trigger };
  return { ...made, metadata: { ...made.metadata, annotations } } as KubeObject;
}
