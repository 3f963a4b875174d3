// SPDX-License-Identifier: Apache-2.0
/** What commands print as JSON, against docs/schema. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Ajv2020, type AnySchema } from "ajv/dist/2020.js";

const SCHEMAS = fileURLToPath(new URL("../../docs/schema", import.meta.url));

/** Fields may be added, but not without a word in the schema: a test reads it as if it allowed no others. */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== "object" || schema === null) return schema;
  const walked = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  return walked.type === "object" && walked.properties !== undefined
    ? { additionalProperties: false, ...walked }
    : walked;
}

/** The value is what docs/schema/NAME.json says, and nothing more. */
export function checkSchema(name: string, value: unknown): void {
  const read = (file: string): AnySchema =>
    strict(JSON.parse(readFileSync(join(SCHEMAS, `${file}.json`), "utf8"))) as AnySchema;
  const ajv = new Ajv2020({ allErrors: true, allowUnionTypes: true });
  ajv.addSchema(read("common"));
  const isValid = ajv.compile(read(name));
  assert.ok(isValid(value), `docs/schema/${name}.json: ${JSON.stringify(isValid.errors, null, 1)}`);
}
