// SPDX-License-Identifier: Apache-2.0
/** Lists: which state, which page of it, in which form. */
import { Readable } from "node:stream";
import { constants, createGzip } from "node:zlib";
import type { Answer } from "./answer.js";
import { apiVersionOf, fieldOf, type Resource, selectableFields } from "./resources.js";
import { type LabelSelector, parseFieldSelector, parseLabelSelector } from "./selectors.js";
import { badRequest, expired, invalidOptions, tooLarge } from "./status.js";
import type { Store, Stored } from "./store.js";

export type Query = Readonly<Record<string, string>>;

/** What is selected of a resource. */
export interface Selection {
  readonly includes: (stored: Stored) => boolean;
  /** By labels or fields. */
  readonly narrowed: boolean;
}

const CHUNK_CHARACTERS = 128 * 1024;
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** @throws ApiError 400 */
export function selectionOf(
  resource: Resource,
  namespace: string | undefined,
  query: Query,
  unsupported: readonly string[],
): Selection {
  const labels: LabelSelector = parseLabelSelector(query.labelSelector ?? "");
  const known = selectableFields(resource).filter(
    (field) => !unsupported.includes(`${resource.name}:${field}`),
  );
  const terms = parseFieldSelector(query.fieldSelector ?? "", known);
  const includes = ({ object }: Stored): boolean =>
    (namespace === undefined || object.metadata.namespace === namespace) &&
    labels(object.metadata.labels ?? {}) &&
    terms.every((term) => (fieldOf(resource, object, term.field) === term.value) === term.equal);
  return { includes, narrowed: Boolean(query.labelSelector || query.fieldSelector) };
}

/** @throws ApiError 400 when it is no number */
export function revisionOf(text: string): number {
  if (!/^\d{1,15}$/.test(text))
    throw badRequest(`Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing: invalid syntax`);
  return Number(text);
}

interface Plan {
  readonly revision: number;
  readonly startAfter: string | null;
  /** 0: all. */
  readonly limit: number;
}

/**
 * Which state a list shows and where it starts, by resourceVersion, resourceVersionMatch, limit and continue.
 *
 * @param cacheRevision how far the watch cache has come: what "0" and "not older than" are served from
 */
function planList(store: Store, query: Query, cacheRevision: number): Plan {
  const { resourceVersion: version = "", resourceVersionMatch: match = "", continue: token = "" } = query;
  const limit = query.limit === undefined || query.limit === "" ? 0 : revisionOf(query.limit);
  if (query.sendInitialEvents !== undefined)
    throw invalidOptions("sendInitialEvents", "sendInitialEvents is forbidden for list");
  if (match !== "") {
    if (token !== "")
      throw invalidOptions(
        "resourceVersionMatch",
        "resourceVersionMatch is forbidden when continue is provided",
      );
    if (version === "")
      throw invalidOptions(
        "resourceVersionMatch",
        "resourceVersionMatch is forbidden unless resourceVersion is provided",
      );
    if (match !== "Exact" && match !== "NotOlderThan")
      throw invalidOptions("resourceVersionMatch", `unsupported value ${match}`);
    if (match === "Exact" && version === "0")
      throw invalidOptions(
        "resourceVersionMatch",
        'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"',
      );
  }
  if (token !== "") {
    if (version !== "" && version !== "0")
      throw badRequest("specifying resource version is not allowed when using continue");
    return { ...continued(store, token), limit };
  }
  if (version === "") return { revision: store.revision, startAfter: null, limit };
  const wanted = revisionOf(version);
  // From the cache, whole: a limit does not count there.
  if (wanted === 0) return { revision: cacheRevision, startAfter: null, limit: match === "" ? 0 : limit };
  if (match === "Exact" || (match === "" && limit > 0)) {
    if (wanted > store.revision) throw tooLarge(wanted, store.revision);
    return { revision: wanted, startAfter: null, limit };
  }
  if (wanted > cacheRevision) throw tooLarge(wanted, cacheRevision);
  return { revision: cacheRevision, startAfter: null, limit };
}

const CONTINUE_EXPIRED =
  "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

function continued(store: Store, token: string): Omit<Plan, "limit"> {
  let parsed: { readonly v?: string; readonly rv?: number; readonly start?: string };
  try {
    parsed = JSON.parse(Buffer.from(token, "base64url").toString()) as typeof parsed;
  } catch {
    throw badRequest("continue key is not valid: illegal base64 data");
  }
  const { rv, start } = parsed;
  if (parsed.v !== "meta.k8s.io/v1" || rv === undefined || start === undefined)
    throw badRequest("continue key is not valid: incorrect encoded start resourceVersion");
  if (rv === -1) return { revision: store.revision, startAfter: start };
  if (rv < store.compacted) throw expired(CONTINUE_EXPIRED, continueToken(-1, start));
  return { revision: rv, startAfter: start };
}

function continueToken(rv: number, start: string): string {
  return Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", rv, start })).toString("base64url");
}

export interface Page {
  readonly items: readonly Stored[];
  readonly metadata: {
    readonly resourceVersion: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
}

/** One page (or all) of what a query asks for. @throws ApiError 400, 410, 422, 504 */
export function pageOf(
  store: Store,
  resource: Resource,
  selection: Selection,
  query: Query,
  cacheRevision: number,
): Page {
  const { revision, startAfter, limit } = planList(store, query, cacheRevision);
  const all = store.at(resource, revision);
  const items: Stored[] = [];
  let position = startAfter === null ? 0 : firstAfter(all, startAfter);
  for (; position < all.length && (limit === 0 || items.length < limit); position++) {
    const stored = all[position] as Stored;
    if (selection.includes(stored)) items.push(stored);
  }
  const resourceVersion = String(revision);
  const last = items.at(-1);
  if (position >= all.length || last === undefined) return { items, metadata: { resourceVersion } };
  // The position, not the last item: what was passed over is not looked at again.
  const token = continueToken(revision, (all[position - 1] as Stored).key);
  const rest = selection.narrowed ? {} : { remainingItemCount: all.length - position };
  return { items, metadata: { resourceVersion, continue: token, ...rest } };
}

function firstAfter(sorted: readonly Stored[], key: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as Stored).key <= key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What is wrong with a list on purpose. */
interface Odd {
  readonly kind?: string;
  readonly withoutMetadata?: boolean;
  readonly text?: string;
}

function oddOf({ fault }: Answer): Odd {
  if (fault?.kind === "garbage") return { text: fault.text ?? "{]\u0000no json" };
  if (fault?.kind === "wrong-kind") return { kind: "PodList" };
  if (fault?.kind === "no-metadata") return { withoutMetadata: true };
  return {};
}

/**
 * Writes a list. No turn of the event loop has to do with more than 128 KiB of it, as the clients under test live in the same
 * process.
 *
 * @param gzipFrom bytes from which it is compressed when the client takes that; null: never
 */
export async function writeList(
  answer: Answer,
  resource: Resource,
  page: Page,
  gzipFrom: number | null,
): Promise<void> {
  const odd = oddOf(answer);
  if (odd.text !== undefined) return answer.json(200, odd.text);
  const head = `{"kind":"${odd.kind ?? `${resource.kind}List`}","apiVersion":"${apiVersionOf(resource)}","metadata":${JSON.stringify(page.metadata)},"items":[`;
  const chunks: string[] = [];
  let chunk = head;
  for (const [i, item] of page.items.entries()) {
    const text = odd.withoutMetadata && i === 0 ? '{"spec":{}}' : item.itemText;
    chunk += i === 0 ? text : `,${text}`;
    if (chunk.length < CHUNK_CHARACTERS) continue;
    chunks.push(chunk);
    chunk = "";
    await nextTurn();
  }
  chunks.push(`${chunk}]}\n`);
  const size = chunks.reduce((sum, text) => sum + text.length, 0);
  if (gzipFrom === null || size < gzipFrom) {
    answer.head(200);
    for (const text of chunks) {
      answer.write(text);
      await answer.drained();
      await nextTurn();
    }
    return answer.end();
  }
  answer.head(200, { "content-encoding": "gzip", vary: "Accept-Encoding" });
  const packed = Readable.from(chunks).pipe(createGzip({ level: constants.Z_BEST_SPEED }));
  for await (const bytes of packed) {
    answer.write(bytes as Buffer);
    await answer.drained();
  }
  answer.end();
}
