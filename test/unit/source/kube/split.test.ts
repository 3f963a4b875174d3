// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LineSplitter, LONGEST_LINE } from "../../../../src/source/kube/split-lines.js";
import { ListSplitter } from "../../../../src/source/kube/split-list.js";

/** The same text in pieces of every size. */
function* cuts(text: string): Generator<Buffer[]> {
  const bytes = Buffer.from(text);
  for (let size = 1; size <= bytes.length; size += 1) {
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += size) pieces.push(bytes.subarray(at, at + size));
    yield pieces;
  }
}

describe("LineSplitter", () => {
  it("splits on the byte 0x0a alone, wherever the chunks were cut", () => {
    const text = '{"a":"\u2028\u2029é\\n"}\n\n{"b":1}\r\n{"c"';
    for (const pieces of cuts(text)) {
      const splitter = new LineSplitter();
      const lines = pieces.flatMap((piece) => Array.from(splitter.feed(piece), String));
      assert.deepEqual(lines, ['{"a":"\u2028\u2029é\\n"}', '{"b":1}\r']);
      assert.equal(splitter.rest, 4);
    }
  });

  it("refuses a line that does not end", () => {
    const splitter = new LineSplitter();
    const chunk = Buffer.alloc(1 << 20, "x");
    assert.throws(() => {
      for (let i = 0; i <= LONGEST_LINE / chunk.length; i += 1) Array.from(splitter.feed(chunk));
    }, /does not end/);
  });
});

describe("ListSplitter", () => {
  const run = (pieces: Buffer[]): { items: unknown[]; head: unknown } => {
    const splitter = new ListSplitter();
    const items = pieces.flatMap((piece) =>
      Array.from(splitter.feed(piece), (item) => JSON.parse(item.toString())),
    );
    return { items, head: splitter.end() };
  };
  const texts: readonly (readonly [string, string])[] = [
    [
      "as an API server writes it",
      '{"kind":"L","metadata":{"resourceVersion":"7"},"items":[{"a":[1,{"items":[2]}]},{"b":"]},\\"[{"}]}\n',
    ],
    [
      "with the items first, and spaces",
      '\n { "items" : [ {"a":"\\\\"} ,\n {"b":{}} ] , "metadata":{"continue":"x"} }',
    ],
    ["without items", '{"kind":"L","items":[],"metadata":{}}'],
    ["with null for items", '{"kind":"L","items":null}'],
    ["with items that are no objects", '{"items":[1,null,"a,b]",[2,3],true]}'],
    [
      "with another list, and another key, before",
      '{"other":["items",{"x":1}],"items2":[3],"items":[{"é":"\u2028"}]}',
    ],
    ["with items somewhere deeper only", '{"metadata":{"items":[1]},"x":2}'],
  ];
  for (const [what, text] of texts) {
    it(`takes a list ${what} apart, wherever the chunks were cut`, () => {
      const whole = JSON.parse(text) as { items?: unknown[] | null };
      const expected = {
        items: whole.items ?? [],
        head: Array.isArray(whole.items) ? { ...whole, items: [] } : whole,
      };
      for (const pieces of cuts(text)) assert.deepEqual(run(pieces), expected);
    });
  }

  it("refuses what is cut off, at every byte", () => {
    const text = '{"kind":"L","items":[{"a":1},{"b":"x"}],"metadata":{}}';
    for (let length = 0; length < text.length; length += 1) {
      assert.throws(() => run([Buffer.from(text.slice(0, length))]), /garbage|cut off|no JSON/);
    }
  });

  it("refuses what is no object, and brackets too many", () => {
    for (const text of ["no json", "<html>", "]", "{}]", '"items"']) {
      assert.throws(() => run([Buffer.from(text)]), { code: "garbage" }, text);
    }
  });
});
