// SPDX-License-Identifier: Apache-2.0
/** Settings by their paths, and as the objects that these paths are of. */
import type { Setting, Value } from "./setting.js";
import { isZero } from "./setting.js";

export type Values = Map<string, Value>;

type Field = Setting & { readonly field: string };

/** All defaults. */
export function defaultsOf(settings: readonly Field[]): Values {
  return new Map(settings.map(({ field, fallback }) => [field, fallback]));
}

/** What a document says, with defaults for what it does not say: as Go's zero values say nothing. */
export function withDefaults(settings: readonly Field[], said: ReadonlyMap<string, Value>): Values {
  return new Map(
    settings.map(({ field, kind, fallback }) => {
      const value = said.get(field);
      const nothing = kind.endsWith("?") ? value === undefined : isZero(value);
      return [field, nothing ? fallback : (value ?? fallback)];
    }),
  );
}

/** {"a.b": 1} is {a: {b: 1}}, frozen. The caller knows its type: it is that of the settings' paths and kinds. */
export function treeOf(values: ReadonlyMap<string, unknown>): Readonly<Record<string, unknown>> {
  const root: Record<string, unknown> = {};
  for (const [path, value] of values) {
    const names = path.split(".");
    let node = root;
    for (const name of names.slice(0, -1)) {
      node[name] ??= {};
      node = node[name] as Record<string, unknown>;
    }
    node[names.at(-1) ?? ""] = value;
  }
  return deepFreeze(root);
}

function deepFreeze<T extends object>(value: T): T {
  for (const each of Object.values(value)) if (typeof each === "object" && each !== null) deepFreeze(each);
  return Object.freeze(value);
}
