// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readdirSync, renameSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { run } from "../../src/demo/world/index.js";

const OUTPUT = fileURLToPath(new URL("../../build/test/", import.meta.url));
const AWAKE_CLOCK = fileURLToPath(new URL("./awake-clock/", import.meta.url));
const FLAGS = ["-D_GNU_SOURCE", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];

/**
 * Compiles a program that runs on test hosts, with the clock that stands still with the machine, when one of its sources
 * is newer than it is.
 *
 * @param name of the program in build/test
 * @param directory its sources and headers
 * @returns the program's path
 */
export async function compileTestProgram(name: string, directory: URL): Promise<string> {
  const program = `${OUTPUT}${name}`;
  const sources = [fileURLToPath(directory), AWAKE_CLOCK].flatMap((path) =>
    readdirSync(path).map((file) => `${path}${file}`),
  );
  const newest = Math.max(...sources.map((path) => statSync(path).mtimeMs));
  if ((statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0) > newest) return program;
  mkdirSync(OUTPUT, { recursive: true });
  const fresh = `${program}.${process.pid}`; // another test file may be building it too
  const units = sources.filter((path) => path.endsWith(".c"));
  await run(["gcc", ...FLAGS, `-I${AWAKE_CLOCK}`, "-o", fresh, ...units], { timeoutMs: 300_000 });
  renameSync(fresh, program);
  return program;
}
