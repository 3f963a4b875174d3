// SPDX-License-Identifier: Apache-2.0
// What a command loads before it does anything. Time is measured by `make bench-cli`; here it is counted.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build, type Metafile } from "esbuild";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
let inputs: Metafile["inputs"];

before(async () => {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ["src/cli/main.ts"],
    bundle: true,
    packages: "external",
    format: "esm",
    platform: "node",
    splitting: true,
    outdir: "unused",
    write: false,
    metafile: true,
    logLevel: "silent",
  });
  inputs = metafile.inputs;
});

/** The files and packages that importing a file loads, without what is loaded by `import()` later. */
function loadedBy(file: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const { path, kind, external } of inputs[file]?.imports ?? []) {
    if (kind !== "import-statement") continue;
    if (external === true) seen.add(path);
    else loadedBy(path, seen);
  }
  return seen;
}

const packagesIn = (loaded: ReadonlySet<string>): string[] =>
  [...loaded].filter((each) => !each.startsWith("src/") && !each.startsWith("node:")).sort();

test("starting the command line loads no package but those that parse and print", () => {
  const loaded = loadedBy("src/cli/main.ts");
  assert.ok(loaded.has("src/cli/command.ts"), "the graph is read");
  assert.deepEqual(packagesIn(loaded), ["commander", "picocolors", "string-width"]);
});

for (const command of ["services", "backends", "flows", "affinity", "interfaces", "maps"]) {
  test(`portolan ${command} loads neither YAML, nor a logger, nor a client, nor what writes`, () => {
    const loaded = loadedBy(`src/cli/commands/${command}/handler.ts`, new Set(loadedBy("src/cli/main.ts")));
    assert.ok(loaded.has("src/cli/open-maps.ts"), "the graph is read");
    const own = packagesIn(loaded).filter(
      (name) => !["commander", "picocolors", "string-width"].includes(name),
    );
    // The native library is loaded when there is something to open with it, an archive's reader with --from.
    assert.deepEqual(
      own.filter((name) => name !== "ipaddr.js"),
      [],
    );
    for (const directory of ["src/daemon/", "src/source/", "src/diff/", "src/demo/", "src/native/lib"])
      assert.deepEqual(
        [...loaded].filter((file) => file.startsWith(directory)),
        [],
        directory,
      );
  });
}
