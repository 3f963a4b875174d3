// SPDX-License-Identifier: Apache-2.0
// What `portolan maps dump --all -o json` prints, read back: byte for byte what the kernel held.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { serviceNameCodec } from "../../../src/abi/layout.gen.js";
import { MAP_NAMES, MAPS, type MapName } from "../../../src/abi/maps.gen.js";
import { mapsDumpHead, openMapsDump } from "../../../src/cli/archive/maps-dump.js";
import { decoderOf } from "../../../src/cli/commands/maps/decode.js";
import { dumpMap } from "../../../src/cli/commands/maps/dump.js";
import { encoderOf } from "../../../src/cli/commands/maps/encode.js";
import { jsonText, Printer } from "../../../src/cli/output.js";
import { AppError } from "../../../src/util/errors.js";
import { contentOf, fixtureKernel, metaOf, writeArchive } from "../../support/archive.js";
import { Terminal } from "./terminal.js";

const directory = mkdtempSync(join(tmpdir(), "portolan-maps-dump-"));
after(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const TYPES = Array.from(
  new Map(MAP_NAMES.flatMap((map) => [MAPS[map].key, MAPS[map].value].map((type) => [type, map] as const))),
).filter(([type]) => type !== "");

/** Each text ends before its field does. */
function withEnds(bytes: Uint8Array): Uint8Array {
  const ended = bytes.slice();
  for (const next of [...Object.values(serviceNameCodec.offsets), serviceNameCodec.size])
    if (next > 0) ended[next - 1] = 0;
  return ended;
}

for (const [type, map] of TYPES) {
  test(`a ${type}, as it is printed, is what it was made from`, () => {
    const size = MAPS[map][MAPS[map].key === type ? "keySize" : "valueSize"];
    const [decode, encode] = [decoderOf(type), encoderOf(type)];
    fc.assert(
      fc.property(fc.uint8Array({ minLength: size, maxLength: size }), (random) => {
        const bytes = type === "service_name" ? withEnds(random) : random;
        // Padding is none of what is printed, bytes that are no text become "?", and figures have 53 bits.
        const text = JSON.stringify(decode(bytes));
        const again = JSON.stringify(decode(encode(JSON.parse(text))));
        assert.deepEqual(JSON.parse(again), JSON.parse(text.replaceAll("\ufffd", "?")));
      }),
      { numRuns: 60 },
    );
  });
}

test("a printed entry that is none of its map's is refused, and it is said which field", () => {
  for (const [type, value, message] of [
    ["addr_port4", { addr: "fd00::1", port: 80, protocol: 6 }, /addr_port4\.addr cannot be "fd00::1"/],
    ["addr_port4", { addr: "10.0.0.1", port: 70000, protocol: 6 }, /addr_port4\.port/],
    ["addr_port4", { addr: "10.0.0.1", port: 80 }, /addr_port4\.protocol cannot be undefined/],
    ["backend4", { addr: "10.0.0.1", state: "happy" }, /backend4\./],
    ["u32", "7", /a u32 cannot be "7"/],
    ["u64", -1, /a u64 cannot be -1/],
    ["service_name", [], /struct service_name/],
  ] as const)
    assert.throws(() => encoderOf(type)(value), message, JSON.stringify(value));
});

/** What the command prints of an archive. */
async function printed(archive: string, limit?: number): Promise<string> {
  const terminal = new Terminal(false);
  const printer = new Printer("json", terminal.stream, terminal.stream);
  const options = { output: "json", from: archive, all: true } as const;
  const code = await dumpMap(limit === undefined ? options : { ...options, limit }, printer, []);
  assert.equal(code, 0);
  return terminal.text;
}

async function fixtureDump(): Promise<string> {
  const archive = join(directory, "fixture.tar.gz");
  await writeArchive(archive, contentOf(await fixtureKernel()));
  return printed(archive);
}

test("a dump of all maps is read back as the maps that it was made of, cells that hold nothing included", async () => {
  const kernel = await fixtureKernel();
  const opened = await openMapsDump(file("whole.json", await fixtureDump()));
  assert.equal(opened.nowNs(), BigInt(metaOf(kernel).monotonicNs));
  assert.deepEqual(opened.maps.infos(), metaOf(kernel).maps);
  for (const map of MAP_NAMES) {
    if (MAPS[map].type === "ringbuf") continue;
    const [found, wanted] = [await opened.maps.dump(map), await kernel.dump(map)];
    assert.deepEqual(entriesOf(map, found), entriesOf(map, wanted), map);
  }
});

interface Dump {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

/** Entries that hold anything, in an order of their own. */
function entriesOf(map: MapName, { count, keys, values }: Dump): string[] {
  const { keySize, valueSize } = MAPS[map];
  const hex = (bytes: Uint8Array, i: number, size: number): string =>
    Buffer.from(bytes.subarray(i * size, (i + 1) * size)).toString("hex");
  const all = Array.from({ length: count }, (_, i) => [hex(keys, i, keySize), hex(values, i, valueSize)]);
  return all
    .filter(([, value = ""]) => !MAPS[map].type.endsWith("array") || /[^0]/.test(value))
    .map((entry) => entry.join(" "))
    .sort();
}

async function failureOf(text: string): Promise<AppError> {
  try {
    await openMapsDump(file("bad.json", text));
  } catch (error) {
    assert.ok(error instanceof AppError, String(error));
    return error;
  }
  throw new Error("it was read");
}

test("a dump that is cut, patched, another's or of another layout is refused in a line that says what is wrong", async () => {
  const text = await fixtureDump();
  const lines = text.trimEnd().split("\n");
  const [head = "", first = "", ...rest] = lines;
  const join = (...parts: readonly string[]): string => `${parts.join("\n")}\n`;
  const kernel = await fixtureKernel();
  const other = (change: object): string =>
    jsonText({ ...mapsDumpHead(metaOf(kernel), null), ...change }, false);
  const versions = { ...metaOf(kernel).versions };
  for (const [bad, code, message] of [
    [text.slice(0, -20), "E_ARCHIVE", /line \d+: it is no JSON/],
    [join(...lines.slice(0, -1)), "E_ARCHIVE", /its end is missing/],
    [join(head, ...rest), "E_ARCHIVE", /entries of map \w+ are missing/],
    [join(...lines, first), "E_ARCHIVE", /goes on behind its end/],
    [join(head, '{"map":"nat9","key":1,"value":2}', ...rest), "E_ARCHIVE", /line 2: there is no map "nat9"/],
    [join(head, '{"map":"slots4","key":64,"value":2}', ...rest), "E_ARCHIVE", /no more than 64 entries/],
    [join(head, '{"map":"slots4","key":"x","value":2}', ...rest), "E_ARCHIVE", /line 2: a u32 cannot be "x"/],
    [join(head, "7"), "E_ARCHIVE", /line 2: it is no object/],
    ["", "E_ARCHIVE", /it is empty/],
    [join('{"format":"other"}'), "E_ARCHIVE", /this is no dump of `portolan maps dump --all`/],
    [join(other({ version: 9 })), "E_ARCHIVE", /in a later form \(9/],
    [join(other({ maps: null })), "E_ARCHIVE", /damaged: its first line/],
    [join(other({ versions: { ...versions, layout: 99 } })), "E_OTHER_LAYOUT", /have layout v99/],
    [join(other({ versions: { ...versions, abi: "0".repeat(16) } })), "E_OTHER_LAYOUT", /0{16}/],
    [join(other({ limit: 3 })), "E_USER", /at most 3 entries of each map/],
  ] as const) {
    const error = await failureOf(bad);
    assert.match(error.message, message);
    assert.equal(error.code, code, error.message);
    assert.notEqual(error.hint, null, error.message);
  }
});

test("a dump with --limit says so in its first line", async () => {
  const archive = join(directory, "limit.tar.gz");
  await writeArchive(archive, contentOf(await fixtureKernel()));
  const [head = "", ...lines] = (await printed(archive, 1)).trimEnd().split("\n");
  assert.equal((JSON.parse(head) as { limit: number }).limit, 1);
  const end = JSON.parse(lines.at(-1) ?? "") as { entries: Record<string, number> };
  assert.ok(Object.values(end.entries).every((count) => count <= 1));
  assert.ok(readFileSync(archive).length > 0);
});
