// SPDX-License-Identifier: Apache-2.0
/**
 * Services, EndpointSlices, this Node and ServiceCIDRs of an API server, as Snapshots. Nothing is told before all of them
 * have been listed once (1.9) and the Node exists (1.8); a burst of events becomes one Snapshot. Whatever the server does,
 * the last state stays in force: only the signal, or close(), ends a source.
 */
import { sameNode } from "../../model/same-node.js";
import type { EndpointSlice, NodeInfo, Problem, Snapshot } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import { errorMessage } from "../../util/errors.js";
import type { Logger } from "../../util/log.js";
import type { Sliced } from "../../util/slices.js";
import { inSlices } from "../../util/slices.js";
import type { Timers } from "../../util/timers.js";
import { systemTimers } from "../../util/timers.js";
import type { SnapshotListener, Source } from "../source.js";
import type { NodeValue } from "./codecs.js";
import { Names, nodeCodec, serviceCidrCodec, serviceCodec, sliceCodec } from "./codecs.js";
import { PACER_BUDGET_MS, Pacer } from "./pacer.js";
import { Reflector } from "./reflector.js";
import type { ResourceName, ResourceSpec } from "./resources.js";
import { RESOURCE_NAMES, resourceSpecs } from "./resources.js";
import { SnapshotBuilder } from "./snapshot-builder.js";
import type { ResourceStats, SourceObserver } from "./stats.js";
import { ResourceCounters } from "./stats.js";
import type { Change, Codec } from "./store.js";
import { ObjectStore } from "./store.js";
import type { Transport } from "./transport.js";

/** The Node object, with what is of no concern to a compile. */
export interface NodeState {
  /** As the object last was; without addresses as long as there has been none. */
  readonly info: NodeInfo;
  /** There was a Node, and it is gone (1.16). */
  readonly deleted: boolean;
  /** 10.4: the Node is there, is not being deleted, and no autoscaler is about to. */
  readonly eligible: boolean;
  /** The Node is there now. False and not deleted: it has not been seen yet (1.8). */
  readonly exists: boolean;
}

export type NodeListener = (state: NodeState) => void;

/**
 * Hears when the changes happened that slices speak of (11.5), before the Snapshot that holds them is told. Must not throw.
 */
export interface LatencySink {
  /** `triggeredAt`: milliseconds since 1970, of endpoints.kubernetes.io/last-change-trigger-time. `service`: "namespace/name". */
  changed(service: string, family: 4 | 6, triggeredAt: number): void;
  /** A slice of it is gone: what is not yet counted for the Service counts no more. */
  deleted(service: string, family: 4 | 6): void;
}

/** Hears of each object that came, changed or went, before the Snapshot that holds it is told. Must not throw. */
export type ChangeCounter = (resource: ResourceName) => void;

export interface KubeSourceOptions {
  /** Whose node this is: metadata.name of the Node to watch. */
  readonly nodeName: string;
  /** --service-cidr: counts beside what the ServiceCIDR objects say. */
  readonly serviceCIDRs?: readonly Cidr[];
  /** Gate MultiCIDRServiceAllocator (1.6). False: ServiceCIDR objects are not asked for. @default true */
  readonly watchServiceCIDRs?: boolean;
  /** How long the first event of a burst waits for the others. Milliseconds. */
  readonly coalesceMs?: number;
  /** A list may come as a watch where the server offers that (default); false: always in pages. */
  readonly streamingLists?: boolean;
}

export interface KubeSourceDependencies {
  readonly transport: Transport;
  readonly logger: Logger;
  readonly timers?: Timers;
  /** In [0, 1). */
  readonly random?: () => number;
  readonly observer?: SourceObserver;
  readonly latency?: LatencySink;
  readonly onObjectChange?: ChangeCounter;
  /** The Snapshot that is told next holds every change that was told until now, to latency and onObjectChange. Must not throw. */
  readonly onSnapshot?: () => void;
}

const COALESCE_MS = 3;
const NO_FILES: readonly string[] = Object.freeze([]);

interface Watched {
  readonly reflector: Reflector;
  readonly counters: ResourceCounters;
  readonly store: { readonly size: number; readonly problems: readonly Problem[] };
}

export class KubeSource implements Source {
  readonly #transport: Transport;
  readonly #logger: Logger;
  readonly #timers: Timers;
  readonly #latency: LatencySink | null;
  readonly #onObjectChange: ChangeCounter;
  readonly #onSnapshot: () => void;
  readonly #coalesceMs: number;
  readonly #watched: ReadonlyMap<ResourceName, Watched>;
  readonly #builder: SnapshotBuilder;
  readonly #listeners = new Set<SnapshotListener>();
  readonly #nodeListeners = new Set<NodeListener>();
  readonly #abort = new AbortController();
  #node: NodeState;
  #running: Promise<unknown> | null = null;
  #resolveFirst: () => void = () => {};

  #snapshot: Snapshot | null = null;
  #problems: readonly Problem[] = Object.freeze([]);
  #cancelPublish: (() => void) | null = null;
  /** Something changed since the last Snapshot. */
  #dirty = false;
  #allSynced = false;
  /** Lists that are being put in their places: what there is meanwhile is half of each. */
  #commits = 0;

  constructor(options: KubeSourceOptions, dependencies: KubeSourceDependencies) {
    this.#transport = dependencies.transport;
    this.#logger = dependencies.logger;
    this.#timers = dependencies.timers ?? systemTimers;
    this.#latency = dependencies.latency ?? null;
    this.#onObjectChange = dependencies.onObjectChange ?? (() => {});
    this.#onSnapshot = dependencies.onSnapshot ?? (() => {});
    this.#coalesceMs = options.coalesceMs ?? COALESCE_MS;
    const info = Object.freeze({ name: options.nodeName, zone: "", addresses: [], podCIDRs: [] });
    this.#node = { info, deleted: false, eligible: false, exists: false };
    this.#builder = new SnapshotBuilder(info, options.serviceCIDRs ?? []);
    this.#watched = this.#watchAll(options, dependencies);
  }

  /** By resource what the last event, bookmark or list said; the last Snapshot may be older by what is being put together. */
  get resourceVersions(): Readonly<Record<string, string>> {
    return Object.fromEntries(
      Array.from(this.#watched, ([name, { reflector }]) => [name, reflector.resourceVersion]),
    );
  }

  /** The last Snapshot; null before the first. */
  get snapshot(): Snapshot | null {
    return this.#snapshot;
  }

  /** What is wrong with the objects as they are now. */
  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** The Node as it is now. */
  get node(): NodeState {
    return this.#node;
  }

  /** Every required resource has been listed once. */
  get synced(): boolean {
    return this.#allSynced;
  }

  /** Per resource, as of now. */
  stats(): readonly ResourceStats[] {
    return Array.from(this.#watched.values(), ({ reflector, counters, store }) =>
      counters.snapshot(reflector.isSynced, store.size),
    );
  }

  on(listener: SnapshotListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back with each change of the Node's state from now on, at once and before the Snapshot. Returns how to stop. */
  onNode(listener: NodeListener): () => void {
    this.#nodeListeners.add(listener);
    return () => this.#nodeListeners.delete(listener);
  }

  /**
   * Lists and watches until `signal` or close(). Resolves after the first Snapshot, which may take as long as the server is
   * not there, or without one when it was closed before.
   * @throws what the signal was aborted with, when it was before; Error when it runs already.
   */
  async start(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#running !== null) throw new Error("the source runs already");
    signal.addEventListener("abort", () => void this.close(), { once: true });
    const first = new Promise<void>((resolve) => {
      this.#resolveFirst = resolve;
    });
    const reflectors = Array.from(this.#watched.values(), ({ reflector }) => reflector);
    this.#running = Promise.all(reflectors.map((reflector) => reflector.run(this.#abort.signal)));
    this.#running.catch((error: unknown) => {
      this.#logger.error({ error: errorMessage(error), err: error }, "a reflector ended");
    });
    void Promise.all(reflectors.map(({ synced }) => synced)).then(() => this.#onSynced());
    await first;
  }

  /** Tells nothing more; resolves when no connection is in use. Idempotent. The transport's idle ones are ended too. */
  async close(): Promise<void> {
    this.#abort.abort(new Error("the source is closed"));
    this.#listeners.clear();
    this.#nodeListeners.clear();
    this.#cancelPublish?.();
    this.#cancelPublish = null;
    this.#resolveFirst();
    await this.#running?.catch(() => undefined);
    this.#transport.close();
  }

  #watchAll(
    options: KubeSourceOptions,
    dependencies: KubeSourceDependencies,
  ): ReadonlyMap<ResourceName, Watched> {
    const { nodeName } = options;
    const specs = resourceSpecs(nodeName);
    const abilities = { streamingLists: options.streamingLists ?? true };
    const pacer = new Pacer();
    const watch = <T>(spec: ResourceSpec, store: ObjectStore<T>): Watched => {
      const counters = new ResourceCounters(spec.name, this.#timers, dependencies.observer ?? {});
      const reflector = new Reflector(spec, store, {
        transport: this.#transport,
        timers: this.#timers,
        pacer,
        logger: this.#logger,
        counters,
        abilities,
        random: dependencies.random ?? Math.random,
        commit: (work) => this.#commit(work),
      });
      return { reflector, counters, store };
    };
    const keep = <T>(codec: Codec<T>, onChange: (change: Change<T>) => void): ObjectStore<T> =>
      new ObjectStore(codec, onChange, () => this.#touch());
    const services = keep(serviceCodec, ({ key, after }) => {
      this.#builder.setService(key, after);
      this.#changed("services");
    });
    const slices = keep(sliceCodec(new Names()), (change) => this.#sliceChanged(change));
    const nodes = keep(nodeCodec, (change) => this.#nodeChanged(change));
    const ranges = keep(serviceCidrCodec, ({ key, after }) => {
      this.#builder.setRanges(key, after);
      this.#changed("servicecidrs");
    });
    const watched: Readonly<Record<ResourceName, Watched>> = {
      services: watch(specs.services, services),
      endpointslices: watch(specs.endpointslices, slices),
      nodes: watch(specs.nodes, nodes),
      servicecidrs: watch(specs.servicecidrs, ranges),
    };
    const names = RESOURCE_NAMES.filter(
      (name) => name !== "servicecidrs" || options.watchServiceCIDRs !== false,
    );
    return new Map(names.map((name) => [name, watched[name]]));
  }

  #sliceChanged({ before, after, triggeredAt }: Change<EndpointSlice>): void {
    this.#builder.setSlice(before, after);
    const slice = after ?? before;
    if (slice !== null && this.#latency !== null) {
      const service = `${slice.namespace}/${slice.serviceName}`;
      if (after === null) this.#latency.deleted(service, slice.family);
      else if (triggeredAt > 0) this.#latency.changed(service, slice.family, triggeredAt);
    }
    this.#changed("endpointslices");
  }

  #nodeChanged({ key, after }: Change<NodeValue>): void {
    const { info } = this.#node;
    // The server was asked for this one only.
    if (key !== info.name) return;
    this.#node =
      after === null
        ? { info, deleted: true, eligible: false, exists: false }
        : {
            // A change of what is beside the NodeInfo leaves the Snapshot the same.
            info: sameNode(info, after.info) ? info : after.info,
            deleted: false,
            eligible: after.eligible,
            exists: true,
          };
    this.#builder.setNode(this.#node.info);
    for (const listener of this.#nodeListeners) this.#guard(() => listener(this.#node));
    this.#changed("nodes");
  }

  #changed(resource: ResourceName): void {
    this.#onObjectChange(resource);
    this.#touch();
  }

  #touch(): void {
    this.#dirty = true;
    this.#schedule();
  }

  async #commit(work: Sliced<void>): Promise<void> {
    this.#commits += 1;
    try {
      await inSlices(work, { budgetMs: PACER_BUDGET_MS });
    } finally {
      this.#commits -= 1;
      if (this.#dirty) this.#schedule();
    }
  }

  #onSynced(): void {
    this.#allSynced = true;
    if (!this.#node.exists) {
      this.#logger.warn(
        { code: "node_missing", node: this.#node.info.name },
        "the API server knows no such Node yet",
      );
    }
    this.#touch();
  }

  /** 1.8, 1.9. A Node that has gone later changes nothing here: its agent ends. */
  get #ready(): boolean {
    return this.#allSynced && this.#commits === 0 && (this.#node.exists || this.#snapshot !== null);
  }

  #schedule(): void {
    if (this.#cancelPublish !== null || !this.#ready || this.#abort.signal.aborted) return;
    this.#cancelPublish = this.#timers.after(this.#coalesceMs, () => {
      this.#cancelPublish = null;
      // A list that came in between is waited for.
      if (this.#ready) this.#publish();
    });
  }

  #publish(): void {
    if (this.#abort.signal.aborted) return;
    this.#dirty = false;
    const snapshot = this.#builder.build();
    this.#onSnapshot();
    const problems = this.#collectProblems();
    if (snapshot === this.#snapshot && problems === this.#problems) return;
    this.#snapshot = snapshot;
    this.#problems = problems;
    for (const listener of this.#listeners) this.#guard(() => listener(snapshot, problems, NO_FILES));
    this.#resolveFirst();
  }

  #collectProblems(): readonly Problem[] {
    const now = Array.from(this.#watched.values()).flatMap(({ store }) => store.problems);
    const before = this.#problems;
    const same = now.length === before.length && now.every((problem, i) => problem === before[i]);
    return same ? before : Object.freeze(now);
  }

  /** A listener's mistake is not the server's: the watch goes on. */
  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#logger.error({ error: errorMessage(error), err: error }, "a listener of the source failed");
    }
  }
}
