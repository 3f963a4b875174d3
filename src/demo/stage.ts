// SPDX-License-Identifier: Apache-2.0
/** What the demonstration prints: numbered steps, and under each what was proved, with the figure that was measured. */
import { type Colors, colorsFor } from "../cli/output.js";

/** A step that did not show what it should. */
export class StepFailed extends Error {
  constructor(message: string) {
    super(message);
    this.name = "StepFailed";
  }
}

export class Stage {
  readonly #out: NodeJS.WriteStream;
  readonly #colors: Colors;
  #number = 0;
  #title = "";
  #working = false;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    this.#colors = colorsFor(out);
  }

  /** The step that is under way, for the message of a failure. */
  get title(): string {
    return this.#title;
  }

  headline(text: string): void {
    this.#write(`\n${this.#colors.bold(text)}\n`);
  }

  /** Begins a step. */
  step(title: string): void {
    this.#title = title;
    this.#number++;
    this.#write(`\n${this.#colors.cyan(String(this.#number).padStart(2))} ${this.#colors.bold(title)}\n`);
  }

  /** Says on a terminal what is being done; the next line replaces it. */
  working(text: string): void {
    if (!this.#out.isTTY) return;
    this.#clear();
    this.#out.write(this.#colors.dim(`   … ${text}`));
    this.#working = true;
  }

  /** What the step has proved. */
  proved(text: string): void {
    this.#write(`   ${this.#colors.green("✓")} ${text}\n`);
  }

  /** Proves a condition, or fails the step with the same words. */
  prove(holds: boolean, text: string): void {
    if (!holds) throw new StepFailed(text);
    this.proved(text);
  }

  /** Something to look at, such as the output of a command. */
  show(text: string): void {
    for (const line of text.trimEnd().split("\n")) this.#write(`     ${line}\n`);
  }

  /** A command as one would type it. */
  command(line: string): void {
    this.#write(`     ${this.#colors.dim("$")} ${this.#colors.cyan(line)}\n`);
  }

  failed(message: string): void {
    this.#write(`   ${this.#colors.red("✗")} ${message}\n`);
  }

  note(text: string): void {
    this.#write(`   ${this.#colors.dim(text)}\n`);
  }

  #clear(): void {
    if (!this.#working) return;
    this.#out.write("\r\x1b[2K");
    this.#working = false;
  }

  #write(text: string): void {
    this.#clear();
    this.#out.write(text);
  }
}
