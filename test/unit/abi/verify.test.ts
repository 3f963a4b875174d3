// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { ABI_HASH, LAYOUT_VERSION } from "../../../src/abi/abi-hash.gen.js";
import { STRUCT_LAYOUTS } from "../../../src/abi/layout.gen.js";
import { MAPS } from "../../../src/abi/maps.gen.js";
import { AbiError, verifyLibrary, verifyMaps, verifyObject } from "../../../src/abi/verify.js";

/** What the native library says of an object with exactly our layouts. */
const layout = STRUCT_LAYOUTS.map(
  ({ name, size, fields }) =>
    `struct ${name} ${size}\n${fields.map((field) => `  ${field.join(" ")}\n`).join("")}`,
).join("");

const isAbi =
  (code: string, pattern: RegExp) =>
  (error: unknown): boolean =>
    error instanceof AbiError && error.code === code && pattern.test(error.message) && error.hint !== null;

test("Verification takes a library of the same build and refuses another hash or version, naming both", () => {
  assert.doesNotThrow(() => verifyLibrary(LAYOUT_VERSION, ABI_HASH, "lib.so"));
  assert.throws(
    () => verifyLibrary(LAYOUT_VERSION, 0xabcn, "lib.so"),
    isAbi("E_ABI_LIBRARY", new RegExp(`lib\\.so .*hash abc.*hash ${ABI_HASH.toString(16)}`)),
  );
  assert.throws(() => verifyLibrary(99, ABI_HASH, "lib.so"), isAbi("E_ABI_LIBRARY", /layout 99/));
});

test("Verification takes an object of our layouts, of some of them, and with structs of its own", () => {
  assert.doesNotThrow(() => verifyObject(layout, "x.o"));
  assert.doesNotThrow(() => verifyObject("", "x.o"));
  assert.doesNotThrow(() => verifyObject(`struct probe 4\n  a 0 4\n${layout}`, "x.o"));
});

test("Verification refuses an object with a moved, a missing or an added field, and names struct and field", () => {
  const cases: readonly (readonly [string, string, RegExp])[] = [
    [
      "  external 8 8\n  service 16 4",
      "  external 8 8\n  service 20 4",
      /struct frontend: field "service 20 4", expected "service 16 4"/,
    ],
    [
      "  external 8 8\n  service 16 4\n",
      "  external 8 8\n",
      /struct frontend: field "affinity_seconds 20 4", expected "service 16 4"/,
    ],
    ["struct frontend 32\n", "struct frontend 40\n", /struct frontend has 40 bytes, expected 32/],
    [
      "  flags 24 4\n  pad 28 4\n",
      "  flags 24 4\n  pad 28 4\n  new 32 8\n",
      /field "new 32 8", expected "none"/,
    ],
  ];
  for (const [from, to, pattern] of cases) {
    assert.ok(layout.includes(from), from);
    assert.throws(() => verifyObject(layout.replace(from, to), "x.o"), isAbi("E_ABI_OBJECT", pattern));
  }
});

test("Verification takes other sizes of maps and other people's maps, and refuses another type, key, value or flags", () => {
  const { frontends4 } = MAPS;
  assert.doesNotThrow(() =>
    verifyMaps([frontends4, { ...frontends4, name: "stranger", keySize: 1 }], "pins"),
  );
  for (const field of ["typeId", "keySize", "valueSize", "flags"] as const)
    assert.throws(
      () => verifyMaps([{ ...frontends4, [field]: 77 }], "/pins"),
      isAbi(
        "E_ABI_MAP",
        new RegExp(`Map frontends4 in /pins has ${field} 77, this program expects ${frontends4[field]}`),
      ),
    );
});
