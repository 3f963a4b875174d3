// SPDX-License-Identifier: Apache-2.0
/** Where Services come from: files (file/) or an API server (kube/). */
import type { Problem, Snapshot } from "../model/types.js";

/**
 * Hears of each new state, whole. `lacking`: what the snapshot may not hold all of (names of files); empty: it is complete,
 * and what it does not name does not exist.
 */
export type SnapshotListener = (
  snapshot: Snapshot,
  problems: readonly Problem[],
  lacking: readonly string[],
) => void;

export interface Source {
  /** Each listener hears of every state from now on, in order. Returns how to stop. */
  on(listener: SnapshotListener): () => void;
  /** Resolves when the first state has been told. Ends with the signal; a failure that passes is no reason to reject. */
  start(signal: AbortSignal): Promise<void>;
  /** Tells nothing more; resolves when nothing is left open. */
  close(): Promise<void>;
}
