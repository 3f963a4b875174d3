// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesText, type Column, jsonText, tableLines } from "../../../src/cli/output.js";

interface Row {
  readonly name: string;
  readonly count: number;
  readonly note: string;
}

const COLUMNS: readonly Column<Row>[] = [
  { header: "NAME", value: (row) => row.name },
  { header: "COUNT", value: (row) => row.count, align: "right" },
  { header: "NOTE", value: (row) => row.note },
];

test("tableLines() aligns columns, fills empty cells, and leaves no blanks at the end", () => {
  const rows = [
    { name: "a", count: 5, note: "" },
    { name: "longer", count: 1234, note: "x y" },
  ];
  assert.deepEqual(tableLines(COLUMNS, rows), [
    "NAME     COUNT   NOTE",
    "a            5   -",
    "longer    1234   x y",
  ]);
});

test("tableLines() gives the header alone when there are no rows", () => {
  assert.deepEqual(tableLines(COLUMNS, []), ["NAME   COUNT   NOTE"]);
});

test("jsonText() writes u64 counters as numbers, on one line unless asked", () => {
  assert.equal(jsonText({ bytes: 12345678901n }, false), '{"bytes":12345678901}');
  assert.equal(jsonText({ a: 1 }, true), '{\n  "a": 1\n}');
});

test("bytesText() chooses the unit", () => {
  assert.equal(bytesText(0), "0 B");
  assert.equal(bytesText(1023), "1023 B");
  assert.equal(bytesText(1536), "1.50 KiB");
  assert.equal(bytesText(48 * 1024 * 1024), "48.0 MiB");
  assert.equal(bytesText(1000 * 1024 * 1024), "1000 MiB");
});
