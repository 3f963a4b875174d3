// SPDX-License-Identifier: Apache-2.0
/** The licenses of everybody whose code is in the bundle: they ask for being passed on with it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const LICENSE = /^(licen[cs]e|copying|notice)/i;

/** Below which packages' directories these files are: "node_modules/a/node_modules/@b/c/lib/x.js" is of "node_modules/a/node_modules/@b/c". */
export function packageDirectories(files: readonly string[]): readonly string[] {
  const directories = files.flatMap(
    (file) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? [],
  );
  return [...new Set(directories)].sort();
}

/**
 * One text with the license of each package.
 *
 * @throws Error that names a package which does not say its license at all
 */
export function notices(directories: readonly string[]): string {
  const parts = directories.map((directory) => {
    const described = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as {
      name: string;
      version: string;
      license?: string;
    };
    const texts = existsSync(directory)
      ? readdirSync(directory)
          .filter((file) => LICENSE.test(file))
          .map((file) => readFileSync(join(directory, file), "utf8").trim())
      : [];
    if (described.license === undefined && texts.length === 0)
      throw new Error(`${directory} says nothing about its license`);
    return [`${described.name} ${described.version} (${described.license ?? "see below"})`, ...texts].join(
      "\n\n",
    );
  });
  return `${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}
