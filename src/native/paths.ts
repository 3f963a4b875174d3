// SPDX-License-Identifier: Apache-2.0
/** Where the built files are: build/ of the package, or PORTOLAN_BUILD_DIR. */
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The directory with package.json: the same from src/ and from dist/. */
function packageRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, "package.json")) && dirname(directory) !== directory)
    directory = dirname(directory);
  return directory;
}

export function buildDirectory(): string {
  const chosen = process.env.PORTOLAN_BUILD_DIR;
  return chosen ? resolve(chosen) : join(packageRoot(), "build");
}

export const libraryPath = (): string => join(buildDirectory(), "libportolan.so");
export const objectPath = (): string => join(buildDirectory(), "portolan.bpf.o");
