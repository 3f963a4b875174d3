// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";
import type { ToolResult } from "../../../src/daemon/forward-rules-tools.js";
import { decideForwarding, Forwarding, type ForwardingDecision } from "../../../src/daemon/forwarding.js";
import { parseObstacles, readObstacles } from "../../../src/daemon/netfilter-obstacles.js";
import { silentLogger } from "../../../src/util/log.js";

const chain = (
  name: string,
  hook: string | null,
  policy: string = "accept",
  table: string = "filter",
): object => ({
  chain: {
    family: "ip",
    table,
    name,
    handle: 1,
    ...(hook === null ? {} : { type: "filter", hook, prio: 0, policy }),
  },
});
const rule = (name: string, expr: readonly object[], table: string = "filter"): object => ({
  rule: { family: "ip", table, chain: name, handle: 2, expr },
});
const ruleset = (...entries: readonly object[]): string =>
  JSON.stringify({ nftables: [{ metainfo: { version: "1.0.6" } }, ...entries] });
const OURS = { jump: { target: "PORTOLAN-FORWARD" } };

test("parseObstacles() finds rules and drop policies at the hooks of forwarded packets, and nothing else", () => {
  const none = ruleset(
    { table: { family: "ip", name: "filter", handle: 1 } },
    chain("INPUT", "input", "drop"),
    rule("INPUT", [{ drop: null }]),
    chain("OUTPUT", "output"),
    rule("OUTPUT", [{ drop: null }]),
    chain("KUBE-KUBELET-CANARY", null),
    chain("FORWARD", "forward"),
    rule("FORWARD", [OURS]),
    chain("PORTOLAN-FORWARD", null),
    rule("PORTOLAN-FORWARD", [{ accept: null }]),
  );
  assert.deepEqual(parseObstacles(none), []);
  for (const hook of ["ingress", "prerouting", "forward", "postrouting", "egress"]) {
    assert.deepEqual(parseObstacles(ruleset(chain("c", hook), rule("c", [{ xt: null }]))), [
      `nftables: chain ip filter c (${hook}) has a rule`,
    ]);
    assert.deepEqual(parseObstacles(ruleset(chain("c", hook, "drop"))), [
      `nftables: chain ip filter c (${hook}) drops by policy`,
    ]);
  }
  const behind = ruleset(
    chain("FORWARD", "forward"),
    rule("FORWARD", [OURS]),
    rule("FORWARD", [{ drop: null }]),
  );
  assert.deepEqual(parseObstacles(behind), ["nftables: chain ip filter FORWARD (forward) has a rule"]);
  const elsewhere = ruleset(chain("c", "forward"), rule("c", [{ drop: null }], "other"));
  assert.deepEqual(parseObstacles(elsewhere), [], "a chain of that name in another table");
});

test("parseObstacles() takes what is no ruleset for no answer", () => {
  for (const text of ["", "no", "[]", "{}", '{"nftables": 1}', "null"])
    assert.equal(parseObstacles(text), null, text);
});

const PLAIN = "0:\tfrom all lookup local\n32766:\tfrom all lookup main\n32767:\tfrom all lookup default\n";

/** Answers of the host's programs. */
function toolsWith(answers: Readonly<Record<string, string | null>>, legacy: string | null = null) {
  return {
    async run(program: string, args: readonly string[]): Promise<ToolResult | null> {
      const answer = answers[[program, ...args].join(" ")];
      return answer === undefined || answer === null ? null : { status: 0, stdout: answer, stderr: "" };
    },
    legacyTables: () => legacy,
  };
}

const CLEAN = { "nft -j list ruleset": ruleset(), "ip -4 rule show": PLAIN, "ip -6 rule show": PLAIN };

test("readObstacles() names legacy tables, routing rules, IPsec, and what cannot be read", async () => {
  assert.deepEqual(await readObstacles(toolsWith(CLEAN)), []);
  const first = async (answers: Readonly<Record<string, string | null>>, legacy?: string): Promise<string> =>
    (await readObstacles(toolsWith({ ...CLEAN, ...answers }, legacy)))[0] ?? "";
  assert.match(await first({}, "nat\nfilter\n"), /^iptables-legacy has the tables nat, filter$/);
  assert.match(
    await first({ "ip -6 rule show": `${PLAIN}100:\tfrom fd00::/8 lookup 7\n` }),
    /^policy routing: ip -6 rule 100: from fd00::\/8 lookup 7$/,
  );
  assert.match(
    await first({ "ip -4 rule show": PLAIN.replace("from all lookup main", "from 10.0.0.0/8 lookup main") }),
    /^policy routing/,
  );
  assert.match(
    await first({ "ip xfrm policy count": "\t SPD IN  0 OUT 2 FWD 0 (Sock: IN 0 OUT 0 FWD 0)\n" }),
    /IPsec/,
  );
  assert.match(
    await first({ "nft -j list ruleset": null }),
    /^nftables cannot be read: nft: there is no such program$/,
  );
  assert.match(
    await first({ "nft -j list ruleset": "table ip x" }),
    /^nftables cannot be read: nft: no JSON$/,
  );
  assert.match(await first({ "ip -4 rule show": null }), /^routing rules cannot be read/);
});

test("decideForwarding() goes past the stack with auto only when nothing is in the way", () => {
  const way = (setting: "auto" | "stack" | "redirect", obstacles: readonly string[]) =>
    decideForwarding(setting, obstacles).way;
  assert.equal(way("auto", []), "shortcut");
  assert.equal(way("auto", ["a rule"]), "stack");
  assert.equal(way("redirect", ["a rule"]), "shortcut");
  assert.equal(way("stack", []), "stack");
  assert.equal(decideForwarding("auto", ["a rule", "another", "a third"]).why, "a rule; and 2 more");
});

/** A host whose rules change, and what the agent is told. */
function host(setting: "auto" | "stack" | "redirect" = "auto") {
  const state = { generation: "1", obstacles: [] as readonly string[], reads: 0, fails: false };
  const told: ForwardingDecision[] = [];
  let heard = (): void => {};
  const forwarding = new Forwarding({
    setting,
    log: silentLogger,
    pollMs: 1,
    generation: () => state.generation,
    obstacles: async () => {
      state.reads += 1;
      return state.obstacles;
    },
    onDecision: async (decision) => {
      told.push(decision);
      heard();
      if (state.fails) throw new Error("refused");
    },
  });
  const next = (): Promise<void> =>
    new Promise((resolve) => {
      heard = resolve;
    });
  return { state, told, forwarding, next };
}

test("Forwarding looks again when the rules have another number, and tells what differs", async (t) => {
  const awake = setInterval(() => {}, 60_000); // its own timer keeps no process alive
  t.after(() => clearInterval(awake));
  const { state, told, forwarding, next } = host();
  await forwarding.start();
  assert.deepEqual(
    told.map(({ way }) => way),
    ["shortcut"],
  );
  await forwarding.look();
  assert.equal(told.length, 1, "the same decision is not told again");
  const changed = next();
  Object.assign(state, { obstacles: ["a rule"], generation: "2" });
  await changed;
  assert.deepEqual(told.at(-1), { setting: "auto", way: "stack", why: "a rule" });
  const back = next();
  Object.assign(state, { obstacles: [], generation: "3" });
  await back;
  assert.equal(told.at(-1)?.way, "shortcut");
  await forwarding.stop();
});

test("Forwarding tells a decision again that could not be carried out", async () => {
  const { state, told, forwarding } = host("redirect");
  state.fails = true;
  await forwarding.start();
  state.fails = false;
  await forwarding.look();
  assert.deepEqual(
    told.map(({ way }) => way),
    ["shortcut", "shortcut"],
  );
  assert.equal(state.reads, 0, "redirect asks nobody");
  await forwarding.stop();
});
