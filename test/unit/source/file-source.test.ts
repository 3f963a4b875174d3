// SPDX-License-Identifier: Apache-2.0
// Real files, really changed; every wait is for a Snapshot or for a problem.
import assert from "node:assert/strict";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import type { Problem, Snapshot } from "../../../src/model/types.js";
import { FileSource } from "../../../src/source/file/file-source.js";
import { systemClock } from "../../../src/util/clock.js";
import { silentLogger } from "../../../src/util/log.js";
import { leastOf, undisturbed } from "../../support/awake.js";

const root = mkdtempSync(join(tmpdir(), "portolan-source-"));
const open = new Set<FileSource>();
let count = 0;

after(async () => {
  for (const source of open) await source.close();
  rmSync(root, { recursive: true, force: true });
});

function directory(): string {
  count += 1;
  const path = join(root, String(count));
  mkdirSync(path);
  return path;
}

const service = (name: string, ip: string, rest = ""): string =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec: {clusterIP: ${ip}, ports: [{port: 80}]${rest}}\n`;

/** Only so that a test which waits in vain says for what. */
const PATIENCE_MS = 180_000;

interface Watched {
  readonly source: FileSource;
  readonly seen: Snapshot[];
  /** Resolves when what is in force satisfies the condition; rejects when that takes three minutes. */
  until(
    what: string,
    condition: (snapshot: Snapshot, problems: readonly Problem[]) => boolean,
  ): Promise<Snapshot>;
}

async function watch(path: string): Promise<Watched> {
  const source = new FileSource(
    { paths: [path], nodeName: "node-a" },
    { logger: silentLogger, clock: systemClock },
  );
  open.add(source);
  const seen: Snapshot[] = [];
  source.on((snapshot) => seen.push(snapshot));
  await source.start();
  const until: Watched["until"] = (what, condition) =>
    new Promise((resolve, reject) => {
      const check = (): boolean => {
        const { snapshot, problems } = source;
        if (snapshot === null || !condition(snapshot, problems)) return false;
        clearTimeout(timer);
        stop();
        resolve(snapshot);
        return true;
      };
      const stop = source.on(check);
      const timer = setTimeout(() => {
        stop();
        const held = Array.from(source.snapshot?.services.keys() ?? []);
        reject(
          new Error(
            `not ${what} in ${PATIENCE_MS} ms; services ${held}, problems ${JSON.stringify(source.problems)}`,
          ),
        );
      }, PATIENCE_MS);
      check();
    });
  return { source, seen, until };
}

const has =
  (name: string) =>
  (snapshot: Snapshot): boolean =>
    snapshot.services.has(`default/${name}`);
const ipOf = (snapshot: Snapshot, name: string): string | undefined =>
  snapshot.services.get(`default/${name}`)?.clusterIPs[0]?.text;
const hasIp =
  (name: string, text: string) =>
  (snapshot: Snapshot): boolean =>
    ipOf(snapshot, name) === text;

test("FileSource emits its first Snapshot before start() resolves", async () => {
  const path = directory();
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  const { source, seen } = await watch(path);
  assert.equal(seen.length, 1);
  assert.equal(source.snapshot, seen[0]);
  assert.deepEqual(source.problems, []);
});

test("FileSource throws a UserError at the start for a path that does not exist", async () => {
  const options = { paths: [join(root, "nothing")], nodeName: "" };
  const source = new FileSource(options, { logger: silentLogger, clock: systemClock });
  await assert.rejects(source.start(), { code: "E_USER", message: /nothing does not exist/ });
  await source.close();
});

test("FileSource sees a file that is rewritten, added, renamed in and removed", async () => {
  const path = directory();
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  const { until } = await watch(path);
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.2"));
  await until("rewritten", hasIp("a", "10.96.0.2"));
  writeFileSync(join(path, "b.yml"), service("b", "10.96.0.3"));
  await until("added", has("b"));
  writeFileSync(join(path, ".c.tmp"), service("a", "10.96.0.4"));
  renameSync(join(path, ".c.tmp"), join(path, "a.yaml"));
  await until("renamed in", hasIp("a", "10.96.0.4"));
  unlinkSync(join(path, "b.yml"));
  await until("removed", (snapshot) => !has("b")(snapshot));
});

test("FileSource sees a change well under a second", async () => {
  const path = directory();
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  const { until } = await watch(path);
  let last = 0;
  const medianOfTen = async (): Promise<number> => {
    const times: number[] = [];
    for (let i = 0; i < 10; i += 1) {
      const began = performance.now();
      last += 1;
      writeFileSync(join(path, "a.yaml"), service("a", `10.96.1.${last}`));
      await until("changed", hasIp("a", `10.96.1.${last}`));
      times.push(performance.now() - began);
    }
    return times.sort((a, b) => a - b)[5] as number;
  };
  const medians = await leastOf(500, medianOfTen);
  assert.ok(Math.min(...medians) < 500, `medians of ten: ${medians} ms`);
});

test("FileSource keeps what did not change, by identity, also when lines move", async () => {
  const path = directory();
  const slice = `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: b-1, labels: {kubernetes.io/service-name: b}}\naddressType: IPv4\nendpoints: [{addresses: [10.244.0.1]}]\n`;
  const rest = `---\n${service("b", "10.96.0.9")}---\n${slice}`;
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1") + rest);
  writeFileSync(join(path, "z.yaml"), service("z", "10.96.0.8"));
  const { source, until } = await watch(path);
  const before = source.snapshot;
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.2") + rest);
  const second = await until("changed", hasIp("a", "10.96.0.2"));
  for (const name of ["b", "z"]) {
    assert.equal(second.services.get(`default/${name}`), before?.services.get(`default/${name}`), name);
  }
  assert.equal(second.slices.get("default/b"), before?.slices.get("default/b"));
  writeFileSync(join(path, "a.yaml"), `# moved\n${service("a", "10.96.0.3")}${rest}`);
  const third = await until("changed", hasIp("a", "10.96.0.3"));
  assert.deepEqual(third.services.get("default/b")?.origin.line, 7);
  assert.equal(third.services.get("default/z"), before?.services.get("default/z"));
});

test("FileSource keeps the unchanged items of a long List, by identity, in JSON and YAML", async () => {
  const items = (changed: string): object[] =>
    Array.from({ length: 400 }, (_, i) => ({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: `s-${i}`, ...(i === 7 ? { annotations: { note: changed } } : {}) },
      spec: { clusterIP: i === 7 ? changed : `10.97.${i >> 8}.${i & 255}`, ports: [{ port: 80 }] },
    }));
  const json = (changed: string): string =>
    JSON.stringify({ apiVersion: "v1", kind: "List", items: items(changed) }, null, 2);
  const yaml = (changed: string): string =>
    `apiVersion: v1\nkind: List\nitems:\n${items(changed)
      .map((item) => `- ${JSON.stringify(item)}\n`)
      .join("")}`;
  for (const [name, text] of [
    ["a.json", json],
    ["a.yaml", yaml],
  ] as const) {
    const path = directory();
    writeFileSync(join(path, name), text("10.98.0.1"));
    const { source, until } = await watch(path);
    const before = source.snapshot;
    writeFileSync(join(path, name), text("10.98.0.2"));
    const changed = await until("changed", hasIp("s-7", "10.98.0.2"));
    assert.equal(changed.services.size, 400);
    for (const [key, one] of changed.services) {
      assert.equal(one === before?.services.get(key), key !== "default/s-7", `${name} ${key}`);
    }
  }
});

test("FileSource says nothing when a file is touched and nothing is different", async () => {
  const path = directory();
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  const { seen, until } = await watch(path);
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  writeFileSync(join(path, "readme.txt"), "x");
  writeFileSync(join(path, "b.yaml"), service("b", "10.96.0.2"));
  await until("b there", has("b"));
  assert.ok(seen.length <= 3, `${seen.length} snapshots`);
  assert.equal(seen.at(-1)?.services.get("default/a"), seen[0]?.services.get("default/a"));
});

test("FileSource keeps the last good state of a broken file, says so, and takes the mended one", async () => {
  const path = directory();
  const file = join(path, "a.yaml");
  writeFileSync(file, service("a", "10.96.0.1"));
  writeFileSync(join(path, "b.yaml"), service("b", "10.96.0.2"));
  const { source, until } = await watch(path);
  writeFileSync(file, `${service("a", "10.96.0.7")}---\nkind: [Service\n`);
  await until("told", (_, problems) => problems.some((problem) => problem.severity === "error"));
  assert.equal(ipOf(source.snapshot as Snapshot, "a"), "10.96.0.1");
  assert.deepEqual(
    source.problems.map(({ severity, origin, message }) => [
      severity,
      origin?.file,
      /YAML|last good/.exec(message)?.[0],
    ]),
    [
      ["error", file, "YAML"],
      ["warning", file, "last good"],
    ],
  );
  writeFileSync(join(path, "b.yaml"), service("b", "10.96.0.3"));
  await until("the other file goes on", hasIp("b", "10.96.0.3"));
  writeFileSync(file, service("a", "10.96.0.8"));
  await until("mended", (snapshot, problems) => hasIp("a", "10.96.0.8")(snapshot) && problems.length === 0);
});

test("FileSource keeps the last good version of an object that goes bad, and takes its neighbour's change", async () => {
  const path = directory();
  const file = join(path, "a.yaml");
  writeFileSync(file, `${service("a", "10.96.0.1")}---\n${service("b", "10.96.0.2")}`);
  const { source, until } = await watch(path);
  writeFileSync(file, `${service("a", "10.96.0.999")}---\n${service("b", "10.96.0.3")}`);
  const snapshot = await until("b changed", hasIp("b", "10.96.0.3"));
  assert.equal(ipOf(snapshot, "a"), "10.96.0.1");
  assert.deepEqual(
    source.problems.map((p) => [p.object, p.field]),
    [
      ["Service default/a", "spec.clusterIP"],
      ["Service default/a", ""],
    ],
  );
});

const inPieces = async (): Promise<void> => {
  const path = directory();
  const file = join(path, "a.yaml");
  const names = Array.from({ length: 40 }, (_, i) => `s-${i}`);
  const text = (third: number): string =>
    names.map((name, i) => service(name, `10.96.${third}.${i}`)).join("---\n");
  writeFileSync(file, text(1));
  const { seen, until } = await watch(path);
  const handle = openSync(file, "w");
  const content = text(2);
  for (let from = 0; from < content.length; from += 700) {
    writeSync(handle, content.slice(from, from + 700));
    // A slow editor: pieces further apart than the source waits for an ordinary change.
    if (from % 2800 === 0) await new Promise((resolve) => setTimeout(resolve, 40));
  }
  closeSync(handle);
  await until("all new", (snapshot) => names.every((name, i) => hasIp(name, `10.96.2.${i}`)(snapshot)));
  for (const snapshot of seen)
    assert.equal(snapshot.services.size, names.length, "no Service was ever missing");
};

// An editor that stands still for long in the midst of it has written half a file.
test("FileSource is not harmed by a file that is written in pieces over its old content", (t) =>
  undisturbed(t, inPieces));

const emptied = async (): Promise<void> => {
  const path = directory();
  const file = join(path, "a.yaml");
  writeFileSync(file, service("a", "10.96.0.1"));
  const { seen, until } = await watch(path);
  truncateSync(file, 0);
  writeFileSync(join(path, "b.yaml"), service("b", "10.96.0.2"));
  const both = await until("b there", has("b"));
  assert.ok(has("a")(both), "a is still there when b appears");
  await until("a gone", (snapshot) => !has("a")(snapshot));
  assert.ok(seen.length >= 3);
};

test("FileSource does not take an empty file for the truth at once, but in the end", (t) =>
  undisturbed(t, emptied));

test("FileSource follows the links of a ConfigMap volume when they are swapped", async () => {
  const path = directory();
  for (const [version, ip] of [
    ["..v1", "10.96.0.1"],
    ["..v2", "10.96.0.2"],
  ] as const) {
    mkdirSync(join(path, version));
    writeFileSync(join(path, version, "a.yaml"), service("a", ip));
  }
  symlinkSync("..v1", join(path, "..data"));
  symlinkSync("..data/a.yaml", join(path, "a.yaml"));
  const { source, seen, until } = await watch(path);
  assert.equal(ipOf(source.snapshot as Snapshot, "a"), "10.96.0.1");
  symlinkSync("..v2", join(path, "..data_tmp"));
  renameSync(join(path, "..data_tmp"), join(path, "..data"));
  rmSync(join(path, "..v1"), { recursive: true });
  await until("swapped", hasIp("a", "10.96.0.2"));
  for (const snapshot of seen) assert.ok(has("a")(snapshot), "it was never missing");
});

test("FileSource keeps everything when its directory goes, and follows the one that comes", async () => {
  const path = directory();
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  const { source, until } = await watch(path);
  renameSync(path, `${path}-away`);
  await until("told", (_, problems) => problems.some((problem) => /does not exist/.test(problem.message)));
  assert.ok(has("a")(source.snapshot as Snapshot));
  mkdirSync(path);
  writeFileSync(join(path, "b.yaml"), service("b", "10.96.0.2"));
  await until(
    "the new one",
    (snapshot, problems) => has("b")(snapshot) && !has("a")(snapshot) && problems.length === 0,
  );
});

test("FileSource watches a single file, also when it is replaced", async () => {
  const file = join(directory(), "only.yaml");
  writeFileSync(file, service("a", "10.96.0.1"));
  const { until } = await watch(file);
  writeFileSync(`${file}.new`, service("a", "10.96.0.2"));
  renameSync(`${file}.new`, file);
  await until("replaced", hasIp("a", "10.96.0.2"));
});

test("FileSource ignores hidden files and editors' leavings", async () => {
  const path = directory();
  for (const name of [
    ".a.yaml",
    "#a.yaml#",
    "#a.yaml",
    "a.yaml~",
    ".a.yaml.swp",
    "a.txt",
    "~a.yaml",
    "4913",
  ]) {
    writeFileSync(join(path, name), "[broken");
  }
  writeFileSync(join(path, "a.YAML"), service("a", "10.96.0.1"));
  const { source } = await watch(path);
  assert.deepEqual([source.snapshot?.services.size, source.problems.length], [1, 0]);
});

test("FileSource reads standard input once, beside a directory that goes on changing", async () => {
  const path = directory();
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  const stdin = Readable.from([service("s", "10.96.0.5")]);
  const source = new FileSource(
    { paths: ["-", `${path}/`], nodeName: "", stdin },
    { logger: silentLogger, clock: systemClock },
  );
  open.add(source);
  await source.start();
  const changed = new Promise<Snapshot>((resolve) => {
    source.on((snapshot) => {
      if (has("b")(snapshot)) resolve(snapshot);
    });
  });
  writeFileSync(join(path, "b.yaml"), service("b", "10.96.0.2"));
  assert.deepEqual(Array.from((await changed).services.keys()), ["default/s", "default/a", "default/b"]);
});

test("FileSource lets a Service go that gets another proxy's label, and has it back without it (1.2)", async () => {
  const path = directory();
  const file = join(path, "a.yaml");
  const both = `${service("a", "10.96.0.1")}---\n${service("b", "10.96.0.2")}`;
  writeFileSync(file, both);
  const { until } = await watch(path);
  writeFileSync(
    file,
    both.replace("{name: a}", '{name: a, labels: {service.kubernetes.io/service-proxy-name: ""}}'),
  );
  const without = await until("given away", (snapshot) => !has("a")(snapshot));
  assert.deepEqual(Array.from(without.services.keys()), ["default/b"]);
  writeFileSync(file, both);
  await until("ours again", has("a"));
});

test("FileSource stops with its signal while standard input does not end, and watches nothing then", async () => {
  const path = directory();
  const controller = new AbortController();
  let begin = (): void => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const stdin = new Readable({ read: () => begin() });
  const source = new FileSource(
    { paths: ["-", path], nodeName: "", stdin },
    { logger: silentLogger, clock: systemClock },
  );
  open.add(source);
  const started = source.start(controller.signal);
  await begun;
  controller.abort();
  await started;
  assert.deepEqual([source.snapshot, stdin.destroyed], [null, true]);
});

test("FileSource throws a UserError at the start for a path that is neither file nor directory", async () => {
  const source = new FileSource(
    { paths: ["/dev/null"], nodeName: "" },
    { logger: silentLogger, clock: systemClock },
  );
  await assert.rejects(source.start(), { code: "E_USER", message: /\/dev\/null is no regular file/ });
});

test("FileSource warns of a directory without a manifest, until there is one", async () => {
  const path = directory();
  const { source, until } = await watch(path);
  assert.deepEqual(
    source.problems.map(({ severity, origin }) => [severity, origin?.file]),
    [["warning", path]],
  );
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  await until("told", (snapshot, problems) => has("a")(snapshot) && problems.length === 0);
});

test("FileSource keeps what a half broken file holds when nothing of it can be read any more", async () => {
  const path = directory();
  const file = join(path, "a.yaml");
  writeFileSync(file, `${service("a", "10.96.0.1")}---\n[broken\n`);
  const { until } = await watch(path);
  writeFileSync(file, Buffer.concat([Buffer.from(service("b", "10.96.0.2")), Buffer.alloc(8)]));
  const kept = await until("told", (_, problems) =>
    problems.some(({ message }) => /last good state/.test(message)),
  );
  assert.deepEqual(Array.from(kept.services.keys()), ["default/a"]);
  writeFileSync(file, `${service("b", "10.96.0.2")}---\n[broken still\n`);
  await until("read again", (snapshot) => has("b")(snapshot) && !has("a")(snapshot));
});

test("FileSource stops with its signal, and close() may be called twice", async () => {
  const path = directory();
  writeFileSync(join(path, "a.yaml"), service("a", "10.96.0.1"));
  const controller = new AbortController();
  const source = new FileSource(
    { paths: [path], nodeName: "" },
    { logger: silentLogger, clock: systemClock },
  );
  let calls = 0;
  source.on(() => {
    calls += 1;
  });
  await source.start(controller.signal);
  controller.abort();
  await source.close();
  await source.close();
  assert.equal(calls, 1);
});

test("FileSource names the files that it lacks something of, until each has been good", async () => {
  const path = directory();
  const at = (name: string): string => join(path, name);
  writeFileSync(at("a.yaml"), service("a", "10.96.0.1"));
  writeFileSync(at("b.yaml"), "kind: Service\nmetadata: {name: b\n");
  writeFileSync(at("c.yaml"), service("c", "10.96.0.300"));
  symlinkSync(at("nowhere"), at("d.yaml"));
  const { source, until } = await watch(path);
  const lacking = (): string[] => source.lacking.map((file) => file.slice(path.length + 1));
  assert.deepEqual(lacking().sort(), ["b.yaml", "c.yaml", "d.yaml"]);
  writeFileSync(at("b.yaml"), service("b", "10.96.0.2"));
  await until("b mended", has("b"));
  unlinkSync(at("d.yaml"));
  await until("d removed", (_, problems) => !problems.some(({ origin }) => origin?.file === at("d.yaml")));
  assert.deepEqual(lacking(), ["c.yaml"]);
  writeFileSync(at("c.yaml"), service("c", "10.96.0.3"));
  await until("c mended", has("c"));
  assert.deepEqual(lacking(), []);
  // From here on there is a last good state of everything.
  writeFileSync(at("b.yaml"), "kind: Service\nmetadata: {name: b\n");
  writeFileSync(at("c.yaml"), service("c", "10.96.0.300"));
  await until("both broken", (_, problems) => new Set(problems.map(({ origin }) => origin?.file)).size === 2);
  assert.deepEqual(lacking(), []);
});
