// SPDX-License-Identifier: Apache-2.0
/** The terminal as `top` uses it: a screen of its own that goes away with the program, however it ends, and single keys. */
import { writeSync } from "node:fs";
import { emitKeypressEvents } from "node:readline";
import type { ReadStream, WriteStream } from "node:tty";
import type { Colors } from "../../output.js";
import type { ScreenLine, Size, Style } from "./draw.js";
import type { Key } from "./state.js";

const ENTER = "\x1b[?1049h\x1b[?25l";
const LEAVE = "\x1b[?25h\x1b[?1049l";
const CLEAR = "\x1b[2J";
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";

const STDOUT = 1;

/** What a terminal has that does not tell its size. */
const USUAL: Size = { columns: 80, rows: 24 };

export interface TerminalEvents {
  readonly onKey: (key: Key) => void;
  readonly onResize: () => void;
}

export class FullScreen {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #styles: Readonly<Record<Style, (text: string) => string>>;
  readonly #events: TerminalEvents;
  #open = false;
  /** The size of the picture that is on the screen. */
  #drawn = "";

  constructor(input: ReadStream, output: WriteStream, colors: Colors, events: TerminalEvents) {
    this.#input = input;
    this.#output = output;
    this.#events = events;
    this.#styles = {
      plain: (text) => text,
      title: colors.bold,
      header: colors.underline,
      selected: colors.inverse,
      alarm: colors.red,
      faint: colors.dim,
    };
  }

  get size(): Size {
    const { columns, rows } = this.#output;
    return { columns: columns || USUAL.columns, rows: rows || USUAL.rows };
  }

  /** Takes the screen. It is given back by close(), and at the latest when the process ends. */
  open(): void {
    if (this.#open) return;
    this.#open = true;
    process.on("exit", this.#restore);
    emitKeypressEvents(this.#input);
    this.#input.setRawMode(true);
    this.#input.on("keypress", this.#onKey);
    this.#input.resume();
    this.#output.on("resize", this.#events.onResize);
    this.#output.write(ENTER);
  }

  /** Idempotent. */
  close(): void {
    this.#restore();
    process.removeListener("exit", this.#restore);
    this.#input.removeListener("keypress", this.#onKey);
    this.#input.pause();
    this.#output.removeListener("resize", this.#events.onResize);
  }

  /** Each line over the one that was there: nothing flickers. */
  show(lines: readonly ScreenLine[]): void {
    const { columns, rows } = this.size;
    const resized = `${columns}x${rows}` !== this.#drawn;
    this.#drawn = `${columns}x${rows}`;
    const text = lines.map(({ text: line, style }) => `${this.#styles[style](printable(line))}${CLEAR_LINE}`);
    this.#output.write(`${resized ? CLEAR : ""}${HOME}${text.join("\r\n")}`);
  }

  readonly #onKey = (_text: string | undefined, key: Key): void => this.#events.onKey(key);

  /** Written at once: at the end of the process nothing that waits is written any more. */
  readonly #restore = (): void => {
    if (!this.#open) return;
    this.#open = false;
    try {
      this.#input.setRawMode(false);
      writeSync(STDOUT, LEAVE);
    } catch {
      // The terminal itself is gone.
    }
  };
}

/** What would move the cursor is shown as a question mark. */
const printable = (text: string): string => text.replace(/\p{Cc}/gu, "?");
