// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import { FAMILY_CODECS } from "../../../src/abi/layout.gen.js";
import { MAP_NAMES, MAPS, type MapName } from "../../../src/abi/maps.gen.js";
import type { Meta } from "../../../src/cli/archive/format.js";
import { openArchive } from "../../../src/cli/archive/read.js";
import { isArrayMap, type MapDump } from "../../../src/native/kernel.js";
import type { MemoryKernel } from "../../../src/native/memory.js";
import { archiveTar, contentOf, fixtureKernel, metaOf, NOW_NS, writeArchive } from "../../support/archive.js";
import { bytesOf } from "../../support/services-in-maps.js";

let directory: string;
let kernel: MemoryKernel;
let tar: Buffer;

before(async () => {
  directory = mkdtempSync(join(tmpdir(), "portolan-archive-"));
  kernel = await fixtureKernel();
  tar = await archiveTar(contentOf(kernel));
});

after(() => rmSync(directory, { recursive: true }));

let files = 0;
function fileOf(bytes: Uint8Array): string {
  const file = join(directory, `${++files}.tar.gz`);
  writeFileSync(file, bytes);
  return file;
}

function pairsOf(map: MapName, { count, keys, values }: MapDump): string[] {
  const { keySize, valueSize } = MAPS[map];
  const hex = (bytes: Uint8Array, size: number, i: number): string =>
    Buffer.from(bytes.subarray(i * size, (i + 1) * size)).toString("hex");
  return Array.from(
    { length: count },
    (_, i) => `${hex(keys, keySize, i)}=${hex(values, valueSize, i)}`,
  ).sort();
}

async function gather(dumps: AsyncIterable<MapDump>): Promise<MapDump[]> {
  const all: MapDump[] = [];
  for await (const dump of dumps) all.push(dump);
  return all;
}

test("an archive gives back every entry of every map, its size, the clock and the hooks", async () => {
  const open = await openArchive(fileOf(gzipSync(tar)));
  assert.deepEqual(open.maps.names, MAP_NAMES);
  for (const map of MAP_NAMES) {
    assert.deepEqual(pairsOf(map, await open.maps.dump(map)), pairsOf(map, await kernel.dump(map)), map);
    assert.equal(open.maps.info(map).maxEntries, kernel.info(map).maxEntries);
    const chunks = await gather(open.maps.dumpChunks(map, 3));
    assert.ok(chunks.every(({ count }) => count <= 3));
    assert.deepEqual(
      chunks.flatMap((chunk) => pairsOf(map, chunk)).sort(),
      pairsOf(map, await kernel.dump(map)),
    );
  }
  assert.deepEqual(
    pairsOf("slots4", await open.maps.dump("slots4", 2)),
    pairsOf("slots4", await kernel.dump("slots4", 2)),
  );
  assert.equal(open.nowNs(), NOW_NS);
  assert.deepEqual(open.interfaces(), [{ ifindex: 7777, name: "veth7" }]);
  assert.equal((await open.attachments([7777])).length, 3);
  assert.deepEqual(await open.attachments([1]), []);
});

test("an archive tells the problems of those Services that are asked for", async () => {
  const open = await openArchive(fileOf(gzipSync(tar)));
  const named = async (wanted: string): Promise<number> =>
    (await open.problems((service) => service?.name === wanted)).problems.length;
  assert.deepEqual([await named("web"), await named("late"), await named("dns")], [1, 1, 0]);
});

const isHash = (name: MapName): boolean =>
  MAPS[name].type !== "lpm_trie" && MAPS[name].type !== "ringbuf" && !isArrayMap(name);

test("an archive answers look-ups as the kernel does, of a trie with the longest prefix", async () => {
  const open = await openArchive(fileOf(gzipSync(tar)));
  for (const map of MAP_NAMES.filter(isHash)) {
    const { keys, count } = await kernel.dump(map);
    const wanted = Buffer.concat([keys, Buffer.alloc(MAPS[map].keySize, 0xee), keys]);
    const found = await open.maps.lookUp(map, wanted);
    assert.equal(found.length, 2 * count + 1);
    assert.deepEqual(
      found.map((value) => value && Buffer.from(value)),
      (await kernel.lookUp(map, wanted)).map((value) => value && Buffer.from(value)),
    );
  }
  const { sourceRange } = FAMILY_CODECS[4];
  const key = (addr: string, bits: number): Uint8Array =>
    sourceRange.encode({ prefixLength: 32 + bits, service: 0, addr: bytesOf(addr) });
  const asked = [key("192.0.2.77", 32), key("192.0.3.77", 32), key("10.255.0.1", 32), key("10.0.0.0", 7)];
  const hits = await open.maps.lookUp("source_ranges4", Buffer.concat(asked));
  assert.deepEqual(
    hits.map((value) => value !== null),
    [true, false, true, false],
  );
});

test("a map that is too large to be kept is read from the file each time, all of it", async () => {
  const count = 200_000;
  const { keySize, valueSize } = MAPS.nat4;
  const [keys, values] = [Buffer.alloc(count * keySize), Buffer.alloc(count * valueSize, 7)];
  for (let i = 0; i < count; i++) keys.writeUInt32LE(i + 1, i * keySize);
  const many = await fixtureKernel([{ map: "nat4", kind: "update", count, keys, values }]);
  const file = join(directory, "many.tar.gz");
  const entries = await writeArchive(file, contentOf(many));
  assert.equal(entries.nat4, many.size("nat4"));
  const open = await openArchive(file);
  for (let round = 0; round < 2; round++) {
    let seen = 0;
    for await (const dump of open.maps.dumpChunks("nat4", 65_536)) seen += dump.count;
    assert.equal(seen, many.size("nat4"));
  }
  const [value] = await open.maps.lookUp("nat4", keys.subarray(0, keySize));
  assert.equal(value?.[0], 7);
});

const DAMAGED = { code: "E_ARCHIVE" };

test("an archive that was cut off anywhere is an error that says so, and nothing is shown of it", async () => {
  const whole = gzipSync(tar);
  for (let at = 1; at < whole.length; at += Math.ceil(whole.length / 40)) {
    await assert.rejects(
      openArchive(fileOf(whole.subarray(0, at))),
      DAMAGED,
      `${at} of ${whole.length} bytes`,
    );
  }
  // The tar file itself, in a gzip file that is whole.
  for (let at = 0; at < tar.length - 1024; at += 512 * Math.ceil(tar.length / 512 / 40)) {
    await assert.rejects(
      openArchive(fileOf(gzipSync(tar.subarray(0, at)))),
      DAMAGED,
      `${at} of ${tar.length} bytes`,
    );
  }
});

test("an archive with a changed byte is an error or the same kind of answer, and never a fault of ours", async () => {
  const whole = gzipSync(tar, { level: 0 });
  for (let at = 12; at < whole.length - 8; at += Math.ceil(whole.length / 60)) {
    const changed = Buffer.from(whole);
    changed[at] = (changed[at] as number) ^ 0x41;
    // The check sum of gzip finds it.
    await assert.rejects(openArchive(fileOf(changed)), DAMAGED, `byte ${at}`);
  }
});

test("what is no archive is told apart from one that is damaged", async () => {
  const other = pack();
  other.entry({ name: "etc/passwd" }, "root:x:0:0");
  other.finalize();
  const foreign = [
    Buffer.alloc(0),
    Buffer.from("hello"),
    gzipSync("hello"),
    gzipSync(""),
    tar,
    gzipSync(await buffer(other as unknown as Readable)),
  ];
  for (const [i, bytes] of foreign.entries()) {
    await assert.rejects(
      openArchive(fileOf(bytes)),
      { code: "E_ARCHIVE", message: /this is no archive of `portolan dump`/ },
      `case ${i}`,
    );
  }
});

async function withMeta(change: Partial<Record<keyof Meta, unknown>>): Promise<string> {
  const meta = { ...metaOf(kernel), ...change } as Meta;
  return fileOf(
    gzipSync(await archiveTar(contentOf(kernel, { meta, maps: Array.isArray(meta.maps) ? kernel : null }))),
  );
}

test("an archive of a later form, or of another layout, names what can read it", async () => {
  await assert.rejects(openArchive(await withMeta({ version: 2 })), {
    code: "E_ARCHIVE",
    message: /written by portolan 0\.1\.0 in a later form \(2, this program reads up to 1\)/,
    hint: "Read it with that version.",
  });
  const { versions } = metaOf(kernel);
  for (const other of [{ layout: 99 }, { abi: "0000000000000001" }]) {
    await assert.rejects(openArchive(await withMeta({ versions: { ...versions, ...other } })), {
      code: "E_OTHER_LAYOUT",
      message: /layout v\d+ \([0-9a-f]{16}\), this program's is v/,
    });
  }
});

test("an archive whose description is not what it should be is damaged", async () => {
  const [first, ...rest] = metaOf(kernel).maps;
  for (const change of [
    { versions: null },
    { monotonicNs: "-1" },
    { monotonicNs: 5 },
    { maps: {} },
    { maps: [{ ...first, maxEntries: -1 }, ...rest] },
    { written: null },
  ]) {
    await assert.rejects(openArchive(await withMeta(change)), DAMAGED, JSON.stringify(change).slice(0, 80));
  }
  await assert.rejects(openArchive(await withMeta({ maps: [{ ...first, keySize: 4 }, ...rest] })), {
    code: "E_ABI_MAP",
  });
});

test("names of members are no paths: nothing is written, and what is not ours is skipped", async () => {
  const hostile = pack();
  const names = [
    "../../../tmp/evil",
    "/etc/evil",
    "portolan-dump/../evil",
    "portolan-dump/maps/../../evil.000",
    "portolan-dump/new.json",
  ];
  const add = (name: string): void => void hostile.entry({ name }, "evil");
  for (const name of names) add(name);
  hostile.entry({ name: "portolan-dump/link", type: "symlink", linkname: "/etc/passwd" });
  hostile.finalize();
  const extra = (await buffer(hostile as unknown as Readable)).subarray(0, -1024);
  // After meta.json: its header and one or more blocks.
  const size = Number.parseInt(tar.toString("latin1", 124, 135), 8);
  const at = 512 + Math.ceil(size / 512) * 512;
  const file = fileOf(gzipSync(Buffer.concat([tar.subarray(0, at), extra, tar.subarray(at)])));
  const before = readdirSync(directory).length;
  const open = await openArchive(file);
  assert.equal((await open.maps.dump("services")).count, 2);
  assert.equal(readdirSync(directory).length, before);
});

test("a member that is larger than it can be is refused before it is read", async () => {
  const large = Buffer.from(tar.subarray(0, 512));
  large.write("00777777777\0", 124, "latin1");
  large.write("        ", 148, "latin1");
  const sum = large.reduce((total, byte) => total + byte, 0);
  large.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  await assert.rejects(openArchive(fileOf(gzipSync(Buffer.concat([large, tar.subarray(512)])))), {
    code: "E_ARCHIVE",
    message: /has 134217727 bytes, at most \d+ are expected/,
  });
});

test("an archive without maps says why it has none", async () => {
  const meta = metaOf(kernel, { maps: [], noMaps: "no maps are pinned below /sys/fs/bpf/portolan" });
  const file = fileOf(gzipSync(await archiveTar(contentOf(kernel, { meta, maps: null }))));
  await assert.rejects(openArchive(file), {
    code: "E_NO_PINS",
    message: /has no maps: no maps are pinned below/,
  });
});

test("a file that is not there, and a directory, are mistakes of whoever typed it", async () => {
  await assert.rejects(openArchive(join(directory, "nothing")), {
    code: "E_USER",
    message: /there is no such file/,
  });
  await assert.rejects(openArchive(directory), { code: "E_USER", message: /is a directory/ });
});
