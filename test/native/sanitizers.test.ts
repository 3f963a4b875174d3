// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { MAP_NAMES } from "../../src/abi/maps.gen.js";
import { findCgroup2, objectPath, twinPath } from "../../src/native/paths.js";
import { SYMBOLS } from "../../src/native/symbols.js";
import { isolated, ROOT, scratch } from "./support/isolate.js";

isolated(import.meta.url, () => {
  test("The library reads and writes nothing outside its buffers, and leaks neither memory nor descriptors", () => {
    const directory = scratch();
    const program = join(directory, "sanitize");
    const native = join(ROOT, "native");
    // A program may use libbpf.a as it is: the stand-in for stderr is for the shared object.
    const sources = readdirSync(join(native, "src")).filter(
      (name) => name.endsWith(".c") && name !== "libbpf_stderr.c",
    );
    const libbpf = execFileSync("gcc", ["-print-file-name=libbpf.a"], { encoding: "utf8" }).trim();
    const exports = join(directory, "exports.inc");
    writeFileSync(
      exports,
      Object.keys(SYMBOLS)
        .map((name) => `FUNCTION(${name})\n`)
        .join(""),
    );
    execFileSync("gcc", [
      ...["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer"],
      ...["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
      ...[`-I${native}/include`, `-I${ROOT}/bpf/include`, `-DMAPS=${MAP_NAMES.length}`],
      // native/test/driven.c says which functions were called.
      ...["-finstrument-functions", `-DEXPORTS="${exports}"`],
      // native/test/netlink.c says what has been received.
      "-Wl,--wrap=recv",
      join(native, "test/sanitize.c"),
      join(native, "test/netlink.c"),
      join(native, "test/driven.c"),
      ...sources.map((name) => join(native, "src", name)),
      ...[libbpf, "-lelf", "-lz", "-lpthread", "-o", program],
    ]);
    const cgroup = `${findCgroup2()}/portolan-sanitize-${process.pid}`;
    mkdirSync(cgroup);
    const run = spawnSync(program, [objectPath(), twinPath(), join(directory, "bpf"), cgroup], {
      encoding: "utf8",
    });
    rmdirSync(cgroup);
    assert.equal(run.status, 0, run.stdout + run.stderr);
    assert.match(run.stdout, /^0 failures$/m);
    const called = Array.from(run.stdout.matchAll(/^called (\w+) (\d+)$/gm), ([, name, calls]) => [
      name,
      calls,
    ]);
    assert.equal(called.length, Object.keys(SYMBOLS).length);
    const never = called.flatMap(([name, calls]) => (calls === "0" ? [name] : []));
    assert.deepEqual(never, [], "exported functions that native/test/sanitize.c never calls");
  });
});
