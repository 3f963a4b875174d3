// SPDX-License-Identifier: Apache-2.0
/** Small BPF objects and helpers, compiled for one test. */
import { execFileSync } from "node:child_process";
import { cpSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Compiles BPF source against bpf/include; `edit` may change the headers of a private copy first. */
export function compileBpf(
  directory: string,
  name: string,
  source: string,
  edit: (abi: string) => string = (abi) => abi,
): string {
  const include = join(directory, `${name}-include`);
  cpSync(join(ROOT, "bpf/include"), include, { recursive: true });
  writeFileSync(join(include, "abi.h"), edit(readFileSync(join(include, "abi.h"), "utf8")));
  const file = join(directory, `${name}.bpf.c`);
  const object = join(directory, `${name}.bpf.o`);
  const linked = join(directory, `${name}.linked.o`);
  writeFileSync(file, source);
  const multiarch = execFileSync("gcc", ["-print-multiarch"], { encoding: "utf8" }).trim();
  const args = [
    "-target",
    "bpf",
    "-mcpu=v3",
    "-g",
    "-O2",
    `-I${include}`,
    "-idirafter",
    `/usr/include/${multiarch}`,
  ];
  execFileSync(process.env.CLANG ?? "clang-19", [...args, "-c", file, "-o", object]);
  // As the product's object: linking fills in the offsets of .rodata.
  execFileSync(process.env.BPFTOOL ?? "bpftool", ["gen", "object", linked, object]);
  return linked;
}

/** A TypeScript program as JavaScript: starting it costs a third of what it costs through tsx. Types are not checked. */
export function compileScript(directory: string, source: string): string {
  const out = join(directory, "out");
  const compilerOptions = {
    ...{ noEmit: false, noCheck: true, isolatedDeclarations: false, declaration: false },
    ...{ rootDir: ROOT, outDir: out },
  };
  const config = { extends: join(ROOT, "tsconfig.json"), compilerOptions, files: [source], include: [] };
  writeFileSync(join(directory, "tsconfig.json"), JSON.stringify(config));
  writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module" }));
  symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
  execFileSync(join(ROOT, "node_modules/.bin/tsc"), ["-p", directory]);
  return join(out, relative(ROOT, source)).replace(/\.ts$/, ".js");
}

/** A C program for the host. */
export function compileHelper(directory: string, source: string): string {
  const program = join(directory, "helper");
  execFileSync("gcc", ["-O1", "-Wall", "-Werror", "-o", program, join(ROOT, "test/native/support", source)]);
  return program;
}
