// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { Counters } from "../../../src/abi/enums.gen.js";
import { type FlagTexts, flagTexts, givenFlags } from "../../../src/cli/commands/agent/flags.js";
import { agentConfig, cgroupRoot, checkSource, cleanUp } from "../../../src/cli/commands/agent/handler.js";
import { agentCommand, kubeProxyCommand, withDashes } from "../../../src/cli/commands/agent/index.js";
import { readSettings } from "../../../src/cli/commands/agent/read-settings.js";
import { ExitCode } from "../../../src/cli/exit-codes.js";
import { Printer } from "../../../src/cli/output.js";
import { KUBE_PROXY_FLAGS } from "../../../src/config/kube-proxy-settings.js";
import { PORTOLAN_SETTINGS } from "../../../src/config/portolan-settings.js";
import { UserError } from "../../../src/util/errors.js";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const KUBEADM = join(ROOT, "test/fixtures/config/kubeadm-config.conf");

/** What the command's handler would be given. */
function parse(...args: readonly string[]): FlagTexts {
  return flagTexts(parsed(agentCommand(), args));
}

function parsed(command: Command, args: readonly string[]): object {
  command
    .exitOverride()
    .configureOutput({ writeErr: () => {}, writeOut: () => {} })
    .action(() => {});
  command.parse(args, { from: "user" });
  return command.opts();
}

/** The command line as a program, with another name if one is given. */
function program(t: TestContext, name: string, ...args: readonly string[]) {
  const directory = mkdtempSync(join(tmpdir(), "portolan-cli-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, name);
  symlinkSync(join(ROOT, "src/cli/main.ts"), path);
  const { KUBERNETES_SERVICE_HOST: _, ...env } = process.env;
  return spawnSync(process.execPath, ["--import", "tsx", path, ...args], {
    cwd: ROOT,
    encoding: "utf8",
    env,
  });
}

test("portolan agent without options serves the host's sockets, marks with bit 13 and keeps firewall rules", async () => {
  const { settings } = await readSettings(parse());
  const { socketLB, forwardMarkBit, forwardRules, resetRemovedBackends } = settings.portolan;
  assert.deepEqual(
    [socketLB, forwardMarkBit, forwardRules, resetRemovedBackends],
    ["host-only", 13, true, false],
  );
});

for (const { flag, kind } of [...KUBE_PROXY_FLAGS, ...PORTOLAN_SETTINGS]) {
  test(`portolan agent and kube-proxy take --${flag}`, () => {
    const arg = kind.startsWith("bool") ? `--${flag}` : `--${flag}=x`;
    for (const command of [agentCommand(), kubeProxyCommand("0")]) {
      assert.notEqual(flagTexts(parsed(command, [arg]))[flag], undefined);
    }
  });
}

test("portolan agent reads kube-proxy's options under kube-proxy's names", async () => {
  const { settings } = await readSettings(
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
      "--oom-score-adj",
      "-5",
    ),
  );
  const { proxy, kubeProxy } = settings;
  assert.deepEqual(proxy.detectLocal, { mode: "BridgeInterface", name: "cni0" });
  assert.deepEqual(
    [proxy.masqueradeAll, proxy.nodePortAddresses, proxy.loopbackNodePorts, proxy.externalIPs],
    [true, "primary", false, false],
  );
  assert.deepEqual(
    proxy.serviceCIDRs.map(({ text }) => text),
    ["10.96.0.0/12"],
  );
  assert.equal(kubeProxy.oomScoreAdj, -5);
});

test("portolan agent takes -v=4, -v4, -v 4 and --v=4 for the same", () => {
  for (const args of [["-v=4"], ["-v4"], ["-v", "4"], ["--v=4"], ["--v", "4"]]) {
    assert.equal(parse(...args).v, "4", args.join(" "));
  }
});

test("portolan agent takes a boolean option without a value for true", async () => {
  const of = async (...args: readonly string[]) => (await readSettings(parse(...args))).settings;
  assert.equal((await of("--forward-rules")).portolan.forwardRules, true);
  assert.equal((await of("--forward-rules=false")).portolan.forwardRules, false);
  assert.equal(
    (await of("--forward-rules", "true", "--reset-removed-backends")).portolan.resetRemovedBackends,
    true,
  );
  assert.equal((await of("--masquerade-all=false")).proxy.masqueradeAll, false);
});

test("portolan agent takes a list in parts", async () => {
  const { settings } = await readSettings(parse("--devices=a,b", "--devices", "c"));
  assert.deepEqual(settings.portolan.devices, ["a", "b", "c"]);
});

for (const [args, named] of [
  [["--socket-lb=some"], "--socket-lb"],
  [["--forward-mark-bit=32"], "--forward-mark-bit"],
  [["--forward-rules=maybe"], "--forward-rules"],
  [["--detect-local-mode=Magic"], "--detect-local-mode"],
  [["--cluster-cidr=10.244.0.0"], "--cluster-cidr"],
  [["--nodeport-addresses=primary,10.0.0.0/8"], "--nodeport-addresses"],
  [["--proxy-mode=userspace"], "--proxy-mode"],
  [["--masquerade-all=yes"], "--masquerade-all"],
  [["--detect-local-mode=InterfaceNamePrefix"], "--pod-interface-name-prefix"],
  [["--hostname-override= "], "--hostname-override"],
  [["--config=/nonexistent/config.conf"], "--config: /nonexistent/config.conf does not exist"],
  [["--config=/proc"], "--config: /proc cannot be read"],
] as const) {
  test(`portolan agent ${args.join(" ")} is a mistake of the user's, and the option is named`, async () => {
    await assert.rejects(
      readSettings(parse(...args)),
      (error: Error) => error instanceof UserError && error.message.includes(named),
    );
  });
}

test("portolan agent refuses positional arguments (12.4)", () => {
  assert.throws(() => parse("extra"), /too many arguments/);
  assert.throws(() => parsed(kubeProxyCommand("0"), ["extra"]), /too many arguments/);
});

test("portolan agent --config reads kubeadm's file, and --hostname-override wins over it (12.1)", async () => {
  const { settings, fileText } = await readSettings(
    parse(`--config=${KUBEADM}`, "--hostname-override=Node-1", "--masquerade-all"),
  );
  assert.equal(settings.nodeName, "node-1");
  assert.equal(settings.proxy.masqueradeAll, false, "the file wins");
  assert.equal(settings.api.kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
  assert.equal(fileText, readFileSync(KUBEADM, "utf8"));
});

const NO_API = { api: { kubeconfig: null, master: null }, configFile: null };
const KUBECONFIG = { api: { kubeconfig: "/k", master: null }, configFile: null };

test("checkSource() wants files, or an API server, or a pod", () => {
  assert.throws(() => checkSource([], NO_API, {}), /nothing says where/);
  checkSource(["m"], NO_API, {});
  checkSource([], KUBECONFIG, {});
  checkSource([], { ...NO_API, api: { kubeconfig: null, master: "https://m" } }, {});
  checkSource([], NO_API, { KUBERNETES_SERVICE_HOST: "10.96.0.1" });
});

test("checkSource() refuses files beside an API server's flags, but not beside a file's kubeconfig", () => {
  assert.throws(() => checkSource(["m"], KUBECONFIG, {}), /--manifests cannot stand beside --kubeconfig/);
  const master = { ...NO_API, api: { kubeconfig: null, master: "https://m" } };
  assert.throws(() => checkSource(["m"], master, {}), /--manifests cannot stand beside --master/);
  checkSource(["m"], { ...KUBECONFIG, configFile: "c.conf" }, {});
});

test("agentConfig() is what the agent takes of the settings, and the settings themselves", async () => {
  const args = ["--hostname-override=N1", "--devices=eth0", "--pod-interfaces=cali*", "--attach=tcx"];
  const { settings, fileText } = await readSettings(
    parse(
      ...args,
      "--socket-lb=off",
      "--cgroup-root=/proc",
      "--reset-removed-backends",
      "--snat-ports=20000-20999",
    ),
  );
  const config = await agentConfig({ manifests: ["m"], bpfRoot: "/sys/fs/bpf/x" }, settings, fileText);
  assert.deepEqual(config, {
    manifests: ["m"],
    settings,
    flags: { "--manifests": "m", "--bpf-root": "/sys/fs/bpf/x" },
    configFileText: null,
    nodeName: "n1",
    bpfRoot: "/sys/fs/bpf/x",
    interfaces: { devices: ["eth0"], podInterfaces: ["cali*"] },
    attach: "tcx",
    xdp: "off",
    snatRanges: [{ first: 20_000, last: 20_999 }],
    maxEntries: {},
    auditSeconds: 30,
    proxy: settings.proxy,
    socketLb: "off",
    forwarding: "stack",
    cgroupRoot: "/proc",
    resetRemovedBackends: true,
    markBit: 13,
    masqueradeBit: 14,
    forwardRules: true,
  });
});

test("givenFlags() has each flag as it is typed, and no password of a URL", () => {
  const options = parsed(agentCommand(), [
    ...[
      "-v=4",
      "--masquerade-all",
      "--devices=eth0",
      "--devices=eth1",
      "--master=https://me:secret@10.0.0.1:6443",
    ],
  ]);
  assert.deepEqual(givenFlags(options), {
    "-v": "4",
    "--masquerade-all": "true",
    "--devices": "eth0,eth1",
    "--master": "https://***@10.0.0.1:6443",
  });
});

test("agentConfig() gives a size that is named to the maps of both families, and to those that count for them", async () => {
  const { settings } = await readSettings(
    parse(
      "--max-services=10",
      "--max-backends=20",
      "--max-nat=30",
      "--audit-interval=1m30s",
      "--forward-rules=false",
    ),
  );
  const config = await agentConfig({ bpfRoot: "/sys/fs/bpf/x" }, settings, null);
  assert.deepEqual(config.maxEntries, {
    services: 10,
    service_drops: 10,
    counters: Counters.SERVICE_BASE + 10,
    backends4: 20,
    backends6: 20,
    backend_stats4: 20,
    backend_stats6: 20,
    nat4: 30,
    nat6: 30,
  });
  assert.deepEqual([config.manifests, config.auditSeconds, config.forwardRules], [[], 90, false]);
});

test("agentConfig() refuses source ports that are none, by the option's name", async () => {
  const { settings } = await readSettings(parse("--snat-ports=5-1"));
  await assert.rejects(agentConfig({}, settings, null), /--snat-ports: "5-1" is no range of ports/);
});

const OPTIONS = { output: "table" } as const;

test("cleanUp() takes ours away and then kube-proxy's, and gives the first status that is not ok (12.5)", async () => {
  for (const [own, theirs, expected] of [
    [ExitCode.ok, ExitCode.ok, ExitCode.ok],
    [ExitCode.ok, ExitCode.failure, ExitCode.failure],
    [ExitCode.failure, ExitCode.ok, ExitCode.failure],
  ] as const) {
    const calls: (boolean | undefined)[] = [];
    const status = await cleanUp(
      async ({ kubeProxy }) => {
        calls.push(kubeProxy);
        return kubeProxy === true ? theirs : own;
      },
      OPTIONS,
      new Printer("table"),
    );
    assert.deepEqual([status, calls], [expected, [undefined, true]]);
  }
});

test("cleanUp() takes kube-proxy's away when ours cannot be, and tells why it cannot", async () => {
  let theirs = 0;
  const cleaned = cleanUp(
    async ({ kubeProxy }) => {
      if (kubeProxy !== true) throw new Error("the kernel refused");
      theirs += 1;
      return ExitCode.ok;
    },
    OPTIONS,
    new Printer("table"),
  );
  await assert.rejects(cleaned, /the kernel refused/);
  assert.equal(theirs, 1);
});

test("withDashes() takes underscores in flags' names for dashes, as kube-proxy does, and leaves values alone", () => {
  assert.deepEqual(withDashes(["--bind_address=a_b", "--v", "a_b", "-v=1"]), [
    "--bind-address=a_b",
    "--v",
    "a_b",
    "-v=1",
  ]);
});

test("A program with the name kube-proxy takes the DaemonSet's arguments and tells its version (12.4)", (t) => {
  const version = program(t, "kube-proxy", "--version");
  assert.match(version.stdout, /^Portolan \d+\.\d+\.\d+\n$/);
  const wrong = program(t, "kube-proxy", "--config=/nonexistent/config.conf", "--hostname-override=n1");
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /--config: \/nonexistent\/config.conf does not exist/);
});

test("kube-proxy --help fits a terminal and shows the agent's options in groups", (t) => {
  const { status, stdout } = program(t, "kube-proxy", "--help");
  assert.equal(status, 0);
  for (const line of stdout.split("\nExamples:\n")[0]?.split("\n") ?? []) assert.ok(line.length <= 100, line);
  assert.match(stdout, /^Usage: kube-proxy \[options\]/);
  assert.match(stdout, /^Options of kube-proxy:$/m);
  assert.match(stdout, /^Options of kube-proxy that are accepted and have no effect here:$/m);
  assert.doesNotMatch(stdout, /--windows-service/);
});

test("kube-proxy --write-config-to writes a file that kube-proxy --config takes, and exits 0 (12.4)", (t) => {
  const directory = mkdtempSync(join(tmpdir(), "portolan-cli-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const [first, second] = [join(directory, "a"), join(directory, "b")];
  assert.equal(program(t, "kube-proxy", "--write-config-to", first).status, 0);
  assert.equal(program(t, "kube-proxy", "--config", first, "--write-config-to", second).status, 0);
  assert.equal(readFileSync(second, "utf8"), readFileSync(first, "utf8"));
  assert.match(readFileSync(first, "utf8"), /^kind: KubeProxyConfiguration$/m);
});

test("kube-proxy --write-config-to a place that is none fails and names it", (t) => {
  const { status, stderr } = program(t, "kube-proxy", "--write-config-to=/nonexistent/c");
  assert.equal(status, 3);
  assert.match(stderr, /--write-config-to: \/nonexistent\/c cannot be written/);
});

test("package.json installs the agent under kube-proxy's name too", () => {
  const { bin } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    bin: Record<string, string>;
  };
  assert.equal(bin["kube-proxy"], bin.portolan);
});

test("cgroupRoot() refuses a directory that is not there, by the option's name", () => {
  assert.throws(
    () => cgroupRoot("/nonexistent/cgroup"),
    /--cgroup-root: \/nonexistent\/cgroup does not exist/,
  );
  assert.throws(() => cgroupRoot("/proc/self/status"), /--cgroup-root: .* is no directory/);
  assert.equal(cgroupRoot("/proc"), "/proc", "the kernel says what is no cgroup");
});
