// SPDX-License-Identifier: Apache-2.0
/** What can go wrong with a request, on demand. */
import type { ResourceName } from "./resources.js";

export type Verb = "get" | "list" | "watch" | "create" | "update" | "patch" | "delete";

/** Which requests are meant; what is absent matches every request. */
export interface RequestMatch {
  readonly resource?: ResourceName | undefined;
  readonly verb?: Verb | undefined;
  /** A page after the first one, or only the first ones. */
  readonly continued?: boolean | undefined;
  readonly where?: ((request: RequestRecord) => boolean) | undefined;
}

/** One request, as the server saw it. */
export interface RequestRecord {
  /** From 0. */
  readonly index: number;
  /** Milliseconds of performance.now() when its head had come. */
  readonly at: number;
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly verb: Verb | null;
  readonly resource: ResourceName | null;
  /** Lower-case names. Credentials are in it: do not print it. */
  readonly headers: Readonly<Record<string, string>>;
  /** null: nobody (anonymous, or credentials that are not good). */
  readonly user: string | null;
  /** Number of the connection, from 0. */
  readonly connection: number;
  /** 0: no answer yet. */
  readonly status: number;
  /** Bytes of the body, before compression. */
  readonly bytes: number;
  /** Lines of a watch. */
  readonly events: number;
  /** How it ended: not yet, whole, or cut (by either side). */
  readonly end: "open" | "complete" | "cut";
}

export type Fault =
  /** An answer with this status. `retryAfterSeconds` goes into the header and the body. */
  | {
      readonly kind: "status";
      readonly code: number;
      readonly reason?: string;
      readonly message?: string;
      readonly retryAfterSeconds?: number;
    }
  /** 401 until the token is rotated. */
  | { readonly kind: "unauthorized" }
  /** Nothing is ever answered. */
  | { readonly kind: "no-headers" }
  /** Headers, and nothing after: no events, no bookmarks, no end. */
  | { readonly kind: "silent" }
  /** The body comes in small pieces. */
  | { readonly kind: "slow"; readonly bytes: number; readonly everyMs: number }
  /** After so many watch events (lists: instead of the body) comes text that is no JSON. */
  | { readonly kind: "garbage"; readonly afterEvents?: number; readonly text?: string }
  /** After so many events, one about an object of another kind. In lists: the list is of another kind. */
  | { readonly kind: "wrong-kind"; readonly afterEvents?: number }
  /** After so many events, one whose object has no metadata. In lists: an item without. */
  | { readonly kind: "no-metadata"; readonly afterEvents?: number }
  /** After so many events, an ERROR event, and the end. */
  | {
      readonly kind: "error-event";
      readonly code: number;
      readonly message?: string;
      readonly afterEvents?: number;
    }
  /** A watch ends well after so many events. */
  | { readonly kind: "close"; readonly afterEvents?: number }
  /** The body ends in the middle, as if that were all. */
  | { readonly kind: "truncated"; readonly afterBytes: number }
  /** TCP RST in the middle of the body; at 0 before the headers. */
  | { readonly kind: "reset"; readonly afterBytes: number };

/** A fault that is in force. */
export class ActiveFault {
  readonly match: RequestMatch;
  readonly fault: Fault;
  /** How many requests it has met. */
  hits = 0;
  #left: number;
  #skip: number;

  constructor(match: RequestMatch, fault: Fault, times: number, skip: number) {
    this.match = match;
    this.fault = fault;
    this.#left = times;
    this.#skip = skip;
  }

  /** Is it this request's turn? Counts when it is. */
  take(request: RequestRecord): boolean {
    if (this.#left === 0 || !matches(this.match, request)) return false;
    if (this.#skip > 0) {
      this.#skip--;
      return false;
    }
    this.#left--;
    this.hits++;
    return true;
  }

  /** Ends it. Requests that it has met already stay met. */
  remove(): void {
    this.#left = 0;
  }
}

export function matches(match: RequestMatch, request: RequestRecord): boolean {
  if (match.resource !== undefined && match.resource !== request.resource) return false;
  if (match.verb !== undefined && match.verb !== request.verb) return false;
  if (match.continued !== undefined && match.continued !== Boolean(request.query.continue)) return false;
  return match.where?.(request) ?? true;
}
