// SPDX-License-Identifier: Apache-2.0
/**
 * Makes build/bundle/: the product as it is shipped. The agent and the command line are one entry with chunks that are loaded
 * when they are needed; a command that reads maps loads a few of them. It has the shape of the package itself, so
 * that every path which the code looks up is where it is in a checkout:
 *
 *   package.json           name, version
 *   dist/cli/main.js       the entry (also under the name kube-proxy), dist/chunks/*.js
 *   build/                 libportolan.so, portolan.bpf.o, portolan-trace.bpf.o
 *   node_modules/          the native binding, with the binaries of this architecture
 *   LICENSE, LICENSES/, THIRD-PARTY-NOTICES
 *
 *   node --import tsx scripts/bundle.ts [--out build/bundle]
 *
 * What esbuild knows about the chunks goes beside it: build/bundle.meta.json.
 */
import { chmodSync, cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, type Metafile, type Plugin } from "esbuild";
import { copyNativePackages } from "./bundle/native-packages.js";
import { notices, packageDirectories } from "./bundle/notices.js";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");

/** The oldest Node.js that the product supports; package.json says the same of its checkout. */
const TARGET = "node20";

/** Some of the packages are CommonJS and load Node's own modules with `require`, which modules do not have. */
const BANNER =
  'import { createRequire as portolanRequire } from "node:module";const require = portolanRequire(import.meta.url);';

/** Puts scripts/bundle/*.ts in the place of what must not be taken as it is. */
const replacements: Plugin = {
  name: "replacements",
  setup({ onResolve }) {
    const own = (file: string): string => join(ROOT, "scripts/bundle", file);
    for (const [filter, file] of [
      [/^@kubernetes\/client-node$/, "client-node.ts"],
      [/^yaml$/, "yaml.ts"],
    ] as const) {
      onResolve({ filter }, ({ importer }) =>
        importer === own(file) ? undefined : { path: own(file), sideEffects: false },
      );
    }
    onResolve({ filter: /^\.\/handler\.js$/ }, ({ importer }) =>
      importer === join(ROOT, "src/cli/commands/demo/index.ts") ? { path: own("no-demo.ts") } : undefined,
    );
  },
};

async function bundleCode(out: string): Promise<Metafile> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: { "cli/main": "src/cli/main.ts" },
    outdir: join(out, "dist"),
    // As deep as the entry: "../../package.json" is the same file from each.
    chunkNames: "chunks/[name]-[hash]",
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "node",
    target: TARGET,
    banner: { js: BANNER },
    // Names stay: a stack trace out of a cluster is to be read.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    metafile: true,
    logLevel: "warning",
    plugins: [replacements],
  });
  return metafile;
}

function describePackage(out: string): void {
  const { name, version, description, license, engines } = JSON.parse(
    readFileSync(join(ROOT, "package.json"), "utf8"),
  ) as Record<string, unknown>;
  const own = { name, version, description, license, private: true, type: "module", engines };
  writeFileSync(join(out, "package.json"), `${JSON.stringify(own, null, 2)}\n`);
}

/** Everything but the code of src/ and its packages. */
function addFiles(out: string, bundled: readonly string[]): void {
  describePackage(out);
  const native = copyNativePackages(ROOT, out, process.arch);
  for (const path of [
    "LICENSE",
    "LICENSES",
    "build/libportolan.so",
    "build/portolan.bpf.o",
    "build/portolan-trace.bpf.o",
  ]) {
    mkdirSync(dirname(join(out, path)), { recursive: true });
    cpSync(join(ROOT, path), join(out, path), { recursive: true });
  }
  const directories = packageDirectories(bundled).map((directory) => join(ROOT, directory));
  const all = [...new Set([...directories, ...native.values()])].sort();
  writeFileSync(join(out, "THIRD-PARTY-NOTICES"), notices(all));
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { out: { type: "string", default: join(ROOT, "build/bundle") } } });
  const out = resolve(values.out);
  const fresh = `${out}.new`;
  rmSync(fresh, { recursive: true, force: true });
  const metafile = await bundleCode(fresh);
  addFiles(fresh, Object.keys(metafile.inputs));
  chmodSync(join(fresh, "dist/cli/main.js"), 0o755);
  rmSync(out, { recursive: true, force: true });
  renameSync(fresh, out);
  writeFileSync(`${out}.meta.json`, JSON.stringify(metafile).replaceAll("bundle.new/", "bundle/"));
}

await main();
