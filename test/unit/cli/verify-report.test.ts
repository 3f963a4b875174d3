// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { printReport } from "../../../src/cli/commands/verify/report.js";
import { type OutputFormat, Printer } from "../../../src/cli/output.js";
import type { RepairReport } from "../../../src/daemon/verify/repair.js";
import { compareImages, type VerifyReport, verifyReadings } from "../../../src/daemon/verify/verify.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { Image } from "../../../src/image/types.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { bigPort, imageOf } from "../../support/big-image.js";
import { corrupt } from "../../support/corrupt-maps.js";
import { checkSchema } from "../../support/json-schema.js";
import { Terminal } from "./terminal.js";

const IMAGE: Image = imageOf([bigPort(0, 2), bigPort(1, 0)]);

/** One backend is another's, an address is gone, and somebody's name takes room. */
async function broken(): Promise<MemoryKernel> {
  const kernel = new MemoryKernel({ maxEntries: { backends4: 12, slots4: 60, addresses4: 20 } });
  await new Reconciler({ kernel }).sync(IMAGE);
  await corrupt(kernel, "backends4", "alter");
  await corrupt(kernel, "addresses4", "delete");
  await corrupt(kernel, "services", "add");
  return kernel;
}

async function report(): Promise<VerifyReport> {
  return await verifyReadings(await broken(), "manifests", IMAGE);
}

function printed(found: VerifyReport, format: OutputFormat, repaired: RepairReport | null = null): string[] {
  const [out, err] = [new Terminal(false), new Terminal(false)];
  printReport(found, repaired, new Printer(format, out.stream, err.stream));
  return [out.text, err.text];
}

test("verify prints a line for each check, and a table of what is not as it should be", async () => {
  const [text, notes] = printed(await report(), "table");
  assert.equal(text, GOLDEN_TABLE);
  assert.equal(notes, "");
});

test("verify -o json has every finding with what was found and what was wanted, by member", async () => {
  const [text] = printed(await report(), "json");
  const json = JSON.parse(text ?? "") as Record<string, unknown>;
  assert.deepEqual(Object.keys(json), ["ok", "against", "checks", "findings", "capacity", "repaired"]);
  assert.deepEqual([json.ok, json.against, json.repaired], [false, "manifests", null]);
  assert.deepEqual(json.findings, GOLDEN_FINDINGS);
  checkSchema("verify", json);
});

test("verify says what --repair did, and on stderr what it could not", async () => {
  const right = await verifyReadings(await repairedKernel(), "manifests", IMAGE);
  const repaired: RepairReport = {
    by: "verify",
    entries: 7,
    interfaces: 1,
    sockets: 0,
    pins: 2,
    failures: ["programs: no such device"],
  };
  const [text, notes] = printed(right, "table", repaired);
  assert.match(text ?? "", /^repaired: 7 map entries, 1 interfaces, 0 socket hooks, 2 pins\nok {4}maps/);
  assert.equal(notes, "not repaired: programs: no such device\n");
});

async function repairedKernel(): Promise<MemoryKernel> {
  const kernel = await broken();
  await new Reconciler({ kernel }).sync(IMAGE);
  return kernel;
}

test("verify warns of maps that are 80 and 95 % full, and calls neither a failure", async () => {
  const kernel = new MemoryKernel({ maxEntries: { services: 2, frontends4: 2 } });
  await new Reconciler({ kernel }).sync(IMAGE);
  const { findings, checks, capacity } = await verifyReadings(kernel, "manifests", IMAGE);
  assert.deepEqual(
    findings.map(({ severity, where, entry }) => `${severity} ${where} ${entry}`),
    ["warn services 100 %", "warn frontends4 100 %"],
  );
  assert.equal(checks.find(({ name }) => name === "capacity")?.status, "warn");
  assert.deepEqual(capacity[0], { map: "services", used: 2, size: 2 });
});

test("compareImages() tells the service ports that source and agent do not have alike", () => {
  const [first, second] = [bigPort(0, 2), bigPort(1, 1)];
  const other = { ...first, affinitySeconds: 7 };
  assert.deepEqual(compareImages(imageOf([first, second]), imageOf([first, second])), []);
  assert.deepEqual(
    compareImages(imageOf([first, second]), imageOf([other])).map(({ kind, owner, found, wanted }) => [
      kind,
      owner,
      found,
      wanted,
    ]),
    [
      ["different", first.key, { affinitySeconds: "7" }, { affinitySeconds: String(first.affinitySeconds) }],
      ["missing", second.key, null, null],
    ],
  );
});

const GOLDEN_TABLE = `fail  maps      5 differences
ok    capacity  every map has room

CHECK   FINDING     SERVICE PORT                 WHERE        ENTRY               FOUND                                                               WANTED
maps    missing     default/service-0:http/TCP   addresses4   10.0.0.0:8080/TCP   -                                                                   classes: backend's port
maps    extra       default/service-0:http/TCP   backends4    cell 1              backend: 10.0.0.0:8081; state: live; where: elsewhere; sets: none   -
maps    missing     default/service-0:http/TCP   backends4    cell 3              -                                                                   backend: 10.0.0.0:8080; state: live; where: elsewhere; sets: none
maps    different   default/service-0:http/TCP   frontends4   11.0.0.0:80/TCP     backends: 10.0.0.0:8081 10.0.0.1:8080                               backends: 10.0.0.0:8080 10.0.0.1:8080
maps    extra       default/service-0:http/TCP   services     index 1869          name: default/service-0:http/TCP                                    -
`;

const GOLDEN_FINDINGS: readonly object[] = [
  {
    severity: "fail",
    owner: "default/service-0:http/TCP",
    found: null,
    wanted: {
      classes: "backend's port",
    },
    fix: null,
    check: "maps",
    kind: "missing",
    where: "addresses4",
    entry: "10.0.0.0:8080/TCP",
  },
  {
    severity: "fail",
    owner: "default/service-0:http/TCP",
    found: {
      backend: "10.0.0.0:8081",
      state: "live",
      where: "elsewhere",
      sets: "none",
    },
    wanted: null,
    fix: null,
    check: "maps",
    kind: "extra",
    where: "backends4",
    entry: "cell 1",
  },
  {
    severity: "fail",
    owner: "default/service-0:http/TCP",
    found: null,
    wanted: {
      backend: "10.0.0.0:8080",
      state: "live",
      where: "elsewhere",
      sets: "none",
    },
    fix: null,
    check: "maps",
    kind: "missing",
    where: "backends4",
    entry: "cell 3",
  },
  {
    severity: "fail",
    owner: "default/service-0:http/TCP",
    found: {
      backends: "10.0.0.0:8081 10.0.0.1:8080",
    },
    wanted: {
      backends: "10.0.0.0:8080 10.0.0.1:8080",
    },
    fix: null,
    check: "maps",
    kind: "different",
    where: "frontends4",
    entry: "11.0.0.0:80/TCP",
  },
  {
    severity: "fail",
    owner: "default/service-0:http/TCP",
    found: {
      name: "default/service-0:http/TCP",
    },
    wanted: null,
    fix: null,
    check: "maps",
    kind: "extra",
    where: "services",
    entry: "index 1869",
  },
];
