// SPDX-License-Identifier: Apache-2.0
// What deploy/ gives a cluster: rendered by kubectl's kustomize and by helm, looked at without a cluster. Needs no root.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import type { V1ClusterRole, V1ClusterRoleBinding, V1Container, V1DaemonSet } from "@kubernetes/client-node";
import { parse, parseAllDocuments } from "yaml";
import { flagTexts } from "../../src/cli/commands/agent/flags.js";
import { kubeProxyCommand, withDashes } from "../../src/cli/commands/agent/index.js";
import { parseSettings } from "../../src/config/parse-settings.js";
import { renderChart, renderText } from "./support/render-chart.js";
import { schemaProblems } from "./support/schema.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const KUSTOMIZE = join(ROOT, "deploy/kustomize");
const CHART = join(ROOT, "deploy/helm/portolan");
const OVERLAYS = ["base", "overlays/kubeadm", "overlays/beside-kube-proxy", "overlays/cleanup"];
const COMPONENTS = ["components/kernel-5.10", "components/no-init"];

/** What is not here is said, and is no success. */
const found = (program: string, ...args: readonly string[]): boolean => spawnSync(program, args).status === 0;
const kubectl = found("kubectl", "version", "--client");
const helm = found("helm", "version");
const missing = (program: string): string =>
  `NOT RUN: there is no ${program} here; what it would say about deploy/ is not known`;
if (!kubectl) process.stderr.write(`\n*** ${missing("kubectl")}\n\n`);
if (!helm)
  process.stderr.write(`\n*** ${missing("helm")}: the chart is rendered by the tests' own renderer\n\n`);

const objectsOf = (text: string): readonly object[] =>
  parseAllDocuments(text).flatMap((document) =>
    document.contents === null ? [] : [document.toJS() as object],
  );

function kustomize(directory: string): readonly object[] {
  return objectsOf(execFileSync("kubectl", ["kustomize", directory], { encoding: "utf8" }));
}

const kindOf = (object: object): string => (object as { kind: string }).kind;
const ofKind = <T>(objects: readonly object[], kind: string): T =>
  objects.find((object) => kindOf(object) === kind) as T;
const byKind = (objects: readonly object[]): readonly object[] =>
  [...objects].sort((a, b) => kindOf(a).localeCompare(kindOf(b)));

/** Rendered or, for the base, read as it is: without kubectl that much is left. */
const base = (): readonly object[] =>
  readdirSync(join(KUSTOMIZE, "base"))
    .filter((file) => file !== "kustomization.yaml")
    .flatMap((file) => objectsOf(readFileSync(join(KUSTOMIZE, "base", file), "utf8")));

const daemonSet = (objects: readonly object[]): V1DaemonSet => ofKind(objects, "DaemonSet");
const containers = (objects: readonly object[]): readonly V1Container[] => {
  const { initContainers = [], containers: main = [] } = daemonSet(objects).spec?.template.spec ?? {};
  return [...initContainers, ...main];
};
const agentOf = (objects: readonly object[]): V1Container =>
  daemonSet(objects).spec?.template.spec?.containers[0] as V1Container;

test("the kustomize base and the chart hold the same objects", () => {
  assert.deepEqual(byKind(renderChart(CHART)), byKind(base()));
});

test("helm renders the chart as the tests' own renderer does", {
  skip: helm ? false : missing("helm"),
}, () => {
  const text = execFileSync("helm", ["template", "portolan", CHART, "--namespace", "kube-system"], {
    encoding: "utf8",
  });
  assert.deepEqual(byKind(objectsOf(text)), byKind(renderChart(CHART)));
});

test("the tests' own renderer of charts refuses what it does not know", () => {
  const root = { Values: { a: "x", none: "" } };
  assert.equal(renderText("a: {{ .Values.none | default .Values.a }}", root), "a: x");
  assert.throws(() => renderText("{{ tpl .Values.a . }}", root), /only helm/);
  assert.throws(() => renderText("{{ .Values.b }}", root), /there is no \.Values\.b/);
  assert.throws(() => renderText("{{ if .Values.a }}", root), /no {{ end }}/);
});

test("each value of the chart is in its schema, and the other way round", () => {
  const values = parse(readFileSync(join(CHART, "values.yaml"), "utf8")) as object;
  const schema = JSON.parse(readFileSync(join(CHART, "values.schema.json"), "utf8")) as {
    properties: object;
    required: readonly string[];
  };
  const known = Object.keys(schema.properties).filter((name) => name !== "global"); // helm's own
  assert.deepEqual(Object.keys(values).sort(), known.sort());
  for (const name of schema.required) assert.ok(name in values, name);
});

test("the chart's values do what they are for", () => {
  const values = {
    image: { repository: "registry/portolan", tag: "2" },
    name: "kube-proxy",
    serviceAccount: { create: false, name: "kube-proxy" },
    rbac: { create: false },
    init: { enabled: false },
    extraArgs: ["--socket-lb=full"],
    extraCapabilities: ["SYS_RESOURCE"],
    healthPort: 10300,
    podAnnotations: { a: "b" },
  };
  const objects = renderChart(CHART, { values, namespace: "net" });
  assert.deepEqual(objects.map(kindOf), ["DaemonSet"]);
  const { metadata, spec } = daemonSet(objects);
  assert.equal(metadata?.name, "kube-proxy");
  assert.equal(metadata?.namespace, "net");
  assert.deepEqual(spec?.template.metadata?.annotations, { a: "b" });
  assert.equal(spec?.template.spec?.serviceAccountName, "kube-proxy");
  const [agent, ...others] = containers(objects);
  assert.equal(others.length, 0, "no privileged container");
  assert.equal(agent?.image, "registry/portolan:2");
  assert.ok(agent?.args?.includes("--socket-lb=full"));
  assert.ok(agent?.securityContext?.capabilities?.add?.includes("SYS_RESOURCE"));
  assert.equal(agent?.livenessProbe?.httpGet?.port, 10300);
  for (const object of objects) assert.deepEqual(schemaProblems(object), []);
});

test("the chart's appVersion, the images and package.json name one version", () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
  const chart = parse(readFileSync(join(CHART, "Chart.yaml"), "utf8")) as { appVersion: string };
  assert.equal(chart.appVersion, version);
  for (const { image } of containers(base())) assert.equal(image, `portolan:${version}`);
});

for (const overlay of OVERLAYS) {
  test(`kustomize renders ${overlay}, and each field is one that Kubernetes knows`, {
    skip: kubectl ? false : missing("kubectl"),
  }, () => {
    const objects = kustomize(join(KUSTOMIZE, overlay));
    assert.ok(objects.some((object) => kindOf(object) === "DaemonSet"));
    for (const object of objects) assert.deepEqual(schemaProblems(object), []);
  });
}

test("the check of fields finds a misspelt one, and a value of another type", () => {
  const changed = structuredClone(daemonSet(base())) as unknown as {
    spec: { template: { spec: Record<string, unknown> } };
  };
  changed.spec.template.spec.hostNetworks = true;
  changed.spec.template.spec.hostNetwork = "yes";
  assert.deepEqual(schemaProblems(changed), [
    "DaemonSet.spec.template.spec.hostNetwork is no boolean",
    "DaemonSet.spec.template.spec.hostNetworks is no field of V1PodSpec",
  ]);
});

test("the agent's rights are those of system:node-proxier (1.15)", () => {
  const { rules } = ofKind<V1ClusterRole>(base(), "ClusterRole");
  const rights = (rules ?? []).flatMap(({ apiGroups = [], resources = [], verbs }) =>
    apiGroups.flatMap((group) =>
      resources.map((resource) => `${group}/${resource}: ${[...verbs].sort().join()}`),
    ),
  );
  assert.deepEqual(rights.sort(), [
    "/events: create,patch,update",
    "/nodes: get,list,watch",
    "/services: list,watch",
    "discovery.k8s.io/endpointslices: list,watch",
    "events.k8s.io/events: create,patch,update",
    "networking.k8s.io/servicecidrs: list,watch",
  ]);
  const { roleRef, subjects } = ofKind<V1ClusterRoleBinding>(base(), "ClusterRoleBinding");
  assert.equal(roleRef.name, ofKind<V1ClusterRole>(base(), "ClusterRole").metadata?.name);
  assert.equal(subjects?.[0]?.name, daemonSet(base()).spec?.template.spec?.serviceAccountName);
});

test("the agent's container has no privileges but four capabilities, and writes nowhere but where it must", () => {
  const agent = agentOf(base());
  const { securityContext: security } = agent;
  assert.equal(security?.privileged, false);
  assert.equal(security?.allowPrivilegeEscalation, false);
  assert.equal(security?.readOnlyRootFilesystem, true);
  assert.deepEqual(security?.capabilities?.drop, ["ALL"]);
  assert.deepEqual(security?.capabilities?.add, ["NET_ADMIN", "NET_RAW", "BPF", "PERFMON"]);
  assert.equal(security?.seccompProfile?.type, "RuntimeDefault");
  const written = agent.volumeMounts
    ?.filter(({ readOnly }) => readOnly !== true)
    .map(({ mountPath }) => mountPath);
  assert.deepEqual(written, ["/sys/fs/bpf", "/run/portolan", "/run/xtables.lock"]);
});

test("every container's volume is there, and every volume is used", () => {
  const volumes = daemonSet(base()).spec?.template.spec?.volumes?.map(({ name }) => name) ?? [];
  const used = containers(base()).flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name));
  assert.deepEqual([...new Set(used)].sort(), [...volumes].sort());
});

test("the agent's pod is a node's own: host network, critical, on every Linux node", () => {
  const { template, updateStrategy, selector } = daemonSet(base()).spec ?? {};
  assert.equal(template?.spec?.hostNetwork, true);
  assert.equal(template?.spec?.priorityClassName, "system-node-critical");
  assert.deepEqual(template?.spec?.tolerations, [{ operator: "Exists" }]);
  assert.deepEqual(template?.spec?.nodeSelector, { "kubernetes.io/os": "linux" });
  assert.equal(updateStrategy?.type, "RollingUpdate");
  const labels = template?.metadata?.labels ?? {};
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) assert.equal(labels[key], value);
  assert.equal(agentOf(base()).ports, undefined, "a kube-proxy beside it would not be scheduled");
});

for (const values of [{}, { extraArgs: ["--socket-lb=full", "-v=4"] }]) {
  test(`the containers' arguments are options that the program accepts (${JSON.stringify(values)})`, async () => {
    for (const { name, command = [], args = [] } of containers(renderChart(CHART, { values }))) {
      assert.ok(command.join(" ").includes("/usr/local/bin/kube-proxy"), name);
      const given = args.map((arg) => arg.replace("$(NODE_NAME)", "node-1"));
      const { settings, problems } = parseArguments(given);
      assert.deepEqual(
        problems.filter(({ severity }) => severity === "error"),
        [],
        name,
      );
      assert.equal(settings?.action, name === "host" ? "init-only" : "run");
      assert.equal(settings?.nodeName, "node-1");
    }
  });
}

test("an argument that is no option would be found", () => {
  assert.throws(() => parseArguments(["--confg=x"]), /unknown option/);
  assert.ok(parseArguments(["--socket-lb=sometimes"]).problems.some(({ severity }) => severity === "error"));
});

/** With the real command line, and with a configuration as kubeadm writes it. */
function parseArguments(args: readonly string[]): ReturnType<typeof parseSettings> {
  const command = kubeProxyCommand("0")
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  command.action(() => {});
  command.parse(["node", "kube-proxy", ...withDashes(args)]);
  const file = { path: "config.conf", text: KUBEADM_CONFIG };
  return parseSettings({ flags: flagTexts(command.opts()), file, hostname: "other" });
}

const KUBEADM_CONFIG = `
apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
clientConnection:
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
clusterCIDR: 10.244.0.0/16
conntrack:
  maxPerCore: null
  min: null
kind: KubeProxyConfiguration
mode: ""
`;

test("the overlay for kubeadm takes the place of its DaemonSet: name, selector, account, container", {
  skip: kubectl ? false : missing("kubectl"),
}, () => {
  const objects = kustomize(join(KUSTOMIZE, "overlays/kubeadm"));
  assert.deepEqual(objects.map(kindOf), ["DaemonSet"], "the account and its rights are there");
  const { metadata, spec } = daemonSet(objects);
  assert.deepEqual([metadata?.namespace, metadata?.name], ["kube-system", "kube-proxy"]);
  assert.deepEqual(spec?.selector, { matchLabels: { "k8s-app": "kube-proxy" } });
  assert.equal(spec?.template.metadata?.labels?.["k8s-app"], "kube-proxy");
  assert.equal(spec?.template.spec?.serviceAccountName, "kube-proxy");
  assert.equal(agentOf(objects).name, "kube-proxy");
});

test("the overlay for cleanup runs it once on each node, in the agent's own container", {
  skip: kubectl ? false : missing("kubectl"),
}, () => {
  const [cleanup, rest, ...others] = containers(kustomize(join(KUSTOMIZE, "overlays/cleanup")));
  assert.equal(others.length, 0);
  assert.deepEqual(cleanup?.command, ["/usr/local/bin/portolan", "cleanup"]);
  assert.deepEqual(cleanup?.securityContext, agentOf(base()).securityContext);
  assert.deepEqual(cleanup?.volumeMounts, agentOf(base()).volumeMounts);
  for (const { args, livenessProbe, startupProbe } of [cleanup, rest] as V1Container[])
    assert.deepEqual([args, livenessProbe, startupProbe], [undefined, undefined, undefined]);
});

for (const component of COMPONENTS) {
  test(`the component ${component} fits the base and the overlay for kubeadm`, {
    skip: kubectl ? false : missing("kubectl"),
  }, () => {
    for (const overlay of ["base", "overlays/kubeadm"]) {
      const directory = mkdtempSync(join(KUSTOMIZE, ".test-"));
      try {
        const text = `resources: [../${overlay}]\ncomponents: [../${component}]\n`;
        writeFileSync(join(directory, "kustomization.yaml"), text);
        const objects = kustomize(directory);
        for (const object of objects) assert.deepEqual(schemaProblems(object), []);
        const names = containers(objects).map(({ name }) => name);
        assert.equal(names.includes("host"), component !== "components/no-init");
        const capabilities = agentOf(objects).securityContext?.capabilities?.add ?? [];
        assert.equal(capabilities.includes("SYS_RESOURCE"), component === "components/kernel-5.10");
      } finally {
        rmSync(directory, { recursive: true });
      }
    }
  });
}

/** What kubectl asks before it looks at objects: which kinds there are. */
const DISCOVERY: Readonly<Record<string, object>> = {
  "/api": { kind: "APIVersions", versions: ["v1"] },
  "/apis": {
    kind: "APIGroupList",
    apiVersion: "v1",
    groups: ["apps", "rbac.authorization.k8s.io"].map((name) => {
      const version = { groupVersion: `${name}/v1`, version: "v1" };
      return { name, versions: [version], preferredVersion: version };
    }),
  },
  "/api/v1": resources("v1", [["serviceaccounts", "ServiceAccount", true]]),
  "/apis/apps/v1": resources("apps/v1", [["daemonsets", "DaemonSet", true]]),
  "/apis/rbac.authorization.k8s.io/v1": resources("rbac.authorization.k8s.io/v1", [
    ["clusterroles", "ClusterRole", false],
    ["clusterrolebindings", "ClusterRoleBinding", false],
  ]),
};

function resources(groupVersion: string, list: readonly (readonly [string, string, boolean])[]): object {
  return {
    kind: "APIResourceList",
    apiVersion: "v1",
    groupVersion,
    resources: list.map(([name, kind, namespaced]) => ({
      name,
      singularName: "",
      kind,
      namespaced,
      verbs: ["create", "get"],
    })),
  };
}

let discovery: Server;
let scratch: string;
before(async () => {
  scratch = mkdtempSync(join(tmpdir(), "portolan-deploy-"));
  discovery = createServer((request, response) => {
    const answer = DISCOVERY[new URL(request.url ?? "/", "http://x").pathname];
    response.writeHead(answer === undefined ? 404 : 200, { "Content-Type": "application/json" });
    response.end(JSON.stringify(answer ?? {}));
  });
  await new Promise<void>((resolve) => discovery.listen(0, "127.0.0.1", resolve));
});
after(() => {
  discovery.closeAllConnections();
  discovery.close();
  rmSync(scratch, { recursive: true });
});

test("kubectl create --dry-run=client takes every overlay", {
  skip: kubectl ? false : missing("kubectl"),
}, async () => {
  const { port } = discovery.address() as AddressInfo;
  for (const overlay of OVERLAYS) {
    const names = await run("kubectl", [
      `--server=http://127.0.0.1:${port}`,
      ...["--cache-dir", scratch, "create", "--dry-run=client", "--validate=false", "-o", "name"],
      ...["-k", join(KUSTOMIZE, overlay)],
    ]);
    const wanted = kustomize(join(KUSTOMIZE, overlay)).map((object) => {
      const { kind, metadata } = object as { kind: string; metadata: { name: string } };
      return `${kind.toLowerCase()}/${metadata.name}`;
    });
    const plain = names
      .trim()
      .split("\n")
      .map((name) => name.replace(/\.[^/]*/, ""));
    assert.deepEqual(plain.sort(), wanted.sort());
  }
});

/** Not synchronous: the server that it asks is in this process. */
async function run(program: string, args: readonly string[]): Promise<string> {
  const { execFile } = await import("node:child_process");
  return await new Promise((resolve, reject) => {
    // No kubeconfig of whoever runs the tests.
    const env = { ...process.env, KUBECONFIG: "/dev/null" };
    execFile(program, [...args], { env, timeout: 180_000 }, (error, stdout, stderr) =>
      error === null ? resolve(stdout) : reject(new Error(`${program}: ${stderr || error.message}`)),
    );
  });
}
