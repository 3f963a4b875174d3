// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { NativeError, nativeError } from "../../../src/native/errors.js";
import { type ArgumentType, SYMBOLS } from "../../../src/native/symbols.js";

const header = readFileSync(new URL("../../../native/include/portolan.h", import.meta.url), "utf8");

function argumentType(parameter: string): ArgumentType {
  const type = parameter.replace(/\s*\w+$/, "").trim();
  const known: Readonly<Record<string, ArgumentType>> = {
    int: "int",
    uint32_t: "u32",
    "const char *": "text",
    "const void *": "in",
    "void *": "out",
    "char *": "out",
  };
  const found = known[type];
  assert.ok(found, `"${parameter}": a type that symbols.ts has no word for`);
  return found;
}

/** The functions of the header, in its order. */
function declarations(): (readonly [string, readonly ArgumentType[]])[] {
  const code = header.replace(/\/\*[\s\S]*?\*\//g, "");
  return [...code.matchAll(/^(\w+) (ptl_\w+)\(([^)]*)\);/gm)].map(([, result, name, parameters]) => {
    assert.equal(result, "int", `${name} returns int, >= 0 or -errno`);
    const list =
      parameters === "void" ? [] : `${parameters}`.split(",").map((text) => argumentType(text.trim()));
    return [`${name}`, list];
  });
}

test("The symbol table is the C header: names, order, arity and types", () => {
  assert.ok(declarations().length > 15);
  assert.deepEqual(Object.entries(SYMBOLS), declarations());
});

test("Every exported function is documented right above its declaration", () => {
  const lines = header.split("\n");
  for (const [name] of declarations()) {
    const index = lines.findIndex((line) => line.startsWith(`int ${name}(`));
    assert.match(lines[index - 1] ?? "", /\*\/$/, name);
  }
});

test("The error codes of the header are those that TypeScript knows", () => {
  const codes = [...header.matchAll(/^#define PTL_E_\w+ "(E_\w+)"/gm)].map(([, code]) => `${code}`);
  assert.ok(codes.length > 8);
  for (const code of codes)
    assert.equal(nativeError("ptl_x", -1, Buffer.from(`${code}\top\tobject\nmessage\0`)).code, code);
});

test("NativeError takes code, operation, object, message and log from the library's text", () => {
  const text =
    "E_NATIVE_VERIFIER\tload\t/a/b.o\nThe kernel refused a program: R1 bad\nline 1\nline 2\0rubbish";
  const error = nativeError("ptl_open", -13, Buffer.from(text));
  assert.ok(error instanceof NativeError);
  assert.equal(error.message, "The kernel refused a program: R1 bad");
  assert.equal(error.verifierLog, "line 1\nline 2");
  assert.deepEqual([error.errno, error.op, error.object], [13, "load", "/a/b.o"]);
  assert.deepEqual(error.fields, { errno: "EACCES", op: "load", object: "/a/b.o" });
  assert.match(error.hint ?? "", /whole log/);
});

test("NativeError says what it can when the library said nothing, and hints at missing privileges", () => {
  const error = nativeError("ptl_close", -9, Buffer.alloc(16));
  assert.deepEqual(
    [error.code, error.message, error.op],
    ["E_NATIVE_KERNEL", "ptl_close: EBADF", "ptl_close"],
  );
  const denied = nativeError("ptl_open", -1, Buffer.from("E_NATIVE_KERNEL\tload\tx\nCannot load\0"));
  assert.match(denied.hint ?? "", /Run as root/);
});
