// SPDX-License-Identifier: Apache-2.0
/**
 * Reading untyped objects strictly: a Field is a value and its path, and every reader says what is wrong with which field
 * instead of guessing. As in the API, null is the same as absent.
 */
import type { Cidr } from "../net/cidr.js";
import { parseCidr } from "../net/cidr.js";
import type { IpAddress } from "../net/ip.js";
import { parseIp } from "../net/ip.js";

export interface FieldProblem {
  readonly severity: "error" | "warning";
  /** "spec.ports[0].port". */
  readonly path: string;
  readonly message: string;
}

/** Collects what is wrong with one object. */
export class Report {
  readonly problems: FieldProblem[] = [];

  get failed(): boolean {
    return this.problems.some((problem) => problem.severity === "error");
  }
}

export type Labels = Readonly<Record<string, string>>;

const NO_LABELS: Labels = Object.freeze(Object.create(null) as Record<string, string>);
const LONGEST_QUOTE = 40;

export class Field {
  readonly value: unknown;
  readonly #report: Report;
  readonly #parent: Field | null;
  readonly #key: string | number;

  constructor(report: Report, value: unknown, parent: Field | null = null, key: string | number = "") {
    this.#report = report;
    this.value = value;
    this.#parent = parent;
    this.#key = key;
  }

  get path(): string {
    if (this.#parent === null) return "";
    const before = this.#parent.path;
    if (typeof this.#key === "number") return `${before}[${this.#key}]`;
    const name = /^[A-Za-z0-9_-]+$/.test(this.#key) ? this.#key : JSON.stringify(this.#key);
    return before === "" ? name : `${before}.${name}`;
  }

  get present(): boolean {
    return this.value !== undefined && this.value !== null;
  }

  error(message: string): void {
    this.#report.problems.push({ severity: "error", path: this.path, message });
  }

  warn(message: string): void {
    this.#report.problems.push({ severity: "warning", path: this.path, message });
  }

  /** The member of this name; absent when this is no object, which is an error of `object()` only. */
  get(name: string): Field {
    return new Field(this.#report, this.#member(name), this, name);
  }

  #member(name: string): unknown {
    const { value } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    return Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined;
  }

  /** get(name).present, without a Field: a cluster has a hundred thousand endpoints with ten members each. */
  has(name: string): boolean {
    const value = this.#member(name);
    return value !== undefined && value !== null;
  }

  /** get(name).boolean(fallback), without a Field where nothing is wrong. */
  booleanAt(name: string, fallback: boolean): boolean {
    const value = this.#member(name);
    if (value === undefined || value === null) return fallback;
    return typeof value === "boolean" ? value : this.get(name).boolean(fallback);
  }

  /** False when absent. Anything else than an object is an error, and false. */
  object(): boolean {
    if (!this.present) return false;
    if (typeof this.value === "object" && !Array.isArray(this.value)) return true;
    this.error(`must be an object, not ${describe(this.value)}`);
    return false;
  }

  /** As object(), and absent is an error too. */
  requiredObject(): boolean {
    if (!this.present) this.error("is missing");
    return this.object();
  }

  /** The items; none when absent. */
  items(): readonly Field[] {
    if (!this.present) return [];
    if (Array.isArray(this.value)) return this.value.map((item, i) => new Field(this.#report, item, this, i));
    this.error(`must be a list, not ${describe(this.value)}`);
    return [];
  }

  /** "" when absent. */
  string(): string {
    if (!this.present) return "";
    if (typeof this.value === "string") return this.value;
    const hint = typeof this.value === "object" ? "" : "; put it in quotes";
    this.error(`must be a string, not ${describe(this.value)}${hint}`);
    return "";
  }

  /** One of `allowed`; `fallback` when absent or "". */
  oneOf<T extends string>(allowed: readonly T[], fallback: T): T {
    const text = this.string();
    if (text === "") return fallback;
    const found = allowed.find((value) => value === text);
    if (found === undefined) this.error(`must be one of ${allowed.join(", ")}, not ${describe(text)}`);
    return found ?? fallback;
  }

  /** A whole number in [min, max]; `fallback` when absent. */
  integer(min: number, max: number, fallback: number): number {
    if (!this.present) return fallback;
    const { value } = this;
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) return value;
    this.error(`must be a whole number from ${min} to ${max}, not ${describe(value)}`);
    return fallback;
  }

  boolean(fallback: boolean): boolean {
    if (!this.present) return fallback;
    if (typeof this.value === "boolean") return this.value;
    this.error(`must be true or false, not ${describe(this.value)}`);
    return fallback;
  }

  /** Null when absent, "" or no address; the last is an error. */
  address(): IpAddress | null {
    const text = this.string();
    if (text === "") return null;
    const address = parseIp(text);
    if (address === null) this.error(`must be an IP address, not ${describe(text)}`);
    return address;
  }

  /** One entry of a list of address ranges, trimmed. Null, and a warning, when it is none: it costs that entry only. */
  range(): Cidr | null {
    const text = this.string().trim();
    const range = parseCidr(text);
    if (range === null && (!this.present || typeof this.value === "string")) {
      this.warn(`must be an address range such as 10.0.0.0/8, not ${describe(text)}, and is left out`);
    }
    return range;
  }

  /** Text to text, frozen, without a prototype (a label may be called "constructor"). */
  labels(): Labels {
    if (!this.object()) return NO_LABELS;
    const labels = Object.create(null) as Record<string, string>;
    const given = this.value as Readonly<Record<string, unknown>>;
    for (const name of Object.keys(given)) {
      const value = given[name];
      if (typeof value === "string" && isLabelValue(value) && isKnownLabelKey(name)) {
        labels[name] = value;
        continue;
      }
      const field = this.get(name);
      if (!isLabelKey(name)) field.error("is no valid label name");
      const text = field.string();
      if (!isLabelValue(text)) field.error(`${describe(text)} is no valid label value`);
      labels[name] = text;
    }
    return Object.freeze(labels);
  }
}

/** A value as an error message shows it: short, on one line. */
export function describe(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text;
}

const LABEL_PART = /^[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

export function isLabelValue(text: string): boolean {
  return text === "" || LABEL_PART.test(text);
}

/** The same few in all objects. */
const LABEL_KEYS = new Set<string>();
const MOST_LABEL_KEYS = 1024;

function isKnownLabelKey(text: string): boolean {
  if (LABEL_KEYS.has(text)) return true;
  if (!isLabelKey(text)) return false;
  if (LABEL_KEYS.size >= MOST_LABEL_KEYS) LABEL_KEYS.clear();
  LABEL_KEYS.add(text);
  return true;
}

function isLabelKey(text: string): boolean {
  const slash = text.indexOf("/");
  if (slash < 0) return LABEL_PART.test(text);
  return isDnsSubdomain(text.slice(0, slash)) && LABEL_PART.test(text.slice(slash + 1));
}

/** RFC 1123 label: names of Services, namespaces and ports. */
export function isDnsLabel(text: string): boolean {
  return text.length <= 63 && /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/.test(text);
}

const DNS_SUBDOMAIN = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/;

/** RFC 1123 subdomain: names of most other objects. */
export function isDnsSubdomain(text: string): boolean {
  return text.length <= 253 && DNS_SUBDOMAIN.test(text);
}

/** IANA service name: what a container port may be called. */
export function isPortName(text: string): boolean {
  return (
    text.length <= 15 &&
    /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/.test(text) &&
    /[a-z]/.test(text) &&
    !text.includes("--")
  );
}
