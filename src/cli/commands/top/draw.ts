// SPDX-License-Identifier: Apache-2.0
/** What stands on the screen: from the figures and what was chosen to lines of text. Pure: no terminal is asked. */
import type { ServiceId } from "../../../dataplane/view.js";
import { bytesText } from "../../output.js";
import { peerText, serviceName } from "../../service-text.js";
import type { SortKey } from "./keys.js";
import type { Interval } from "./rates.js";
import { type Line, linesOf, type TopState } from "./state.js";

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

export type Style = "plain" | "title" | "header" | "selected" | "alarm" | "faint";

/** A line of the screen, never wider than it. Its style is never the only signal: `>` marks the selected line. */
export interface ScreenLine {
  readonly text: string;
  readonly style: Style;
}

export interface Picture {
  /** Null: the first interval is not over. */
  readonly interval: Interval | null;
  readonly state: TopState;
  /** What is shown, as text: "14:31:05". */
  readonly time: string;
  /** Seconds between two readings. */
  readonly every: number;
  /** Something to say instead of fresh figures, such as why they cannot be read. */
  readonly trouble: string | null;
}

/** Per second, in three figures or so: 0, 0.3, 12, 1.2k, 34k, 5.6M. */
export function rateText(value: number | null): string {
  if (value === null) return "-";
  if (value === 0) return "0";
  if (value < 9.95) return value < 0.05 ? "<0.1" : value.toFixed(1);
  let rest = value;
  let unit = 0;
  while (rest >= 999.5 && unit < SCALE.length - 1) {
    rest /= 1000;
    unit += 1;
  }
  return `${unit > 0 && rest < 9.95 ? rest.toFixed(1) : Math.round(rest)}${SCALE[unit]}`;
}

const SCALE = ["", "k", "M", "G", "T"] as const;

const countText = (value: number | null): string => (value === null ? "-" : value.toLocaleString("en-US"));
/** Bytes a second. */
export const byteRateText = (value: number | null): string =>
  value === null ? "-" : bytesText(Math.round(value));

interface ColumnOf {
  readonly header: string;
  readonly width: number;
  readonly sort: SortKey | null;
  readonly value: (line: Line) => string;
}

/** The figures, from right to left the last to go when the screen is narrow. */
const FIGURES: readonly ColumnOf[] = [
  { header: "NEW/S", width: 7, sort: "new", value: ({ rates }) => rateText(rates.flows) },
  { header: "PKTS/S", width: 7, sort: "packets", value: ({ rates }) => rateText(rates.packets) },
  { header: "BYTES/S", width: 10, sort: "bytes", value: ({ rates }) => byteRateText(rates.bytes) },
  { header: "DROPS/S", width: 8, sort: "drops", value: ({ rates }) => rateText(rates.drops) },
  { header: "ACTIVE", width: 8, sort: "active", value: ({ active }) => countText(active) },
];

/** The name gets at least so much. */
const NAME_WIDTH = 16;

const portText = ({ portName, protocol }: ServiceId): string =>
  portName === "" ? protocol : `${portName}/${protocol}`;

function nameOf(line: Line, view: TopState["view"]): string {
  if (!("backend" in line)) return `${serviceName(line.id)} ${portText(line.id)}`;
  const peer = `${peerText(line.backend.peer)}${line.backend.state === "live" ? "" : ` (${line.backend.state})`}`;
  return view === "backends" ? `${peer} ${serviceName(line.id)}` : peer;
}

/** Cut to a width, with a mark where something is missing. */
export function cut(text: string, width: number): string {
  if (width <= 0) return "";
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

/** The whole screen: exactly as many lines as it has rows. */
export function draw(picture: Picture, size: Size): readonly ScreenLine[] {
  const { interval, state, trouble } = picture;
  const head: ScreenLine[] = [{ text: titleLine(picture), style: "title" }];
  if (interval !== null) {
    head.push({ text: totalsLine(interval), style: "plain" });
    head.push(refusedLine(interval));
  }
  if (trouble !== null) head.push({ text: `! ${trouble}`, style: "alarm" });
  const foot: ScreenLine = { text: footLine(state), style: "faint" };
  const body = state.help ? HELP.map((text) => plain(text)) : bodyLines(picture, size, head.length);
  const room = Math.max(0, size.rows - head.length - 1);
  const middle = [
    ...body.slice(0, room),
    ...Array.from({ length: Math.max(0, room - body.length) }, () => plain("")),
  ];
  return [...head, ...middle, foot]
    .slice(0, size.rows)
    .map(({ text, style }) => ({ text: cut(text, size.columns), style }));
}

const plain = (text: string): ScreenLine => ({ text, style: "plain" });

function titleLine({ interval, state, time, every }: Picture): string {
  const view =
    state.view === "services"
      ? "services"
      : state.view === "backends"
        ? "backends"
        : `backends of ${viewName(interval, state.view)}${dropsOf(interval, state.view)}`;
  const filter = state.filter === "" ? "" : `   filter "${state.filter}"`;
  return `portolan top - ${view}   ${time}   every ${every} s${filter}${state.paused ? "   PAUSED" : ""}`;
}

function viewName(interval: Interval | null, index: number): string {
  const line = interval?.services.find(({ id }) => id.index === index);
  return line === undefined ? `#${index} (gone)` : `${serviceName(line.id)} ${portText(line.id)}`;
}

/** Of a service port whose backends are shown: they have none of their own. */
function dropsOf(interval: Interval | null, index: number): string {
  const drops = interval?.services.find(({ id }) => id.index === index)?.rates.drops ?? null;
  return drops === null ? "" : `   drops ${rateText(drops)}/s`;
}

function totalsLine({ totals, active, services, backends }: Interval): string {
  const figures = [
    `new ${rateText(totals.flows)}/s`,
    `packets ${rateText(totals.packets)}/s`,
    `${byteRateText(totals.bytes)}/s`,
    `active ${countText(active)}`,
  ];
  return `${figures.join("  ")}  (${services.length} service ports, ${backends.length} backends)`;
}

function refusedLine({ refused }: Interval): ScreenLine {
  if (refused.length === 0) return plain("refused: none");
  const text = refused.map(({ reason, perSecond }) => `${reason} ${rateText(perSecond)}/s`).join("  ");
  return { text: `refused: ${text}`, style: "alarm" };
}

function footLine(state: TopState): string {
  if (state.typing !== null) return `filter: ${state.filter}_   (enter: keep it, esc: as before)`;
  if (state.help) return "any key: back  q: quit";
  const enter = state.view === "services" ? "enter: its backends" : "esc: services";
  return `${enter}  s: sort  /: filter  p: pause  b: backends  ?: help  q: quit`;
}

const HELP: readonly string[] = [
  "",
  "  up, down, k, j, page up, page down, home, end   move",
  "  enter            the backends of the selected service port",
  "  esc, left        back to the services; there: no filter",
  "  b                all backends, and back",
  "  s                sort by the next column; 1 to 6: by name, new, packets, bytes, drops, active",
  "  r                the other way round",
  "  /                only lines with this text in a name or an address",
  "  p, space         hold the figures, and go on",
  "  q, ctrl-c        leave",
  "",
  "  NEW/S    flows that were given a backend     DROPS/S  new flows that got none",
  "  PKTS/S, BYTES/S  translated, both directions  ACTIVE   flows alive, counted every few seconds",
  "  -        not known: it has just appeared, or backends do not have it",
];

function bodyLines({ interval, state }: Picture, { columns, rows }: Size, headRows: number): ScreenLine[] {
  if (interval === null) return [plain(""), plain("  reading; rates need two readings ...")];
  const lines = linesOf(interval, state);
  const figures = figuresFor(columns);
  const nameWidth = Math.max(
    NAME_WIDTH,
    columns - 2 - figures.reduce((sum, { width }) => sum + width + 1, 0),
  );
  const header = `  ${headerName(state).padEnd(nameWidth)}${figures.map((each) => ` ${marked(each, state).padStart(each.width)}`).join("")}`;
  const room = Math.max(1, rows - headRows - 2);
  const selected = Math.min(state.selected, Math.max(0, lines.length - 1));
  const first = Math.max(0, Math.min(selected - Math.floor(room / 2), lines.length - room));
  const shown = lines.slice(first, first + room).map((line, i): ScreenLine => {
    const isSelected = first + i === selected;
    const name = cut(nameOf(line, state.view), nameWidth).padEnd(nameWidth);
    const values = figures
      .map((each) => ` ${cut(each.value(line), each.width).padStart(each.width)}`)
      .join("");
    return { text: `${isSelected ? ">" : " "} ${name}${values}`, style: isSelected ? "selected" : "plain" };
  });
  if (shown.length === 0)
    shown.push(plain(state.filter === "" ? "  nothing to show" : "  nothing passes the filter"));
  return [{ text: header, style: "header" }, ...shown];
}

/** As many as fit beside the name; the sorted one is marked. */
function figuresFor(columns: number): readonly ColumnOf[] {
  const figures = [...FIGURES];
  const needs = (): number => 2 + NAME_WIDTH + figures.reduce((sum, { width }) => sum + width + 1, 0);
  while (figures.length > 1 && needs() > columns) figures.pop();
  return figures;
}

const arrow = (state: TopState): string => (state.reversed ? "^" : "v");
const marked = (column: ColumnOf, state: TopState): string =>
  column.sort === state.sort ? `${column.header}${arrow(state)}` : column.header;

function headerName(state: TopState): string {
  const name =
    state.view === "services" ? "SERVICE" : state.view === "backends" ? "BACKEND, SERVICE" : "BACKEND";
  return state.sort === "name" ? `${name} ${state.reversed ? "v" : "^"}` : name;
}
