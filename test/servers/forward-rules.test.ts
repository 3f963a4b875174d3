// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, it } from "node:test";
import { ForwardRules, readForwardPolicy } from "../../src/daemon/forward-rules.js";
import { readDroppingChains } from "../../src/daemon/forward-rules-nft.js";
import type { Backend, RuleTools } from "../../src/daemon/forward-rules-tools.js";
import type { Family } from "../../src/net/ip.js";
import { silentLogger } from "../../src/util/log.js";
import { CLIENT, createRoutedHosts, ROUTER, type RoutedHosts, SERVER, toolsOf } from "./support/router.js";

const FAMILIES: readonly Family[] = [4, 6];
const base = (family: Family): string => (family === 4 ? "iptables" : "ip6tables");

for (const backend of ["legacy", "nft"] as const satisfies readonly Backend[]) {
  describe(`ForwardRules under a firewall of the ${backend} backend`, () => {
    let hosts: RoutedHosts;
    let tools: RuleTools;
    let rules: ForwardRules;

    const iptables = (family: Family, ...words: readonly string[]): Promise<{ readonly stdout: string }> =>
      hosts.router.exec([`${base(family)}-${backend}`, "-w", ...words]);
    const inBoth = async (...words: readonly string[]): Promise<void> => {
      for (const family of FAMILIES) await iptables(family, ...words);
    };
    /** Everything that can be seen of the filter tables of both families, without counters. */
    const filters = async (): Promise<string> => {
      const texts = await Promise.all(FAMILIES.map((family) => iptables(family, "-S")));
      return texts.map(({ stdout }) => stdout).join("");
    };
    /** One echo through the router; an answer takes well below a millisecond. */
    const passes = async (family: Family): Promise<boolean> => {
      const ping = ["ping", "-n", "-c", "1", "-W", "0.4", SERVER[family]];
      return (await hosts.client.exec(ping, { check: false })).code === 0;
    };

    before(async () => {
      hosts = await createRoutedHosts();
      const path = (family: Family): string => `/proc/net/${family === 4 ? "ip" : "ip6"}_tables_names`;
      tools = toolsOf(hosts.router, (family) =>
        execFileSync("nsenter", [`--net=${hosts.router.netnsPath}`, "cat", path(family)], {
          encoding: "utf8",
        }),
      );
      rules = new ForwardRules({ log: silentLogger, tools });
    });
    after(() => hosts?.close());

    it("puts nothing in and makes no table where there is none", async () => {
      assert.deepEqual(await rules.ensure(), { changed: 0, failures: [] });
      assert.equal(tools.legacyTables(4), "");
      assert.equal((await hosts.router.exec(["nft", "list", "ruleset"])).stdout, "");
      for (const family of FAMILIES) assert.equal(await passes(family), true, `IPv${family}`);
    });

    it("puts nothing in where FORWARD has the policy ACCEPT and no rule", async () => {
      await inBoth("-A", "INPUT", "-i", "lo", "-j", "ACCEPT");
      const found = await filters();
      assert.deepEqual(await rules.ensure(), { changed: 0, failures: [] });
      assert.equal(await filters(), found);
    });

    it("lets marked packets and their answers pass a policy DROP, and no others (8.11)", async () => {
      await inBoth("-P", "FORWARD", "DROP");
      // It stands for the kernel program at the router's ingress: only what comes from the client is marked.
      const mark = ["PREROUTING", "-t", "mangle", "-i", "c0", "-j", "MARK", "--or-mark", "0x2000"];
      await inBoth("-A", ...mark);
      for (const family of FAMILIES) assert.equal(await passes(family), false, `IPv${family} before`);
      assert.deepEqual(await rules.ensure(), { changed: 2, failures: [] });
      for (const family of FAMILIES) assert.equal(await passes(family), true, `IPv${family} with rules`);
      await inBoth("-D", ...mark);
      for (const family of FAMILIES) assert.equal(await passes(family), false, `IPv${family} unmarked`);
      await inBoth("-A", ...mark);
    });

    it("changes nothing when everything is in place", async () => {
      const found = await filters();
      assert.deepEqual(await rules.ensure(), { changed: 0, failures: [] });
      assert.equal(await filters(), found);
    });

    it("comes before a rule that drops, and comes back after the firewall was loaded anew", async () => {
      await inBoth("-F", "FORWARD");
      await inBoth("-A", "FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP");
      await inBoth("-A", "FORWARD", "-j", "DROP");
      for (const family of FAMILIES) assert.equal(await passes(family), false, `IPv${family} before`);
      assert.deepEqual(await rules.ensure(), { changed: 2, failures: [] });
      for (const family of FAMILIES) assert.equal(await passes(family), true, `IPv${family} with rules`);
    });

    it("puts another mark into a chain that is there", async () => {
      const other = new ForwardRules({ log: silentLogger, tools, markBit: 14 });
      assert.deepEqual(await other.ensure(), { changed: 2, failures: [] });
      const text = await filters();
      assert.match(text, /-A PORTOLAN-FORWARD -m mark --mark 0x4000\/0x4000 -j ACCEPT/);
      assert.doesNotMatch(text, /0x2000/);
      assert.equal(text.match(/-A FORWARD -j PORTOLAN-FORWARD/g)?.length, 2);
      assert.deepEqual(await rules.ensure(), { changed: 2, failures: [] });
    });

    it("opens health check ports in INPUT, and closes those that are not wanted any more (6.27)", async () => {
      await inBoth("-P", "INPUT", "DROP");
      await iptables(6, "-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT");
      const server = hosts.router.spawn(["node", "-e", LISTEN], { stdio: ["ignore", "pipe", "inherit"] });
      await new Promise((resolve) => server.stdout?.once("data", resolve));
      const opens = async (family: Family, port: number): Promise<boolean> =>
        (await hosts.client.exec(["node", "-e", CONNECT, ROUTER[family], String(port)], { check: false }))
          .code === 0;
      assert.equal((await rules.ensureInputAccept([30_000, 30_001])).changed, 2);
      assert.deepEqual(await rules.ensureInputAccept([30_001, 30_000]), { changed: 0, failures: [] });
      for (const family of FAMILIES) assert.equal(await opens(family, 30_000), true, `IPv${family}`);
      assert.equal((await rules.ensureInputAccept([30_001])).changed, 2);
      for (const family of FAMILIES) assert.equal(await opens(family, 30_000), false, `IPv${family} closed`);
    });

    it("is seen by readForwardPolicy(), which changes nothing", async () => {
      const found = await filters();
      const policies = await readForwardPolicy(13, tools);
      assert.equal(await filters(), found);
      const here = policies.filter((policy) => policy.backend === backend);
      assert.deepEqual(
        here,
        FAMILIES.map((family) => ({
          state: "known",
          backend,
          family,
          policy: "DROP",
          otherRules: 2,
          needed: true,
          inPlace: true,
        })),
      );
    });

    it("leaves nft's own firewall alone, which readDroppingChains() names", async () => {
      assert.deepEqual(await readDroppingChains(tools), []);
      const hook = "{ type filter hook forward priority 10; policy drop; }";
      await hosts.router.exec(["nft", `add table inet fw; add chain inet fw passing ${hook}`]);
      const found = await readDroppingChains(tools);
      assert.deepEqual(
        found?.map(({ text }) => text),
        ["inet fw passing"],
      );
      assert.deepEqual(await rules.ensure(), { changed: 0, failures: [] });
      for (const family of FAMILIES) assert.equal(await passes(family), false, `IPv${family}`);
      await hosts.router.exec(["nft", "add rule inet fw passing ct state established,related accept"]);
      await hosts.router.exec(["nft", "add rule inet fw passing meta mark and 0x2000 == 0x2000 accept"]);
      for (const family of FAMILIES) assert.equal(await passes(family), true, `IPv${family} by its owner`);
    });

    it("removes what is ours, and nothing else", async () => {
      assert.deepEqual(await rules.remove(), { changed: 2, failures: [] });
      const text = await filters();
      assert.doesNotMatch(text, /PORTOLAN/);
      assert.match(text, /-P FORWARD DROP/);
      assert.match(text, /-A FORWARD -j DROP/);
      assert.deepEqual(await rules.remove(), { changed: 0, failures: [] });
      for (const family of FAMILIES)
        assert.equal(await passes(family), false, `IPv${family} from ${CLIENT[family]}`);
    });
  });
}

/** Listens on port 30000 of both families, and says so. */
const LISTEN = `require("net").createServer((s) => s.end()).listen(30000, "::", () => console.log("ready"));`;

/** Exit status 0 when a TCP connection can be made within two seconds in which the machine runs. */
const CONNECT = `
const [host, port] = process.argv.slice(1);
const socket = require("net").connect({ host, port: Number(port) });
let left = 2000;
let last = performance.now();
setInterval(() => {
  const now = performance.now();
  left -= Math.min(now - last, 100);
  last = now;
  if (left <= 0) process.exit(1);
}, 20);
socket.on("error", () => process.exit(1));
socket.on("connect", () => process.exit(0));`;
