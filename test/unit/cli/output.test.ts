// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { parse, parseAllDocuments } from "yaml";
import {
  bytesText,
  type Column,
  jsonText,
  type Listing,
  loadYamlWriter,
  type OutputFormat,
  Printer,
  tableLines,
} from "../../../src/cli/output.js";
import { Terminal } from "./terminal.js";

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

test("tableLines() shows a column of `-o wide` only there", () => {
  const columns: readonly Column<Row>[] = [...COLUMNS, { header: "MORE", value: () => "m", wide: true }];
  const rows = [{ name: "a", count: 5, note: "n" }];
  assert.deepEqual(tableLines(columns, rows), ["NAME   COUNT   NOTE", "a          5   n"]);
  assert.deepEqual(tableLines(columns, rows, true), [
    "NAME   COUNT   NOTE   MORE",
    "a          5   n      m",
  ]);
});

test("tableLines() lines up what takes two columns of a terminal, or none", () => {
  const rows = [
    { name: "日本", count: 1, note: "wide" },
    { name: "e\u0301", count: 22, note: "combined" },
    { name: "👩‍👩‍👧", count: 3, note: "joined" },
  ];
  assert.deepEqual(tableLines(COLUMNS, rows), [
    "NAME   COUNT   NOTE",
    "日本       1   wide",
    "e\u0301         22   combined",
    "👩‍👩‍👧         3   joined",
  ]);
});

test("tableLines() shows control characters instead of sending them to the terminal", () => {
  const [, line] = tableLines(COLUMNS, [{ name: "eth\u001b[31m\n", count: 1, note: "\u009b" }]);
  assert.equal(line, "eth\\x1b[31m\\x0a       1   \\x9b");
});

const ROWS: readonly Row[] = [
  { name: "a", count: 1, note: "" },
  { name: "a", count: 2, note: "on" },
  { name: "b", count: 3, note: "x\ny" },
];

const LISTING: Listing<Row> = {
  name: "things",
  columns: COLUMNS,
  rows: ROWS,
  json: (row) => ({ ...row, big: 2n ** 40n }),
  id: ({ name }) => `thing/${name}`,
  more: () => ({ total: 3 }),
};

async function printed(format: OutputFormat, listing: Listing<Row>, isTTY = false): Promise<string> {
  const [out, err] = [new Terminal(isTTY), new Terminal(isTTY)];
  const count = await new Printer(format, out.stream, err.stream, await loadYamlWriter()).print(listing);
  assert.equal(err.text, "");
  assert.equal(count, Array.isArray(listing.rows) ? listing.rows.length : count);
  return out.text;
}

test("Printer.print() gives the same object in JSON and YAML, on a terminal and into a pipe", async () => {
  const object = {
    things: ROWS.map((row) => ({ ...row, big: 2 ** 40 })),
    total: 3,
  };
  const line = await printed("json", LISTING);
  assert.deepEqual(JSON.parse(line), object);
  assert.equal(line.indexOf("\n"), line.length - 1, "one line");
  assert.equal(await printed("json", LISTING, true), `${jsonText(object, true)}\n`);
  assert.deepEqual(parse(await printed("yaml", LISTING)), object);
});

test("Printer.print() quotes what YAML 1.1 takes for something else", async () => {
  assert.deepEqual(parse(await printed("yaml", LISTING), { version: "1.1" }).things[1].note, "on");
});

for (const more of [undefined, () => ({ total: 0 })]) {
  test(`Printer.print() of no rows is an object with an empty list ${more ? "and what stands beside it" : ""}`, async () => {
    const { more: _, ...bare } = LISTING;
    const listing = { ...bare, rows: [], ...(more && { more }) };
    const object = { things: [], ...more?.() };
    assert.equal(await printed("json", listing), `${jsonText(object, false)}\n`);
    assert.equal(await printed("json", listing, true), `${jsonText(object, true).replace("[]", "[]")}\n`);
    assert.deepEqual(parse(await printed("yaml", listing)), object);
    assert.equal(await printed("table", listing), "");
    assert.equal(await printed("name", listing), "");
  });
}

test("Printer.print() -o name is one line for each name", async () => {
  assert.equal(await printed("name", LISTING), "thing/a\nthing/b\n");
});

test("Printer.print() of more rows than it holds at once is one table, one object, one document", async () => {
  const rows = Array.from({ length: 2500 }, (_, count) => ({ name: `n${count}`, count, note: "" }));
  async function* streamed(): AsyncGenerator<Row> {
    yield* rows;
  }
  const listing = (): Listing<Row> => ({ ...LISTING, rows: streamed(), json: (row) => row });
  const lines = (await printed("table", listing())).trimEnd().split("\n");
  assert.equal(lines.length, 2501);
  assert.equal(lines.filter((line) => line.startsWith("NAME")).length, 1);
  assert.deepEqual(JSON.parse(await printed("json", listing())), { things: rows, total: 3 });
  assert.deepEqual(JSON.parse(await printed("json", listing(), true)), { things: rows, total: 3 });
  const yaml = await printed("yaml", listing());
  assert.equal(parseAllDocuments(yaml).length, 1);
  assert.deepEqual(parse(yaml), { things: rows, total: 3 });
});

test("Printer.print() waits until a slow reader has taken what was written", async () => {
  let read = 0;
  function* rows(): Generator<Row> {
    for (let count = 0; count < 5000; count++) {
      read++;
      yield { name: "n", count, note: "" };
    }
  }
  const out = new Terminal(false);
  out.pause();
  const done = new Printer("json", out.stream, out.stream).print({ ...LISTING, rows: rows() });
  await out.full;
  assert.ok(read < 5000, `${read} rows were read for a reader that has stopped`);
  out.resume();
  assert.equal(await done, 5000);
  assert.equal(JSON.parse(out.text).things.length, 5000);
});

test("Printer.print() colours the header on a terminal only, and never what the rows say", async () => {
  assert.equal(
    stripVTControlCharacters(await printed("table", LISTING, true)),
    await printed("table", LISTING),
  );
});
