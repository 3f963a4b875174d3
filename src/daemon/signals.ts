// SPDX-License-Identifier: Apache-2.0
import type { Logger } from "../util/log.js";

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/**
 * The first SIGTERM or SIGINT aborts the controller; a second one ends the process at once.
 *
 * @returns a function that takes the handlers away
 */
export function abortOnSignals(controller: AbortController, log: Logger): () => void {
  const onSignal = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) {
      log.warn({ signal }, "second signal: ending at once");
      process.exit(signal === "SIGINT" ? 130 : 143);
    }
    log.info({ signal }, "stopping; the dataplane stays up");
    controller.abort();
  };
  for (const signal of SIGNALS) process.on(signal, onSignal);
  return () => {
    for (const signal of SIGNALS) process.removeListener(signal, onSignal);
  };
}
