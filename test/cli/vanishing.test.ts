// SPDX-License-Identifier: Apache-2.0
// The maps are taken away, or another agent's take their place, before any one of the FFI calls of a command that reads them: what
// it prints is whole, of the one or of the other, or it fails in a line that says what has happened.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { renameSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import { before, beforeEach, test } from "node:test";
import { LAYOUT_VERSION } from "../../src/abi/abi-hash.gen.js";
import { FAMILY_CODECS } from "../../src/abi/layout.gen.js";
import type { CommonOptions, Handler } from "../../src/cli/command.js";
import { affinity } from "../../src/cli/commands/affinity/handler.js";
import { backends } from "../../src/cli/commands/backends/handler.js";
import { dumpArchive } from "../../src/cli/commands/dump/handler.js";
import { explain } from "../../src/cli/commands/explain/handler.js";
import { flows } from "../../src/cli/commands/flows/handler.js";
import { interfaces } from "../../src/cli/commands/interfaces/handler.js";
import { dumpMap } from "../../src/cli/commands/maps/dump.js";
import { maps as listMaps } from "../../src/cli/commands/maps/handler.js";
import { services } from "../../src/cli/commands/services/handler.js";
import { verify } from "../../src/cli/commands/verify/handler.js";
import { Printer } from "../../src/cli/output.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "../../src/daemon/kernel-config.js";
import type { MapWrite } from "../../src/native/kernel.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { AppError } from "../../src/util/errors.js";
import { freshPins, isolated, scratch } from "../native/support/isolate.js";
import { writeManyFlows } from "../support/many-flows.js";
import { bytesOf, cell, client, name, put, SERVICES_IN_MAPS } from "../support/services-in-maps.js";
import { CLI } from "./run-cli.js";

const SMALL = {
  ...{ nat4: 1024, nat6: 1024, slots4: 64, slots6: 64, addresses4: 64, addresses6: 64, counters: 128 },
  ...{ backends4: 64, backends6: 64, backend_stats4: 64, backend_stats6: 64, affinity4: 64, affinity6: 64 },
};

/** Errors that say what has happened; any other is a fault. */
const KNOWN = ["E_NO_PINS", "E_NATIVE_PINS", "E_PINS_CHANGED"];

const file = (directory: string): string => join(directory, "dump.tar.gz");

/** Every command that reads and ends by itself. */
function readers(directory: string): Readonly<Record<string, () => ReturnType<Handler<object>>>> {
  const printer = (): Printer => new Printer("json", output, errors);
  const common = { output: "json", bpfRoot: root } as const;
  const run = <Options>(handler: Handler<Options>, options: Options, ...args: string[]) => {
    return () =>
      Promise.resolve(handler({ ...common, ...options } as Options & CommonOptions, printer(), args));
  };
  return {
    services: run(services, {}),
    backends: run(backends, {}),
    flows: run(flows, {}),
    "flows --orphans": run(flows, { orphans: true as const }),
    "flows --count-by": run(flows, { countBy: "client" as const }),
    affinity: run(affinity, {}),
    interfaces: run(interfaces, {}),
    maps: run(listMaps, {}),
    "maps dump": run(dumpMap, {}, "nat4"),
    "maps dump --all": run(dumpMap, { all: true as const }),
    explain: run(explain, {} as Parameters<typeof explain>[0], "shop/web"),
    dump: run(dumpArchive, { file: file(directory) }),
    verify: run(verify, { build: false, socketLb: "off", forwardMarkBit: 14 } as Parameters<
      typeof verify
    >[0]),
  };
}

let root: string;
let output: NodeJS.WriteStream;
let errors: NodeJS.WriteStream;

/** Collects what is written, and takes it off the stream's hands. */
function collector(): { readonly stream: NodeJS.WriteStream; text(): string } {
  const stream = new PassThrough();
  let text = "";
  stream.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => text };
}

/** Called before the FFI call of this number. */
let onCall: (call: number) => void = () => {};
let calls = 0;

/** Every call into C goes through these two. */
function countCalls(): void {
  const bindings = createRequire(import.meta.url)("ffi-napi/lib/bindings") as Record<
    string,
    (...args: unknown[]) => void
  >;
  for (const each of ["ffi_call", "ffi_call_async"]) {
    const original = bindings[each] as (...args: unknown[]) => void;
    bindings[each] = (...args) => {
      onCall(calls++);
      original(...args);
    };
  }
}

/** Figures that no two runs have alike: of time, of the files, and of the maps' memory. */
const settled = (text: string): string =>
  text.replaceAll(/"(idleSeconds|ageSeconds|leastIdle|bytes|lastSeen|file)":("[^"]*"|\d+)/g, '"$1":0');

isolated(import.meta.url, () => {
  let directory: string;
  let pins: string;
  /** Where the maps are that are not at `pins`. */
  const away = (which: "first" | "second"): string => `${pins}-${which}`;

  async function run(command: () => ReturnType<Handler<object>>): Promise<string> {
    calls = 0;
    const [out, err] = [collector(), collector()];
    [output, errors] = [out.stream, err.stream];
    const status = await command();
    return settled(`${status} ${out.text()}`);
  }

  /** Puts the first maps where they belong. */
  function restore(): void {
    onCall = () => {};
    for (const which of ["first", "second"] as const) {
      try {
        renameSync(pins, away(which));
        break;
      } catch {
        // That name is taken, so what is in the way has the other; or nothing is in the way.
      }
    }
    renameSync(away("first"), pins);
  }

  async function make(
    library: NativeLibrary,
    at: string,
    writes: readonly MapWrite[],
    flowsOf: number,
  ): Promise<void> {
    const maps = await library.open({
      pins: at,
      sockets: false,
      config: kernelConfig([], DEFAULT_TIMEOUTS),
      maxEntries: SMALL,
    });
    assert.equal((await maps.apply(writes)).failure, null);
    await writeManyFlows(maps, { family: 4, plain: flowsOf, masqueraded: 3, halves: 2 });
    await writeManyFlows(maps, { family: 6, plain: flowsOf, masqueraded: 0, halves: 1 });
    await maps.close();
  }

  before(async () => {
    execFileSync("mount", ["-t", "tmpfs", "portolan-test", "/run"]); // of this namespace alone
    directory = scratch();
    const library = new NativeLibrary();
    pins = freshPins(library).replace(/v1$/, `v${LAYOUT_VERSION}`);
    root = dirname(pins);
    const now = process.hrtime.bigint();
    await make(library, pins, [...SERVICES_IN_MAPS, client("10.9.0.9", 0, 1, now)], 20);
    renameSync(pins, away("first"));
    const others = [
      name(2, "other", "x", "TCP"),
      cell(5, "10.7.0.1", 9090, { service: 2 }),
      client("10.8.0.8", 0, 1, now),
      put(
        "addresses4",
        FAMILY_CODECS[4].addrPort.encode({ addr: bytesOf("192.168.7.9"), port: 0, protocol: 0 }),
        Buffer.from([2, 0, 0, 0]),
      ),
    ];
    await make(library, pins, [...SERVICES_IN_MAPS, ...others], 7);
    renameSync(pins, away("second"));
    renameSync(away("first"), pins);
    countCalls();
  });

  beforeEach(() => {
    output = collector().stream;
  });

  for (const replaced of [false, true]) {
    for (const typed of Object.keys(readers(""))) {
      const what = replaced ? "another agent's take their place" : "they are removed";
      test(`portolan ${typed} is right or fails clearly, before whichever call ${what}`, async () => {
        const command = readers(directory)[typed] as () => ReturnType<Handler<object>>;
        const first = await run(command);
        const total = calls;
        renameSync(pins, away("first"));
        renameSync(away("second"), pins);
        const second = await run(command);
        renameSync(pins, away("second"));
        renameSync(away("first"), pins);
        assert.notEqual(first, second);
        const seen = { first: 0, second: 0, failed: 0 };
        for (let at = 0; at < total; at += 1) {
          onCall = (call) => {
            if (call !== at) return;
            renameSync(pins, away("first"));
            if (replaced) renameSync(away("second"), pins);
          };
          try {
            const printed = await run(command);
            if (printed === first) seen.first += 1;
            else {
              assert.equal(printed, second, `before call ${at} of ${total}`);
              seen.second += 1;
            }
          } catch (error) {
            if (!(error instanceof AppError) || !KNOWN.includes(error.code)) throw error;
            assert.ok(error.hint !== null, error.message);
            seen.failed += 1;
          }
          if (replaced) renameSync(pins, away("second"));
          renameSync(away("first"), pins);
          onCall = () => {};
        }
        assert.ok(seen.first > 0 || typed === "verify", "open maps can be read to their end");
        assert.ok(replaced || seen.second === 0);
      });
    }
  }
});
