// SPDX-License-Identifier: Apache-2.0
import { ReadStream, WriteStream } from "node:tty";
import { errorMessage } from "../../../util/errors.js";
import { systemTimers } from "../../../util/timers.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withKernel } from "../../open-maps.js";
import { colorsFor, type Printer } from "../../output.js";
import { inScope, type ServiceScope } from "../../service-text.js";
import { untilSignal } from "../../signals.js";
import { flowTimeouts } from "../flows/timeouts.js";
import { draw } from "./draw.js";
import type { SortKey } from "./keys.js";
import { intervalJson, linesTable } from "./plain.js";
import type { Interval } from "./rates.js";
import { Sampler } from "./sampler.js";
import { linesOf, press, START, type TopState } from "./state.js";
import { FullScreen } from "./terminal.js";

export interface TopOptions extends ServiceScope {
  /** Seconds. */
  readonly interval: number;
  readonly once?: true;
  readonly count?: number;
  readonly sort: SortKey;
  readonly backends?: true;
}

/** `portolan top`. */
export const top: Handler<TopOptions> = (options, printer) =>
  withKernel(options, async ({ maps, assertPinned }) => {
    const isWanted = inScope(options);
    const sampler = new Sampler({
      kernel: maps,
      assertPinned: () => assertPinned("counters"),
      timers: systemTimers,
      nowNs: () => process.hrtime.bigint(),
      timeouts: await flowTimeouts(),
      intervalMs: options.interval * 1000,
      isWanted,
    });
    const state: TopState = {
      ...START,
      sort: options.sort,
      view: options.backends ? "backends" : "services",
    };
    await untilSignal((stop) =>
      isInteractive(options, printer)
        ? fullScreen(sampler, state, options, stop)
        : plainLines(sampler, state, options, printer, stop.signal),
    );
    return ExitCode.ok;
  });

function isInteractive({ once, count }: TopOptions, { format }: Printer): boolean {
  return process.stdout.isTTY && process.stdin.isTTY && format === "table" && !once && count === undefined;
}

/** A table or an object for each interval. */
async function plainLines(
  sampler: Sampler,
  state: TopState,
  { once, count, interval: seconds }: TopOptions,
  printer: Printer,
  signal: AbortSignal,
): Promise<void> {
  const print = linesTable(printer, state);
  const most = once ? 1 : (count ?? Number.POSITIVE_INFINITY);
  for (let i = 0; i < most; i += 1) {
    const interval = await sampler.next(signal);
    const time = new Date();
    if (printer.structured && once) printer.json(intervalJson(interval, time, seconds));
    else if (printer.structured) await printer.jsonLine(intervalJson(interval, time, seconds));
    else await print(interval, time);
  }
}

async function fullScreen(
  sampler: Sampler,
  start: TopState,
  { interval: every }: TopOptions,
  stop: AbortController,
): Promise<void> {
  if (!(process.stdin instanceof ReadStream) || !(process.stdout instanceof WriteStream)) return;
  let state = start;
  let interval: Interval | null = null;
  let time = new Date();
  let trouble: string | null = null;
  const show = (): void => {
    const clock = time.toTimeString().slice(0, 8);
    screen.show(draw({ interval, state, time: clock, every, trouble }, screen.size));
  };
  const screen = new FullScreen(process.stdin, process.stdout, colorsFor(process.stdout), {
    onKey: (key) => {
      const next = press(state, key, interval === null ? [] : linesOf(interval, state));
      if (next === null) return stop.abort();
      state = next;
      show();
    },
    onResize: show,
  });
  screen.open();
  try {
    show();
    for (;;) {
      try {
        const fresh = await sampler.next(stop.signal);
        trouble = null;
        if (state.paused) continue;
        interval = fresh;
        time = new Date();
      } catch (error) {
        if (stop.signal.aborted) return;
        // Maps that cannot be read now may be readable again: an agent is being replaced.
        trouble = errorMessage(error);
      }
      show();
    }
  } finally {
    screen.close();
  }
}
