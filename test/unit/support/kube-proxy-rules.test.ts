// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  iptablesChange,
  iptablesRules,
  manyPorts,
  nftablesChange,
  nftablesRules,
  nftablesTransaction,
  type ProxiedPort,
  type RuleNode,
} from "../../support/kube-proxy-rules.js";

const NODE: RuleNode = { family: 4, clusterCidr: "10.244.0.0/16", serviceCidr: "10.96.0.0/16" };
const NODE6: RuleNode = { family: 6, clusterCidr: "fd00:10:244::/48" };

const port = (i: number, ...ips: string[]): ProxiedPort => ({
  name: `default/service-${i}:http`,
  protocol: "tcp",
  clusterIP: `10.96.0.${i}`,
  port: 80,
  endpoints: ips.map((ip) => ({ ip, port: 8080 })),
});

const BEFORE = port(3, "10.244.1.3", "10.244.2.3");
const PORTS = [port(1, "10.244.1.1"), port(2), port(3, "10.244.1.3", "10.244.3.3")];

const linesOf = (text: string, part: string): string[] =>
  text.split("\n").filter((line) => line.includes(part));

/** Chains that a text of iptables-restore jumps to or removes, and does not declare. */
function undeclared(text: string): string[] {
  const declared = new Set([...text.matchAll(/^:(KUBE-\S+)/gm)].map((match) => match[1]));
  const named = [...text.matchAll(/(?:-j|-X|^-A) (KUBE-\S+)/gm)].map((match) => match[1] as string);
  return [...new Set(named)].filter((name) => !declared.has(name));
}

describe("Rules of kube-proxy's shape in iptables mode", () => {
  it("declare each chain that they name; a change only those that are not there already", () => {
    const whole = iptablesRules(PORTS, NODE);
    assert.deepEqual(undeclared(whole), []);
    const known = undeclared(iptablesChange(PORTS, BEFORE, NODE));
    assert.equal(known.length, 1, "the other service port's chain");
    assert.ok(whole.includes(`:${known[0]} `), `${known[0]} is there`);
  });

  it("reject a service port without endpoints, and have no other rule for it", () => {
    const rules = linesOf(iptablesRules(PORTS, NODE), "service-2");
    assert.equal(rules.length, 1);
    assert.match(rules[0] as string, /^-A KUBE-SERVICES -d 10\.96\.0\.2\/32 .* -j REJECT$/);
  });

  it("follow a change with the changed port's own chains and with everyone's rule at the top", () => {
    const change = iptablesChange(PORTS, BEFORE, NODE);
    assert.equal(
      linesOf(change, "cluster IP").filter((line) => line.startsWith("-A KUBE-SERVICES")).length,
      2,
    );
    assert.equal(linesOf(change, "--to-destination").length, 2);
    assert.deepEqual(linesOf(change, "10.244.1.1"), []);
    assert.equal(linesOf(change, "-X KUBE-SEP-").length, 1, "the removed endpoint's chain goes");
    assert.deepEqual(linesOf(change, "-A PREROUTING"), [], "the jumps are there already");
  });

  it("leave comments of endpoints, and old chains, out of a large cluster", () => {
    const large = [...manyPorts(505, 2).slice(4), ...PORTS];
    assert.deepEqual(linesOf(iptablesRules(large, NODE), " -> "), []);
    assert.notDeepEqual(linesOf(iptablesRules(PORTS, NODE), " -> "), []);
    assert.deepEqual(linesOf(iptablesChange(large, BEFORE, NODE), "-X "), []);
  });

  it("cannot follow a change of a port that is not there", () => {
    assert.throws(() => iptablesChange(PORTS, port(9, "10.244.1.9"), NODE), /default\/service-9:http/);
  });
});

describe("Rules of kube-proxy's shape in nftables mode", () => {
  it("hold the same as one block and as one command a line", () => {
    const block = nftablesRules(PORTS, NODE);
    const commands = nftablesTransaction(PORTS, NODE);
    const rules = [...commands.matchAll(/^add rule ip kube-proxy \S+ (.*)$/gm)].map(
      (match) => match[1] as string,
    );
    const elements = [...commands.matchAll(/^add element ip kube-proxy \S+ \{ (.*) \}$/gm)].map(
      (match) => match[1] as string,
    );
    assert.ok(
      rules.length > 20 && elements.length === 6,
      `${rules.length} rules, ${elements.length} elements`,
    );
    for (const part of [...rules, ...elements]) assert.ok(block.includes(part), part);
  });

  it("reject a service port without endpoints by a map, not by a chain of its own", () => {
    const block = nftablesRules(PORTS, NODE);
    assert.match(block, /map no-endpoint-services \{[^}]*10\.96\.0\.2 \. tcp \. 80 : goto reject-chain/);
    assert.equal(block.includes("default/service-2/tcp/http"), false);
  });

  it("follow a change with the changed port's chains alone", () => {
    const change = nftablesChange(PORTS, BEFORE, NODE);
    assert.equal(linesOf(change, "add rule").length, 6);
    assert.equal(linesOf(change, "flush chain").length, 4);
    assert.equal(linesOf(change, "add element").length, 0);
    assert.deepEqual(linesOf(change, "service-1"), []);
  });

  it("have no colons of IPv6 in the names of chains", () => {
    const six = { ...port(1, "fd00:10:244:1::1"), clusterIP: "fd00:10:96::1" };
    assert.match(
      nftablesTransaction([six], NODE6),
      /^add chain ip6 kube-proxy endpoint-\w{8}-default\/service-1\/tcp\/http__fd00\.10\.244\.1\.\.1\/8080$/m,
    );
  });
});
