// SPDX-License-Identifier: Apache-2.0
/** What ServiceSync says of its work, handed on to everyone who wants to know: health, metrics, latency. */
import type { AuditResult } from "../../dataplane/reconciler.js";
import type { Image } from "../../image/types.js";
import type { Snapshot } from "../../model/types.js";
import type { HealthState } from "../health/health-state.js";
import type { ImageMetrics } from "./image-metrics.js";
import type { ProgrammingLatency } from "./programming-latency.js";
import type { Committed, SnapshotChanges, SyncMetrics } from "./sync-metrics.js";

/** The order for one sync: queued, started, then applied or failed. */
export interface SyncWatcher {
  /** A newer state is to be applied. Also for a change of the host. `changes`: where the source does not count objects. */
  queued(changes?: SnapshotChanges): void;
  /** A sync begins, with everything queued until now. */
  started(): void;
  /** The kernel holds this image. */
  applied(image: Image, committed: Committed): void;
  /** It is tried again. `code`: of SyncFailure, or E_SYNC for anything else. */
  failed(code: string, message: string): void;
  audited(result: AuditResult): void;
  /** What the source does not name and stays, while it is not whole; null: nothing is held back. */
  heldBack(held: { readonly servicePorts: number; readonly backends: number } | null): void;
}

export interface SyncWatchParts {
  readonly health: HealthState;
  readonly sync: SyncMetrics;
  readonly latency: ProgrammingLatency;
  readonly image: ImageMetrics;
}

export class SyncWatch implements SyncWatcher {
  readonly #parts: SyncWatchParts;

  constructor(parts: SyncWatchParts) {
    this.#parts = parts;
  }

  queued(changes?: SnapshotChanges): void {
    this.#parts.health.queued();
    this.#parts.sync.queued(changes);
  }

  started(): void {
    this.#parts.health.started();
    this.#parts.sync.started();
    this.#parts.latency.started();
  }

  applied(image: Image, committed: Committed): void {
    this.#parts.health.applied();
    this.#parts.sync.committed(committed);
    this.#parts.latency.applied();
    this.#parts.image.set(image);
  }

  failed(code: string, message: string): void {
    this.#parts.health.failed(message);
    this.#parts.sync.failed(code);
  }

  audited(result: AuditResult): void {
    this.#parts.sync.audited(result);
  }

  heldBack(held: { readonly servicePorts: number; readonly backends: number } | null): void {
    this.#parts.image.setHeldBack(held);
  }
}

/** By identity: an unchanged Service and an unchanged list of slices are the same objects in both snapshots. */
export function snapshotChanges(before: Snapshot | null, after: Snapshot): SnapshotChanges {
  return {
    services: differing(before?.services, after.services),
    endpoints: differing(before?.slices, after.slices),
  };
}

function differing<T>(before: ReadonlyMap<string, T> | undefined, after: ReadonlyMap<string, T>): number {
  if (before === after) return 0;
  let same = 0;
  let inBoth = 0;
  for (const [key, value] of after) {
    const other = before?.get(key);
    if (other === undefined) continue;
    inBoth += 1;
    if (other === value) same += 1;
  }
  return after.size + (before?.size ?? 0) - inBoth - same;
}
