// SPDX-License-Identifier: Apache-2.0
/**
 * Which way new flows of local pods take: the stack, or the shortcut past it. With `auto` that is decided from what is there, and
 * anew when it changes: nftables' rules have a number that is asked for every second, everything else is read with each audit.
 */
import { errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import type { ForwardingSetting } from "./kernel-options.js";

export type ForwardingWay = "stack" | "shortcut";

export interface ForwardingDecision {
  readonly setting: ForwardingSetting;
  readonly way: ForwardingWay;
  /** In words, for people. */
  readonly why: string;
}

/** @param obstacles what the shortcut would pass by; only `auto` asks */
export function decideForwarding(
  setting: ForwardingSetting,
  obstacles: readonly string[],
): ForwardingDecision {
  if (setting === "stack") return { setting, way: "stack", why: "as it is set" };
  if (setting === "redirect")
    return { setting, way: "shortcut", why: "as it is set, whatever rules FORWARD has" };
  const [first, ...others] = obstacles;
  if (first === undefined)
    return { setting, way: "shortcut", why: "no rule, policy or route of this host would be missed" };
  return { setting, way: "stack", why: others.length === 0 ? first : `${first}; and ${others.length} more` };
}

export interface ForwardingDependencies {
  readonly setting: ForwardingSetting;
  readonly log: Logger;
  /** What is in the way. */
  readonly obstacles: () => Promise<readonly string[]>;
  /** Differs when rules may have changed. Cheap. */
  readonly generation: () => string;
  /** A decision that differs from the last one. It holds from when this has resolved. */
  readonly onDecision: (decision: ForwardingDecision) => Promise<void>;
  /** Milliseconds. @default 1,000 */
  readonly pollMs?: number;
}

const POLL_MS = 1_000;

export class Forwarding {
  readonly #dependencies: ForwardingDependencies;
  readonly #lane = new Lane(() => this.#look());
  #decision: ForwardingDecision | null = null;
  #generation: string | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(dependencies: ForwardingDependencies) {
    this.#dependencies = dependencies;
  }

  /** The last one; null before the first. */
  get decision(): ForwardingDecision | null {
    return this.#decision;
  }

  /** Decides, and with `auto` goes on looking. Never rejects. */
  async start(): Promise<void> {
    const { setting, pollMs = POLL_MS } = this.#dependencies;
    await this.look();
    if (setting !== "auto" || this.#timer !== null) return;
    this.#timer = setInterval(() => this.#poll(), pollMs);
    this.#timer.unref();
  }

  /** Looks now at everything. Never rejects. */
  async look(): Promise<void> {
    await this.#lane.request();
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await this.#lane.idle();
  }

  #poll(): void {
    if (this.#lane.busy || this.#ask() === this.#generation) return;
    void this.look();
  }

  /** What cannot be asked for differs from everything: it is looked at. */
  #ask(): string | null {
    try {
      return this.#dependencies.generation();
    } catch {
      return null;
    }
  }

  async #look(): Promise<void> {
    const { setting, obstacles, onDecision, log } = this.#dependencies;
    // Before the rules are read: a change meanwhile is seen by the next poll.
    this.#generation = this.#ask() ?? "unknown";
    const found =
      setting === "auto" ? await obstacles().catch((error: unknown) => [errorMessage(error)]) : [];
    const decision = decideForwarding(setting, found);
    const before = this.#decision;
    if (before?.way === decision.way && before.why === decision.why) return;
    this.#decision = decision;
    const fields = { setting, way: decision.way, why: decision.why };
    if (before?.way !== decision.way) log.info(fields, "forwarding of new flows");
    await onDecision(decision).catch((error: unknown) => {
      this.#decision = null; // the next look tells it again
      log.warn({ ...fields, reason: errorMessage(error) }, "forwarding cannot be changed");
    });
  }
}
