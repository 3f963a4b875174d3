// SPDX-License-Identifier: Apache-2.0
/** What is wrong with settings, or worth saying about them. */

export type SettingCode =
  /** Not YAML, or not the kind of document that belongs here. */
  | "unreadable"
  /** 12.2: nobody knows this field. It is ignored. */
  | "unknown_field"
  /** 12.2: the same field twice. The last counts. */
  | "duplicate_field"
  /** The wrong kind of value. */
  | "wrong_type"
  /** 12.9, 12.12: the right kind of value, and not a possible one. */
  | "invalid"
  /** Accepted, and nothing here depends on it. */
  | "no_effect"
  /** Accepted, and something else is done instead. */
  | "replaced"
  /** It works, and is likely not what is wanted (12.11). */
  | "advice";

export interface SettingProblem {
  readonly severity: "error" | "warning";
  readonly code: SettingCode;
  /** The field's path or the flag with its dashes; null: the file as a whole. */
  readonly name: string | null;
  /** In the file, from 1; null: of a flag, or of nothing that is written there. */
  readonly line: number | null;
  readonly message: string;
}

/** One line for people: "/etc/config.conf:7: mode: must be ...". `file`: whence fields come. */
export function settingProblemLine(problem: SettingProblem, file: string | null): string {
  const { name, line, message } = problem;
  const place = file === null || name?.startsWith("--") ? [] : [line === null ? file : `${file}:${line}`];
  return [...place, ...(name === null ? [] : [name]), message].join(": ");
}
