// SPDX-License-Identifier: Apache-2.0
// The image without an engine: the Dockerfile is read, and its last stage is rehearsed in a directory and run from there.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { copiesOf, linksOf, packagesOf, readStages } from "./support/dockerfile.js";
import { binariesOf, lastStage, librariesOf, ROOT, rehearse } from "./support/rehearsal.js";

const TEXT = readFileSync(join(ROOT, "Dockerfile"), "utf8");
const BUNDLE = join(ROOT, "build/bundle");
/** In every Debian, however small. */
const ESSENTIAL = ["libc6", "libgcc-s1"];

let image: string;
before(() => {
  execFileSync("make", ["-s", "bundle"], { cwd: ROOT, stdio: "inherit" });
  image = mkdtempSync(join(tmpdir(), "portolan-image-"));
  rehearse(image);
});
after(() => rmSync(image, { recursive: true, force: true }));

const instruction = (wanted: string): readonly string[] =>
  lastStage()
    .instructions.filter(({ word }) => word === wanted)
    .map(({ rest }) => rest);

test("the Dockerfile builds in one stage and ships in another, both Debian bookworm with fixed names", () => {
  const stages = readStages(TEXT);
  assert.deepEqual(
    stages.map(({ name }) => name),
    ["build", null],
  );
  for (const { image: from } of stages) assert.match(from, /^[a-z]+:[\w.-]*bookworm/);
  assert.match(stages[1]?.image ?? "", /slim$/);
});

test("the build stage copies only what is in the repository, and .dockerignore lets just that through", () => {
  const sources = copiesOf(readStages(TEXT)[0] as ReturnType<typeof lastStage>).flatMap(
    ({ sources }) => sources,
  );
  for (const source of sources) assert.ok(existsSync(join(ROOT, source)), source);
  const ignore = readFileSync(join(ROOT, ".dockerignore"), "utf8").split("\n");
  assert.equal(
    ignore.find((line) => !line.startsWith("#")),
    "*",
    "everything is left out at first",
  );
  const allowed = ignore.filter((line) => line.startsWith("!")).map((line) => line.slice(1));
  assert.deepEqual(allowed.sort(), [...sources].sort());
});

test("what the build stage copies is enough for `make bundle`", () => {
  const directory = mkdtempSync(join(ROOT, "build/rehearsal-"));
  try {
    for (const { sources, target } of copiesOf(readStages(TEXT)[0] as ReturnType<typeof lastStage>))
      for (const source of sources)
        cpSync(join(ROOT, source), join(directory, target, target === "./" ? source : ""), {
          recursive: true,
        });
    // In the place of `npm ci`, which must not run here. Links to files, not to the directory: whatever happens there, ours stays.
    execFileSync("cp", ["-al", join(ROOT, "node_modules"), join(directory, "node_modules")]);
    const { status, stderr } = spawnSync("make", ["-o", "node_modules/.package-lock.json", "bundle"], {
      cwd: directory,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    const files = (path: string): string[] =>
      readdirSync(path, { recursive: true, encoding: "utf8" }).filter((file) => !file.includes("chunks/"));
    assert.deepEqual(files(join(directory, "build/bundle")).sort(), files(BUNDLE).sort());
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("the last stage takes from the build Node.js and the bundle, and nothing else", () => {
  assert.deepEqual(
    copiesOf(lastStage()).map(({ from, sources, target }) => [from, ...sources, target]),
    [
      ["build", "/usr/local/bin/node", "/usr/local/bin/node"],
      ["build", "/src/build/bundle", "/opt/portolan"],
    ],
  );
  assert.deepEqual(instruction("USER"), ["0:0"]);
  assert.deepEqual(JSON.parse(instruction("ENTRYPOINT")[0] as string), ["/usr/local/bin/portolan"]);
  assert.deepEqual(
    linksOf(lastStage()).map(({ link }) => link),
    ["/usr/local/bin/portolan", "/usr/local/bin/kube-proxy"],
  );
});

test("the image holds no secrets and no tools to build with", () => {
  assert.doesNotMatch(TEXT, /\b(ARG|ADD)\b|password|token|secret|--mount=type=secret/i);
  const wrong = /(^|\/)(\.npmrc|\.git|\.env|.*\.(pem|key|ts|map|c|h|md))$|(^|\/)(test|src\/native)\//;
  const files = readdirSync(join(image, "opt/portolan"), { recursive: true, encoding: "utf8" });
  assert.deepEqual(
    files.filter((file) => wrong.test(file) && !/license/i.test(file)),
    [],
  );
  assert.ok(packagesOf(lastStage()).every((name) => !/clang|llvm|gcc|-dev$|make|npm/.test(name)));
});

test("each library of Node.js and of the bundle comes with a package that the last stage installs", () => {
  const packages = packagesOf(lastStage());
  const libraries = [process.execPath, ...binariesOf(BUNDLE)].flatMap((file) => librariesOf(file));
  for (const library of new Set(libraries)) {
    // dpkg knows files by the names that they had before /lib became a link.
    const owner = [library, library.replace(/^\/usr/, ""), `/usr${library}`]
      .map((path) => spawnSync("dpkg", ["-S", path], { encoding: "utf8" }).stdout.split(":")[0])
      .find((name) => name !== "");
    assert.ok([...packages, ...ESSENTIAL].includes(owner as string), `${library} is of ${owner}`);
  }
});

for (const name of ["portolan", "kube-proxy"]) {
  test(`the rehearsed image answers ${name} --version, from a root of its own`, (t) => {
    if (process.getuid?.() !== 0) return t.skip("NOT RUN: chroot needs root");
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
    const { stdout, stderr, status } = spawnSync("chroot", [image, `/usr/local/bin/${name}`, "--version"], {
      encoding: "utf8",
      env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    assert.equal(status, 0, stderr);
    assert.equal(stdout.trim(), name === "portolan" ? version : `Portolan ${version}`);
  });
}
