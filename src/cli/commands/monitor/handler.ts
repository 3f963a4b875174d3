// SPDX-License-Identifier: Apache-2.0
import type { EventBatch } from "../../../dataplane/event-stream.js";
import {
  EVENT_TYPES,
  type EventType,
  type EventView,
  eventView,
  isNews,
  kindsOf,
  readTables,
  serviceFinder,
} from "../../../dataplane/view.js";
import { systemTimers } from "../../../util/timers.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type OpenKernel, withKernel } from "../../open-maps.js";
import { type Printer, TableLayout } from "../../output.js";
import { untilSignal } from "../../signals.js";
import { type EventFilter, eventFilter, type FilterOptions } from "./filter.js";
import { eventColumns, eventJson, type TimedEvent } from "./print.js";

export interface MonitorOptions extends FilterOptions {
  readonly count?: number;
  readonly sinceStart?: true;
}

/** Of translated packets, when they are asked for and no --sample is given. */
const USUAL_SAMPLE = 100;
/** Names are read again at most so often, in milliseconds: when an event has one that is not known. */
const NAMES_MS = 200;
/** And when an event comes and they are older than this: an index may be another Service's by now. */
const NAMES_OLD_MS = 5000;

/** `portolan monitor`. */
export const monitor: Handler<MonitorOptions> = (options, printer) => {
  const filter = eventFilter(options);
  return withKernel(
    options,
    async (open) => {
      await untilSignal(({ signal }) => listen(open, printer, options, filter, signal));
      return ExitCode.ok;
    },
    { writable: true },
  );
};

async function listen(
  open: OpenKernel,
  printer: Printer,
  options: MonitorOptions,
  { types, matches }: EventFilter,
  signal: AbortSignal,
): Promise<void> {
  const { EventStream } = await import("../../../dataplane/event-stream.js");
  const teller = new Teller(open, printer, options, matches);
  await teller.begin();
  const sample = options.sample ?? USUAL_SAMPLE;
  const assertPinned = (): void => open.assertPinned("events");
  const settings = { maps: open.maps, timers: systemTimers, kinds: kindsOf(types), sample, assertPinned };
  const stream = await EventStream.open(settings, signal);
  printer.note("listening; Ctrl-C ends it");
  let failure: unknown = null;
  try {
    for await (const batch of stream.batches(signal)) if (await teller.tell(batch)) break;
  } catch (error) {
    if (!signal.aborted) failure = error;
  }
  await teller.tell(await stream.close());
  printer.note(teller.summary());
  if (failure !== null) throw failure;
}

/** Names events, sorts out those that were asked for, prints and counts them. */
class Teller {
  readonly #open: OpenKernel;
  readonly #printer: Printer;
  readonly #matches: (event: EventView) => boolean;
  readonly #layout: TableLayout<TimedEvent>;
  readonly #most: number;
  readonly #totals = new Map<EventType, number>();
  readonly #startNs = process.hrtime.bigint();
  readonly #startMs = Date.now();
  #interfaces: ReadonlyMap<number, string> = new Map();
  #tables: Awaited<ReturnType<typeof readTables>> | null = null;
  #tablesAt = 0;
  #printed = 0;
  #lost = 0;
  #gaps = 0;

  constructor(
    open: OpenKernel,
    printer: Printer,
    options: MonitorOptions,
    matches: (event: EventView) => boolean,
  ) {
    this.#open = open;
    this.#printer = printer;
    this.#matches = matches;
    this.#layout = new TableLayout(eventColumns(options.sinceStart === true), printer.format === "wide");
    this.#most = options.count ?? Number.POSITIVE_INFINITY;
  }

  async begin(): Promise<void> {
    await this.#readNames();
    this.#readInterfaces();
    const { colors } = this.#printer;
    if (!this.#printer.structured) this.#printer.line(colors.bold(this.#layout.header()));
  }

  /** True: as many as were asked for have been printed. */
  async tell({ events, lost, gap }: EventBatch): Promise<boolean> {
    if (lost > 0) await this.#tellLost(lost);
    if (gap) await this.#tellGap();
    const old = systemTimers.now() - this.#tablesAt > NAMES_OLD_MS;
    const { length } = events;
    const tables = this.#tables;
    if (length > 0 && (old || tables === null || events.some((event) => isNews(tables, event))))
      await this.#readNames();
    const find = this.#tables === null ? () => null : serviceFinder(this.#tables);
    for (const record of events) {
      if (this.#printed >= this.#most) return true;
      const event = eventView(record, find);
      if (!this.#matches(event)) continue;
      this.#printed += 1;
      this.#totals.set(event.type, (this.#totals.get(event.type) ?? 0) + 1);
      await this.#print(this.#timed(event));
    }
    return this.#printed >= this.#most;
  }

  summary(): string {
    const parts = EVENT_TYPES.flatMap((type) => {
      const count = this.#totals.get(type) ?? 0;
      return count === 0 ? [] : [`${count} ${type}`];
    });
    const seconds = Number(process.hrtime.bigint() - this.#startNs) / 1e9;
    const what = parts.length === 0 ? "no event" : parts.join(", ");
    const lost = `${this.#lost === 0 ? "none" : this.#lost} lost`;
    const gaps = this.#gaps === 0 ? "" : `, more in ${this.#gaps} pauses of this process`;
    return `${what} in ${seconds.toFixed(1)} s; ${lost}${gaps}`;
  }

  /** Losses are told among the events: whoever reads them has to know that some are missing here. */
  async #tellLost(lost: number): Promise<void> {
    this.#lost += lost;
    if (this.#printer.structured) {
      await this.#printer.jsonLine({ time: new Date().toISOString(), type: "lost", count: lost });
    } else {
      this.#printer.note(
        `${lost} events were lost: the ring was full. Ask for less with --type or a larger --sample.`,
      );
    }
  }

  async #tellGap(): Promise<void> {
    this.#gaps += 1;
    if (this.#printer.structured) {
      await this.#printer.jsonLine({ time: new Date().toISOString(), type: "lost", count: null });
    } else {
      this.#printer.note(
        "events of the last seconds may be missing: this process was stopped, or had no time to run",
      );
    }
  }

  async #print(timed: TimedEvent): Promise<void> {
    if (this.#printer.structured) await this.#printer.jsonLine(eventJson(timed));
    else for (const line of this.#layout.lines([timed])) this.#printer.line(line);
  }

  #timed(event: EventView): TimedEvent {
    const since = Number(event.time - this.#startNs) / 1e9;
    if (event.ifindex !== 0 && !this.#interfaces.has(event.ifindex)) this.#readInterfaces(event.ifindex);
    const interfaceName = this.#interfaces.get(event.ifindex) ?? "";
    return { event, since, at: new Date(this.#startMs + since * 1000), interfaceName };
  }

  /** Of this network namespace; `missing` is remembered as nameless when it is in another one. */
  #readInterfaces(missing?: number): void {
    const names = new Map(this.#open.library.interfaces().map(({ ifindex, name }) => [ifindex, name]));
    if (missing !== undefined && !names.has(missing)) names.set(missing, "");
    this.#interfaces = names;
  }

  async #readNames(): Promise<void> {
    const now = systemTimers.now();
    if (this.#tables !== null && now - this.#tablesAt < NAMES_MS) return;
    this.#tables = await readTables(this.#open.maps);
    this.#tablesAt = now;
  }
}
