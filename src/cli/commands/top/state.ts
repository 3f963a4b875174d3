// SPDX-License-Identifier: Apache-2.0
/** What the person at the keyboard has chosen to see, and what each key changes of it. Pure. */
import { compareServices, compareText } from "../../../dataplane/view.js";
import { peerText, serviceName } from "../../service-text.js";
import { SORT_KEYS, type SortKey } from "./keys.js";
import type { BackendLine, Interval, ServiceLine } from "./rates.js";

/** A line of either table. */
export type Line = ServiceLine | BackendLine;

export interface TopState {
  readonly sort: SortKey;
  /** Smallest first, Z to A. */
  readonly reversed: boolean;
  /** Only lines that have this in a name or an address. */
  readonly filter: string;
  /** The filter is being typed; what it was before. */
  readonly typing: { readonly before: string } | null;
  /** "services", all "backends", or those of one service index. */
  readonly view: "services" | "backends" | number;
  readonly paused: boolean;
  readonly help: boolean;
  /** The line the cursor is on, from the first one that passes the filter. */
  readonly selected: number;
}

export const START: TopState = {
  sort: "bytes",
  reversed: false,
  filter: "",
  typing: null,
  view: "services",
  paused: false,
  help: false,
  selected: 0,
};

const isBackend = (line: Line): line is BackendLine => "backend" in line;

/** What a line is called: its Service and port; of a backend its address too. */
export function lineText(line: Line): string {
  const service = `${serviceName(line.id)}:${line.id.portName}/${line.id.protocol}`;
  return isBackend(line) ? `${service} ${peerText(line.backend.peer)}` : service;
}

const VALUES: Readonly<Record<Exclude<SortKey, "name">, (line: Line) => number | null>> = {
  new: ({ rates }) => rates.flows,
  packets: ({ rates }) => rates.packets,
  bytes: ({ rates }) => rates.bytes,
  drops: ({ rates }) => rates.drops,
  active: ({ active }) => active,
};

/** The order of names; of a Service's backends, of their addresses. */
export function byName(a: Line, b: Line): number {
  const services = compareServices(a.id, b.id);
  if (services !== 0 || !isBackend(a) || !isBackend(b)) return services;
  return (
    compareText(a.backend.peer.address, b.backend.peer.address) || a.backend.peer.port - b.backend.peer.port
  );
}

/** The lines to show, in order: most first, names from A on. What is not known goes last. */
export function linesOf(interval: Interval, { sort, reversed, filter, view }: TopState): readonly Line[] {
  const all: readonly Line[] =
    view === "services"
      ? interval.services
      : interval.backends.filter(({ id }) => view === "backends" || id.index === view);
  const wanted = filter.toLowerCase();
  const lines = all.filter((line) => lineText(line).toLowerCase().includes(wanted));
  const way = reversed ? -1 : 1;
  if (sort === "name") return lines.sort((a, b) => way * byName(a, b));
  const value = VALUES[sort];
  return lines.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null ? 1 : 0) - (y === null ? 1 : 0) || byName(a, b);
    return way * (y - x) || byName(a, b);
  });
}

/** A key as node:readline tells it. */
export interface Key {
  /** "up", "return", "escape", "c" … */
  readonly name?: string | undefined;
  /** What it types. */
  readonly sequence?: string | undefined;
  readonly ctrl?: boolean | undefined;
}

/** Null: leave. `lines` are those on the screen. */
export function press(state: TopState, key: Key, lines: readonly Line[]): TopState | null {
  if (key.ctrl === true) return key.name === "c" ? null : state;
  if (state.typing !== null) return typed(state, state.typing, key);
  const last = Math.max(0, lines.length - 1);
  const moved = moves(key.name, Math.min(state.selected, last), last);
  if (moved !== null) return { ...state, selected: moved };
  if (state.help) return key.name === "q" ? null : { ...state, help: false };
  return COMMANDS[commandOf(key)]?.(state, lines) ?? (commandOf(key) === "q" ? null : state);
}

/** A letter as it was typed ("R" is not "r"), or the name of a key that types nothing. */
function commandOf({ name = "", sequence = "" }: Key): string {
  return /^[\x21-\x7e]$/.test(sequence) ? sequence : name;
}

const PAGE = 10;

function moves(name: string | undefined, at: number, last: number): number | null {
  if (name === "up" || name === "k") return Math.max(0, at - 1);
  if (name === "down" || name === "j") return Math.min(last, at + 1);
  if (name === "pageup") return Math.max(0, at - PAGE);
  if (name === "pagedown") return Math.min(last, at + PAGE);
  if (name === "home") return 0;
  return name === "end" ? last : null;
}

function typed(state: TopState, typing: { readonly before: string }, { name, sequence = "" }: Key): TopState {
  if (name === "return" || name === "enter") return { ...state, typing: null, selected: 0 };
  if (name === "escape") return { ...state, typing: null, filter: typing.before };
  if (name === "backspace") return { ...state, filter: state.filter.slice(0, -1) };
  return /^[\x20-\x7e]$/.test(sequence) ? { ...state, filter: state.filter + sequence, selected: 0 } : state;
}

const sortBy = (sort: SortKey) => (state: TopState) => ({ ...state, sort, selected: 0 });

type CommandOf = (state: TopState, lines: readonly Line[]) => TopState;

function back(state: TopState): TopState {
  if (state.view !== "services") return { ...state, view: "services", selected: 0 };
  return { ...state, filter: "", selected: 0 };
}

const COMMANDS: Readonly<Record<string, CommandOf>> = {
  "1": sortBy("name"),
  "2": sortBy("new"),
  "3": sortBy("packets"),
  "4": sortBy("bytes"),
  "5": sortBy("drops"),
  "6": sortBy("active"),
  s: (state) => {
    const next = (SORT_KEYS.indexOf(state.sort) + 1) % SORT_KEYS.length;
    return { ...state, sort: SORT_KEYS[next] as SortKey, selected: 0 };
  },
  r: (state) => ({ ...state, reversed: !state.reversed, selected: 0 }),
  "/": (state) => ({ ...state, typing: { before: state.filter } }),
  p: (state) => ({ ...state, paused: !state.paused }),
  space: (state) => ({ ...state, paused: !state.paused }),
  b: (state) => ({ ...state, view: state.view === "services" ? "backends" : "services", selected: 0 }),
  return: (state, lines) => {
    const line = lines[Math.min(state.selected, lines.length - 1)];
    if (line === undefined || state.view !== "services") return state;
    return { ...state, view: line.id.index, filter: "", selected: 0 };
  },
  escape: back,
  backspace: back,
  left: back,
  "?": (state) => ({ ...state, help: true }),
  h: (state) => ({ ...state, help: true }),
};
