// SPDX-License-Identifier: Apache-2.0
/**
 * Process beside choice-word.test.ts: opens the same pinned maps and runs a program over and over, until its standard
 * input ends or ten minutes have passed. Says "running" once it runs and, at the end, how much it has done.
 */
import { constants } from "node:os";
import { NativeError } from "../../../src/native/errors.js";
import { NativeLibrary } from "../../../src/native/lib.js";
import { RACE_MAPS } from "./race-maps.js";

const [object, pins, program] = process.argv.slice(2);
if (object === undefined || pins === undefined || program === undefined) {
  throw new Error("usage: choice-writer OBJECT PINS PROGRAM");
}

const { EINTR } = constants.errno;
const REPEAT = 20_000;
const LIMIT_MS = 600_000;
const loaded = await new NativeLibrary().open({ object, pins, maxEntries: RACE_MAPS });
const end = Date.now() + LIMIT_MS;
let operations = 0;
let stopped = false;
process.stdin.on("end", () => {
  stopped = true;
});
process.stdin.resume();

/** A process that is stopped and goes on is interrupted in the midst of its repetitions: they begin anew. */
function run(): { readonly cb: readonly number[] } {
  for (;;) {
    try {
      return loaded.testRun(program as string, { data: new Uint8Array(64), repeat: REPEAT });
    } catch (error) {
      if (!(error instanceof NativeError && error.errno === EINTR)) throw error;
    }
  }
}

function round(): void {
  const { cb } = run();
  if (operations === 0) process.stdout.write("running\n");
  operations += cb[0] ?? 0;
  if (!stopped && Date.now() < end) setImmediate(round);
  else void loaded.close().then(() => process.stdout.write(`${operations}\n`));
}

round();
