// SPDX-License-Identifier: Apache-2.0
/*
 * Loaded before each file of tests (mk/test.mk). Where assert.ok() fails without a message, Node.js reads the source to quote
 * the expression, at the place where it is in what tsx made of it: all one line. That takes minutes, and quotes something else.
 * The stack tells where it was.
 */
import assert from "node:assert/strict";
import { inspect } from "node:util";

const quoting: (value: unknown, message?: string | Error) => void = assert.ok;

function ok(value: unknown, message?: string | Error): void {
  if (value || message !== undefined) {
    quoting(value, message);
    return;
  }
  throw new assert.AssertionError({
    message: `${inspect(value)} is not truthy`,
    actual: value,
    expected: true,
    operator: "==",
    stackStartFn: ok,
  });
}

Object.assign(assert, { ok });
