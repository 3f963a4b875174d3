// SPDX-License-Identifier: Apache-2.0
/**
 * What a setting is: where it stands in the file, which flag says the same, what it is without either, and what it does
 * here. Parser, help, `--write-config-to` and docs/configuration.md are all made of the same rows.
 */

/**
 * How a value is written. In a file, null and an empty or zero value are the default, as Go's zero values are; those with
 * "?" have a default for null alone, so that 0 and false can be said.
 */
export type Kind =
  | "text"
  | "bool"
  | "bool?"
  | "int"
  | "int?"
  | "float"
  | "duration"
  | "duration?"
  /** A list of texts; separated by commas as a flag, which may be repeated. */
  | "list"
  /** {name: bool}; name=bool,... as a flag. */
  | "gates"
  /** [{filePattern, verbosity}]; pattern=N,... as a flag. */
  | "vmodule"
  /** A duration, or a number of nanoseconds. */
  | "flush"
  /** A Kubernetes quantity, which nobody here reads. */
  | "quantity";

/** Of what a setting of that kind holds. Durations are milliseconds. */
export type Value =
  | string
  | boolean
  | number
  | null
  | readonly string[]
  | Readonly<Record<string, boolean>>
  | readonly VModule[];

/** A log verbosity for some of kube-proxy's source files. */
export interface VModule {
  readonly filePattern: string;
  readonly verbosity: number;
}

export interface Setting {
  /** Its path in the document, such as "iptables.syncPeriod"; null: there is a flag only. */
  readonly field: string | null;
  /** Without dashes; null: there is a field only. */
  readonly flag: string | null;
  /** For the help: what the flag's value is. */
  readonly placeholder?: string;
  readonly kind: Kind;
  readonly fallback: Value;
  /** For people, where the default is no constant. */
  readonly fallbackText?: string;
  /** What it does here. One sentence, not ended. */
  readonly does: string;
  /** Why it does nothing here: the end of the sentence "no effect here because". */
  readonly idle?: string;
  /** A logging flag: it wins over the file (12.1). */
  readonly logging?: true;
  /** Accepted, but not shown in the help. */
  readonly hidden?: true;
  /** Both included. */
  readonly range?: readonly [number, number];
  readonly choices?: readonly string[];
}

/** Whether a value is one that a file gives to say nothing. */
export function isZero(value: Value | undefined): boolean {
  if (value === undefined || value === null) return true;
  if (typeof value === "object") return Object.keys(value).length === 0;
  return value === "" || value === 0 || value === false;
}

/** Equal as JSON: values have no functions, and their keys keep their order. */
export function sameValue(a: Value | undefined, b: Value | undefined): boolean {
  return JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
}

/** The default in the words of the documentation. */
export function fallbackText(setting: Setting, duration: (milliseconds: number) => string): string {
  if (setting.fallbackText !== undefined) return setting.fallbackText;
  const { fallback, kind } = setting;
  if (fallback === null) return "none";
  if (kind === "duration" || kind === "duration?" || kind === "flush") return duration(Number(fallback));
  if (typeof fallback === "object") return "none";
  return fallback === "" ? "none" : String(fallback);
}

/** A flag as it is typed. */
export function flagName(flag: string): string {
  return flag.length === 1 ? `-${flag}` : `--${flag}`;
}
