// SPDX-License-Identifier: Apache-2.0
/**
 * What commands print. Results go to stdout, everything else (notes, problems, progress) to stderr, so that
 * `portolan … -o json | jq` never meets a stray line.
 */
import { once } from "node:events";
import pico from "picocolors";
import stringWidth from "string-width";
import { ExitCode } from "./exit-codes.js";

/** "wide": a table with more columns. "name": one line a row, such as service/default/web. */
export type OutputFormat = "table" | "wide" | "json" | "yaml" | "name";

/** What every command can print. */
export const OBJECT_FORMATS: readonly OutputFormat[] = ["table", "json", "yaml"];
/** What a command can print that lists things which have names. */
export const LIST_FORMATS: readonly OutputFormat[] = ["table", "wide", "json", "yaml", "name"];

/** One column of a table. */
export interface Column<Row> {
  readonly header: string;
  readonly value: (row: Row) => string | number | bigint;
  /** Numbers read best at the right edge. @default "left" */
  readonly align?: "left" | "right";
  /** Only shown with `-o wide`. */
  readonly wide?: true;
}

/** A list that a command prints: the same rows in each format. */
export interface Listing<Row> {
  /** The member of the JSON object that holds the rows. */
  readonly name: string;
  readonly columns: readonly Column<Row>[];
  /** Streamed: rows that are not in an array are never held all at once. */
  readonly rows: Iterable<Row> | AsyncIterable<Row>;
  /** A row as a JSON object; left out: the row itself. */
  readonly json?: (row: Row) => unknown;
  /** A row's name for `-o name`, such as "service/default/web". The same name twice in a row is printed once. */
  readonly id?: (row: Row) => string;
  /** What stands beside the list in the JSON object. Asked for when all rows have been read. */
  readonly more?: () => object;
}

export type Colors = ReturnType<typeof pico.createColors>;

/** Colours for a stream: plain text unless it is a terminal and NO_COLOR is not set. */
export function colorsFor(stream: NodeJS.WriteStream): Colors {
  return pico.createColors(pico.isColorSupported && stream.isTTY === true);
}

const GAP = "   ";

/** Columns that a cell takes on a terminal: most are ASCII, and of those each character takes one. */
function widthOf(cell: string): number {
  return /^[\x20-\x7e]*$/.test(cell) ? cell.length : stringWidth(cell);
}

/** Names out of the kernel may hold anything: what would move the cursor or change colours is shown as \x1b. */
function cellText(value: string | number | bigint): string {
  const text = String(value);
  if (text === "") return "-";
  return text.replace(/\p{Cc}/gu, (each) => `\\x${each.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

/** Lays out rows as they come: a column never becomes narrower, and grows when a later row needs it. */
export class TableLayout<Row> {
  readonly #columns: readonly Column<Row>[];
  readonly #widths: number[];

  /** @param wide also the columns of `-o wide` */
  constructor(columns: readonly Column<Row>[], wide = false) {
    this.#columns = wide ? columns : columns.filter((column) => column.wide !== true);
    this.#widths = this.#columns.map(({ header }) => widthOf(header));
  }

  /** The lines of these rows, aligned with each other and with what was laid out before. */
  lines(rows: readonly Row[]): string[] {
    const cells = rows.map((row) => this.#columns.map((column) => cellText(column.value(row))));
    for (const line of cells) {
      for (const [i, cell] of line.entries())
        this.#widths[i] = Math.max(this.#widths[i] as number, widthOf(cell));
    }
    return cells.map((line) => this.#lay(line));
  }

  /** In the widths of what was laid out so far. */
  header(): string {
    return this.#lay(this.#columns.map(({ header }) => header));
  }

  #lay(cells: readonly string[]): string {
    const padded = cells.map((cell, i) => {
      const blanks = " ".repeat((this.#widths[i] as number) - widthOf(cell));
      return this.#columns[i]?.align === "right" ? blanks + cell : cell + blanks;
    });
    return padded.join(GAP).trimEnd();
  }
}

/**
 * Lays rows out as kubectl does: a header line, aligned columns, no borders, nothing at the end of a line. An empty cell
 * is shown as "-", so that every line has the same number of words for `awk`.
 *
 * @returns lines without line ends; the header first, also when there are no rows
 */
export function tableLines<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  wide = false,
): string[] {
  const layout = new TableLayout(columns, wide);
  const lines = layout.lines(rows);
  return [layout.header(), ...lines];
}

/** JSON of a result: two spaces a level on a terminal, one line otherwise. u64 figures become decimal numbers. */
export function jsonText(value: unknown, pretty: boolean): string {
  const indent = pretty ? 2 : undefined;
  try {
    // Without a function for each member: several times as fast, and most rows of long lists have no u64 figure.
    return JSON.stringify(value, undefined, indent);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
  // Counters are u64; JSON readers that hold doubles lose nothing below 2^53, which is 9 petabytes.
  const member = (_key: string, item: unknown): unknown => (typeof item === "bigint" ? Number(item) : item);
  return JSON.stringify(value, member, indent);
}

/** Rows whose widths are known before the first of them is printed; what a stream of rows holds in memory. */
const ROWS_AT_ONCE = 1000;

/** YAML of what jsonText() prints. Given to a Printer whose format is "yaml": its library is loaded for nobody else. */
export type YamlWriter = (value: unknown) => string;

/** Loads the YAML library. Texts that YAML 1.1 takes for something else, such as "on", are quoted: kubectl reads 1.1. */
export async function loadYamlWriter(): Promise<YamlWriter> {
  const { stringify } = await import("yaml");
  return (value) =>
    stringify(JSON.parse(jsonText(value, false)), {
      compat: "yaml-1.1",
      aliasDuplicateObjects: false,
      lineWidth: 0,
    });
}

/** Where a command writes. */
export class Printer {
  readonly format: OutputFormat;
  readonly colors: Colors;
  readonly #stdout: NodeJS.WriteStream;
  readonly #stderr: NodeJS.WriteStream;
  readonly #yaml: YamlWriter | null;

  /** @param yaml needed for the format "yaml" */
  constructor(
    format: OutputFormat,
    stdout: NodeJS.WriteStream = process.stdout,
    stderr: NodeJS.WriteStream = process.stderr,
    yaml: YamlWriter | null = null,
  ) {
    this.format = format;
    this.colors = colorsFor(stdout);
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#yaml = yaml;
  }

  /** The result is for programs: an object in JSON or YAML. */
  get structured(): boolean {
    return this.format === "json" || this.format === "yaml";
  }

  /**
   * Prints a list in whatever format was asked for. A list that may be long is given as an iterable, and is printed as it is
   * read. An empty one prints no table: the caller says in a note what that means.
   *
   * @returns how many rows there were
   */
  async print<Row>(listing: Listing<Row>): Promise<number> {
    if (this.format === "name") return this.#printNames(listing);
    if (this.format === "json") return this.#printJson(listing);
    if (this.format === "yaml") return this.#printYaml(listing);
    return this.#printTable(listing);
  }

  table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): void {
    const [header, ...lines] = tableLines(columns, rows, this.format === "wide");
    this.line([this.colors.bold(header as string), ...lines].join("\n"));
  }

  /** An object for programs, in JSON, or in YAML where that was asked for. */
  json(value: unknown): void {
    if (this.format === "yaml") this.#stdout.write(this.#asYaml(value));
    else this.line(jsonText(value, this.#stdout.isTTY === true));
  }

  /** Many objects, each of its own, as they are read: lines of JSON, or YAML documents. How many there were. */
  async objects(rows: Iterable<unknown> | AsyncIterable<unknown>): Promise<number> {
    let count = 0;
    for await (const batch of batches(rows)) {
      await this.#write(batch.map((each) => this.#objectText(each)).join(""));
      count += batch.length;
    }
    return count;
  }

  /** One of many objects, each of its own, at once: events. Waits for a slow reader. */
  jsonLine(value: unknown): Promise<void> {
    return this.#write(this.#objectText(value));
  }

  #objectText(value: unknown): string {
    return this.format === "yaml" ? `---\n${this.#asYaml(value)}` : `${jsonText(value, false)}\n`;
  }

  /** One line of result. */
  line(text: string): void {
    this.#stdout.write(`${text}\n`);
  }

  /** One line beside the result, to stderr. */
  note(text: string): void {
    this.#stderr.write(`${text}\n`);
  }

  #asYaml(value: unknown): string {
    if (this.#yaml === null) throw new TypeError("a Printer of YAML needs its writer");
    return this.#yaml(value);
  }

  async #printTable<Row>({ columns, rows }: Listing<Row>): Promise<number> {
    const layout = new TableLayout(columns, this.format === "wide");
    let count = 0;
    for await (const batch of batches(rows)) {
      const lines = layout.lines(batch);
      if (count === 0) lines.unshift(this.colors.bold(layout.header()));
      count += batch.length;
      await this.#write(`${lines.join("\n")}\n`);
    }
    return count;
  }

  async #printNames<Row>({ rows, id }: Listing<Row>): Promise<number> {
    if (id === undefined) throw new TypeError("a list without names has no -o name");
    let last: string | null = null;
    let count = 0;
    for await (const batch of batches(rows)) {
      let text = "";
      for (const row of batch) {
        const name = cellText(id(row));
        if (name !== last) text += `${name}\n`;
        last = name;
      }
      count += batch.length;
      await this.#write(text);
    }
    return count;
  }

  /** The text is that of json() with the whole object, which is never there as a whole. */
  async #printJson<Row>({ name, rows, json = asIs, more }: Listing<Row>): Promise<number> {
    const pretty = this.#stdout.isTTY === true;
    const [open, indent, close] = pretty ? ["{\n  ", "\n    ", "\n  "] : ["{", "", ""];
    let count = 0;
    await this.#write(`${open}${JSON.stringify(name)}:${pretty ? " " : ""}[`);
    for await (const batch of batches(rows)) {
      let text = "";
      for (const row of batch) {
        const object = jsonText(json(row), pretty);
        text += `${count++ === 0 ? "" : ","}${indent}${pretty ? object.replaceAll("\n", "\n    ") : object}`;
      }
      await this.#write(text);
    }
    const rest = jsonText(more?.() ?? {}, pretty);
    const end = rest === "{}" ? (pretty ? "\n}" : "}") : `,${rest.slice(1)}`;
    await this.#write(`${count > 0 ? close : ""}]${end}\n`);
    return count;
  }

  async #printYaml<Row>({ name, rows, json = asIs, more }: Listing<Row>): Promise<number> {
    let count = 0;
    for await (const batch of batches(rows)) {
      const text = this.#asYaml({ [name]: batch.map(json) });
      // The name of the list stands above its first part only.
      await this.#write(count === 0 ? text : text.slice(text.indexOf("\n") + 1));
      count += batch.length;
    }
    const rest = { ...(count === 0 ? { [name]: [] } : {}), ...more?.() };
    if (Object.keys(rest).length > 0) await this.#write(this.#asYaml(rest));
    return count;
  }

  /** Waits for a slow reader: what it has not read yet is not kept here. */
  async #write(text: string): Promise<void> {
    if (text !== "" && !this.#stdout.write(text)) await once(this.#stdout, "drain");
  }
}

const asIs = (row: unknown): unknown => row;

/** Rows in arrays of at most ROWS_AT_ONCE. */
async function* batches<Row>(rows: Iterable<Row> | AsyncIterable<Row>): AsyncGenerator<readonly Row[]> {
  let batch: Row[] = [];
  const full = (row: Row): boolean => batch.push(row) === ROWS_AT_ONCE;
  if (Symbol.iterator in rows) {
    for (const row of rows) {
      if (!full(row)) continue;
      yield batch;
      batch = [];
    }
  } else {
    for await (const row of rows) {
      if (!full(row)) continue;
      yield batch;
      batch = [];
    }
  }
  if (batch.length > 0) yield batch;
}

/**
 * A reader that has seen enough (`portolan flows | head`) closes the pipe. That is no failure: the program ends quietly,
 * with the status it has reached. Any other error of writing, such as a full disk, is one.
 */
export function endWhenClosed(...streams: readonly NodeJS.WriteStream[]): void {
  for (const stream of streams) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit();
      if (stream !== process.stderr)
        process.stderr.write(`portolan: cannot write the result: ${error.message}\n`);
      process.exit(ExitCode.failure);
    });
  }
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** Bytes for people: 3 figures and a binary unit, such as "46.1 MiB". */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${value.toPrecision(value < 1000 ? 3 : 4)} ${UNITS[unit]}`;
}
