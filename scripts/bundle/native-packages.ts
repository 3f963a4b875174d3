// SPDX-License-Identifier: Apache-2.0
/** The packages that cannot be bundled, because they load a file beside them: what is copied of each. */
import { cpSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** By package: directories and files of code. Headers, sources and other systems' binaries stay behind. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "ffi-napi": ["lib"],
  "ref-napi": ["lib"],
  "ref-struct-di": ["lib"],
  "node-gyp-build": ["index.js", "node-gyp-build.js"],
  debug: ["src"],
  ms: ["index.js"],
};
/** `ref-napi` has binaries for electron, too. */
const PREBUILD = /^node\.napi\..*node$/;
const LICENSE = /^(licen[cs]e|copying|notice)/i;

/** Where an installed package is, as `from` would load it. */
function directoryOf(name: string, from: string): string {
  const resolver = createRequire(join(from, "package.json"));
  for (const path of resolver.resolve.paths(name) ?? []) {
    const directory = join(path, name);
    if (existsSync(join(directory, "package.json"))) return directory;
  }
  throw new Error(`${name} is not installed: run npm ci`);
}

/**
 * Copies the native binding with what it needs at run time into `target`/node_modules.
 *
 * @param arch as `process.arch` names it: the only one whose binaries are copied
 * @returns where each package came from, by name
 */
export function copyNativePackages(root: string, target: string, arch: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const ffi = directoryOf("ffi-napi", root);
  for (const [name, parts] of Object.entries(PACKAGES)) {
    // Two versions of one package would need a tree: the lock file has one of each, and the bundle is tried.
    const source = directoryOf(name, name === "ffi-napi" ? root : ffi);
    found.set(name, source);
    const licenses = readdirSync(source).filter((file) => LICENSE.test(file));
    for (const part of ["package.json", ...licenses, ...parts]) {
      if (existsSync(join(source, part))) copy(join(source, part), join(target, "node_modules", name, part));
    }
    copyPrebuilds(source, join(target, "node_modules", name), arch);
  }
  return found;
}

function copyPrebuilds(source: string, target: string, arch: string): void {
  if (!existsSync(join(source, "prebuilds"))) return;
  const directory = join("prebuilds", `linux-${arch}`);
  const files = existsSync(join(source, directory))
    ? readdirSync(join(source, directory)).filter((file) => PREBUILD.test(file))
    : [];
  if (files.length === 0) throw new Error(`${source} has no binary for linux-${arch}`);
  for (const file of files) copy(join(source, directory, file), join(target, directory, file));
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to, { recursive: true, dereference: true });
}
