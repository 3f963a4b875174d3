// SPDX-License-Identifier: Apache-2.0
import { Writable } from "node:stream";

/** What a command writes to, kept as text: a terminal or a pipe, whose reader can be made to stop. */
export class Terminal {
  readonly stream: NodeJS.WriteStream;
  /** Settles when the stream has told its writer to wait. */
  readonly full: Promise<void>;
  text = "";
  #held: (() => void)[] | null = null;

  constructor(isTTY: boolean) {
    let tellFull = (): void => {};
    this.full = new Promise((resolve) => {
      tellFull = resolve;
    });
    const stream = new Writable({
      decodeStrings: false,
      write: (text: string, _encoding, done) => {
        this.text += text;
        if (this.#held === null) return done();
        this.#held.push(done);
        tellFull();
      },
    });
    this.stream = Object.assign(stream, { isTTY }) as unknown as NodeJS.WriteStream;
  }

  /** From now on nothing is taken. */
  pause(): void {
    this.#held = [];
  }

  resume(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const done of held) done();
  }
}
