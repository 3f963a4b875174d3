// SPDX-License-Identifier: Apache-2.0
// The fast reader of everyday YAML against the library: whatever it dares to read it reads alike.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readPlainYaml } from "../../../src/source/file/plain-yaml.js";
import { loadFullYaml } from "../../../src/source/file/yaml.js";

const full = await loadFullYaml();

const word = fc.constantFrom(
  "web",
  "default",
  "10.96.0.1",
  "10.0.0.0/8",
  "fd00::1",
  "2001:db8::5",
  "2001:10:20:30:40:50:1:2",
  "12:30",
  "::1",
  "80",
  "0",
  "007",
  "08",
  "0x10",
  "1e3",
  "1_000",
  "1.5",
  "-1",
  "+1",
  ".5",
  ".nan",
  "-.inf",
  "123456789012345678",
  "true",
  "True",
  "false",
  "yes",
  "Yes",
  "no",
  "on",
  "OFF",
  "y",
  "n",
  "null",
  "Null",
  "~",
  "",
  "TCP",
  "Local",
  '"quoted"',
  "'single'",
  '"with \\" escape"',
  "'it''s'",
  '"yes"',
  '"# no comment"',
  "'a: b'",
  "two words",
  "a: b",
  "a:b",
  "a #comment",
  "a#b",
  "#c",
  "{}",
  "[]",
  "{a: 1}",
  "[1]",
  "|",
  ">",
  "&a x",
  "*a",
  "!!str 1",
  "@x",
  "%x",
  "/path/x",
  "a,b]",
  "2024-01-01T00:00:00Z",
  "2024-01-01",
  "app.kubernetes.io/name",
  "x ",
  "é",
  "a\tb",
  "- x",
  "-",
  "?",
  "? a",
  "a:",
  ":a",
  "<<",
  "__proto__",
  "constructor",
  "0o17",
  "0b1",
  "1:2:3",
  "5m",
  "100Mi",
  "e5",
  "inf",
  "NaN",
  "=",
  "---",
  "...",
);
const key = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.constantFrom(
      "apiVersion",
      "kind",
      "metadata",
      "name",
      "spec",
      "ports",
      "port",
      "labels",
      "a-b",
      "x.y/z",
    ),
  },
  { weight: 1, arbitrary: word },
);
const line = fc
  .record({
    indent: fc.nat(5),
    dash: fc.constantFrom("", "", "- ", "-   ", "- - ", "-"),
    key,
    value: fc.oneof(word, fc.constant("")),
  })
  .map(({ indent, dash, key: name, value }) => `${"  ".repeat(indent)}${dash}${name}: ${value}`);

/** A well-formed block of YAML in the given column. */
const block: (depth: number) => fc.Arbitrary<string[]> = fc.memo((depth) => {
  const entry = fc.tuple(key, word).map(([name, value]) => [`${name}: ${value}`]);
  if (depth <= 1) return fc.array(entry, { minLength: 1, maxLength: 3 }).map((entries) => entries.flat());
  const below = block(depth - 1);
  const shift = (lines: string[], by: string): string[] => lines.map((one) => by + one);
  const nested = fc
    .tuple(key, below, fc.constantFrom("  ", " ", "    "))
    .map(([name, lines, by]) => [`${name}:`, ...shift(lines, by)]);
  const sequence = fc
    .tuple(key, fc.array(below, { minLength: 1, maxLength: 3 }), fc.constantFrom("", "  "))
    .map(([name, items, by]) => [
      `${name}:`,
      ...items.flatMap(([head = "", ...rest]) => shift([`- ${head}`, ...shift(rest, "  ")], by)),
    ]);
  const words = fc
    .tuple(key, fc.array(word, { maxLength: 3 }), fc.constantFrom("", "  "))
    .map(([name, items, by]) => [`${name}:`, ...items.map((item) => `${by}- ${item}`)]);
  return fc
    .array(fc.oneof(entry, nested, sequence, words), { minLength: 1, maxLength: 3 })
    .map((parts) => parts.flat());
});

const tidy = block(4).map((lines) => `${lines.join("\n")}\n`);
const wild = fc
  .array(fc.oneof({ weight: 5, arbitrary: line }, { weight: 1, arbitrary: word }), { maxLength: 8 })
  .map((lines) => lines.join("\n"));
const damage = fc.tuple(
  fc.nat(),
  fc.nat(3),
  fc.string({ unit: fc.constantFrom(..." :-#'\"[]{}&*|>\n\r\t,?!%a1.~"), maxLength: 3 }),
);
const damaged = fc.tuple(tidy, fc.array(damage, { minLength: 1, maxLength: 3 })).map(([text, list]) =>
  list.reduce((before, [at, remove, insert]) => {
    const from = at % (before.length + 1);
    return before.slice(0, from) + insert + before.slice(from + remove);
  }, text),
);

function check(text: string): boolean {
  const plain = readPlainYaml(text);
  if (plain === null) return false;
  const documents = full(text);
  assert.deepEqual(
    documents.map((document) => document.error),
    [null],
    text,
  );
  assert.equal(JSON.stringify(plain.value), JSON.stringify(documents[0]?.value), text);
  assert.equal(plain.line, documents[0]?.line, text);
  return true;
}

for (const [title, texts, runs] of [
  ["well-formed text", tidy, 3000],
  ["lines in any order", wild, 4000],
  ["text with a few characters changed", damaged, 5000],
] as const) {
  test(`readPlainYaml() reads ${title} as the library does, or leaves it to the library`, () => {
    let read = 0;
    fc.assert(
      fc.property(texts, (text) => {
        if (check(text)) read += 1;
      }),
      { numRuns: runs },
    );
    assert.ok(read > 20, `it read ${read} of ${runs}: the test says too little`);
  });
}

test("readPlainYaml() reads what kubectl prints", () => {
  const text = `---
# a comment
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  creationTimestamp: "2026-01-01T00:00:00Z"
  labels:
    kubernetes.io/service-name: web

  name: web-abc
addressType: IPv4
endpoints:
- addresses:
  - 10.244.0.1
  conditions:
    ready: true
  nodeName: node-a
- addresses: []
ports:
  - name: ""
    port: 8080
`;
  assert.ok(check(text));
  assert.equal(readPlainYaml(text)?.line, 3);
});
