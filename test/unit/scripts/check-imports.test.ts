// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { checkImports, RULES } from "../../../scripts/check-imports.js";

const check = (files: Record<string, string>): string[] => checkImports(new Map(Object.entries(files)));

/** One file with one import, beside the files that it may name. */
const one = (file: string, statement: string): string[] =>
  check({
    "util/errors.ts": "",
    "net/ip.ts": "",
    "model/types.ts": "",
    "dataplane/loader.ts": "",
    "source/file.ts": "",
    "cli/output.ts": "",
    "cli/live.ts": "",
    [file]: statement,
  });

describe("checkImports()", () => {
  const refused: readonly [string, string, string, RegExp][] = [
    [
      "an upward import",
      "model/a.ts",
      'import { load } from "../dataplane/loader.js";',
      /model may not import src\/dataplane/,
    ],
    [
      "an upward import of types",
      "model/a.ts",
      'import type { L } from "../dataplane/loader.js";',
      /model may not import/,
    ],
    [
      "an upward re-export",
      "image/a.ts",
      'export { read } from "../source/file.js";',
      /image may not import src\/source/,
    ],
    [
      "source importing dataplane",
      "source/a.ts",
      'import { l } from "../dataplane/loader.js";',
      /source may not import/,
    ],
    ["util importing net", "util/a.ts", 'import { ip } from "../net/ip.js";', /util may not import src\/net/],
    [
      "I/O in model",
      "model/a.ts",
      'import { readFileSync } from "node:fs";',
      /model does no I\/O .* node:fs/,
    ],
    [
      "a socket in net",
      "net/a.ts",
      'import { connect, isIP } from "node:net";',
      /net does no I\/O .* node:net/,
    ],
    ["all of node:net in net", "net/a.ts", 'import * as net from "node:net";', /net does no I\/O/],
    [
      "a package in image",
      "image/a.ts",
      'import { parse } from "yaml";',
      /image may not import the package "yaml"/,
    ],
    [
      "FFI outside src/native",
      "dataplane/a.ts",
      'import ffi from "ffi-napi";',
      /may not import the package "ffi-napi"/,
    ],
    [
      "FFI by require",
      "cli/a.ts",
      'const ffi = require("ffi-napi");',
      /may not import the package "ffi-napi"/,
    ],
    ["a Node module without node:", "model/a.ts", 'import { readFile } from "fs/promises";', /package "fs"/],
    [
      "a scoped package",
      "dataplane/a.ts",
      'import { K } from "@kubernetes/client-node/x";',
      /package "@kubernetes\/client-node"/,
    ],
    [
      "a lazy package at start",
      "source/a.ts",
      'import { K } from "@kubernetes/client-node";',
      /"@kubernetes\/client-node" only as types or with import\(\)/,
    ],
    [
      "a lazy directory at start",
      "cli/a.ts",
      'import { f } from "../source/file.js";',
      /only as types or with import\(\)/,
    ],
    [
      "demo importing more of cli",
      "demo/a.ts",
      'import { live } from "../cli/live.js";',
      /demo may not import src\/cli/,
    ],
    ["a side-effect import", "net/a.ts", 'import "node:child_process";', /net does no I\/O/],
    [
      "a missing file",
      "net/a.ts",
      'import { x } from "./nowhere.js";',
      /src\/net\/nowhere\.ts does not exist/,
    ],
    [
      "a missing .js ending",
      "model/a.ts",
      'import { ip } from "../net/ip";',
      /does not exist \(imports end in \.js\)/,
    ],
    ["an unknown directory", "misc/a.ts", "", /src\/misc is not in the table/],
  ];
  for (const [what, file, statement, message] of refused) {
    it(`refuses ${what}`, () => {
      const problems = one(file, statement);
      assert.equal(problems.length, 1, problems.join("\n"));
      assert.match(problems[0] ?? "", message);
    });
  }

  const accepted: readonly [string, string, string][] = [
    ["a downward import", "dataplane/a.ts", 'import type { T } from "../model/types.js";'],
    [
      "util and net from everywhere",
      "cli/a.ts",
      'import "../util/errors.js";\nimport { ip } from "../net/ip.js";',
    ],
    ["isIP in net", "net/a.ts", 'import { isIP, isIPv6 } from "node:net";'],
    ["FFI in src/native", "native/a.ts", 'import ffi from "ffi-napi";'],
    ["a lazy directory through import()", "cli/a.ts", 'const { f } = await import("../source/file.js");'],
    ["a lazy directory as types", "cli/a.ts", 'import type { F } from "../source/file.js";'],
    [
      "a lazy package through import()",
      "source/a.ts",
      'const { K } = await import("@kubernetes/client-node");',
    ],
    ["a lazy package as types", "source/a.ts", 'import type { K } from "@kubernetes/client-node";'],
    ["cli/output in demo", "demo/a.ts", 'import { table } from "../cli/output.js";'],
    [
      "an import in a comment",
      "model/a.ts",
      ' * import { f } from "../source/file.js";\n// import "node:fs";',
    ],
  ];
  for (const [what, file, statement] of accepted) {
    it(`accepts ${what}`, () => assert.deepEqual(one(file, statement), []));
  }

  it("names the line on which a statement of several lines begins", () => {
    const problems = one(
      "model/a.ts",
      '// first\n\nimport {\n  load,\n  close,\n} from "../dataplane/loader.js";\n',
    );
    assert.match(problems[0] ?? "", /^src\/model\/a\.ts:3: .*: import \{ load, close, \} from/);
  });

  it("reports a cycle of files once, with its path", () => {
    const problems = check({
      "net/a.ts": 'import { b } from "./b.js";',
      "net/b.ts": 'import { c } from "./c.js";',
      "net/c.ts": 'import { a } from "./a.js";',
    });
    assert.deepEqual(problems, [
      "src/net/a.ts:1: a cycle of imports: net/a.ts -> net/b.ts -> net/c.ts -> net/a.ts",
    ]);
  });

  it("accepts a cycle that is of types only, since nothing of it is left at run time", () => {
    assert.deepEqual(
      check({ "net/a.ts": 'import type { B } from "./b.js";', "net/b.ts": 'import { a } from "./a.js";' }),
      [],
    );
  });
});

describe("the table of import rules", () => {
  it("has no cycle between directories that are loaded at start", () => {
    const files = new Map<string, string>();
    for (const [module, rule] of Object.entries(RULES)) {
      const lines = rule.modules.map(
        (other) => `import "../${other}${other.includes("/") ? "" : "/all"}.js";`,
      );
      files.set(`${module || "root"}/all.ts`, module === "" ? "" : lines.join("\n"));
    }
    const problems = checkImports(files).filter((problem) => problem.includes("cycle"));
    assert.deepEqual(problems, []);
  });

  it("lets nothing but src/native import ffi-napi and ref-napi", () => {
    const allowed = Object.entries(RULES).filter(([, rule]) =>
      rule.packages?.some((name) => /^(ffi|ref)-napi$/.test(name)),
    );
    assert.deepEqual(
      allowed.map(([module]) => module),
      ["native"],
    );
  });
});
