// SPDX-License-Identifier: Apache-2.0
// How a real API server is started, waited for and ended, tried with stand-ins for its programs: what they are told, and that
// nothing of them is left. What a real one answers, only a real one shows.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterEach, beforeEach, test } from "node:test";
import { backends } from "../../support/apiserver/backend.js";
import { RealApi } from "../../support/apiserver/real-api.js";

const FLAGS = `const flags = Object.fromEntries(process.argv.slice(2).map((flag) => flag.slice(2).split(/=(.*)/s).slice(0, 2)));
const { readFileSync, writeFileSync } = require("node:fs");
`;
/** Listens where it is told to, and keeps what it is asked in a file. */
const ETCD = `#!${process.execPath}
${FLAGS}
require("node:http").createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  if (request.url.includes("compaction")) writeFileSync(__dirname + "/compaction", body);
  response.end(JSON.stringify({ header: { revision: "42" } }));
}).listen(new URL(flags["listen-client-urls"]).port, "127.0.0.1");
writeFileSync(__dirname + "/etcd.pid", String(process.pid));
`;
/** TLS as the flags say, and the users of the token file. Ready at the third request. */
const APISERVER = `#!${process.execPath}
${FLAGS}
for (const file of ["client-ca-file", "service-account-key-file", "service-account-signing-key-file"]) readFileSync(flags[file]);
const users = new Map(readFileSync(flags["token-auth-file"], "utf8").trim().split("\\n").map((line) => line.split(",").slice(0, 2)));
let asked = 0;
require("node:https").createServer({ key: readFileSync(flags["tls-private-key-file"]), cert: readFileSync(flags["tls-cert-file"]) }, (request, response) => {
  const user = users.get((request.headers.authorization ?? "").replace("Bearer ", ""));
  response.statusCode = user === undefined ? 401 : ++asked < 3 ? 500 : 200;
  response.end(JSON.stringify({ user, etcd: flags["etcd-servers"], ranges: flags["service-cluster-ip-range"] }));
}).listen(Number(flags["secure-port"]), flags["bind-address"]);
writeFileSync(__dirname + "/kube-apiserver.pid", String(process.pid));
`;

let assets: string;
const program = (name: string, text: string): void =>
  writeFileSync(`${assets}/${name}`, text, { mode: 0o755 });
const runs = (name: string): boolean => existsSync(`/proc/${readFileSync(`${assets}/${name}.pid`, "utf8")}`);

beforeEach(() => {
  assets = mkdtempSync(`${tmpdir()}/portolan-assets-`);
  program("etcd", ETCD);
  program("kube-apiserver", APISERVER);
});
afterEach(() => rmSync(assets, { recursive: true, force: true }));

test("a real API server is waited for, known by its own authority, and gone afterwards", async () => {
  const api = await RealApi.start(assets);
  const answer = await api.admin.json<{ user: string; etcd: string; ranges: string }>("GET", "/readyz");
  assert.equal(answer.user, "admin");
  assert.match(answer.etcd, /^http:\/\/127\.0\.0\.1:\d+$/);
  assert.equal(answer.ranges, "10.96.0.0/12,fd00:10:96::/112");
  assert.equal(api.hasControllers, false);
  const kubeconfig = readFileSync(api.kubeconfig("https://127.0.0.1:6443"), "utf8");
  const [, tokenFile = ""] = /tokenFile: (.*)/.exec(kubeconfig) ?? [];
  assert.equal(readFileSync(tokenFile, "utf8"), "kube-proxy-token");
  await api.compact();
  assert.deepEqual(JSON.parse(readFileSync(`${assets}/compaction`, "utf8")), { revision: "42" });
  assert.ok(runs("etcd") && runs("kube-apiserver"));
  await api.close();
  assert.ok(!runs("etcd") && !runs("kube-apiserver"));
  assert.ok(!existsSync(api.directory));
});

test("a program that does not start is named, with the end of its log, and the others are ended", async () => {
  program("kube-apiserver", "#!/bin/sh\necho unknown flag: --etcd-servers >&2\nexit 7\n");
  await assert.rejects(
    RealApi.start(assets),
    /kube-apiserver ended \(status 7\)\nunknown flag: --etcd-servers/,
  );
  assert.ok(!runs("etcd"));
});

test("KUBEBUILDER_ASSETS adds the real server, and is an error when the programs are not there", () => {
  assert.deepEqual(
    [undefined, "", assets].map((value) => backends(value ?? "").map(({ name }) => name)),
    [["the fixture"], ["the fixture"], ["the fixture", "kube-apiserver"]],
  );
  rmSync(`${assets}/etcd`);
  assert.throws(() => backends(assets), /holds no etcd/);
});
