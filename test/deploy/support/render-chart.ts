// SPDX-License-Identifier: Apache-2.0
/**
 * Renders the chart where there is no helm. It knows the few actions that the chart uses and refuses every other, so the chart
 * stays as simple as this; `helm template`, where it is found, is compared with it.
 *
 *   {{ .Values.a.b | default .Values.c }}   {{ toYaml .Values.a | nindent 4 }}   {{ if .X }} {{ with .X }} {{ end }}
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";

type Value = unknown;

/** Blocks, texts and actions; a block's children are until its end. */
type Piece =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "action"; readonly pipeline: string }
  | {
      readonly kind: "block";
      readonly word: "if" | "with";
      readonly pipeline: string;
      readonly children: readonly Piece[];
    };

export interface RenderOptions {
  readonly namespace?: string;
  /** Merged into values.yaml as helm does: maps by key, everything else whole. */
  readonly values?: Readonly<Record<string, Value>>;
}

/** The objects of a chart, in the order of its files. */
export function renderChart(
  directory: string,
  { namespace = "kube-system", values = {} }: RenderOptions = {},
): readonly object[] {
  const chart = parse(readFileSync(join(directory, "Chart.yaml"), "utf8")) as Record<string, Value>;
  const defaults = parse(readFileSync(join(directory, "values.yaml"), "utf8")) as Record<string, Value>;
  const root = {
    Values: merge(defaults, values),
    Release: { Namespace: namespace, Name: "portolan" },
    Chart: { AppVersion: chart.appVersion, Name: chart.name },
  };
  const files = readdirSync(join(directory, "templates")).filter((file) => file.endsWith(".yaml"));
  return files.flatMap((file) => {
    const text = renderText(readFileSync(join(directory, "templates", file), "utf8"), root);
    const object = parse(text) as object | null;
    return object === null ? [] : [object];
  });
}

/** One template. */
export function renderText(text: string, root: object): string {
  const { pieces, rest } = parsePieces(tokens(text), 0);
  if (rest !== -1) throw new Error("an {{ end }} without a beginning");
  return evaluate(pieces, root, root);
}

function merge(below: Value, above: Value): Value {
  const isMap = (value: Value): value is Record<string, Value> =>
    typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isMap(below) || !isMap(above)) return above;
  return {
    ...below,
    ...Object.fromEntries(Object.entries(above).map(([key, value]) => [key, merge(below[key], value)])),
  };
}

/** Texts at even places, actions at odd ones; "{{-" and "-}}" have taken the white space beside them. */
function tokens(text: string): readonly string[] {
  const trimmed = text.replace(/\s*\{\{- /g, "{{ ").replace(/ -\}\}\s*/g, " }}");
  return trimmed.split(/\{\{ (.*?) \}\}/s);
}

function parsePieces(
  parts: readonly string[],
  from: number,
): { readonly pieces: readonly Piece[]; readonly rest: number } {
  const pieces: Piece[] = [];
  for (let i = from; i < parts.length; i++) {
    const part = parts[i] as string;
    if (i % 2 === 0) {
      if (part.includes("{{")) throw new Error(`not understood: ${part}`);
      pieces.push({ kind: "text", text: part });
      continue;
    }
    if (part === "end") return { pieces, rest: i };
    const [, word, pipeline = ""] = /^(if|with) (.*)$/.exec(part) ?? [];
    if (word === undefined) {
      pieces.push({ kind: "action", pipeline: part });
      continue;
    }
    const { pieces: children, rest } = parsePieces(parts, i + 1);
    if (rest === -1) throw new Error(`no {{ end }} for {{ ${part} }}`);
    pieces.push({ kind: "block", word: word as "if" | "with", pipeline, children });
    i = rest;
  }
  return { pieces, rest: -1 };
}

/** As Go's templates see it. */
const isEmpty = (value: Value): boolean =>
  value === undefined ||
  value === null ||
  value === false ||
  value === "" ||
  value === 0 ||
  (typeof value === "object" && Object.keys(value).length === 0);

function evaluate(pieces: readonly Piece[], dot: Value, root: object): string {
  return pieces
    .map((piece) => {
      if (piece.kind === "text") return piece.text;
      const value = pipe(piece.pipeline, dot);
      if (piece.kind === "action") return String(value);
      if (isEmpty(value)) return "";
      return evaluate(piece.children, piece.word === "with" ? value : dot, root);
    })
    .join("");
}

function pipe(pipeline: string, dot: Value): Value {
  let value: Value;
  for (const [i, stage] of pipeline.split(" | ").entries()) {
    const [word = "", ...args] = stage.split(" ");
    if (i === 0 && args.length === 0) value = lookUp(word, dot);
    else if (i === 0 && word === "toYaml" && args.length === 1) value = yaml(lookUp(args[0] as string, dot));
    else if (i > 0 && word === "nindent" && args.length === 1) value = indent(String(value), Number(args[0]));
    else if (i > 0 && word === "default" && args.length === 1)
      value = isEmpty(value) ? lookUp(args[0] as string, dot) : value;
    else throw new Error(`the chart uses what only helm can do: {{ ${pipeline} }}`);
  }
  return value;
}

function lookUp(path: string, dot: Value): Value {
  if (path === ".") return dot;
  if (!/^(\.\w+)+$/.test(path)) throw new Error(`not understood: ${path}`);
  let value = dot;
  for (const name of path.slice(1).split(".")) {
    if (typeof value !== "object" || value === null || !(name in value))
      throw new Error(`there is no ${path} (values.yaml names them all)`);
    value = (value as Record<string, Value>)[name];
  }
  return value;
}

const yaml = (value: Value): string => stringify(value).trimEnd();
const indent = (text: string, spaces: number): string =>
  `\n${text
    .split("\n")
    .map((line) => " ".repeat(spaces) + line)
    .join("\n")}`;
