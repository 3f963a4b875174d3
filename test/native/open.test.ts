// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { Worker } from "node:worker_threads";
import { Mark } from "../../src/abi/enums.gen.js";
import { choiceTag, markIndex } from "../../src/abi/hash.js";
import { addrPort6Codec, type PtlConfig } from "../../src/abi/layout.gen.js";
import { MAP_NAMES, MAPS } from "../../src/abi/maps.gen.js";
import { AbiError } from "../../src/abi/verify.js";
import { NativeError, type NativeErrorCode } from "../../src/native/errors.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { compileBpf } from "./support/compile.js";
import { freshPins, isolated, openFiles, scratch } from "./support/isolate.js";

const SMALL = { nat4: 1024, nat6: 1024, slots4: 1024, slots6: 1024, addresses4: 1024, addresses6: 1024 };

const CONFIG: PtlConfig = {
  snatPortBase: [1000, 2000],
  snatPortCount: [10, 20],
  timeoutTcpOpening: 1,
  timeoutTcpEstablished: 2,
  timeoutTcpHalfClosed: 3,
  timeoutTcpClosed: 4,
  timeoutUdpUnreplied: 5,
  timeoutUdpReplied: 0x01020304,
  mark: 0,
  masqueradeMark: 0,
  options: 0,
  hostNetns: [0, 0],
  detector4: 0,
  detector6: 0,
  localNetwork4: new Uint8Array(4),
  localMask4: new Uint8Array(4),
  localNetwork6: new Uint8Array(16),
  localMask6: new Uint8Array(16),
};

const PROLOGUE = `#include <linux/bpf.h>\n#include "maps.bpf.h"\nconst volatile struct ptl_config config = {};\n`;
const LICENSE = `char _license[] SEC("license") = "Dual BSD/GPL";\n`;
const PROGRAM = `SEC("tc") int ptl_config_run(struct __sk_buff *skb) { return config.timeout_udp_replied; }\n`;

function isNative(code: NativeErrorCode, pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof NativeError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    assert.ok(error.hint, "a hint says what to do");
    return true;
  };
}

isolated(import.meta.url, () => {
  const library = new NativeLibrary();
  const files = scratch();
  const key = Uint8Array.of(7, 0, 0, 0);
  const entry = {
    map: "services",
    kind: "update",
    count: 1,
    keys: key,
    values: new Uint8Array(160).fill(3),
  } as const;
  let configObject: string;
  before(() => {
    configObject = compileBpf(files, "config", PROLOGUE + PROGRAM + LICENSE);
  });

  test("Opening makes every map and pins it, and a second life finds what the first one wrote", async () => {
    const pins = freshPins(library);
    const first = await library.open({ pins, maxEntries: SMALL });
    assert.deepEqual(first.names, MAP_NAMES);
    assert.equal(first.info("nat4").maxEntries, 1024);
    assert.equal(first.info("counters").type, "percpu_array");
    assert.ok(first.infos().every((info) => info.bytes > 0 || info.type === "lpm_trie"));
    await first.apply([entry]);
    const ids = first.infos().map((info) => info.id);
    await first.close();
    assert.deepEqual(readdirSync(pins).sort(), [...MAP_NAMES].sort());
    const second = await library.open({ pins, maxEntries: SMALL });
    assert.deepEqual(
      second.infos().map((info) => info.id),
      ids,
    );
    assert.equal((await second.dump("services")).count, 1);
    await second.close();
    assert.equal(library.cleanup(pins), MAP_NAMES.length);
    assert.ok(!existsSync(pins));
    assert.equal(library.cleanup(pins), 0, "cleaning up twice is no error");
  });

  test("Pins opened for reading show the maps and refuse every write", async () => {
    const pins = freshPins(library);
    const owner = await library.open({ pins, maxEntries: SMALL });
    await owner.apply([entry]);
    const reader = library.openPins(pins);
    assert.deepEqual(reader.names, MAP_NAMES);
    assert.equal((await reader.dump("services")).count, 1);
    assert.equal(reader.infos(true).find((info) => info.name === "services")?.used, 1);
    assert.equal((await reader.apply([entry])).failure?.errno, 1);
    await reader.close();
    await reader.close();
    await assert.rejects(reader.dump("services"), isNativeArgument);
    await owner.close();
    library.cleanup(pins);
    assert.throws(() => library.openPins(pins), isNative("E_NATIVE_PINS", /Cannot open the pin directory/));
    mkdirSync(pins, { recursive: true });
    assert.throws(() => library.openPins(pins), isNative("E_NATIVE_PINS", /holds no pinned map/));
  });

  function isNativeArgument(error: unknown): boolean {
    return error instanceof NativeError && error.code === "E_NATIVE_ARGUMENT";
  }

  test("A pinned map of another size is an error that names map, both sizes and the pin", async () => {
    const pins = freshPins(library);
    await (await library.open({ pins, maxEntries: SMALL })).close();
    const wanted = library.open({ pins, maxEntries: { ...SMALL, nat4: 2048 } });
    await assert.rejects(
      wanted,
      isNative(
        "E_NATIVE_MAP_SPEC",
        /Map nat4: the pinned one has max_entries 1024, wanted is 2048 \(.*\/nat4\)/,
      ),
    );
    assert.deepEqual(
      readdirSync(pins).sort(),
      [...MAP_NAMES].sort(),
      "the pins of the first life are untouched",
    );
    library.cleanup(pins);
  });

  test("A pinned map of another layout is an error that names map, field and both values, in both ways of opening", async () => {
    const pins = freshPins(library);
    // What a later version might do: a longer value of `frontends`.
    const other = compileBpf(files, "other", PROLOGUE + PROGRAM + LICENSE, (abi) =>
      abi.replace(/(struct frontend \{)/, "$1 __u64 more;"),
    );
    await assert.rejects(
      library.open({ pins, object: other, maxEntries: SMALL }),
      (error) =>
        error instanceof AbiError &&
        error.code === "E_ABI_OBJECT" &&
        /struct frontend: field "more 0 8"/.test(error.message),
    );
    assert.ok(!existsSync(dirname(pins)), "nothing was made");
    const plain = `struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 65536); __uint(key_size, 8);
      __uint(value_size, 40); __uint(pinning, LIBBPF_PIN_BY_NAME); } frontends4 SEC(".maps");\n`;
    const source = `#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n${plain}${LICENSE}
      SEC("tc") int ptl_x(struct __sk_buff *skb) { return bpf_map_lookup_elem(&frontends4, skb) ? 1 : 0; }\n`;
    const stranger = compileBpf(
      files,
      "stranger",
      source.replace("&frontends4, skb", "&frontends4, (__u64[]){0}"),
    );
    // It has the map, so it is refused after loading, and its pins remain for the next test.
    await assert.rejects(
      library.open({ pins, object: stranger }),
      (error) =>
        error instanceof AbiError &&
        error.code === "E_ABI_MAP" &&
        /frontends4 .* valueSize 40, .* 32/.test(error.message),
    );
    assert.deepEqual(readdirSync(pins), ["frontends4"]);
    await assert.rejects(
      library.open({ pins, maxEntries: SMALL }),
      isNative("E_NATIVE_MAP_SPEC", /Map frontends4: the pinned one has value size 40, wanted is 32/),
    );
    assert.throws(
      () => library.openPins(pins),
      (error) => error instanceof AbiError && error.code === "E_ABI_MAP",
    );
    library.cleanup(pins);
  });

  test("A program that the verifier refuses is an error with the reason first and the log behind, and leaves no pin", async () => {
    const pins = freshPins(library);
    const bad = `SEC("tc") int ptl_bad(struct __sk_buff *skb) {
      __u32 key = 7; __u64 *value = bpf_map_lookup_elem(&services, &key); return (int)*value; }\n`;
    const object = compileBpf(files, "bad", PROLOGUE + bad + PROGRAM + LICENSE);
    await assert.rejects(library.open({ pins, object, maxEntries: SMALL }), (error) => {
      isNative("E_NATIVE_VERIFIER", /R\d invalid mem access 'map_value_or_null'/)(error);
      assert.match((error as NativeError).verifierLog ?? "", /ptl_bad|processed \d+ insns/);
      return true;
    });
    assert.ok(!existsSync(dirname(pins)), "no pin and no directory are left");
    await (await library.open({ pins, maxEntries: SMALL })).close();
    await assert.rejects(library.open({ pins, object, maxEntries: SMALL }), NativeError);
    assert.deepEqual(readdirSync(pins).sort(), [...MAP_NAMES].sort(), "pins that were there before stay");
    library.cleanup(pins);
  });

  test("The settings reach the program's .rodata; without any it keeps its own", async () => {
    const run = async (config?: PtlConfig): Promise<number> => {
      const loaded = await library.open({
        pins: "",
        object: configObject,
        maxEntries: SMALL,
        ...(config && { config }),
      });
      const { retval } = loaded.testRun("ptl_config_run", { data: new Uint8Array(64) });
      await loaded.close();
      return retval;
    };
    assert.equal(await run(CONFIG), 0x01020304);
    assert.equal(await run(), 0);
  });

  test("A test run gives back the frame, the mark and the result, and refuses an unknown program", async () => {
    const source = `SEC("tc") int ptl_edit(struct __sk_buff *skb) { skb->mark += 1; skb->cb[1] = skb->gso_size;
      bpf_skb_store_bytes(skb, 20, "Z", 1, 0); return -1; }\n`;
    const object = compileBpf(files, "edit", PROLOGUE + source + PROGRAM + LICENSE);
    const loaded = await library.open({ pins: "", object, maxEntries: SMALL });
    const data = Uint8Array.from({ length: 80 }, (_, i) => i);
    const result = loaded.testRun("ptl_edit", { data, mark: 41, gsoSize: 10, gsoSegs: 2 });
    assert.equal(result.retval, -1);
    assert.equal(result.mark, 42);
    assert.equal(result.cb[1], 10);
    assert.deepEqual(
      result.data,
      data.map((byte, i) => (i === 20 ? 0x5a : byte)),
    );
    assert.throws(
      () => loaded.testRun("ptl_none", { data }),
      (error) => error instanceof NativeError && error.errno === 2 && /no such program/.test(error.message),
    );
    await loaded.close();
  });

  test("Objects and directories that are not what they should be are told apart", async () => {
    const nowhere = join(files, "none.bpf.o");
    await assert.rejects(
      library.open({ pins: "", object: nowhere }),
      isNative("E_NATIVE_OBJECT", /No such file/),
    );
    writeFileSync(join(files, "text.o"), "not an object");
    await assert.rejects(
      library.open({ pins: "", object: join(files, "text.o") }),
      isNative("E_NATIVE_OBJECT", /Cannot read/),
    );
    const plain = join(files, "plain");
    await assert.rejects(
      library.open({ pins: plain }),
      isNative("E_NATIVE_BPFFS", /not on a bpf file system/),
    );
    assert.ok(!existsSync(plain), "the directory that was made for it is gone again");
    mkdirSync(plain);
    writeFileSync(join(plain, "keep"), "");
    assert.throws(() => library.cleanup(plain), isNative("E_NATIVE_BPFFS", /not on a bpf file system/));
    assert.ok(existsSync(join(plain, "keep")), "cleanup never deletes ordinary files");
    assert.throws(() => new NativeLibrary(nowhere), isNative("E_NATIVE_LIBRARY", /no such file/));
  });

  test("The library refuses to be loaded in a worker thread, where ffi-napi would crash the process", async () => {
    const source = `import { NativeLibrary } from ${JSON.stringify(new URL("../../src/native/lib.ts", import.meta.url).href)};
      import { parentPort } from "node:worker_threads";
      try { new NativeLibrary(); } catch (error) { parentPort.postMessage(error.code + " " + error.message); }`;
    const message = await new Promise((resolve, reject) => {
      const worker = new Worker(
        `import("tsx/esm/api").then((tsx) => { tsx.register(); return import("data:text/javascript,${encodeURIComponent(source)}"); })`,
        { eval: true },
      );
      worker.once("message", resolve).once("error", reject);
    });
    assert.match(String(message), /E_NATIVE_LIBRARY .*worker/);
  });

  test("A library's functions are bound without a Buffer of a gigabyte for each, and its garbage collection", () => {
    const fresh = new NativeLibrary();
    fresh.netnsCookie(); // the one Buffer that covers the library
    const before = process.memoryUsage().external;
    fresh.libbpfVersion();
    fresh.choiceTag(Buffer.alloc(4));
    fresh.probe();
    assert.ok(process.memoryUsage().external - before < 2 ** 26, "external memory as V8 counts it");
  });

  test("Choice tags in C and in TypeScript are the same", () => {
    for (let i = 0; i < 500; i++) {
      const bytes = Uint8Array.from({ length: 20 }, (_, j) => (i * 31 + j * 17 + ((i * j) >> 3)) & 255);
      assert.equal(library.choiceTag(bytes), choiceTag(bytes));
      assert.equal(library.choiceTag(bytes.subarray(0, 8)), choiceTag(bytes.subarray(0, 8)));
    }
    const vip = addrPort6Codec.encode({ addr: new Uint8Array(16).fill(0xfd), port: 443, protocol: 6 });
    assert.equal(library.choiceTag(vip), choiceTag(vip));
  });

  test("Cells of flow_marks in C and in TypeScript are the same, and neighbours have different ones", () => {
    for (const size of [4, 16]) {
      const cells = new Set<number>();
      for (let i = 0; i < 512; i++) {
        const address = new Uint8Array(size).fill(0xfd, 0, size - 2);
        address.set([i >> 8, i & 255], size - 2);
        for (const mark of [Mark.IN, Mark.OUT, Mark.MASQUERADE]) {
          const cell = markIndex(Buffer.concat([Buffer.alloc(3), address]), 3, size, mark);
          assert.equal(library.markIndex(address, mark), cell);
          cells.add(cell);
        }
      }
      assert.ok(cells.size > 1500, `1536 addresses have ${cells.size} cells`);
    }
  });

  test("The kernel's features are found out, and those of this machine's kernel are there", () => {
    const features = new Map(library.probe().map((feature) => [feature.name, feature]));
    for (const name of ["batch_hash", "batch_array", "ringbuf", "btf"] as const)
      assert.equal(features.get(name)?.available, true, name);
    for (const feature of features.values()) assert.ok(feature.available !== null || feature.errno > 0);
  });

  test("Opening, reading and closing leaves no file descriptor behind, also when it fails", async () => {
    const pins = freshPins(library);
    const cycle = async (): Promise<void> => {
      const loaded = await library.open({ pins, maxEntries: SMALL });
      const reader = library.openPins(pins);
      await loaded.apply([entry]);
      await reader.dump("services");
      loaded.infos(true);
      loaded.testRun("ptl_pod_in", { data: new Uint8Array(64) });
      await Promise.all([loaded.close(), reader.close()]);
      await assert.rejects(library.open({ pins, maxEntries: { ...SMALL, nat6: 7 } }), NativeError);
      library.probe();
    };
    await cycle();
    const before = openFiles();
    for (let i = 0; i < 3; i++) await cycle();
    assert.deepEqual(openFiles(), before);
    library.cleanup(pins);
  });

  test("The default sizes load as they are, and every map has the size that the table says", async () => {
    const loaded = await library.open({ pins: "", config: CONFIG });
    for (const name of MAP_NAMES) assert.equal(loaded.info(name).maxEntries, MAPS[name].maxEntries, name);
    await loaded.close();
  });
});
