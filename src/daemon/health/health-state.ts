// SPDX-License-Identifier: Apache-2.0
/**
 * Whether this proxy does its work (10.2) and whether its node may be given more of it (10.4). Fed by whoever syncs and by
 * whoever looks after the programs; asked by /healthz, /livez and the health check ports of Services (6.24).
 */
import { FAMILIES, type Family } from "../../net/ip.js";
import { systemTimers, type Timers } from "../../util/timers.js";
import { FAMILY_LABELS, type FamilyLabel } from "../metrics/family-label.js";

/** What is known of the programs and maps themselves. */
export interface DataplaneState {
  /** The programs are where packets pass. */
  readonly attached: boolean;
  /** The kernel takes writes to the maps. */
  readonly writable: boolean;
  /** For a person: which hook, which map, which error; "" when all is well. */
  readonly detail: string;
}

export interface FamilyHealth {
  readonly healthy: boolean;
  /** Of the last change that was applied: milliseconds since 1970; null: none yet. */
  readonly lastUpdated: number | null;
}

export interface HealthReport {
  readonly healthy: boolean;
  /** 10.4. */
  readonly nodeEligible: boolean;
  /** Milliseconds since 1970. */
  readonly currentTime: number;
  /** The newest of all families; null: nothing has been applied yet. */
  readonly lastUpdated: number | null;
  readonly status: Readonly<Partial<Record<FamilyLabel, FamilyHealth>>>;
  /** Why it is not healthy, for a log; "" when it is. */
  readonly reason: string;
}

export interface HealthStateOptions {
  /** The families that are proxied (13.4). @default both */
  readonly families?: readonly Family[];
  /** How long a change may wait, in milliseconds. @default 60000: twice kube-proxy's syncPeriod of 30 s */
  readonly timeoutMs?: number;
  readonly timers?: Timers;
}

/** Monotonic milliseconds; null: nothing waits. */
interface Pending {
  /** The oldest change that waits for the next sync. */
  waiting: number | null;
  /** The oldest change that the sync under way takes with it. */
  inFlight: number | null;
  lastUpdated: number | null;
}

const TIMEOUT_MS = 60_000;
const WELL: DataplaneState = { attached: true, writable: true, detail: "" };

export class HealthState {
  readonly #timers: Timers;
  readonly #timeoutMs: number;
  readonly #families: readonly Family[];
  readonly #pending: Pending = { waiting: null, inFlight: null, lastUpdated: null };
  #dataplane: DataplaneState = WELL;
  #nodeEligible = false;
  #lastFailure = "";

  constructor({
    families = FAMILIES,
    timeoutMs = TIMEOUT_MS,
    timers = systemTimers,
  }: HealthStateOptions = {}) {
    this.#timers = timers;
    this.#timeoutMs = timeoutMs;
    this.#families = families;
  }

  /** Something has changed and is to be applied. */
  queued(): void {
    this.#pending.waiting ??= this.#timers.now();
  }

  /** A sync begins, with every change that has been queued until now; later ones wait for the next. */
  started(): void {
    const state = this.#pending;
    state.inFlight = older(state.inFlight, state.waiting);
    state.waiting = null;
  }

  /** The kernel holds what the sync began with. Of a repair, which has not started(): what is queued waits on. */
  applied(): void {
    this.#pending.inFlight = null;
    this.#pending.lastUpdated = this.#timers.epoch();
    this.#lastFailure = "";
  }

  /** The sync did not succeed: what it took with it waits on, as old as it is. Also of a repair that nobody had queued. */
  failed(reason: string): void {
    const state = this.#pending;
    state.waiting = older(state.inFlight, state.waiting) ?? this.#timers.now();
    state.inFlight = null;
    this.#lastFailure = reason;
  }

  /** What the last look at the programs and maps has found. Until the first look all is well (start-up is healthy). */
  setDataplane(state: DataplaneState): void {
    this.#dataplane = state;
  }

  get dataplane(): DataplaneState {
    return this.#dataplane;
  }

  /**
   * 10.4: the Node object is known, is not being deleted, and has no taint ToBeDeletedByClusterAutoscaler of any effect.
   * False until it is said. A source without Node objects says true.
   */
  setNodeEligible(eligible: boolean): void {
    this.#nodeEligible = eligible;
  }

  get nodeEligible(): boolean {
    return this.#nodeEligible;
  }

  /** 10.2, and the dataplane is there: what /livez and serviceProxyHealthy say. */
  get healthy(): boolean {
    return dataplaneIsWell(this.#dataplane) && this.#lateMs() === null;
  }

  report(): HealthReport {
    const reasons = dataplaneIsWell(this.#dataplane) ? [] : [dataplaneReason(this.#dataplane)];
    const lateMs = this.#lateMs();
    if (lateMs !== null) reasons.push(this.#lateReason(lateMs));
    const healthy = reasons.length === 0;
    const { lastUpdated } = this.#pending;
    // Both families share each transaction: one is as well as the other.
    const status = Object.fromEntries(
      this.#families.map((family) => [FAMILY_LABELS[family], { healthy, lastUpdated }]),
    );
    return {
      healthy,
      nodeEligible: this.#nodeEligible,
      currentTime: this.#timers.epoch(),
      lastUpdated,
      status,
      reason: reasons.join("; "),
    };
  }

  /** How long the oldest change has waited, if that is too long; else null. */
  #lateMs(): number | null {
    const oldest = older(this.#pending.inFlight, this.#pending.waiting);
    const waited = oldest === null ? 0 : this.#timers.now() - oldest;
    return waited > this.#timeoutMs ? waited : null;
  }

  #lateReason(ms: number): string {
    const why = this.#lastFailure === "" ? "" : `: ${this.#lastFailure}`;
    return `a change has waited for ${Math.floor(ms / 1000)} s${why}`;
  }
}

function older(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}

const dataplaneIsWell = ({ attached, writable }: DataplaneState): boolean => attached && writable;

function dataplaneReason({ attached, writable, detail }: DataplaneState): string {
  const what = [
    ...(attached ? [] : ["programs are detached"]),
    ...(writable ? [] : ["maps are not writable"]),
  ];
  return detail === "" ? what.join(", ") : `${what.join(", ")}: ${detail}`;
}
