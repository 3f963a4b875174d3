// SPDX-License-Identifier: Apache-2.0
/** YAML as Kubernetes reads it (1.1: `yes` and `on` are true), with lines, without what its reader does not know. */
import type * as Yaml from "yaml";
import { errorMessage } from "../../util/errors.js";
import { readPlainYaml } from "./plain-yaml.js";

export interface YamlError {
  readonly message: string;
  /** 1-based, within the text. */
  readonly line: number;
}

export interface YamlDocument {
  /** Of a broken document whatever could be read: good for naming it, for nothing else. */
  readonly value: unknown;
  /** 1-based line of the first key, within the text. */
  readonly line: number;
  /** 1-based line of each entry of a top-level `items`. */
  readonly itemLines: readonly number[];
  readonly error: YamlError | null;
}

/** Never throws. Documents without content are left out. */
export type YamlReader = (text: string) => readonly YamlDocument[];

/** Deeper nesting is nonsense, and costs the parser more than linear time. */
const DEEPEST = 64;
/** An alias bomb is refused when its aliases stand for more than about this many nodes each. */
const MAX_ALIASES = 100;

/** Go's reader has no sexagesimal numbers and hands times and binaries on as text. */
const UNKNOWN_TAGS = /:(?:timestamp|binary|omap|pairs|set)$/;

/** Go's decimal floats. The library's own patterns take "." and names such as "e5" for numbers. */
const FLOAT = /^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)$/;
const FLOAT_WITH_EXPONENT = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$/;

function knownTags(tags: Yaml.Tags): Yaml.Tags {
  return tags.flatMap((tag): Yaml.Tags => {
    if (typeof tag === "string") return [tag];
    if (tag.format === "TIME" || UNKNOWN_TAGS.test(tag.tag)) return [];
    if (!tag.tag.endsWith(":float") || !("test" in tag) || tag.test?.test(".inf")) return [tag];
    return [{ ...(tag as Yaml.ScalarTag), test: tag.format === "EXP" ? FLOAT_WITH_EXPONENT : FLOAT }];
  });
}

/** Reads everyday YAML by itself and everything else with the library. */
export async function loadYaml(): Promise<YamlReader> {
  const full = await loadFullYaml();
  return (text) => {
    const plain = readPlainYaml(text);
    return plain === null ? full(text) : [{ ...plain, itemLines: [], error: null }];
  };
}

/** The library alone; loaded at the first call, which takes some 70 ms. */
export async function loadFullYaml(): Promise<YamlReader> {
  const yaml = await import("yaml");
  return (text) => {
    const deep = tooDeepLine(text);
    if (deep !== null) {
      return [broken(undefined, { message: `is nested more than ${DEEPEST} levels deep`, line: deep })];
    }
    try {
      return readAll(yaml, text);
    } catch (error) {
      return [broken(undefined, { message: errorMessage(error), line: 1 })];
    }
  };
}

function readAll(yaml: typeof Yaml, text: string): readonly YamlDocument[] {
  const lines = new yaml.LineCounter();
  const documents = yaml.parseAllDocuments(text, {
    version: "1.1",
    customTags: knownTags,
    uniqueKeys: true,
    stringKeys: true,
    prettyErrors: false,
    lineCounter: lines,
  });
  return Array.isArray(documents)
    ? documents.flatMap((document) => readOne(yaml, document, lines) ?? [])
    : [];
}

function readOne(
  yaml: typeof Yaml,
  document: Yaml.Document.Parsed,
  lines: Yaml.LineCounter,
): YamlDocument | null {
  const lineAt = (offset: number | undefined): number => Math.max(1, lines.linePos(offset ?? 0).line);
  const { contents } = document;
  const first = document.errors[0];
  if (first === undefined && (contents === null || (yaml.isScalar(contents) && contents.value === null)))
    return null;
  const line = lineAt(contents?.range?.[0]);
  if (first !== undefined) {
    return broken(partialValue(document), { message: sentence(first), line: lineAt(first.pos[0]) });
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (error) {
    return broken(undefined, { message: errorMessage(error), line });
  }
  return { value, line, itemLines: itemLines(yaml, contents, lineAt), error: null };
}

/** Of a broken document: as much as there is, or nothing. */
function partialValue(document: Yaml.Document.Parsed): unknown {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch {
    return undefined;
  }
}

function itemLines(
  yaml: typeof Yaml,
  contents: unknown,
  lineAt: (offset: number | undefined) => number,
): readonly number[] {
  const items: unknown = yaml.isMap(contents) ? contents.get("items", true) : null;
  if (!yaml.isSeq(items)) return [];
  return items.items.map((item) => lineAt(yaml.isNode(item) ? item.range?.[0] : undefined));
}

function sentence(error: Yaml.YAMLParseError): string {
  const [text = ""] = error.message.split("\n");
  return `is no valid YAML: ${text}`;
}

function broken(value: unknown, error: YamlError): YamlDocument {
  return { value, line: error.line, itemLines: [], error };
}

/**
 * The line where nesting gets too deep, as far as brackets and runs of `- - -` or `? ? ?` show it; brackets in quotes and
 * in indented text count too, unless they close again.
 */
function tooDeepLine(text: string): number | null {
  let depth = 0;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === 0x5b || code === 0x7b) depth += 1;
    else if (code === 0x5d || code === 0x7d) depth = Math.max(0, depth - 1);
    // Block text may hold any brackets, but a line of flow nesting this deep is long or repeated.
    if (depth > DEEPEST * 4) return lineOf(text, i);
  }
  const run = new RegExp(`(?:[-?:][ \\t]+){${DEEPEST},}`).exec(text);
  if (run !== null) return lineOf(text, run.index);
  return null;
}

function lineOf(text: string, offset: number): number {
  let line = 1;
  for (let i = text.indexOf("\n"); i >= 0 && i < offset; i = text.indexOf("\n", i + 1)) line += 1;
  return line;
}
