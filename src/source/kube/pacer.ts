// SPDX-License-Identifier: Apache-2.0
/**
 * Work that comes in with the network, in turns of a few milliseconds. Many chunks may arrive in one turn of the event loop,
 * on several connections: they share one budget.
 */
import { nextTurn } from "../../util/slices.js";

/** Each object may overrun it; the largest take some 20 ms. */
export const PACER_BUDGET_MS = 5;

export class Pacer {
  #turnBegan = 0;

  /** True when others are to have their turn: then `await pause()`. */
  get due(): boolean {
    return performance.now() - this.#turnBegan >= PACER_BUDGET_MS;
  }

  /** Resolves in another turn of the event loop. */
  async pause(): Promise<void> {
    await nextTurn();
    this.#turnBegan = performance.now();
  }
}
