// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseFilterTable } from "../../../src/daemon/forward-rules-text.js";
import {
  findLeftovers,
  isKubeProxySet,
  parseVirtualServers,
  removalSteps,
} from "../../../src/daemon/takeover-chains.js";
import { iptablesRules } from "../../support/kube-proxy-rules.js";

const PORTS = [
  {
    name: "default/shop:web",
    protocol: "tcp" as const,
    clusterIP: "10.96.0.1",
    port: 80,
    nodePort: 30_080,
    endpoints: [
      { ip: "10.244.1.2", port: 8080 },
      { ip: "10.244.2.2", port: 8080 },
    ],
  },
];
const RULES = iptablesRules(PORTS, { family: 4, clusterCidr: "10.244.0.0/16" });

/** One table of the rules as iptables-save prints it, with built-in chains and perhaps more. */
function table(name: string, more: readonly string[] = []): ReturnType<typeof parseFilterTable> {
  const [, text = ""] = RULES.split(`*${name}\n`);
  const builtIn = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"].map(
    (chain) => `:${chain} ACCEPT [0:0]`,
  );
  return parseFilterTable([...builtIn, ...more, ...(text.split("COMMIT")[0] ?? "").split("\n")].join("\n"));
}

test("kube-proxy's chains are found with the rules that lead there, and kubelet's stay (12.6)", () => {
  const nat = findLeftovers("nat", table("nat"));
  assert.equal(nat.chains.length, 9, nat.chains.join());
  assert.ok(!nat.chains.some((chain) => /KUBELET|FIREWALL/.test(chain)));
  assert.deepEqual(
    nat.jumps.map(([chain]) => chain),
    ["PREROUTING", "OUTPUT", "POSTROUTING"],
  );
  const filter = findLeftovers("filter", table("filter"));
  assert.ok(filter.chains.includes("KUBE-PROXY-CANARY"));
  assert.ok(!filter.chains.includes("KUBE-FIREWALL"));
  assert.equal(filter.jumps.length, 9);
  assert.deepEqual(findLeftovers("mangle", table("mangle")), {
    jumps: [],
    chains: ["KUBE-PROXY-CANARY"],
    kept: [],
  });
});

test("a chain that somebody else's chain leads to stays, with what it leads to itself", () => {
  const more = [":CNI-HOSTPORT-SETMARK - [0:0]", "-A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ"];
  const { kept, chains } = findLeftovers("nat", table("nat", more));
  assert.deepEqual(kept, ["KUBE-MARK-MASQ"]);
  assert.ok(!chains.includes("KUBE-MARK-MASQ"));
  assert.ok(chains.includes("KUBE-SERVICES"));
});

test("somebody else's chains with similar names stay", () => {
  const others = [":KUBE-SVCX - [0:0]", ":KUBE-ROUTER-INPUT - [0:0]", ":MY-KUBE-SVC-A - [0:0]"];
  const { chains } = findLeftovers("nat", table("nat", others));
  assert.deepEqual(
    chains.filter((chain) => /SVCX|ROUTER|MY-/.test(chain)),
    [],
  );
});

test("nothing leads into a chain any more before one is emptied, and all are empty before one is deleted", () => {
  const steps = removalSteps(findLeftovers("nat", table("nat"))).flat();
  const kinds = steps.map((line) => line.slice(0, 2).replace(/:K/, ":"));
  assert.deepEqual(
    kinds,
    [...kinds].sort((a, b) => ["-D", ":", "-X"].indexOf(a) - ["-D", ":", "-X"].indexOf(b)),
  );
  const many = Array.from({ length: 10_000 }, (_, i) => `KUBE-SEP-${i}`);
  const chunks = removalSteps({ jumps: [], chains: many, kept: [] });
  assert.deepEqual(
    chunks.map((lines) => lines.length),
    [4096, 4096, 1808, 4096, 4096, 1808],
  );
});

test("sets of ipvs mode are told from others, in both families", () => {
  const names = ["KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP", "KUBE-ROUTER", "KUBE-6-", "kube-cluster-ip"];
  assert.deepEqual(names.filter(isKubeProxySet), ["KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"]);
});

test("virtual servers are read from ipvsadm -Ln, without those by mark and without real servers", () => {
  const text = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.0.1:443 rr
  -> 192.168.50.1:6443            Masq    1      0          0
UDP  [fd00:10:96::a]:53 rr
FWM  7 wrr
`;
  assert.deepEqual(parseVirtualServers(text), [
    { protocol: "TCP", address: "10.96.0.1:443" },
    { protocol: "UDP", address: "[fd00:10:96::a]:53" },
  ]);
});
