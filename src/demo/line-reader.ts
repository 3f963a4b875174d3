// SPDX-License-Identifier: Apache-2.0
/** Lines of JSON of a running program, kept, and waited for. */
import type { ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";

/** Follows one stream of a program that prints one JSON object a line. Other lines are kept as text. */
export class LineReader<T> {
  readonly events: T[] = [];
  /** The last lines, of any form: what is shown when something fails. */
  readonly tail: string[] = [];
  readonly #waiting = new Set<() => void>();
  #ended: string | null = null;

  constructor(child: ChildProcess, stream: Readable) {
    let rest = "";
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
      this.#wake();
    });
    child.once("exit", (code, signal) => {
      this.#ended = signal ?? `status ${code}`;
      this.#wake();
    });
    child.once("error", (error) => {
      this.#ended = error.message;
      this.#wake();
    });
  }

  /**
   * Waits for an event at or after position `from` that fits.
   *
   * @throws Error with the program's last lines when it ends first, or after `timeoutMs`
   */
  async next(fits: (event: T) => boolean, what: string, timeoutMs: number, from = 0): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    let seen = from;
    for (;;) {
      for (; seen < this.events.length; seen++) {
        const event = this.events[seen] as T;
        if (fits(event)) return event;
      }
      if (this.#ended !== null) throw this.#failure(`the program ended (${this.#ended}) before ${what}`);
      const left = deadline - performance.now();
      if (left <= 0) throw this.#failure(`${what} did not come within ${timeoutMs} ms`);
      await this.#change(left);
    }
  }

  #change(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      this.#waiting.add(wake);
    });
  }

  #take(line: string): void {
    if (line === "") return;
    this.tail.push(line);
    if (this.tail.length > 20) this.tail.shift();
    try {
      this.events.push(JSON.parse(line) as T);
    } catch {
      // not an event: it stays in the tail
    }
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #failure(what: string): Error {
    const said = this.tail.length === 0 ? "(it said nothing)" : this.tail.join("\n");
    return new Error(`${what}. Its last lines:\n${said}`);
  }
}
