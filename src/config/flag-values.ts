// SPDX-License-Identifier: Apache-2.0
/** Flags' texts as values, read as Go's flag library does. */
import type { SettingProblem } from "./problem.js";
import { flagName, type Kind, type Setting, type Value, type VModule } from "./setting.js";
import { type ReadValue, readValue } from "./value-schemas.js";

/** What was given, by flag: `true` without a value; the texts of a flag that may be repeated in their order. */
export type GivenFlags = Readonly<Record<string, string | true | readonly string[] | undefined>>;

const TRUE = ["1", "t", "T", "TRUE", "true", "True"];
const FALSE = ["0", "f", "F", "FALSE", "false", "False"];

/** By flag, without dashes. What is wrong goes to `problems`. */
export function readFlags(
  settings: readonly (Setting & { readonly flag: string })[],
  given: GivenFlags,
  problems: SettingProblem[],
): ReadonlyMap<string, Value> {
  const values = new Map<string, Value>();
  for (const { flag, kind } of settings) {
    const texts = given[flag];
    if (texts === undefined) continue;
    const read = readFlag(kind, texts === true ? "true" : typeof texts === "string" ? [texts] : texts);
    if ("value" in read) values.set(flag, read.value);
    else {
      const fields = { severity: "error", code: "wrong_type", line: null, name: flagName(flag) } as const;
      problems.push({ ...fields, message: read.wrong });
    }
  }
  return values;
}

function readFlag(kind: Kind, given: "true" | readonly string[]): ReadValue {
  const texts = given === "true" ? ["true"] : given;
  const last = texts.at(-1) ?? "";
  switch (kind) {
    case "bool":
    case "bool?":
      return TRUE.includes(last) || FALSE.includes(last)
        ? { value: TRUE.includes(last) }
        : readValue(kind, last);
    case "int":
    case "int?":
      return readValue(kind, /^[-+]?\d+$/.test(last) ? Number(last) : last);
    case "float":
      return readValue(kind, last.trim() !== "" && Number.isFinite(Number(last)) ? Number(last) : last);
    case "list":
      return { value: words(texts) };
    case "gates":
      return readGates(words(texts));
    case "vmodule":
      return readVModule(words(texts));
    default:
      return readValue(kind, last);
  }
}

function words(texts: readonly string[]): readonly string[] {
  return texts
    .flatMap((text) => text.split(","))
    .map((word) => word.trim())
    .filter((word) => word !== "");
}

function readGates(pairs: readonly string[]): ReadValue {
  const gates: Record<string, boolean> = {};
  for (const pair of pairs) {
    const [name = "", text = ""] = pair.split("=");
    const value = text.trim();
    if (name.trim() === "" || !(TRUE.includes(value) || FALSE.includes(value))) {
      return { wrong: `must be name=true or name=false, not ${JSON.stringify(pair)}` };
    }
    gates[name.trim()] = TRUE.includes(value);
  }
  return { value: gates };
}

function readVModule(pairs: readonly string[]): ReadValue {
  const modules: VModule[] = [];
  for (const pair of pairs) {
    const match = /^([^=]+)=(\d{1,9})$/.exec(pair);
    if (match === null) return { wrong: `must be pattern=N, not ${JSON.stringify(pair)}` };
    modules.push({ filePattern: match[1] ?? "", verbosity: Number(match[2]) });
  }
  return { value: modules };
}
