// SPDX-License-Identifier: Apache-2.0
// The fixture as kubectl sees it: a client that is not ours, and believes in discovery, pages, watches and credentials.
import assert from "node:assert/strict";
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { endpointSlice, type KubeObject, service } from "../../support/manifests.js";

const run = promisify(execFile);
const web = (name: string, labels: Record<string, string> = {}): KubeObject => {
  const object = service(name, ["10.96.0.1"], [{ name: "http", port: 80 }]);
  return { ...object, metadata: { ...object.metadata, labels } };
};

function found(): boolean {
  try {
    execFileSync("kubectl", ["version", "--client"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
const skip = found() ? false : "no kubectl here";

let api: FakeApi;
before(async () => {
  api = await FakeApi.start({ role: "admin" });
});
after(() => api.close());

// kubectl keeps what it discovers below HOME.
const env = (): NodeJS.ProcessEnv => ({ ...process.env, HOME: api.directory });
const argv = (args: readonly string[]): string[] => [
  "--kubeconfig",
  api.kubeconfig({ tokenFile: true }),
  ...args,
];
const kubectl = async (...args: string[]): Promise<string> =>
  (await run("kubectl", argv(args), { env: env() })).stdout;

async function outputOf(child: ChildProcess): Promise<string> {
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  await once(child, "close");
  return text;
}

test("kubectl creates, lists in pages, selects, changes and deletes", { skip }, async () => {
  for (let i = 0; i < 12; i++) api.create(web(`s${10 + i}`, i % 2 === 0 ? { even: "" } : {}));
  const listed = await kubectl("get", "services", "--chunk-size=5", "-o", "name");
  assert.deepEqual(
    listed.trim().split("\n"),
    Array.from({ length: 12 }, (_, i) => `service/s${10 + i}`),
  );
  assert.equal(api.requestsOf({ continued: true }).length, 2);
  const odd = await kubectl(
    "get",
    "services",
    "-A",
    "-l",
    "!even",
    "--field-selector",
    "metadata.name!=s11",
    "-o",
    "name",
  );
  assert.deepEqual(
    odd.trim().split("\n"),
    ["s13", "s15", "s17", "s19", "s21"].map((name) => `service/${name}`),
  );
  await kubectl("label", "service", "s10", "a=b");
  assert.equal(api.get(web("s10"))?.metadata.labels?.a, "b");
  await kubectl("delete", "service", "s10", "--wait=false");
  assert.equal(api.get(web("s10")), undefined);
  api.create(endpointSlice("x", ["10.0.0.1"], [{ name: "http", port: 80 }]));
  assert.equal(
    await kubectl("get", "endpointslices", "-o", "jsonpath={.items[*].endpoints[*].addresses[0]}"),
    "10.0.0.1",
  );
});

test("kubectl watches: a change out of the selection is a deletion", { skip }, async () => {
  api.create(web("seen", { app: "x" }));
  const watch = ["get", "services", "-l", "app=x", "--watch", "--output-watch-events", "-o", "json"];
  const child = spawn("kubectl", argv(watch), { env: env(), stdio: ["ignore", "pipe", "inherit"] });
  const output = outputOf(child);
  await api.watched("services");
  api.update(web("seen", { app: "y" }));
  api.update(web("seen", { app: "x" }));
  api.delete(web("seen"));
  api.closeWatches();
  const types = [...(await output).matchAll(/"type":\s*"([A-Z]+)"/g)].map(([, type]) => type);
  assert.deepEqual(types, ["ADDED", "DELETED", "ADDED", "DELETED"]);
});

test("kubectl is refused without the right token", { skip }, async () => {
  const kubeconfig = api.kubeconfig({ token: "wrong" });
  const asked = run("kubectl", ["--kubeconfig", kubeconfig, "get", "services"], { env: env() });
  await assert.rejects(asked, /Unauthorized|must be logged in/);
});
