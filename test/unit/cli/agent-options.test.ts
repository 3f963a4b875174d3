// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command } from "commander";
import { type AgentOptions, cgroupRoot } from "../../../src/cli/commands/agent/handler.js";
import { agentCommand } from "../../../src/cli/commands/agent/index.js";
import { parseProxyOptions } from "../../../src/config/proxy-options.js";
import { UserError } from "../../../src/util/errors.js";

/** What the command's handler would be given. */
function parse(...args: readonly string[]): AgentOptions {
  const command: Command = agentCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .action(() => {});
  command.parse(["--manifests", "m", ...args], { from: "user" });
  return command.opts();
}

test("portolan agent without options serves the host's sockets, marks with bit 13 and keeps firewall rules", () => {
  const { socketLb, forwardMarkBit, forwardRules, resetRemovedBackends, cgroupRoot: root } = parse();
  assert.deepEqual(
    { socketLb, forwardMarkBit, forwardRules, resetRemovedBackends, root },
    {
      socketLb: "host-only",
      forwardMarkBit: 13,
      forwardRules: true,
      resetRemovedBackends: false,
      root: undefined,
    },
  );
  const proxy = parseProxyOptions(parse());
  assert.deepEqual(proxy, parseProxyOptions({}), "kube-proxy's own defaults");
});

test("portolan agent reads kube-proxy's options under kube-proxy's names", () => {
  const proxy = parseProxyOptions(
    parse(
      "--cluster-cidr=10.244.0.0/16,fd00::/56",
      "--detect-local-mode=BridgeInterface",
      "--pod-bridge-interface=cni0",
      "--pod-interface-name-prefix=veth",
      "--masquerade-all",
      "--nodeport-addresses=primary",
      "--proxy-mode=nftables",
      "--iptables-localhost-nodeports=false",
      "--service-cidr=10.96.0.0/12",
      "--external-ips=false",
    ),
  );
  assert.deepEqual(proxy.detectLocal, { mode: "BridgeInterface", name: "cni0" });
  assert.deepEqual(
    [proxy.masqueradeAll, proxy.nodePortAddresses, proxy.loopbackNodePorts, proxy.externalIPs],
    [true, "primary", false, false],
  );
  assert.deepEqual(
    proxy.serviceCIDRs.map(({ text }) => text),
    ["10.96.0.0/12"],
  );
});

test("portolan agent takes a boolean option without a value for true", () => {
  assert.equal(parse("--forward-rules").forwardRules, true);
  assert.equal(parse("--forward-rules=false").forwardRules, false);
  assert.equal(parse("--forward-rules", "true", "--reset-removed-backends").resetRemovedBackends, true);
  assert.equal(parseProxyOptions(parse("--masquerade-all=false")).masqueradeAll, false);
});

for (const [args, named] of [
  [["--socket-lb=some"], "--socket-lb"],
  [["--forward-mark-bit=32"], "--forward-mark-bit"],
  [["--forward-rules=maybe"], "--forward-rules"],
] as const) {
  test(`portolan agent ${args.join(" ")} is wrong usage, and the option is named`, () => {
    assert.throws(
      () => parse(...args),
      (error: Error) => error.message.includes(named),
    );
  });
}

for (const [args, named] of [
  [["--detect-local-mode=Magic"], "--detect-local-mode"],
  [["--cluster-cidr=10.244.0.0"], "--cluster-cidr"],
  [["--nodeport-addresses=primary,10.0.0.0/8"], "--nodeport-addresses"],
  [["--proxy-mode=ipvs"], "--proxy-mode"],
  [["--masquerade-all=yes"], "--masquerade-all"],
  [["--detect-local-mode=InterfaceNamePrefix"], "--pod-interface-name-prefix"],
] as const) {
  test(`portolan agent ${args.join(" ")} is a mistake of the user's, and the option is named`, () => {
    assert.throws(
      () => parseProxyOptions(parse(...args)),
      (error: Error) => error instanceof UserError && error.message.includes(named),
    );
  });
}

test("cgroupRoot() refuses a directory that is not there, by the option's name", () => {
  assert.throws(
    () => cgroupRoot("/nonexistent/cgroup"),
    /--cgroup-root: \/nonexistent\/cgroup does not exist/,
  );
  assert.throws(() => cgroupRoot("/proc/self/status"), /--cgroup-root: .* is no directory/);
  assert.equal(cgroupRoot("/proc"), "/proc", "the kernel says what is no cgroup");
});
