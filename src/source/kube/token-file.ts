// SPDX-License-Identifier: Apache-2.0
/** A token that somebody else writes anew now and then, as the kubelet does with service accounts' (kubeadm's `tokenFile`). */
import { readFile } from "node:fs/promises";
import type { Clock } from "../../util/clock.js";
import { errorMessage } from "../../util/errors.js";
import { ApiError } from "./errors.js";

/** The kubelet writes a new one long before the old one ends, so this may be much less often than it seems. */
const READ_EVERY_MS = 10_000;

export class TokenFile {
  readonly path: string;
  readonly #clock: Clock;
  #token: string | null = null;
  #readAt = Number.NEGATIVE_INFINITY;

  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
  }

  /**
   * The token without white space around it: with a line's end it would be no header value. A file that cannot be read right
   * now, while it is replaced, leaves the last token in force.
   * @throws ApiError "credentials" when there never was one.
   */
  async token(): Promise<string> {
    const now = this.#clock.now();
    if (this.#token !== null && now - this.#readAt < READ_EVERY_MS) return this.#token;
    try {
      const token = (await readFile(this.path, "utf8")).trim();
      if (token === "") throw new Error("it is empty");
      this.#token = token;
      this.#readAt = now;
    } catch (cause) {
      if (this.#token === null) {
        const message = `cannot read the token file ${this.path}: ${errorMessage(cause)}`;
        throw new ApiError("credentials", message, { cause });
      }
    }
    return this.#token;
  }

  /** The server did not take it: read it again, whatever its age. */
  expire(): void {
    this.#readAt = Number.NEGATIVE_INFINITY;
  }
}
