// SPDX-License-Identifier: Apache-2.0
// Every command that the program has: without pins, beside pins of another layout, by a user who may not, and with nobody who
// reads. And what those print that need a kernel of their own.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";
import { readTree } from "../../scripts/cli-docs.js";
import { LAYOUT_VERSION } from "../../src/abi/abi-hash.gen.js";
import { allNodes } from "../../src/cli/command-tree.js";
import { DEFAULT_TIMEOUTS, kernelConfig } from "../../src/daemon/kernel-config.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { freshPins, isolated, scratch } from "../native/support/isolate.js";
import { flowsInMaps, SMALL_MAPS } from "../support/archive.js";
import { COMMAND_CASES, type Expected } from "../support/cli-commands.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import { SERVICES_IN_MAPS } from "../support/services-in-maps.js";
import { CLI, type CliResult, cli, REPOSITORY } from "./run-cli.js";

const STACK = /\bat .*\.[jt]s:\d+|unexpected error/;
const NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
/** Runs at the same time. */
const AT_ONCE = 3;

isolated(import.meta.url, () => {
  let files: string;
  /** Of maps with Services and flows. */
  let root: string;

  /** Maps as an agent would have made them. */
  async function pinnedMaps(): Promise<string> {
    const library = new NativeLibrary();
    const pins = freshPins(library).replace(/v1$/, `v${LAYOUT_VERSION}`);
    const maps = await library.open({
      pins,
      config: kernelConfig([], DEFAULT_TIMEOUTS),
      maxEntries: { ...SMALL_MAPS, nat4: 1024, nat6: 1024 },
    });
    const { failure } = await maps.apply([...SERVICES_IN_MAPS, ...flowsInMaps(process.hrtime.bigint())]);
    assert.equal(failure, null);
    await maps.close();
    return dirname(pins);
  }

  before(async () => {
    execFileSync("mount", ["-t", "tmpfs", "portolan-test", "/run"]); // of this namespace alone
    files = scratch();
    chmodSync(dirname(files), 0o755); // the other user shall come as far as to what he may not
    chmodSync(files, 0o755);
    mkdirSync(join(files, "closed"), { mode: 0o700 });
    root = await pinnedMaps();
  });

  const argsOf = (name: string): string[] =>
    (COMMAND_CASES[name]?.args ?? []).map((arg) =>
      arg === "FILE" ? join(files, `${name.replaceAll(" ", "-")}.tar.gz`) : arg,
    );

  function assertTold({ code, stdout, stderr }: CliResult, expected: Exclude<Expected, string>): void {
    assert.equal(code, expected.code, stderr);
    assert.match(stderr, expected.says);
    assert.doesNotMatch(stderr, STACK);
    if (code === 3) assert.equal(stdout, "");
  }

  const NAMES = allNodes(readTree())
    .filter(({ examples }) => examples.length > 0)
    .map(({ path }) => path);

  describe("without what it needs", { concurrency: AT_ONCE }, () => {
    for (const name of NAMES) {
      const { noPins, otherLayout, noPermission } = COMMAND_CASES[name] ?? {};
      const cases: readonly (readonly [string, Expected | undefined, () => Promise<CliResult>])[] = [
        [
          "where no maps are pinned",
          noPins,
          () => cli([...argsOf(name), "--bpf-root", join(files, "nothing")]),
        ],
        [
          "beside pins of another layout",
          otherLayout,
          () => {
            const other = join(files, "other");
            mkdirSync(join(other, "v99"), { recursive: true });
            return cli([...argsOf(name), "--bpf-root", other]);
          },
        ],
        [
          "by a user who may not",
          noPermission,
          () => cli([...argsOf(name), "--bpf-root", join(files, "closed")], { inside: NOBODY }),
        ],
      ];
      for (const [where, expected, run] of cases) {
        const skip = typeof expected === "string" && expected;
        test(`${name} ${where} says so in a line or two`, { skip }, async () => {
          assert.ok(expected !== undefined && typeof expected !== "string", `${name} has no case`);
          assertTold(await run(), expected);
        });
      }
    }
  });

  /** Runs it with a standard output that nobody reads any more. */
  async function unread(args: readonly string[]): Promise<{ code: number | null; stderr: string }> {
    const [program, ...rest] = [...CLI, ...args];
    const child = spawn(program as string, rest, { cwd: REPOSITORY, stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { code, stderr };
  }

  describe("without a reader", { concurrency: AT_ONCE }, () => {
    for (const name of NAMES) {
      const closedPipe = COMMAND_CASES[name]?.closedPipe ?? "maps";
      const skip = typeof closedPipe === "object" && closedPipe.because;
      test(`${name} ends quietly when nobody reads what it prints`, { skip }, async () => {
        const at = closedPipe === "maps" ? root : join(files, "nothing");
        const { code, stderr } = await unread([...argsOf(name), "--bpf-root", at]);
        assert.ok(code === 0 || code === 1, `${code}: ${stderr}`);
        assert.doesNotMatch(stderr, STACK);
        assert.doesNotMatch(stderr, /^portolan: /m);
      });
    }
  });

  /** Without what is another one each time. */
  const evened = (text: string): string =>
    text
      .replaceAll(root, "ROOT")
      .replaceAll(/ROOT\/v\d+/g, "ROOT/vN")
      .replaceAll(files, "FILES")
      .replaceAll(/"time": "[^"]*"/g, '"time": "TIME"')
      .replaceAll(/"(seconds|bytes|idleSeconds)": [\d.]+/g, '"$1": 0')
      .replaceAll(/[\d.]+ KiB/g, "N KiB")
      .replaceAll(/^\d\d:\d\d:\d\d/gm, "HH:MM:SS")
      .replaceAll(/ +\d+s$/gm, " Ns");

  /** Compares both forms of a command with what is kept, and its status. */
  async function isKept(name: string, args: readonly string[], status: number): Promise<void> {
    for (const [end, more] of [
      ["txt", []],
      ["json", ["-o", "json"]],
    ] as const) {
      const { code, stdout, stderr } = await cli([...args, ...more, "--bpf-root", root]);
      assert.equal(code, status, stderr);
      assertGolden(`${name}.${end}`, evened(end === "json" ? prettyJson(stdout) : stdout));
    }
  }

  describe("what is kept", () => {
    const FILTER = ["--client", "10.9.0.9:40002"];
    for (const [name, args, status] of [
      ["compile-plan", ["compile", "-f", "test/fixtures/shop.yaml", "--node", "n1", "--plan"], 0],
      ["top-once", ["top", "--once", "--interval", "0.1", "--sort", "name"], 0],
      ["flows-delete-dry-run", ["flows", "delete", ...FILTER, "--dry-run"], 0],
    ] as const) {
      test(`portolan ${args.join(" ")} prints the table and the object that it should`, async () => {
        await isKept(name, args, status);
      });
    }

    test("portolan dump says what it wrote, as a line and as an object", async () => {
      await isKept("dump", ["dump", "-f", join(files, "kept.tar.gz")], 0);
    });

    test("portolan flows delete says how many it deleted, as a line and as an object", async () => {
      await isKept("flows-delete", ["flows", "delete", "-s", "shop/dns", "--yes"], 0);
    });

    test("portolan cleanup --kube-proxy --dry-run says what of kube-proxy is here", async () => {
      for (const tables of ["iptables-nft", "ip6tables-nft"])
        for (const line of [
          ["-N", "KUBE-SERVICES"],
          ["-A", "PREROUTING", "-j", "KUBE-SERVICES"],
        ])
          execFileSync(tables, ["-t", "nat", ...line]);
      execFileSync("nft", ["add", "table", "ip", "kube-proxy"]);
      await isKept("cleanup-kube-proxy", ["cleanup", "--kube-proxy", "--dry-run"], 0);
      assert.equal((await cli(["cleanup", "--kube-proxy", "--bpf-root", root])).code, 0);
    });

    test("portolan cleanup says what it removed, as lines and as an object", async () => {
      const { stdout } = await cli(["cleanup", "--bpf-root", root]);
      assertGolden("cleanup.txt", evened(stdout));
      root = await pinnedMaps();
      const json = await cli(["cleanup", "-o", "json", "--bpf-root", root]);
      assertGolden("cleanup.json", evened(prettyJson(json.stdout)));
    });
  });
});
