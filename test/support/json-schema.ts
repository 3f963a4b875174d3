// SPDX-License-Identifier: Apache-2.0
/** What commands print as JSON against its schema in docs/schema. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { Ajv2020, type AnySchema } from "ajv/dist/2020.js";

const SCHEMAS = new URL("../../docs/schema/", import.meta.url);

/** Fields may be added, but not without a word in the schema: a test reads it as if it allowed no others. */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== "object" || schema === null) return schema;
  const walked = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  return walked.type === "object" && walked.properties !== undefined
    ? { additionalProperties: false, ...walked }
    : walked;
}

/** The names of the schemas; `common` is what others share. */
export const SCHEMA_NAMES: readonly string[] = readdirSync(SCHEMAS)
  .filter((file) => file.endsWith(".json"))
  .map((file) => file.slice(0, -".json".length));

let checker: Ajv2020 | null = null;

function schemas(): Ajv2020 {
  if (checker !== null) return checker;
  checker = new Ajv2020({ allErrors: true, allowUnionTypes: true });
  for (const name of SCHEMA_NAMES) {
    const text = readFileSync(new URL(`${name}.json`, SCHEMAS), "utf8");
    checker.addSchema(strict(JSON.parse(text)) as AnySchema);
  }
  return checker;
}

/** Fails unless docs/schema/NAME.json allows the value, to the last field. */
export function checkSchema(name: string, value: unknown): void {
  const isValid = schemas().getSchema(`${name}.json`);
  assert.ok(isValid, `docs/schema/${name}.json is there, and is its own $id`);
  assert.ok(isValid(value), `docs/schema/${name}.json: ${JSON.stringify(isValid.errors, null, 1)}`);
}
