// SPDX-License-Identifier: Apache-2.0
/**
 * How long the shipped command line takes to start: pairs of `node -e 0` and a command, one after the other, so that a busy
 * machine slows both. JSON on stdout: the median of the pairs' ratios, and the medians in milliseconds, which say little.
 *
 *   make bench-cli [ARGS="--pairs 40"]
 *
 * `services --from` reads an archive; as root `services` reads real pinned maps, through the native library.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { layoutDirectory } from "../../src/dataplane/pins.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { contentOf, fixtureKernel, SMALL_MAPS, writeArchive } from "../support/archive.js";
import { median } from "./support/interleave.js";

const MAIN = fileURLToPath(new URL("../../build/bundle/dist/cli/main.js", import.meta.url));

function milliseconds(args: readonly string[]): number {
  const begun = process.hrtime.bigint();
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`node ${args.join(" ")}: ${stderr}`);
  return Number(process.hrtime.bigint() - begun) / 1e6;
}

const rounded = (value: number): number => Math.round(value * 100) / 100;

function measure(args: readonly string[], pairs: number): object {
  const nothing = ["-e", "0"];
  const command = [MAIN, ...args];
  milliseconds(command); // the files are in the page cache from now on
  const times = Array.from({ length: pairs }, (_, i) => {
    // Neither is always the first of its pair.
    const first = i % 2 === 0 ? milliseconds(nothing) : milliseconds(command);
    const second = i % 2 === 0 ? milliseconds(command) : milliseconds(nothing);
    return i % 2 === 0 ? { node: first, own: second } : { node: second, own: first };
  });
  return {
    ratio: rounded(median(times.map(({ node, own }) => own / node))),
    nodeMs: rounded(median(times.map(({ node }) => node))),
    commandMs: rounded(median(times.map(({ own }) => own))),
  };
}

const { values } = parseArgs({ options: { pairs: { type: "string", default: "20" } } });
const pairs = Number(values.pairs);
const directory = mkdtempSync(join(tmpdir(), "portolan-bench-"));
const archive = join(directory, "fixture.tar.gz");
await writeArchive(archive, contentOf(await fixtureKernel()));
const results: Record<string, object> = {
  "--version": measure(["--version"], pairs),
  "services --from": measure(["services", "--from", archive, "-o", "json"], pairs),
};
if (process.getuid?.() === 0) {
  const root = `/sys/fs/bpf/ptl-bench-${process.pid}`;
  const library = new NativeLibrary();
  const object = await library.open({
    pins: layoutDirectory(root),
    sockets: false,
    ...(SMALL_MAPS === undefined ? {} : { maxEntries: SMALL_MAPS }),
  });
  try {
    results.services = measure(["services", "--bpf-root", root], pairs);
  } finally {
    await object.close();
    rmSync(root, { recursive: true });
  }
}
rmSync(directory, { recursive: true });
process.stdout.write(`${JSON.stringify({ pairs, results }, null, 2)}\n`);
