// SPDX-License-Identifier: Apache-2.0
// Half a million entries of nat in pinned maps of the product's own size: every command that reads them makes a handful of FFI
// calls for them, and holds a piece of the map at a time.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream, existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { LAYOUT_VERSION } from "../../src/abi/abi-hash.gen.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "../../src/daemon/kernel-config.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { freshPins, isolated, scratch } from "../native/support/isolate.js";
import { writeManyFlows } from "../support/many-flows.js";
import { SERVICES_IN_MAPS } from "../support/services-in-maps.js";
import { CLI } from "./run-cli.js";

const PROBE = fileURLToPath(new URL("ffi-probe.cjs", import.meta.url));

/** Of nat4; 2,000 more flows are IPv6's. */
const ENTRIES = 500_000;
const FLOWS4 = { family: 4, plain: 50_500, masqueraded: 100_000, halves: 1000 } as const;
const FLOWS6 = { family: 6, plain: 2000, masqueraded: 0, halves: 0 } as const;
const FLOWS = FLOWS4.plain + FLOWS4.masqueraded + FLOWS6.plain;

/** Beyond those for the Services: a piece has 65,536 entries, --orphans looks at each three times, dump reads all the maps. */
const MOST_CALLS = 40;
/** Beyond what a command needs that reads the Services alone. With all entries decoded at once it was 270 to 640. */
const MOST_MIB = 200;

interface Probed {
  readonly code: number | null;
  /** The file that has what was printed. */
  readonly stdout: string;
  readonly stderr: string;
  readonly calls: number;
  readonly peakMiB: number;
}

isolated(import.meta.url, () => {
  let root: string;
  let directory: string;
  let runs = 0;
  /** portolan services: it reads the same tables, and no entry of nat. */
  let without: Probed;

  /** @param until ends the command once this is on stderr */
  async function portolan(args: readonly string[], until?: RegExp): Promise<Probed> {
    runs += 1;
    const [stdout, probe] = [join(directory, `${runs}.out`), join(directory, `${runs}.json`)];
    const where = args.includes("--from") ? [] : ["--bpf-root", root];
    const [node = "", ...main] = CLI;
    const shell = ["-c", 'out=$1; shift; exec "$@" >"$out"', "sh", stdout, node, "--require", PROBE, ...main];
    const child = spawn("sh", [...shell, ...args, ...where], {
      env: { ...process.env, PORTOLAN_TEST_PROBE: probe },
      stdio: ["ignore", "inherit", "pipe"],
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      // Once: a second signal, for the summary, would find a command that no longer minds signals.
      if (!child.killed && until?.test(stderr)) child.kill("SIGINT");
    });
    const [code] = (await once(child, "close")) as [number | null];
    assert.ok(existsSync(probe), `${args.join(" ")}: ${stderr}`);
    const { calls, peakKiB } = JSON.parse(readFileSync(probe, "utf8")) as {
      calls: Record<string, number>;
      peakKiB: number;
    };
    const read = (calls.ptl_dump ?? 0) + (calls.ptl_look_up ?? 0) + (calls.ptl_apply ?? 0);
    return { code, stdout, stderr, calls: read, peakMiB: peakKiB / 1024 };
  }

  /** Runs a command and sees to what it took. `status`: its exit status. */
  async function bounded(args: readonly string[], status = 0, until?: RegExp): Promise<Probed> {
    const probed = await portolan(args, until);
    assert.equal(probed.code, status, probed.stderr);
    assert.doesNotMatch(probed.stderr, /\bat .*\.js:\d+/, "no stack");
    const calls = probed.calls - without.calls;
    assert.ok(calls <= MOST_CALLS, `${calls} FFI calls for ${ENTRIES} entries`);
    const more = Math.round(probed.peakMiB - without.peakMiB);
    assert.ok(more <= MOST_MIB, `${more} MiB for ${ENTRIES} entries`);
    return probed;
  }

  const json = (file: string): Record<string, unknown> =>
    JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;

  async function linesOf(file: string): Promise<number> {
    let lines = 0;
    for await (const _ of createInterface({ input: createReadStream(file) })) lines += 1;
    return lines;
  }

  before(async () => {
    execFileSync("mount", ["-t", "tmpfs", "portolan-test", "/run"]); // of this namespace alone
    directory = scratch();
    const library = new NativeLibrary();
    const pins = freshPins(library).replace(/v1$/, `v${LAYOUT_VERSION}`);
    root = dirname(pins);
    const maps = await library.open({ pins, sockets: false, config: kernelConfig([], DEFAULT_TIMEOUTS) });
    assert.equal((await maps.apply(SERVICES_IN_MAPS)).failure, null);
    assert.equal(await writeManyFlows(maps, FLOWS4), ENTRIES);
    await writeManyFlows(maps, FLOWS6);
    await maps.close();
    without = await portolan(["services"]);
    assert.equal(without.code, 0, without.stderr);
  });

  test("portolan flows prints all of them, as a table and as JSON", async () => {
    const table = await bounded(["flows"]);
    assert.equal(await linesOf(table.stdout), 1 + FLOWS);
    const { flows } = json((await bounded(["flows", "-o", "json"])).stdout);
    const rows = flows as {
      client: { address: string; port: number };
      live: boolean;
      masqueradedAs: unknown;
    }[];
    assert.equal(new Set(rows.map(({ client }) => `${client.address} ${client.port}`)).size, FLOWS);
    assert.ok(rows.every(({ live }) => live));
    assert.equal(rows.filter(({ masqueradedAs }) => masqueradedAs !== null).length, FLOWS4.masqueraded);
  });

  test("portolan flows counts and filters them", async () => {
    const { counts } = json((await bounded(["flows", "--count-by", "backend", "-o", "json"])).stdout);
    assert.deepEqual(
      (counts as { of: string; flows: number }[]).map(({ of, flows }) => [of, flows]),
      [
        ["shop/web 10.1.0.1:8080", (FLOWS - FLOWS6.plain) / 2],
        ["shop/web 10.2.0.1:8080", (FLOWS - FLOWS6.plain) / 2],
        ["shop/dns [fd02::1]:53", FLOWS6.plain],
      ],
    );
    const filter = ["--client", "10.9.0.1:10007", "--sort", "idle", "--limit", "20"];
    const one = await bounded(["flows", ...filter, "-o", "name"]);
    assert.equal(readFileSync(one.stdout, "utf8"), "flow/TCP/10.9.0.1:10007/10.96.0.1:80\n");
  });

  test("portolan flows --orphans finds the halves among the whole ones", async () => {
    const { orphans } = json((await bounded(["flows", "--orphans", "-o", "json"])).stdout);
    const rows = orphans as { reasons: string[]; source: { port: number } }[];
    assert.equal(rows.length, FLOWS4.halves);
    assert.ok(rows.every(({ reasons, source }) => reasons.join() === "no-opposite" && source.port < 11_000));
  });

  test("portolan top --once counts them all as active", async () => {
    const { totals } = json((await bounded(["top", "--once", "--interval", "1", "-o", "json"])).stdout);
    assert.equal((totals as { activeFlows: number }).activeFlows, FLOWS);
  });

  test("portolan maps dump prints every entry", async () => {
    assert.equal(await linesOf((await bounded(["maps", "dump", "nat4", "-o", "json"])).stdout), ENTRIES);
  });

  test("portolan dump holds all of them", async () => {
    const archive = join(directory, "dump.tar.gz");
    const { entries } = json((await bounded(["dump", "-f", archive, "-o", "json"])).stdout);
    assert.equal((entries as Record<string, number>).nat4, ENTRIES);
  });

  test("portolan verify and monitor do not read them to start", async () => {
    // Nothing is attached here, and this namespace does not forward: that is what verify finds.
    const { checks } = json((await bounded(["verify", "--no-build", "-o", "json"], 1)).stdout);
    const maps = (checks as { name: string; status: string }[]).find(({ name }) => name === "maps");
    assert.ok(maps !== undefined);
    await bounded(["monitor"], 0, /^listening;/m);
  });

  // Last: it takes half of them away.
  test("portolan flows delete forgets every flow of a backend, and no other", async () => {
    const backend = ["--backend", "10.1.0.1:8080"];
    const mine = (FLOWS - FLOWS6.plain) / 2;
    const done = json((await bounded(["flows", "delete", ...backend, "--yes", "-o", "json"])).stdout);
    const entries = (ENTRIES + FLOWS4.halves) / 2 - FLOWS4.halves / 2;
    assert.deepEqual(done, { dryRun: false, flows: mine, entries });
    const { counts } = json((await bounded(["flows", "--count-by", "backend", "-o", "json"])).stdout);
    assert.deepEqual(
      (counts as { of: string; flows: number }[]).map(({ of, flows }) => [of, flows]),
      [
        ["shop/web 10.2.0.1:8080", mine],
        ["shop/dns [fd02::1]:53", FLOWS6.plain],
      ],
    );
  });
});
