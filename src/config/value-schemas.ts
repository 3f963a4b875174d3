// SPDX-License-Identifier: Apache-2.0
/** How a value of each kind is read from a document. */
import * as v from "valibot";
import { parseDuration } from "./duration.js";
import type { Kind, Value } from "./setting.js";

const TEXT = "must be text";
const BOOL = "must be true or false";
const WHOLE = "must be a whole number";
const NUMBER = "must be a number";
const DURATION = 'must be a duration such as "30s" or "1m0s"';
const LIST = "must be a list of texts";
const GATES = "must be a map of names to true or false";
const VMODULE = "must be a list of {filePattern, verbosity}";
const INT32 = 2 ** 31;

const int = v.pipe(
  v.number(WHOLE),
  v.integer(WHOLE),
  v.minValue(-INT32, "is too small for an int32"),
  v.maxValue(INT32 - 1, "is too large for an int32"),
);
// What is no duration becomes NaN, which is no number.
const duration = v.pipe(
  v.string(DURATION),
  v.transform((text) => parseDuration(text) ?? Number.NaN),
  v.number(DURATION),
);
const nanoseconds = v.pipe(
  v.number(DURATION),
  v.transform((value) => value / 1e6),
);
const vmodule = v.object({ filePattern: v.string(VMODULE), verbosity: int }, VMODULE);

const SCHEMAS: Readonly<Record<Kind, v.GenericSchema<unknown, Value>>> = {
  text: v.string(TEXT),
  bool: v.boolean(BOOL),
  "bool?": v.boolean(BOOL),
  int,
  "int?": int,
  float: v.pipe(v.number(NUMBER), v.finite(NUMBER)),
  duration,
  "duration?": duration,
  list: v.array(v.string(LIST), LIST),
  gates: v.record(v.string(), v.boolean(GATES), GATES),
  vmodule: v.array(vmodule, VMODULE),
  flush: v.union([duration, nanoseconds], DURATION),
  quantity: v.pipe(v.union([v.string(), v.number()], TEXT), v.transform(String)),
};

export type ReadValue = { readonly value: Value } | { readonly wrong: string };

/** Reads one value, which is not null. `wrong` says what it must be, and what it is. */
export function readValue(kind: Kind, raw: unknown): ReadValue {
  const result = v.safeParse(SCHEMAS[kind], raw);
  if (result.success) return { value: result.output };
  return { wrong: `${result.issues[0].message}, not ${JSON.stringify(raw) ?? String(raw)}` };
}
