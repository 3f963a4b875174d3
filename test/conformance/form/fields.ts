// SPDX-License-Identifier: Apache-2.0
/** Strict reading of YAML values: every key of a mapping is asked for, or it is an error. */

/** A case (or a file) does not have the form. The message names the place and the key. */
export class FormError extends Error {
  readonly code = "E_FORM";

  constructor(where: string, what: string) {
    super(`${where}: ${what}`);
    this.name = "FormError";
  }
}

/** A mapping whose keys are taken one by one; {@link end} complains of those that nobody took. */
export class Fields {
  readonly where: string;
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #taken = new Set<string>();

  constructor(value: unknown, where: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new FormError(where, `must be a mapping, not ${show(value)}`);
    this.where = where;
    this.#values = value as Readonly<Record<string, unknown>>;
  }

  has(key: string): boolean {
    return this.#values[key] !== undefined;
  }

  /** The raw value; undefined when the key is absent. */
  take(key: string): unknown {
    this.#taken.add(key);
    return this.#values[key];
  }

  text(key: string): string | undefined {
    return this.#typed(key, "a text", (value) => typeof value === "string");
  }

  requiredText(key: string): string {
    return this.text(key) ?? this.#missing(key);
  }

  integer(key: string): number | undefined {
    return this.#typed(key, "an integer", Number.isInteger);
  }

  requiredInteger(key: string): number {
    return this.integer(key) ?? this.#missing(key);
  }

  flag(key: string): boolean | undefined {
    return this.#typed(key, "true or false", (value) => typeof value === "boolean");
  }

  oneOf<T extends string>(key: string, words: readonly T[]): T | undefined {
    return this.#typed(key, `one of ${words.join(", ")}`, (value) =>
      (words as readonly unknown[]).includes(value),
    );
  }

  list(key: string): readonly unknown[] | undefined {
    return this.#typed(key, "a list", Array.isArray);
  }

  texts(key: string): readonly string[] | undefined {
    return this.#typed(key, "a list of texts", isTexts);
  }

  /** A mapping of texts to texts, whatever its keys. */
  textMap(key: string): Readonly<Record<string, string>> | undefined {
    return this.#typed(key, "a mapping of texts", (value) => isPlain(value) && isTexts(Object.values(value)));
  }

  /** Each element of a list, read by `read`. */
  each<T>(key: string, read: (value: unknown, where: string) => T): readonly T[] | undefined {
    return this.list(key)?.map((value, index) => read(value, `${this.where}.${key}[${index}]`));
  }

  nested<T>(key: string, read: (fields: Fields) => T): T | undefined {
    const value = this.take(key);
    if (value === undefined) return undefined;
    const fields = new Fields(value, `${this.where}.${key}`);
    const result = read(fields);
    fields.end();
    return result;
  }

  /** @throws FormError naming every key that nobody took */
  end(): void {
    const unknown = Object.keys(this.#values).filter((key) => !this.#taken.has(key));
    if (unknown.length === 0) return;
    const names = unknown.map((key) => `"${key}"`).join(", ");
    throw new FormError(this.where, `unknown key${unknown.length > 1 ? "s" : ""} ${names}`);
  }

  fail(key: string, what: string): never {
    throw new FormError(`${this.where}.${key}`, what);
  }

  #missing(key: string): never {
    throw new FormError(this.where, `"${key}" is missing`);
  }

  #typed<T>(key: string, wanted: string, test: (value: unknown) => boolean): T | undefined {
    const value = this.take(key);
    if (value === undefined || test(value)) return value as T | undefined;
    return this.fail(key, `must be ${wanted}, not ${show(value)}`);
  }
}

/** A mapping read whole by `read`. */
export function readFields<T>(value: unknown, where: string, read: (fields: Fields) => T): T {
  const fields = new Fields(value, where);
  const result = read(fields);
  fields.end();
  return result;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((element) => typeof element === "string");
}

/** A value as a message quotes it. */
export function show(value: unknown): string {
  return JSON.stringify(value) ?? "nothing";
}

/** A value which may be given bare or as a list. */
export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [value];
}
