// SPDX-License-Identifier: Apache-2.0
// portolan flows from an archive, whose clock stands still, and portolan flows delete with real traffic.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FAMILY_CODECS } from "../../src/abi/layout.gen.js";
import type { Node } from "../../src/demo/world/index.js";
import { contentOf, fixtureKernel, writeArchive } from "../support/archive.js";
import { Cluster } from "../support/cluster.js";
import { assertGolden, prettyJson } from "../support/golden.js";
import { service } from "../support/manifests.js";
import { type CliResult, cli } from "./run-cli.js";

const directory = mkdtempSync(join(tmpdir(), "portolan-flows-"));
after(() => rmSync(directory, { recursive: true }));
const archive = join(directory, "dump.tar.gz");
before(async () => {
  await writeArchive(archive, contentOf(await fixtureKernel()));
});

const flows = (...args: string[]): Promise<CliResult> => cli(["flows", ...args, "--from", archive]);

describe("portolan flows", () => {
  for (const [name, args] of [
    ["flows-by-backend", ["--count-by", "backend"]],
    ["flows-by-state", ["--count-by", "state", "-s", "shop/web"]],
    ["flows-orphans", ["--orphans", "--limit", "5"]],
    ["flows-sorted", ["--sort", "idle", "--limit", "3"]],
  ] as const) {
    test(`portolan flows ${args.join(" ")} prints a table and an object`, async () => {
      const table = await flows(...args);
      assert.deepEqual([table.code, table.stderr], [0, ""]);
      assertGolden(`${name}.txt`, table.stdout);
      const json = await flows(...args, "-o", "json");
      assert.deepEqual([json.code, json.stderr], [0, ""]);
      assertGolden(`${name}.json`, prettyJson(json.stdout));
    });
  }

  const ports = async (...args: string[]): Promise<number[]> => {
    const { stdout, stderr } = await flows(...args, "-o", "json");
    const { flows: rows } = JSON.parse(stdout) as { flows: { client: { port: number } }[] };
    assert.equal(stderr, "");
    return rows.map(({ client }) => client.port).sort();
  };

  for (const [filter, wanted] of [
    [["--client", "10.9.0.9:40002"], [40002]],
    [["--client", "10.0.0.0/8", "--state", "dead"], [40005]],
    [["--client", "fd09::/16"], [50001]],
    [["--backend", "10.2.0.1"], [40002]],
    [["--backend", "[fd02::1]:53"], [50001]],
    [["--destination", "10.1.0.1:8080"], [40006]],
    [["--protocol", "udp"], [50001]],
    [["--family", "6"], [50001]],
    [["--min-idle", "40", "--max-idle", "1m"], [40002]],
    [["-n", "shop", "--state", "closing"], [40003]],
  ] as const) {
    test(`portolan flows ${filter.join(" ")} lists those alone`, async () => {
      assert.deepEqual(await ports(...filter), [...wanted]);
    });
  }

  test("portolan flows says what is wrong with a filter in a line", async () => {
    for (const [args, message] of [
      [
        ["--client", "10.9.0"],
        /--client: .* is no address\n {2}It must be an address, an address with a port/,
      ],
      [
        ["--client", "10.9.0.9:70000"],
        /--client: .* is no address\n {2}It must be an address, an address with a port/,
      ],
      [["--min-idle", "soon"], /it must be a time such as 90/],
      [["--limit", "0"], /it must be a whole number from 1/],
      [["--orphans", "--client", "10.9.0.9"], /cannot be used with/],
      [["--count-by", "colour"], /Allowed choices are service, backend, client, state, protocol/],
      [["--sort", "idle", "--count-by", "state"], /cannot be used with/],
    ] as const) {
      const { code, stdout, stderr } = await flows(...args);
      assert.deepEqual([code, stdout], [2, ""], stderr);
      assert.match(stderr, message);
    }
  });

  test("portolan flows delete asks for a filter, a word, and the kernel", async () => {
    for (const [args, message] of [
      [["--yes"], /^portolan: which flows\? Nothing was asked for/],
      [["--client", "10.9.0.9"], /^portolan: nothing is deleted without a word more/],
      [["web", "--yes"], /^portolan: "web" is no name of a flow/],
      [["--client", "10.9.0.9", "--yes", "--dry-run"], /cannot be used with/],
      [["--client", "10.9.0.9", "--yes", "--from", archive], /an archive will not do|unknown option/],
    ] as const) {
      const { code, stdout, stderr } = await cli(["flows", "delete", ...args]);
      assert.deepEqual([code, stdout], [2, ""], stderr);
      assert.match(stderr, message);
    }
  });
});

const VIP4 = "10.96.1.1";
const VIP6 = "fd00:10:96::101";
const LABELS = { app: "web" };

describe("portolan flows delete", () => {
  let cluster: Cluster;
  let node: Node;

  before(async () => {
    cluster = await Cluster.start({
      world: { nodes: 1 },
      pods: [
        { node: 1, name: "web-1", labels: LABELS },
        { node: 1, name: "web-2", labels: LABELS },
        { node: 1, name: "caller" },
      ],
      manifests: (world) => ({
        "services.json": [
          service(
            "web",
            [VIP4, VIP6],
            [
              { name: "http", port: 80, targetPort: 8080 },
              { name: "dns", port: 53, protocol: "UDP", targetPort: 5353 },
            ],
            LABELS,
          ),
        ],
        "pods.json": world.nodes.flatMap((each) => each.pods.map((pod) => pod.manifest())),
      }),
      agentArgs: ["--masquerade-all=true"],
    });
    node = cluster.world.node(1);
  });
  after(() => cluster.close());

  const portolan = async (...args: string[]): Promise<CliResult> => {
    const { code, stdout, stderr } = await cluster.cli(node, args);
    return { code, stdout, stderr };
  };

  /** Entries of nat that have this port anywhere in their key: all of a flow's, whatever they were rewritten to. */
  async function entriesOf(family: 4 | 6, client: string): Promise<number> {
    const { stdout } = await portolan("maps", "dump", `nat${family}`, "-o", "json");
    const texts = stdout.trimEnd().split("\n");
    return texts.filter((text) => text.includes(`"${client}"`)).length;
  }

  async function listed(...args: string[]): Promise<readonly { client: { port: number } }[]> {
    const { stdout, stderr, code } = await portolan("flows", ...args, "-o", "json");
    assert.equal(code, 0, stderr);
    return (JSON.parse(stdout) as { flows: { client: { port: number } }[] }).flows;
  }

  for (const [family, dst] of [
    [4, VIP4],
    [6, VIP6],
  ] as const) {
    test(`one UDP flow over IPv${family} is forgotten with all of its entries, and the client goes on by a new one`, async () => {
      const caller = await cluster.at("caller");
      const target = { dst, port: 53, proto: "udp", sport: 7000 } as const;
      assert.ok((await caller.connect(target)).ok);
      assert.ok((await caller.connect({ ...target, sport: 7001 })).ok);
      const pod = cluster.pod("caller");
      const client = family === 4 ? `${pod.ip4}:7000` : `[${pod.ip6}]:7000`;
      const filter = ["--client", client, "--protocol", "udp"];

      const dry = await portolan("flows", "delete", ...filter, "--dry-run", "-o", "name");
      assert.equal(dry.code, 0, dry.stderr);
      const name = dry.stdout.trim();
      assert.equal(name, `flow/UDP/${client}/${family === 4 ? dst : `[${dst}]`}:53`);
      assert.equal(dry.stderr, "1 flows would be deleted\n");
      assert.equal((await listed(...filter)).length, 1, "a dry run deletes nothing");

      const before = await entriesOf(family, family === 4 ? pod.ip4 : pod.ip6);
      const done = await portolan("flows", "delete", name, "--yes");
      assert.deepEqual(done, { code: 0, stdout: "1 flows deleted, 4 entries of nat\n", stderr: "" });
      assert.deepEqual(await listed(...filter), []);
      // Each of the four names the client: in its key, or as what is written back into a reply.
      assert.equal(await entriesOf(family, family === 4 ? pod.ip4 : pod.ip6), before - 4);
      const others = await listed("--protocol", "udp", "--family", String(family));
      assert.deepEqual(
        others.map((flow) => flow.client.port),
        [7001],
      );

      assert.ok((await caller.connect(target)).ok, "a new flow");
      assert.equal((await listed(...filter)).length, 1);
      const again = await portolan("flows", "delete", ...filter, "--yes", "-o", "json");
      assert.deepEqual(JSON.parse(again.stdout), { dryRun: false, flows: 1, entries: 4 });
    });
  }

  test("all flows of one backend are forgotten: its connection ends, those of the other backend go on", async () => {
    const caller = await cluster.at("caller");
    const kept = new Map<string, string>();
    for (let i = 0; i < 40 && kept.size < 2; i += 1) {
      assert.equal((await caller.open(`c${i}`, { dst: VIP4, port: 80 })).ok, true);
      const { who = "nobody" } = await caller.ask(`c${i}`);
      if (kept.has(who)) await caller.close(`c${i}`);
      else kept.set(who, `c${i}`);
    }
    const one = kept.get("web-1");
    const two = kept.get("web-2");
    assert.ok(one !== undefined && two !== undefined, "both backends were chosen");

    const backend = `${cluster.pod("web-1").ip4}:8080`;
    const done = await portolan("flows", "delete", "--backend", backend, "--yes", "-o", "json");
    const { flows: deleted } = JSON.parse(done.stdout) as { flows: number };
    assert.ok(deleted >= 1, done.stdout);
    assert.deepEqual(await listed("--backend", backend), []);
    assert.equal((await caller.ask(two)).ok, true, "the other backend's connection");
    assert.equal((await caller.ask(one, { timeout: 2000 })).ok, false, "it cannot begin in the middle");
    assert.ok((await caller.connect({ dst: VIP4, port: 80 })).ok, "new connections are made");
  });

  test("all flows of a Service are forgotten in both families, and a name that nothing has is a finding", async () => {
    const caller = await cluster.at("caller");
    for (const dst of [VIP4, VIP6]) assert.ok((await caller.connect({ dst, port: 80 })).ok);
    assert.deepEqual(await portolan("flows", "delete", "-s", "wbe", "--yes"), {
      code: 1,
      stdout: "0 flows deleted, 0 entries of nat\n",
      stderr:
        'no Service "wbe" in the maps\n  `portolan services -o name` lists those that are; `portolan compile` says what a manifest comes to.\n',
    });
    assert.ok((await listed()).length > 1);
    const { code, stderr } = await portolan("flows", "delete", "-s", "web", "--yes");
    assert.deepEqual([code, stderr], [0, ""]);
    assert.deepEqual(await listed("-s", "web"), []);
    for (const family of [4, 6] as const) {
      const pod = cluster.pod("caller");
      assert.equal(await entriesOf(family, family === 4 ? pod.ip4 : pod.ip6), 0);
    }
  });

  test("portolan flows --orphans finds half a pair that somebody left, and no whole one", async () => {
    const caller = await cluster.at("caller");
    const target = { dst: VIP4, port: 53, proto: "udp", sport: 7100 } as const;
    assert.ok((await caller.connect(target)).ok);
    const whole = await portolan("flows", "--orphans", "-o", "json");
    assert.deepEqual(JSON.parse(whole.stdout), { orphans: [] });
    // As somebody with another tool might: the entry of the way there is deleted, that of the way back is left.
    const { NativeLibrary } = await import("../../src/native/lib.js");
    const { layoutDirectory } = await import("../../src/dataplane/pins.js");
    const { natPieces } = await import("../../src/dataplane/view/nat-entries.js");
    const maps = new NativeLibrary().openPins(layoutDirectory(cluster.bpfRoot(node)), { writable: true });
    try {
      for await (const piece of natPieces(maps, 4)) {
        const half = Array.from(piece).find(({ key }) => key.sport === 7100 && key.direction === 0);
        assert.ok(half !== undefined);
        const keys = FAMILY_CODECS[4].natKey.encode(half.key);
        await maps.apply([{ map: "nat4", kind: "delete", count: 1, keys, values: new Uint8Array(0) }]);
      }
    } finally {
      await maps.close();
    }
    const half = JSON.parse((await portolan("flows", "--orphans", "-o", "json")).stdout) as {
      orphans: { reasons: string[]; direction: string; rewrittenTo: { address: string } }[];
    };
    assert.deepEqual(
      half.orphans.map(({ reasons, direction, rewrittenTo }) => [reasons, direction, rewrittenTo.address]),
      [[["no-opposite"], "out", VIP4]],
    );
  });
});
