// SPDX-License-Identifier: Apache-2.0
/** What commands print as JSON against its schema in docs/schema. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
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

/** Fails unless docs/schema/NAME.json allows the value, to the last field. */
export function checkSchema(name: string, value: unknown): void {
  const read = (file: string): AnySchema =>
    strict(JSON.parse(readFileSync(new URL(`${file}.json`, SCHEMAS), "utf8"))) as AnySchema;
  const ajv = new Ajv2020({ allErrors: true, allowUnionTypes: true });
  ajv.addSchema(read("common"));
  const isValid = ajv.compile(read(name));
  assert.ok(isValid(value), `docs/schema/${name}.json: ${JSON.stringify(isValid.errors, null, 1)}`);
}
