// SPDX-License-Identifier: Apache-2.0
/** One file's bytes to projected objects. What did not change since the last time is not read again. */
import { createHash } from "node:crypto";
import type { Problem } from "../../model/types.js";
import { errorMessage } from "../../util/errors.js";
import type { Sliced } from "../../util/slices.js";
import { Field, Report } from "../fields.js";
import type { Ignored, Projected, SourceObject } from "../objects.js";
import { identityOf } from "../objects.js";
import { readableName } from "../project/metadata.js";
import { isNamespaced, projectObject } from "../project/object.js";
import type { JsonRange, JsonValue } from "./json.js";
import { scanJson } from "./json.js";
import type { Limits } from "./limits.js";
import { mebibytes } from "./limits.js";
import { relocate } from "./relocate.js";
import type { Chunk } from "./split.js";
import { countLines, splitDocuments, splitYamlList } from "./split.js";
import type { YamlDocument, YamlReader } from "./yaml.js";

/** What one document came to. */
export interface DocumentState {
  /** Of its bytes. */
  readonly hash: string;
  readonly line: number;
  readonly results: readonly Projected[];
  /** It could not be read at all. */
  readonly broken: boolean;
}

export interface FileState {
  readonly file: string;
  readonly documents: readonly DocumentState[];
  readonly objects: readonly SourceObject[];
  readonly problems: readonly Problem[];
  readonly ignored: readonly Ignored[];
  /** Something in it is no YAML or JSON: it may be half-written. */
  readonly broken: boolean;
  /** Something in it is left out, and no earlier good version stands for it: more may be meant than `objects` says. */
  readonly lacking: boolean;
}

export interface ParseContext {
  readonly readYaml: YamlReader;
  readonly limits: Limits;
}

/** Smaller lists are read in one piece. Bytes. */
const SMALL_LIST = 32 * 1024;
const MOST_PROBLEMS = 1000;

/**
 * Reads a whole file. `previous` is what the same file came to before: documents with the same bytes are taken from it, and
 * an object that is bad now but was good then stays as it was, as it would in a cluster.
 */
export function* parseManifest(
  file: string,
  bytes: Buffer,
  context: ParseContext,
  previous: FileState | null,
): Sliced<FileState> {
  const refusal = refusalOf(bytes);
  if (refusal !== null) return refused(file, refusal);
  const text = bytes.subarray(0, 3).equals(UTF8_BOM) ? bytes.subarray(3) : bytes;
  const known = new Map(previous?.documents.map((document) => [document.hash, document]));
  const documents: DocumentState[] = [];
  let broken = 0;
  for (const chunk of joinDirectives(yield* splitDocuments(text))) {
    for (const document of yield* parseChunk(file, chunk, context, known)) {
      documents.push(document);
      if (document.broken) broken += 1;
    }
    if (broken >= context.limits.maxBrokenDocuments) {
      documents.push(gaveUp(file, chunk.line, broken));
      break;
    }
    yield;
  }
  return finish(file, documents, previous);
}

const UTF8_BOM = Buffer.from([0xef, 0xbb, 0xbf]);

function refusalOf(bytes: Buffer): string | null {
  const [a, b] = bytes;
  if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) return "is UTF-16; manifests are UTF-8";
  const zero = bytes.indexOf(0);
  return zero < 0 ? null : `is no text: byte ${zero} is zero`;
}

/** A state that holds nothing but the reason. */
export function refused(file: string, message: string): FileState {
  const problem: Problem = {
    severity: "error",
    origin: { file, line: null },
    object: "",
    field: "",
    message,
  };
  return { file, documents: [], objects: [], problems: [problem], ignored: [], broken: true, lacking: true };
}

/** `%YAML` lines stand before the marker of the document that they belong to. */
function joinDirectives(chunks: readonly Chunk[]): readonly Chunk[] {
  const [first, second, ...rest] = chunks;
  if (first === undefined || second === undefined || first.bytes[0] !== 0x25) return chunks;
  return [{ bytes: Buffer.concat([first.bytes, second.bytes]), line: first.line }, ...rest];
}

/** One state for the chunk, or one for each item of a long list. */
function* parseChunk(
  file: string,
  chunk: Chunk,
  context: ParseContext,
  known: ReadonlyMap<string, DocumentState>,
): Sliced<readonly DocumentState[]> {
  const hash = yield* hashOf(chunk.bytes);
  const before = known.get(hash);
  if (before !== undefined) return [movedTo(before, chunk.line)];
  const reading = new DocumentReading(file, chunk, context, known);
  yield* reading.run();
  const { items, results, broken } = reading;
  if (results.length === 0 && !broken && items.length > 0) return items;
  return [...items, { hash, line: chunk.line, results, broken }];
}

function movedTo(document: DocumentState, line: number): DocumentState {
  return { ...document, line, results: relocate(document.results, line - document.line) };
}

const NEWLINE = 0x0a;
const BYTES_PER_STEP = 1 << 21;

function* hashOf(bytes: Uint8Array): Sliced<string> {
  const hash = createHash("sha1");
  for (let i = 0; i < bytes.length; i += BYTES_PER_STEP) {
    hash.update(bytes.subarray(i, i + BYTES_PER_STEP));
    if (bytes.length > BYTES_PER_STEP) yield;
  }
  return hash.digest("base64");
}

/** White space and a marker may stand before a bracket; YAML's flow style begins alike. */
const JSON_START = /^(?:---[ \t\r]*\n?)?\s*(?=[{[])/;

const STRICT_UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @throws TypeError when it is no UTF-8. */
function utf8(bytes: Uint8Array): string {
  return STRICT_UTF8.decode(bytes);
}

/** Null when it is no UTF-8. */
function* decode(bytes: Uint8Array): Sliced<string | null> {
  try {
    if (bytes.length <= BYTES_PER_STEP) return utf8(bytes);
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    let text = "";
    for (let i = 0; i < bytes.length; i += BYTES_PER_STEP) {
      text += decoder.decode(bytes.subarray(i, i + BYTES_PER_STEP), { stream: true });
      yield;
    }
    return text + decoder.decode();
  } catch {
    return null;
  }
}

/** One document being read: collects results. */
class DocumentReading {
  results: Projected[] = [];
  broken = false;
  readonly items: DocumentState[] = [];
  readonly #known: ReadonlyMap<string, DocumentState>;
  readonly #file: string;
  readonly #chunk: Chunk;
  readonly #context: ParseContext;

  constructor(file: string, chunk: Chunk, context: ParseContext, known: ReadonlyMap<string, DocumentState>) {
    this.#known = known;
    this.#file = file;
    this.#chunk = chunk;
    this.#context = context;
  }

  *run(): Sliced<void> {
    const bytes = Buffer.from(
      this.#chunk.bytes.buffer,
      this.#chunk.bytes.byteOffset,
      this.#chunk.bytes.length,
    );
    const start = JSON_START.exec(bytes.toString("latin1", 0, 256));
    if (start !== null && (yield* this.#json(bytes, start[0].length))) return;
    const text = yield* decode(bytes);
    if (text === null) this.#fail("is no UTF-8 text", 1);
    else yield* this.#yaml(text);
  }

  *#yaml(text: string): Sliced<void> {
    const list = this.#chunk.bytes.length > SMALL_LIST ? splitYamlList(text) : null;
    if (list === null) {
      if (this.#tooLarge(text.length, 1)) return;
      for (const document of this.#context.readYaml(text)) this.#take(document, 1);
      return;
    }
    const [head] = this.#context.readYaml(list.head);
    if (head === undefined || head.error !== null) {
      if (head !== undefined) this.#take(head, 1);
      return;
    }
    for (const { text: itemText, lineOffset } of list.items) {
      this.#item(itemText, head.value, lineOffset + 1, () => {
        if (this.#tooLarge(itemText.length, lineOffset + 1)) return;
        for (const item of this.#context.readYaml(itemText)) {
          this.#take({ ...item, value: inherit(item.value, head.value) }, lineOffset + 1);
        }
      });
      yield;
    }
  }

  /** False when it is no JSON after all: much that begins with a bracket is YAML. */
  *#json(bytes: Buffer, offset: number): Sliced<boolean> {
    const body = bytes.subarray(offset);
    const values = yield* scanJson(body);
    if (values === null) return false;
    const lines = new LineReader(body, 1 + countLines(bytes.subarray(0, offset)));
    for (const value of values) {
      const large = value.list !== null && value.end - value.start > SMALL_LIST;
      const ok = large
        ? yield* this.#jsonList(body, value, lines)
        : this.#jsonValue(body, value, lines, null);
      if (!ok) return false;
      yield;
    }
    return true;
  }

  #jsonValue(body: Buffer, range: JsonRange, lines: LineReader, head: unknown): boolean {
    const line = lines.at(range.start);
    if (this.#tooLarge(range.end - range.start, line)) return true;
    let value: unknown;
    try {
      value = JSON.parse(utf8(body.subarray(range.start, range.end)));
    } catch (error) {
      // Small texts get a second chance as YAML, whose reader also knows the line of a mistake.
      const small = body.length <= this.#context.limits.maxObjectBytes;
      if (head === null && this.results.length === 0 && small) return false;
      this.#fail(`is no valid JSON: ${errorMessage(error)}`, line);
      return true;
    }
    this.#project(head === null ? value : inherit(value, head), line, []);
    return true;
  }

  *#jsonList(body: Buffer, value: JsonValue, lines: LineReader): Sliced<boolean> {
    const { list } = value;
    if (list === null) return true;
    const around = [
      body.subarray(value.start, list.start),
      Buffer.from("[]"),
      body.subarray(list.end, value.end),
    ];
    let head: unknown;
    try {
      head = JSON.parse(utf8(Buffer.concat(around)));
    } catch (error) {
      this.#fail(`is no valid JSON: ${errorMessage(error)}`, lines.at(value.start));
      return true;
    }
    if (!isList(head)) return this.#jsonValue(body, value, lines, null);
    for (const item of list.items) {
      const bytes = body.subarray(item.start, item.end);
      this.#item(bytes, head, lines.at(item.start), () => this.#jsonValue(body, item, lines, head));
      yield;
    }
    return true;
  }

  /** An item of a long list is a document of its own: unchanged ones are not read again. `line` as in #project. */
  #item(content: Uint8Array | string, head: unknown, line: number, read: () => void): void {
    const kind = isList(head) ? `${head.kind} ${String(head.apiVersion)}` : "";
    const hash = createHash("sha1").update(kind).update(content).digest("base64");
    const at = this.#chunk.line + line - 1;
    const before = this.#known.get(hash);
    if (before !== undefined) {
      this.items.push(movedTo(before, at));
      return;
    }
    const { results, broken } = this;
    this.results = [];
    this.broken = false;
    read();
    this.items.push({ hash, line: at, results: this.results, broken: this.broken });
    this.results = results;
    this.broken = broken;
  }

  #tooLarge(size: number, line: number): boolean {
    const { maxObjectBytes } = this.#context.limits;
    if (size <= maxObjectBytes) return false;
    this.#fail(`is ${mebibytes(size)}; one object may have ${mebibytes(maxObjectBytes)}`, line);
    return true;
  }

  #take(document: YamlDocument, firstLine: number): void {
    const { error, value } = document;
    // JSON is read as YAML where JSON.parse gives up: for the line, and because YAML's flow style begins alike.
    if (error !== null && this.#file.endsWith(".json")) {
      this.#fail(error.message.replace("no valid YAML", "no valid JSON"), firstLine + error.line - 1, value);
    } else if (error !== null) this.#fail(error.message, firstLine + error.line - 1, value);
    else
      this.#project(
        value,
        firstLine + document.line - 1,
        document.itemLines.map((l) => firstLine + l - 1),
      );
  }

  /** `line` counts from the document's first. */
  #project(value: unknown, line: number, itemLines: readonly number[]): void {
    if (!isList(value)) {
      this.results.push(projectObject(value, this.#origin(line)));
      return;
    }
    for (const [index, item] of value.items.entries()) {
      this.results.push(projectObject(inherit(item, value), this.#origin(itemLines[index] ?? line)));
    }
  }

  #origin(line: number): { readonly file: string; readonly line: number } {
    return Object.freeze({ file: this.#file, line: this.#chunk.line + line - 1 });
  }

  #fail(message: string, line: number, value?: unknown): void {
    this.broken = true;
    const origin = this.#origin(line);
    const object = nameOfBroken(value);
    const problem: Problem = { severity: "error", origin, object, field: "", message };
    this.results.push({ object: null, problems: [problem], ignored: null, identity: null });
  }
}

/** Lines of ascending offsets, counted once. */
class LineReader {
  readonly #text: Buffer;
  #offset = 0;
  #line: number;

  constructor(text: Buffer, firstLine: number) {
    this.#text = text;
    this.#line = firstLine;
  }

  at(offset: number): number {
    for (let i = this.#text.indexOf(NEWLINE, this.#offset); i >= 0 && i < offset; ) {
      this.#line += 1;
      this.#offset = i + 1;
      i = this.#text.indexOf(NEWLINE, this.#offset);
    }
    return this.#line;
  }
}

function nameOfBroken(value: unknown): string {
  const root = new Field(new Report(), value);
  const kind = root.get("kind").value;
  const name = readableName(root, isNamespaced(kind));
  return typeof kind === "string" && /^\w+$/.test(kind) && name !== null ? `${kind} ${name}` : "";
}

interface List {
  readonly kind: string;
  readonly apiVersion?: unknown;
  readonly items: readonly unknown[];
}

/** `List`, and typed ones such as ServiceList. */
function isList(value: unknown): value is List {
  if (typeof value !== "object" || value === null) return false;
  const { kind, items } = value as { kind?: unknown; items?: unknown };
  return typeof kind === "string" && kind.endsWith("List") && Array.isArray(items);
}

/** Items of a typed list need not repeat its kind. */
function inherit(item: unknown, list: unknown): unknown {
  if (!isList(list) || list.kind === "List" || typeof item !== "object" || item === null) return item;
  return { apiVersion: list.apiVersion, kind: list.kind.slice(0, -"List".length), ...item };
}

function gaveUp(file: string, line: number, broken: number): DocumentState {
  const problem: Problem = {
    severity: "error",
    origin: { file, line },
    object: "",
    field: "",
    message: `has ${broken} broken documents up to here; the rest of the file is not read`,
  };
  return {
    hash: "",
    line,
    results: [{ object: null, problems: [problem], ignored: null, identity: null }],
    broken: true,
  };
}

function finish(file: string, documents: readonly DocumentState[], previous: FileState | null): FileState {
  const objects: SourceObject[] = [];
  const problems: Problem[] = [];
  const ignored: Ignored[] = [];
  const failed: string[] = [];
  for (const { results } of documents) {
    for (const result of results) {
      if (result.object !== null) objects.push(result.object);
      else if (result.identity !== null && result.ignored === null) failed.push(result.identity);
      if (result.ignored !== null) ignored.push(result.ignored);
      problems.push(...result.problems);
    }
  }
  problems.push(...keepLastGood(file, objects, failed, previous));
  const lacking = lacksAny(documents, objects, failed);
  if (problems.length > MOST_PROBLEMS) {
    const message = `has ${problems.length - MOST_PROBLEMS} more problems`;
    problems.length = MOST_PROBLEMS;
    problems.push({ severity: "error", origin: { file, line: null }, object: "", field: "", message });
  }
  const broken = documents.some((document) => document.broken);
  return { file, documents, objects, problems, ignored, broken, lacking };
}

/** An object with an error is left out whole; one that is there in another version is not missed. */
function lacksAny(
  documents: readonly DocumentState[],
  objects: readonly SourceObject[],
  failed: readonly string[],
): boolean {
  const nameless = ({ object, identity, problems }: Projected): boolean =>
    object === null && identity === null && problems.some(({ severity }) => severity === "error");
  if (documents.some(({ broken, results }) => broken || results.some(nameless))) return true;
  if (failed.length === 0) return false;
  const present = new Set(objects.map(identityOf));
  return failed.some((identity) => !present.has(identity));
}

/** Adds the earlier version of each object that cannot be used any more, and says so. */
function keepLastGood(
  file: string,
  objects: SourceObject[],
  failed: readonly string[],
  previous: FileState | null,
): Problem[] {
  if (previous === null || failed.length === 0) return [];
  const present = new Set(objects.map(identityOf));
  const earlier = new Map(previous.objects.map((object) => [identityOf(object), object]));
  return failed.flatMap((identity) => {
    const object = earlier.get(identity);
    if (object === undefined || present.has(identity)) return [];
    present.add(identity);
    objects.push(object);
    const message = "keeps its last good version";
    return {
      severity: "warning",
      origin: { file, line: object.origin.line },
      object: identity,
      field: "",
      message,
    };
  });
}
