// SPDX-License-Identifier: Apache-2.0
/** Which way new flows of local pods take, and why. How many packets took which is in portolan_packets_total. */
import { Gauge, type Registry } from "prom-client";
import type { ForwardingDecision } from "../forwarding.js";

export class ForwardingMetrics {
  readonly #info: Gauge<"setting" | "way" | "why">;

  constructor(registry: Registry) {
    this.#info = new Gauge({
      name: "portolan_forwarding_info",
      help: "Which way new flows of local pods take: the stack, or the shortcut past it. As --forwarding sets it, and why",
      labelNames: ["setting", "way", "why"],
      registers: [registry],
    });
  }

  set({ setting, way, why }: ForwardingDecision): void {
    this.#info.reset();
    this.#info.set({ setting, way, why }, 1);
  }
}
