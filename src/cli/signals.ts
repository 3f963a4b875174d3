// SPDX-License-Identifier: Apache-2.0

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Does what goes on until somebody ends it. At a signal its controller is aborted, and what `work` then fails with is its
 * end and no error. It may abort the controller itself.
 */
export async function untilSignal(work: (stop: AbortController) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  for (const signal of SIGNALS) process.on(signal, onSignal);
  try {
    await work(stop);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    for (const signal of SIGNALS) process.removeListener(signal, onSignal);
  }
}
