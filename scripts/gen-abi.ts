// SPDX-License-Identifier: Apache-2.0
// bpf/include/*.h -> BTF -> src/abi/*.gen.ts and native/src/abi_hash.gen.h. `--check` compares and writes nothing.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type Abi, AbiRuleError, assertSameAbi, BtfReader, type BtfType, MAX_NAME_BYTES } from "./abi/btf.js";
import type { Constant, Reason } from "./abi/emit.js";
import { emitEnums, emitHash, emitLayout, emitMaps, emitNative, emitNativeHeader } from "./abi/emit.js";

const ROOT = resolve(import.meta.dirname, "..");
const CLANG = process.env.CLANG ?? "clang-19";
const BPFTOOL = process.env.BPFTOOL ?? "bpftool";

function dumpBtf(object: string): BtfType[] {
  const text = execFileSync(BPFTOOL, ["-j", "btf", "dump", "file", object], {
    encoding: "utf8",
    maxBuffer: 1e8,
  });
  return (JSON.parse(text) as { types: BtfType[] }).types;
}

/** Compiles a C source for BPF against `include`, and returns its BTF. */
export function compileBtf(source: string, include: string = join(ROOT, "bpf/include")): BtfType[] {
  const directory = mkdtempSync(join(tmpdir(), "portolan-abi-"));
  try {
    const object = join(directory, "abi.o");
    const multiarch = execFileSync("gcc", ["-print-multiarch"], { encoding: "utf8" }).trim();
    const includes = [`-I${include}`, "-idirafter", `/usr/include/${multiarch}`];
    execFileSync(CLANG, [
      "-target",
      "bpf",
      "-g",
      "-O2",
      "-ffreestanding",
      ...includes,
      "-c",
      source,
      "-o",
      object,
    ]);
    return dumpBtf(object);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const header = (name: string): string => readFileSync(join(ROOT, "bpf/include", name), "utf8");

/** Names of the structs and enums that the headers declare, with FAM(x) as x4 and x6. */
function declared(kind: "struct" | "enum"): string[] {
  const pattern = new RegExp(`^${kind} (?:FAM\\((\\w+)\\)|(\\w+)) \\{`, "gm");
  return [...`${header("abi.h")}\n${header("abi_family.h")}`.matchAll(pattern)].flatMap(
    ([, family, plain]) => (family ? [`${family}4`, `${family}6`] : [plain as string]),
  );
}

/** The X-macro list of reasons.h. */
export function parseReasons(text: string): Reason[] {
  return [...text.matchAll(/PTL_REASON\((\w+),\s*"([^"]+)",\s*"([^"]+)"\)/g)].map(([, id, name, words]) => ({
    id: id as string,
    name: name as string,
    text: words as string,
  }));
}

/** Plain numbers among the #defines. */
export function parseConstants(text: string): Constant[] {
  return [...text.matchAll(/^#define (PTL_\w+) (0x[0-9a-f]+|\d+)u?$/gim)].map(([, name, value]) => ({
    name: name as string,
    value: Number(value),
  }));
}

function readAbi(): Abi {
  const enums = new Set(declared("enum"));
  const abi = new BtfReader(compileBtf(join(ROOT, "scripts/abi/abi-btf.bpf.c"))).abi((name) =>
    enums.has(name),
  );
  const missing = [
    ...declared("struct").filter(
      (name) => !/^addr[46]$/.test(name) && !abi.structs.some((s) => s.name === name),
    ),
    ...[...enums].filter((name) => !abi.enums.some((e) => e.name === name)),
  ];
  if (missing.length > 0)
    throw new AbiRuleError(
      `${missing.join(", ")}: in abi.h but not kept by scripts/abi/abi-btf.bpf.c: add it there`,
    );
  const object = join(ROOT, "build/portolan.bpf.o");
  if (existsSync(object)) {
    const types = dumpBtf(object);
    for (const type of types)
      if (
        type.kind === "FUNC" &&
        (type as { linkage?: string }).linkage === "global" &&
        /^ptl_/.test(type.name ?? "")
      )
        if (Buffer.byteLength(`${type.name}`) > MAX_NAME_BYTES)
          throw new AbiRuleError(`program ${type.name}: the name has more than ${MAX_NAME_BYTES} bytes`);
    assertSameAbi(
      abi,
      new BtfReader(types).abi(() => false),
      "build/portolan.bpf.o",
    );
  }
  return abi;
}

function readNative(): Abi {
  const include = join(ROOT, "native/include");
  return new BtfReader(compileBtf(join(ROOT, "scripts/abi/native-btf.bpf.c"), include)).abi((name) =>
    name.startsWith("ptl_"),
  );
}

function main(check: boolean): number {
  const abi = readAbi();
  const files: Record<string, string> = {
    "src/abi/layout.gen.ts": emitLayout(abi),
    "src/abi/maps.gen.ts": emitMaps(abi),
    "src/abi/enums.gen.ts": emitEnums(
      abi,
      parseReasons(header("reasons.h")),
      parseConstants(header("abi.h")),
    ),
    "src/abi/abi-hash.gen.ts": emitHash(abi),
    "native/src/abi_hash.gen.h": emitNativeHeader(abi),
    "src/native/portolan.gen.ts": emitNative(readNative()),
  };
  let stale = 0;
  for (const [path, text] of Object.entries(files)) {
    const target = join(ROOT, path);
    if (existsSync(target) && readFileSync(target, "utf8") === text) continue;
    if (!check) writeFileSync(target, text);
    console.error(check ? `${path}: not what bpf/include says: run make abi` : `wrote ${path}`);
    stale++;
  }
  return check && stale > 0 ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.exitCode = main(process.argv.includes("--check"));
  } catch (error) {
    if (!(error instanceof AbiRuleError)) throw error;
    console.error(`gen-abi: ${error.message}`);
    process.exitCode = 1;
  }
}
