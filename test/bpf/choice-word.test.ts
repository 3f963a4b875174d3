// SPDX-License-Identifier: Apache-2.0
/**
 * Readers of choice words beside a writer that recycles hash elements under them (docs/design/README.md, idea 2): with the tag check
 * no lookup is ever wrong, and the same program without the check is caught being wrong.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test from "node:test";
import { Reason } from "../../src/abi/enums.gen.js";
import { trafficCodec } from "../../src/abi/layout.gen.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { LoadedObject } from "../../src/native/object.js";
import { isolate, ownBpffs } from "./support/isolate.js";
import { RACE_MAPS } from "./support/race-maps.js";

const ENOUGH_LOOKUPS = 5_000_000;
/** The race must have been met, not only looked for. */
const ENOUGH_RETRIES = 5;
const REPEAT = 20_000;
/** Only so that it ends: where the CPUs are busy with others, the two processes seldom run side by side. */
const DEADLINE_MS = 300_000;

isolate();
const library = new NativeLibrary();
const root = ownBpffs(library);

interface Tally {
  lookups: number;
  found: number;
  foreign: number;
  torn: number;
}

/** Reads beside a writing process until `enough` says so or the time is up. */
async function race(name: string, enough: (tally: Tally, retries: number) => boolean) {
  const object = `build/test/${name}.bpf.o`;
  const pins = join(root, name);
  const reader = await library.open({ object, pins, maxEntries: RACE_MAPS });
  const writer = spawn(
    process.execPath,
    ["--import", "tsx", join(import.meta.dirname, "support/choice-writer.ts"), object, pins, "choice_writer"],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  try {
    const lines = createInterface({ input: writer.stdout });
    const [first] = await Promise.race([once(lines, "line"), once(writer, "close")]);
    assert.equal(first, "running", "the writer did not start");
    const tally: Tally = { lookups: 0, found: 0, foreign: 0, torn: 0 };
    const end = Date.now() + DEADLINE_MS;
    while (!enough(tally, await retriesOf(reader)) && Date.now() < end) {
      const { cb } = reader.testRun("choice_reader", { data: new Uint8Array(64), repeat: REPEAT });
      tally.lookups += cb[0] ?? 0;
      tally.found += cb[1] ?? 0;
      tally.foreign += cb[2] ?? 0;
      tally.torn += cb[3] ?? 0;
    }
    const retries = await retriesOf(reader);
    const writes = await stop(writer, lines);
    return { ...tally, retries, writes };
  } finally {
    writer.kill();
    await reader.close();
    library.cleanup(pins);
  }
}

async function stop(writer: ChildProcess, lines: ReturnType<typeof createInterface>): Promise<number> {
  const last = once(lines, "line") as Promise<[string]>;
  writer.stdin?.end();
  const [text] = await last;
  const [code] = (await once(writer, "close")) as [number | null];
  assert.equal(code, 0, "the writer failed");
  return Number(text);
}

/** How often a reader has seen a word that is not its key's, and read again. */
async function retriesOf(reader: LoadedObject): Promise<number> {
  const dump = await reader.dump("counters", Reason.READ_RETRIED + 1);
  return Number(trafficCodec.decode(dump.values, Reason.READ_RETRIED * trafficCodec.size).packets);
}

test("A reader of choice words is never wrong beside a writer that recycles elements", async (context) => {
  const result = await race("choice-race", (tally, retries) => {
    return tally.lookups >= ENOUGH_LOOKUPS && retries >= ENOUGH_RETRIES;
  });
  context.diagnostic(JSON.stringify(result));
  assert.ok(result.lookups >= ENOUGH_LOOKUPS, `only ${result.lookups} lookups in ${DEADLINE_MS} ms`);
  assert.ok(
    result.found > result.lookups / 100,
    `only ${result.found} of ${result.lookups} lookups found a word`,
  );
  assert.ok(result.writes > 100_000, `only ${result.writes} writes`);
  assert.ok(
    result.retries >= ENOUGH_RETRIES,
    `the race was met ${result.retries} times only: nothing is proved`,
  );
  assert.deepEqual({ foreign: result.foreign, torn: result.torn }, { foreign: 0, torn: 0 });
});

test("A reader without the tag check is caught with another key's word", async (context) => {
  const result = await race("choice-race-unchecked", (tally) => tally.foreign > 0);
  context.diagnostic(JSON.stringify(result));
  assert.ok(
    result.foreign > 0,
    `${result.lookups} lookups beside ${result.writes} writes and none was wrong`,
  );
});
