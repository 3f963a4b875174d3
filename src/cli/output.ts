// SPDX-License-Identifier: Apache-2.0
/**
 * What commands print. Results go to stdout, everything else (notes, problems, progress) to stderr, so that
 * `portolan … -o json | jq` never meets a stray line.
 */
import pico from "picocolors";
import { ExitCode } from "./exit-codes.js";

export type OutputFormat = "table" | "json";

/** One column of a table. */
export interface Column<Row> {
  readonly header: string;
  readonly value: (row: Row) => string | number | bigint;
  /** Numbers read best at the right edge. @default "left" */
  readonly align?: "left" | "right";
}

export type Colors = ReturnType<typeof pico.createColors>;

/** Colours for a stream: plain text unless it is a terminal and NO_COLOR is not set. */
export function colorsFor(stream: NodeJS.WriteStream): Colors {
  return pico.createColors(pico.isColorSupported && stream.isTTY === true);
}

const GAP = "   ";

/**
 * Lays rows out as kubectl does: a header line, aligned columns, no borders, nothing at the end of a line. An empty cell
 * is shown as "-", so that every line has the same number of words for `awk`.
 *
 * @returns lines without line ends; the header first, also when there are no rows
 */
export function tableLines<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string[] {
  const cells = rows.map((row) => columns.map((column) => String(column.value(row)) || "-"));
  const widths = columns.map((column, i) =>
    cells.reduce((width, line) => Math.max(width, (line[i] as string).length), column.header.length),
  );
  const layOut = (line: readonly string[]): string =>
    line
      .map((cell, i) => {
        const width = widths[i] as number;
        return columns[i]?.align === "right" ? cell.padStart(width) : cell.padEnd(width);
      })
      .join(GAP)
      .trimEnd();
  return [layOut(columns.map((column) => column.header)), ...cells.map(layOut)];
}

/** JSON of a result: two spaces a level on a terminal, one line otherwise. u64 figures become decimal numbers. */
export function jsonText(value: unknown, pretty: boolean): string {
  return JSON.stringify(
    value,
    // Counters are u64; JSON readers that hold doubles lose nothing below 2^53, which is 9 petabytes.
    (_key, item: unknown) => (typeof item === "bigint" ? Number(item) : item),
    pretty ? 2 : undefined,
  );
}

/** Where a command writes. */
export class Printer {
  readonly format: OutputFormat;
  readonly colors: Colors;
  readonly #stdout: NodeJS.WriteStream;
  readonly #stderr: NodeJS.WriteStream;

  constructor(
    format: OutputFormat,
    stdout: NodeJS.WriteStream = process.stdout,
    stderr: NodeJS.WriteStream = process.stderr,
  ) {
    this.format = format;
    this.colors = colorsFor(stdout);
    this.#stdout = stdout;
    this.#stderr = stderr;
  }

  /**
   * Prints a list: as a table, or as one JSON object with the list under `name`, which leaves room for more beside it.
   *
   * @param empty said on stderr when a table has no rows
   */
  list<Row>(name: string, columns: readonly Column<Row>[], rows: readonly Row[], empty: string): void {
    if (this.format === "json") this.json({ [name]: rows });
    else if (rows.length === 0) this.note(empty);
    else this.table(columns, rows);
  }

  table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): void {
    const [header, ...lines] = tableLines(columns, rows);
    this.line([this.colors.bold(header as string), ...lines].join("\n"));
  }

  json(value: unknown): void {
    this.line(jsonText(value, this.#stdout.isTTY === true));
  }

  /** One line of result. */
  line(text: string): void {
    this.#stdout.write(`${text}\n`);
  }

  /** One line beside the result, to stderr. */
  note(text: string): void {
    this.#stderr.write(`${text}\n`);
  }
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
