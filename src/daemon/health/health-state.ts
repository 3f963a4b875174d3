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
  readonly #families: ReadonlyMap<Family, Pending>;
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
    const fresh = (): Pending => ({ waiting: null, inFlight: null, lastUpdated: null });
    this.#families = new Map(families.map((family) => [family, fresh()]));
  }

  /** Something has changed and is to be applied. Without a family: in all of them. */
  queued(family?: Family): void {
    const now = this.#timers.now();
    for (const state of this.#of(family)) state.waiting ??= now;
  }

  /** A sync begins, with every change that has been queued until now; later ones wait for the next. */
  started(family?: Family): void {
    for (const state of this.#of(family)) {
      state.inFlight = older(state.inFlight, state.waiting);
      state.waiting = null;
    }
  }

  /** The kernel holds what the sync began with. Of a repair, which has not started(): what is queued waits on. */
  applied(family?: Family): void {
    const epoch = this.#timers.epoch();
    for (const state of this.#of(family)) {
      state.inFlight = null;
      state.lastUpdated = epoch;
    }
    this.#lastFailure = "";
  }

  /** The sync did not succeed: what it took with it waits on, as old as it is. Also of a repair that nobody had queued. */
  failed(reason: string, family?: Family): void {
    const now = this.#timers.now();
    for (const state of this.#of(family)) {
      state.waiting = older(state.inFlight, state.waiting) ?? now;
      state.inFlight = null;
    }
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
    if (!dataplaneIsWell(this.#dataplane)) return false;
    const now = this.#timers.now();
    for (const state of this.#families.values()) if (this.#late(state, now)) return false;
    return true;
  }

  report(): HealthReport {
    const now = this.#timers.now();
    const well = dataplaneIsWell(this.#dataplane);
    const reasons = well ? [] : [dataplaneReason(this.#dataplane)];
    const status: Partial<Record<FamilyLabel, FamilyHealth>> = {};
    let lastUpdated: number | null = null;
    for (const [family, state] of this.#families) {
      const label = FAMILY_LABELS[family];
      const late = this.#late(state, now);
      if (late) reasons.push(this.#lateReason(label, state, now));
      status[label] = { healthy: well && !late, lastUpdated: state.lastUpdated };
      if (state.lastUpdated !== null) lastUpdated = Math.max(lastUpdated ?? 0, state.lastUpdated);
    }
    return {
      healthy: reasons.length === 0,
      nodeEligible: this.#nodeEligible,
      currentTime: this.#timers.epoch(),
      lastUpdated,
      status,
      reason: reasons.join("; "),
    };
  }

  #late({ waiting, inFlight }: Pending, now: number): boolean {
    const oldest = older(inFlight, waiting);
    return oldest !== null && now - oldest > this.#timeoutMs;
  }

  #lateReason(label: FamilyLabel, { waiting, inFlight }: Pending, now: number): string {
    const seconds = Math.floor((now - (older(inFlight, waiting) ?? now)) / 1000);
    const why = this.#lastFailure === "" ? "" : `: ${this.#lastFailure}`;
    return `${label}: a change has waited for ${seconds} s${why}`;
  }

  #of(family: Family | undefined): Iterable<Pending> {
    if (family === undefined) return this.#families.values();
    const state = this.#families.get(family);
    return state === undefined ? [] : [state];
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
