// SPDX-License-Identifier: Apache-2.0
/** One document of a configuration file against the settings it may hold. Strict as kube-proxy is, then lenient (12.2). */
import type { Document, LineCounter, Node, YAMLMap } from "yaml";
import { isAlias, isMap, isNode, isScalar } from "yaml";
import type { SettingProblem } from "./problem.js";
import type { Setting, Value } from "./setting.js";
import { readValue } from "./value-schemas.js";

/** What a document says, by the fields' paths. What it does not say, or says with null, is not there. */
export interface ReadDocument {
  readonly values: ReadonlyMap<string, Value>;
  readonly lines: ReadonlyMap<string, number>;
}

/** apiVersion and kind: who reads the document has looked at them. */
const TYPE_META = ["apiVersion", "kind"];

export class DocumentReader {
  readonly #values = new Map<string, Value>();
  readonly #lines = new Map<string, number>();
  readonly #leaves: ReadonlyMap<string, Setting>;
  readonly #branches: ReadonlySet<string>;
  readonly #document: Document;
  readonly #counter: LineCounter;
  readonly #problems: SettingProblem[];

  constructor(
    settings: readonly (Setting & { readonly field: string })[],
    document: Document,
    { counter, problems }: { readonly counter: LineCounter; readonly problems: SettingProblem[] },
  ) {
    this.#leaves = new Map(settings.map((setting) => [setting.field, setting]));
    this.#branches = new Set(settings.flatMap(({ field }) => branchesOf(field)));
    this.#document = document;
    this.#counter = counter;
    this.#problems = problems;
  }

  read(root: YAMLMap): ReadDocument {
    this.#readMap(root, "");
    return { values: this.#values, lines: this.#lines };
  }

  #readMap(map: YAMLMap, prefix: string): void {
    const seen = new Set<string>();
    for (const { key, value } of map.items) {
      const name = isScalar(key) ? String(key.value) : String(key);
      const path = prefix === "" ? name : `${prefix}.${name}`;
      const line = this.#lineOf(key);
      if (seen.has(name)) {
        this.#problem(
          "warning",
          "duplicate_field",
          path,
          line,
          "is given more than once; the last one counts",
        );
      }
      seen.add(name);
      if (line !== null) this.#lines.set(path, line);
      this.#readField(path, this.#resolve(value), line);
    }
  }

  #readField(path: string, node: Node | null, line: number | null): void {
    const setting = this.#leaves.get(path);
    if (setting !== undefined) this.#readLeaf(setting, path, node, line);
    else if (this.#branches.has(path)) this.#readBranch(path, node, line);
    else if (!TYPE_META.includes(path)) {
      this.#problem("warning", "unknown_field", path, line, "there is no such field; it is ignored");
    }
  }

  #readBranch(path: string, node: Node | null, line: number | null): void {
    // The last one counts: nothing is left of an earlier map under the same key.
    for (const known of this.#values.keys()) if (known.startsWith(`${path}.`)) this.#values.delete(known);
    if (isNull(node)) return;
    if (isMap(node)) this.#readMap(node, path);
    else this.#problem("error", "wrong_type", path, line, "must be a map of fields");
  }

  #readLeaf(setting: Setting, path: string, node: Node | null, line: number | null): void {
    this.#values.delete(path);
    if (isNull(node)) return;
    if (isMap(node)) this.#warnOfDuplicates(node, path);
    const read = readValue(setting.kind, this.#plain(node));
    if ("wrong" in read) this.#problem("error", "wrong_type", path, line, read.wrong);
    else this.#values.set(path, read.value);
  }

  /** In a map that is one value: featureGates. */
  #warnOfDuplicates(map: YAMLMap, path: string): void {
    const seen = new Set<string>();
    for (const { key } of map.items) {
      const name = String(key);
      if (seen.has(name)) {
        const line = this.#lineOf(key);
        const full = `${path}.${name}`;
        this.#problem(
          "warning",
          "duplicate_field",
          full,
          line,
          "is given more than once; the last one counts",
        );
      }
      seen.add(name);
    }
  }

  /** Undefined, which no setting can be, for what aliases blow up. */
  #plain(node: Node | null): unknown {
    try {
      return node?.toJS(this.#document);
    } catch {
      return undefined;
    }
  }

  #resolve(node: unknown): Node | null {
    if (isAlias(node)) return node.resolve(this.#document) ?? null;
    return isNode(node) ? node : null;
  }

  #lineOf(node: unknown): number | null {
    const offset = isNode(node) ? node.range?.[0] : undefined;
    return offset === undefined ? null : this.#counter.linePos(offset).line;
  }

  #problem(
    severity: SettingProblem["severity"],
    code: SettingProblem["code"],
    name: string,
    line: number | null,
    message: string,
  ): void {
    this.#problems.push({ severity, code, name, line, message });
  }
}

const isNull = (node: Node | null): boolean => node === null || (isScalar(node) && node.value === null);

/** "a.b.c" is below "a" and "a.b". */
function branchesOf(field: string): string[] {
  const parts = field.split(".");
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("."));
}
