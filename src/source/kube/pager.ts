// SPDX-License-Identifier: Apache-2.0
/** A whole list in pages, for servers without streaming lists. */
import { ApiError } from "./errors.js";
import type { Pacer } from "./pacer.js";
import { parseJson, readListHead, readObject } from "./raw.js";
import type { ResourceSpec } from "./resources.js";
import { selectorQuery } from "./resources.js";
import { ListSplitter } from "./split-list.js";
import type { Replacement } from "./store.js";
import type { Transport } from "./transport.js";

const PAGE = "500";
const HEADERS_MS = 30_000;
/** One page; from the watch cache it is the whole list. */
const PAGE_MS = 60_000;

export interface PagerDependencies {
  readonly transport: Transport;
  readonly pacer: Pacer;
  /** Hears of an item that is none; the others count all the same. */
  readonly onGarbage: (error: ApiError) => void;
}

/**
 * Lists everything into `target`, which is not committed here. `from`: "0" for whatever the server has at hand, a resource
 * version for nothing older, "" for the newest. A page that comes too late (410) begins it all again, in one piece.
 * @returns the list's resource version.
 * @throws ApiError; what the signal was aborted with.
 */
export async function listPaged(
  spec: ResourceSpec,
  from: string,
  target: Replacement,
  dependencies: PagerDependencies,
  signal: AbortSignal,
): Promise<string> {
  // From a version of its own a server lists out of its cache only without a limit (and with one, from exactly that state).
  let limit: string | null = from === "" || from === "0" ? PAGE : null;
  let next = "";
  let version = "";
  for (;;) {
    // A token of the next page holds the version: both together are refused.
    const start: Record<string, string> = from === "" ? {} : { resourceVersion: from };
    const position = next === "" ? start : { continue: next };
    const query = { ...selectorQuery(spec), ...position, ...(limit === null ? {} : { limit }) };
    try {
      const head = await readPage(spec, query, target, dependencies, signal);
      if (version === "") version = head.resourceVersion;
      next = head.next;
      if (next === "") return version;
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "gone" || next === "") throw error;
      target.clear();
      limit = null;
      next = "";
      version = "";
    }
    signal.throwIfAborted();
  }
}

async function readPage(
  spec: ResourceSpec,
  query: Readonly<Record<string, string>>,
  target: Replacement,
  { transport, pacer, onGarbage }: PagerDependencies,
  signal: AbortSignal,
): Promise<{ resourceVersion: string; next: string }> {
  const { path } = spec;
  const limits = { headersMs: HEADERS_MS, idleMs: HEADERS_MS, totalMs: PAGE_MS };
  const { body } = await transport.open({ path, query, gzip: true, ...limits }, signal);
  const splitter = new ListSplitter();
  for await (const chunk of body) {
    for (const item of splitter.feed(chunk)) {
      skippingGarbage(onGarbage, () =>
        target.put(readObject(parseJson(item, "an item of the list"), spec, true)),
      );
      if (pacer.due) await pacer.pause();
      signal.throwIfAborted();
    }
    if (pacer.due) await pacer.pause();
  }
  signal.throwIfAborted();
  return readListHead(splitter.end(), spec);
}

/** One object that is none must not cost the others: what a list lacks of it, it would lack for ever. */
export function skippingGarbage(onGarbage: (error: ApiError) => void, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== "garbage") throw error;
    onGarbage(error);
  }
}
