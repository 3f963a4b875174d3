// SPDX-License-Identifier: Apache-2.0
/** One answer on its way out, with the faults that happen to bytes. */
import type { ServerResponse } from "node:http";
import type { Fault, RequestRecord } from "./faults.js";
import type { ApiError } from "./status.js";
import type { Connection } from "./transport.js";

/** The record of a request while it is being filled in. */
export type Recording = { -readonly [K in keyof RequestRecord]: RequestRecord[K] };

export class Answer {
  readonly record: Recording;
  readonly fault: Fault | null;
  readonly #response: ServerResponse;
  readonly #connection: Connection;
  readonly #changed: () => void;
  #sent = 0;
  #mute = false;
  #over = false;
  readonly #slow: Buffer[] = [];
  #slowTimer: NodeJS.Timeout | undefined;
  #endWhenSent = false;

  constructor(
    response: ServerResponse,
    connection: Connection,
    record: Recording,
    fault: Fault | null,
    changed: () => void,
  ) {
    this.#response = response;
    this.#connection = connection;
    this.record = record;
    this.fault = fault;
    this.#changed = changed;
    response.on("close", () => {
      this.#over = true;
      clearInterval(this.#slowTimer);
      record.end = response.writableFinished ? "complete" : "cut";
      changed();
    });
  }

  /** Nothing can be written any more. */
  get over(): boolean {
    return this.#over;
  }

  onOver(listener: () => void): void {
    if (this.#over) listener();
    else this.#response.on("close", listener);
  }

  /** From now on nothing goes out, and it never ends by itself. */
  mute(): void {
    this.#mute = true;
  }

  head(status: number, headers: Readonly<Record<string, string>> = {}): void {
    if (this.fault?.kind === "no-headers") this.mute();
    if (this.#silenced()) return;
    if (this.fault?.kind === "reset" && this.fault.afterBytes === 0) {
      this.reset();
      return;
    }
    this.record.status = status;
    this.#response.writeHead(status, {
      "content-type": "application/json",
      "audit-id": String(this.record.index),
      ...headers,
    });
    this.#response.flushHeaders();
    if (this.fault?.kind === "silent") this.mute();
    this.#changed();
  }

  /** Writes a part of the body. @returns false when more should wait (`drained`) */
  write(chunk: string | Buffer): boolean {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    this.record.bytes += bytes.length;
    if (this.#over || this.#silenced()) return true;
    const { fault } = this;
    if (fault?.kind === "slow") {
      this.#drip(bytes, fault);
      return true;
    }
    const limit = fault?.kind === "truncated" || fault?.kind === "reset" ? fault.afterBytes : Infinity;
    if (this.#sent + bytes.length >= limit) {
      this.#cut(bytes.subarray(0, limit - this.#sent));
      return true;
    }
    this.#sent += bytes.length;
    return this.#response.write(bytes);
  }

  /** Resolves when the socket has taken what was written, or is no more. */
  drained(): Promise<void> {
    if (this.#over || !this.#response.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        this.#response.off("drain", done);
        this.#response.off("close", done);
        resolve();
      };
      this.#response.on("drain", done);
      this.#response.on("close", done);
    });
  }

  end(): void {
    if (this.#over || this.#silenced()) return;
    if (this.#slow.length > 0) this.#endWhenSent = true;
    else this.#response.end();
  }

  /** TCP RST. */
  reset(): void {
    this.#connection.reset();
  }

  json(status: number, text: string, headers: Readonly<Record<string, string>> = {}): void {
    this.head(status, headers);
    this.write(text);
    this.end();
  }

  refuse(error: ApiError): void {
    const after = error.retryAfterSeconds;
    this.json(
      error.code,
      JSON.stringify(error.body),
      after === undefined ? {} : { "retry-after": String(after) },
    );
  }

  #silenced(): boolean {
    return this.#mute || this.#connection.dead;
  }

  #cut(last: Buffer): void {
    this.#mute = true;
    this.#response.write(last, () => {
      if (this.fault?.kind === "reset") this.reset();
      else this.#response.end();
    });
  }

  #drip(bytes: Buffer, fault: Extract<Fault, { kind: "slow" }>): void {
    for (let at = 0; at < bytes.length; at += fault.bytes)
      this.#slow.push(bytes.subarray(at, at + fault.bytes));
    this.#slowTimer ??= setInterval(() => {
      const piece = this.#slow.shift();
      if (piece !== undefined && !this.#silenced()) this.#response.write(piece);
      if (this.#slow.length > 0) return;
      clearInterval(this.#slowTimer);
      this.#slowTimer = undefined;
      if (this.#endWhenSent) this.#response.end();
    }, fault.everyMs);
  }
}
