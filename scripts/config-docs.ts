// SPDX-License-Identifier: Apache-2.0
// Writes the tables of docs/configuration.md from the settings that the parser knows. `--check` only compares.
import { formatDuration } from "../src/config/duration.js";
import { KUBE_PROXY_FIELDS, KUBE_PROXY_FLAGS } from "../src/config/kube-proxy-settings.js";
import { PORTOLAN_SETTINGS } from "../src/config/portolan-settings.js";
import { fallbackText, type Setting } from "../src/config/setting.js";
import { tablePlace, withPart, writeDocument } from "./generated-docs.js";

const TYPES: Readonly<Record<Setting["kind"], string>> = {
  text: "text",
  bool: "bool",
  "bool?": "bool",
  int: "int",
  "int?": "int",
  float: "number",
  duration: "duration",
  "duration?": "duration",
  list: "list",
  gates: "map of bool",
  vmodule: "list of {filePattern, verbosity}",
  flush: "duration",
  quantity: "quantity",
};

const flagText = (flag: string | null): string =>
  flag === null ? "" : flag.length === 1 ? `\`-${flag}\`` : `\`--${flag}\``;

function row(setting: Setting, withField: boolean): string {
  const { field, flag, kind, does, idle, choices, range } = setting;
  const limits = [
    ...(choices === undefined ? [] : [choices.join(", ")]),
    ...(range === undefined || kind === "duration" ? [] : [`${range[0]} to ${range[1]}`]),
  ];
  const words = [does, ...limits].join(": ");
  const here = idle === undefined ? words : `${words}. **No effect here** because ${idle}`;
  const cells = [
    ...(withField ? [`\`${field}\``] : []),
    flagText(flag),
    TYPES[kind],
    fallbackText(setting, formatDuration),
    here,
  ];
  return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
}

function table(settings: readonly Setting[], withField: boolean): string {
  const head = [...(withField ? ["field"] : []), "flag", "type", "default", "does"];
  return [
    `| ${head.join(" | ")} |`,
    `|${"---|".repeat(head.length)}`,
    ...settings.map((setting) => row(setting, withField)),
  ].join("\n");
}

/** The tables by the name of the markers that they stand between. */
const TABLES: Readonly<Record<string, () => string>> = {
  "kube-proxy": () => table(KUBE_PROXY_FIELDS, true),
  flags: () =>
    table(
      KUBE_PROXY_FLAGS.filter(({ field }) => field === null),
      false,
    ),
  portolan: () => table(PORTOLAN_SETTINGS, true),
};

/** The document with its tables as they should be. */
export function withTables(text: string): string {
  return Object.entries(TABLES).reduce(
    (before, [name, render]) => withPart(before, tablePlace(name), render()),
    text,
  );
}

writeDocument(import.meta.url, new URL("../docs/configuration.md", import.meta.url), withTables);
