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
import { before, test } from "node:test";
import { LAYOUT_VERSION } from "../../src/abi/abi-hash.gen.js";
import { BackendState, Role } from "../../src/abi/enums.gen.js";
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
import type { MapDump, MapWrite } from "../../src/native/kernel.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { AppError } from "../../src/util/errors.js";
import { freshPins, isolated, scratch } from "../native/support/isolate.js";
import { writeManyFlows } from "../support/many-flows.js";
import {
  bytesOf,
  cell,
  client,
  frontend,
  name,
  networkInterface,
  put,
  range,
  SERVICES_IN_MAPS,
} from "../support/services-in-maps.js";
import { CLI } from "./run-cli.js";

const SMALL = {
  ...{ nat4: 1024, nat6: 1024, slots4: 64, slots6: 64, addresses4: 64, addresses6: 64, counters: 128 },
  ...{ backends4: 64, backends6: 64, backend_stats4: 64, backend_stats6: 64, affinity4: 64, affinity6: 64 },
};

/** Doctor's probes, and the checks of the host: each so many calls. */
const SLOW: Readonly<Record<string, number>> = { dump: 12, verify: 5, "maps dump --all": 5 };

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
  text.replaceAll(
    /"(idleSeconds|ageSeconds|leastIdle|bytes|lastSeen|file|written|monotonicNs)":("[^"]*"|\d+)/g,
    '"$1":0',
  );

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

  /** Which maps are at `pins`. */
  let placed: "first" | "second" | null = null;
  function place(which: typeof placed): void {
    if (placed === which) return;
    if (placed !== null) renameSync(pins, away(placed));
    if (which !== null) renameSync(away(which), pins);
    placed = which;
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
    const seen = { freshFor: 3600 };
    await writeManyFlows(maps, {
      family: 4,
      plain: flowsOf,
      masqueraded: 3,
      halves: Math.floor(flowsOf / 5),
      ...seen,
    });
    await writeManyFlows(maps, { family: 6, plain: flowsOf, masqueraded: 0, halves: 1, ...seen });
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
      frontend("10.96.0.9", 90, { service: 2, flags: 0, internal: [1, 2], external: [1, 2] }),
      cell(2, "10.2.0.1", 8080, { service: 0, generation: 2, state: BackendState.BACKEND_DRAINING }),
      networkInterface(8888, Role.POD, 0, "0.0.0.0", "fd07::1"),
      client("10.8.0.8", 0, 1, now),
      put(
        "addresses4",
        FAMILY_CODECS[4].addrPort.encode({ addr: bytesOf("192.168.7.9"), port: 0, protocol: 0 }),
        Buffer.from([2, 0, 0, 0]),
      ),
    ];
    await make(library, pins, [...SERVICES_IN_MAPS, ...others], 7);
    renameSync(pins, away("second"));
    countCalls();
  });

  for (const replaced of [false, true]) {
    for (const typed of Object.keys(readers(""))) {
      const what = replaced ? "another agent's take their place" : "they are removed";
      test(`portolan ${typed} is right or fails clearly, before whichever call ${what}`, async () => {
        const command = readers(directory)[typed] as () => ReturnType<Handler<object>>;
        place("second");
        const second = await run(command);
        place("first");
        const first = await run(command);
        const total = calls;
        assert.notEqual(first, second);
        const seen = { first: 0, second: 0, failed: 0 };
        // Those that take long, which others like them do not, are tried at some places: at others when they are replaced.
        const step = SLOW[typed] ?? 1;
        for (let at = replaced ? 0 : step >> 1; at < total; at += step) {
          place("first");
          onCall = (call) => {
            if (call === at) place(replaced ? "second" : null);
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
          } finally {
            onCall = () => {};
          }
        }
        assert.ok(seen.first > 0 || typed === "verify", "open maps can be read to their end");
        assert.ok(replaced || seen.second === 0);
      });
    }
  }

  for (const [typed, begun] of [
    [["top", "--interval", "1", "-o", "json"], /"totals"/],
    [["monitor"], /^listening;/m],
  ] as const) {
    for (const which of [null, "second"] as const) {
      const what = which === null ? "are removed" : "are replaced";
      test(`portolan ${typed[0]} ends with what has happened when its maps ${what}: nobody writes to those any more`, async () => {
        place("first");
        const [node = "", ...main] = CLI;
        const child = spawn(node, [...main, ...typed, "--bpf-root", root], {
          stdio: ["ignore", "pipe", "pipe"],
        });
        let [all, stderr] = ["", ""];
        child.stderr.setEncoding("utf8").on("data", (text: string) => {
          stderr += text;
        });
        for (const stream of [child.stdout, child.stderr])
          stream.setEncoding("utf8").on("data", (text: string) => {
            all += text;
            if (begun.test(all)) place(which);
          });
        const [code] = (await once(child, "close")) as [number | null];
        assert.equal(code, 3, stderr);
        const says = which === null ? "it is pinned no more" : "another map has its place";
        assert.match(
          stderr,
          new RegExp(
            `^portolan: ${pins}/\\w+: while it was read, .*: ${says}.*\n {2}\\S.*run this again\\.\n$`,
            "m",
          ),
        );
        assert.doesNotMatch(stderr, /\bat .*\.js:\d+/, "no stack");
      });
    }
  }

  for (const map of ["source_ranges4", "nat4"] as const) {
    test(`each entry of ${map} is told once, though the one that was read last is deleted again and again`, async () => {
      place("first");
      const maps = new NativeLibrary().openPins(pins, { writable: true });
      try {
        const { keySize } = maps.info(map);
        if (map === "source_ranges4") {
          const ranges = Array.from({ length: 40 }, (_, i) => range(0, `10.${i}.0.0`, 16 + (i % 3)));
          assert.equal((await maps.apply(ranges)).failure, null);
        }
        const keysOf = ({ count, keys }: MapDump): string[] =>
          Array.from({ length: count }, (_, i) =>
            Buffer.from(keys.subarray(i * keySize, (i + 1) * keySize)).toString("hex"),
          );
        const before = keysOf(await maps.dump(map));
        const deleted: string[] = [];
        const told: string[] = [];
        for await (const piece of maps.dumpChunks(map, 8)) {
          told.push(...keysOf(piece));
          const last = told.at(-1);
          if (last === undefined || deleted.includes(last)) continue;
          deleted.push(last);
          const keys = Buffer.from(last, "hex");
          await maps.apply([{ map, kind: "delete", count: 1, keys, values: new Uint8Array(0) }]);
        }
        assert.ok(deleted.length > 2 && before.length > 40, `${deleted.length} of ${before.length}`);
        assert.deepEqual(told.toSorted(), before.toSorted());
      } finally {
        await maps.close();
      }
    });
  }
});
