// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Abi, AbiRuleError, assertSameAbi, BtfReader } from "../../../scripts/abi/btf.js";
import { canonicalText, emitEnums, emitLayout, layoutHash } from "../../../scripts/abi/emit.js";
import { compileBtf, parseConstants, parseReasons } from "../../../scripts/gen-abi.js";

const missing = ["clang-19", "bpftool", "gcc"].filter((tool) => {
  try {
    execFileSync(tool, ["--version"], { stdio: "ignore" });
    return false;
  } catch {
    return true;
  }
});
const skip = missing.length > 0 ? `${missing.join(", ")} not installed: run make deps` : false;

function abiOf(source: string): Abi {
  const directory = mkdtempSync(join(tmpdir(), "portolan-gen-test-"));
  try {
    const file = join(directory, "test.bpf.c");
    writeFileSync(
      file,
      `#include <linux/bpf.h>\n#include <linux/types.h>\n#include <bpf/bpf_helpers.h>\n${source}`,
    );
    return new BtfReader(compileBtf(file)).abi((name) => name.startsWith("ptl_"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const BAD: readonly (readonly [title: string, members: string, message: RegExp])[] = [
  ["a hole between members", "__u8 a; __u32 b;", /struct bad, field b: a hole of 3 bytes/],
  ["a hole at the end", "__u32 a; __u8 b;", /struct bad: a hole of 3 bytes after field b/],
  ["a bitfield", "__u32 a:4; __u32 b:28;", /struct bad, field a: a bitfield/],
  ["a pointer", "void *p;", /struct bad, field p: a pointer/],
  ["a long", "long l;", /struct bad, field l: long; its width/],
  ["an unsigned long long without a fixed-width name", "unsigned long long l;", /field l: .*width/],
  ["a plain int", "int i;", /struct bad, field i: type int; use a fixed-width type/],
  ["an enum as a member", "enum ptl_e { PTL_A } e;", /struct bad, field e: an enum/],
  [
    "a struct that is no address",
    "struct inner { __u32 x; } i;",
    /struct bad, field i: struct inner as a member/,
  ],
  ["a hole inside a nested struct", "struct inner { __u8 x; __be32 y; } i;", /struct inner, field y: a hole/],
];
for (const [title, members, message] of BAD) {
  test(`The ABI generator refuses ${title} and names the field`, { skip }, () => {
    assert.throws(
      () => abiOf(`struct bad { ${members} }; struct bad keep = {};`),
      (error) => error instanceof AbiRuleError && message.test(error.message),
    );
  });
}

const mapSource = (name: string, entries: number, pinning = "__uint(pinning, LIBBPF_PIN_BY_NAME);"): string =>
  `struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, ${entries}); __type(key, __u32); __type(value, __u64); ${pinning} } ${name} SEC(".maps");`;

test("The ABI generator refuses a map name of more than 15 bytes, which the kernel would cut", {
  skip,
}, () => {
  assert.throws(
    () => abiOf(mapSource("a_map_of_16bytes", 1)),
    /map a_map_of_16bytes: the name has more than 15/,
  );
  assert.equal(abiOf(mapSource("a_map_of_15byte", 1)).maps[0]?.name, "a_map_of_15byte");
});

test("The ABI generator leaves out a map that is not pinned: it is its program's own", { skip }, () => {
  assert.deepEqual(abiOf(mapSource("private", 1, "")).maps, []);
});

test("The ABI generator refuses one map name with two specs", { skip }, () => {
  const abi = abiOf(mapSource("pair", 1));
  assert.doesNotThrow(() => assertSameAbi(abi, abiOf(mapSource("pair", 1)), "other.o"));
  assert.throws(
    () => assertSameAbi(abi, abiOf(mapSource("pair", 2)), "other.o"),
    /map pair: used with two specs/,
  );
});

test("The ABI generator refuses an object with another layout of one struct", { skip }, () => {
  const abi = abiOf("struct s { __u32 a; __u32 b; }; struct s keep = {};");
  const other = abiOf("struct s { __u32 b; __u32 a; }; struct s keep = {};");
  assert.throws(
    () => assertSameAbi(abi, other, "other.o"),
    /struct s: other.o was built from another layout/,
  );
});

test("The layout hash changes with an offset, an enum value and a map, and with nothing else", {
  skip,
}, () => {
  const source =
    "struct s { __u32 a; __u32 b; }; struct s keep = {}; enum ptl_e { PTL_A = 1 } keep2 = PTL_A;";
  const hash = (text: string): bigint => layoutHash(abiOf(text));
  assert.equal(hash(source), hash(`${source} int unrelated = 3;`));
  assert.notEqual(hash(source), hash(source.replace("__u32 a; __u32 b;", "__u32 b; __u32 a;")));
  assert.notEqual(hash(source), hash(source.replace("__u32 a;", "__be32 a;")));
  assert.notEqual(hash(source), hash(source.replace("PTL_A = 1", "PTL_A = 2")));
  assert.notEqual(hash(source), hash(source + mapSource("m", 1)));
  assert.equal(hash(source + mapSource("m", 1)), hash(source + mapSource("m", 2)));
  assert.match(canonicalText(abiOf(source)), /struct s 8\n {2}a 0 4 u32\n {2}b 4 4 u32/);
});

test("The ABI generator leaves padding out of the fields but keeps it in the layout", { skip }, () => {
  const text = emitLayout(
    abiOf("struct s { __u8 a; __u8 pad[3]; __be16 port; __u16 pad2; }; struct s keep = {};"),
  );
  assert.doesNotMatch(text, /readonly pad/);
  assert.match(text, /\["pad", 1, 3\]/);
  assert.match(text, /setUint16\(offset \+ 4, fields\.port, false\)/);
});

test("The ABI generator takes reasons and constants from the headers, byte for byte", { skip }, () => {
  const reasons = parseReasons(
    'PTL_REASON(ONE, "one_thing", "a text, with a comma") \\\n PTL_REASON(TWO, "two", "x")',
  );
  assert.deepEqual(reasons, [
    { id: "ONE", name: "one_thing", text: "a text, with a comma" },
    { id: "TWO", name: "two", text: "x" },
  ]);
  assert.deepEqual(parseConstants("#define PTL_A 0xffu\n#define PTL_B 30\n#define PTL_C(x) 4\n"), [
    { name: "PTL_A", value: 255 },
    { name: "PTL_B", value: 30 },
  ]);
  const abi = abiOf("enum ptl_reason { PTL_REASON_ONE, PTL_REASON_TWO = 7 } keep = PTL_REASON_ONE;");
  assert.match(emitEnums(abi, reasons, []), /id: 7, key: "TWO"/);
  assert.throws(() => emitEnums(abi, [{ id: "THREE", name: "t", text: "t" }], []), /THREE is not in enum/);
});
