// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
const scripts = new Map<string, string>();

before(() => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ["--import", "tsx", MAIN, "completion", shell],
      { encoding: "utf8" },
    );
    assert.equal(status, 0, stderr);
    scripts.set(shell, stdout);
  }
});

const has = (shell: string): boolean => spawnSync(shell, ["-c", "exit 0"]).status === 0;

/** What a shell offers for the last of the words, sorted. */
type Completer = (words: readonly string[]) => readonly string[];

function lines(program: string, args: readonly string[]): string[] {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, "");
  return stdout.split("\n").filter(Boolean).sort();
}

const COMPLETERS: Record<string, Completer> = {
  // As readline calls it. The words come as arguments, so that nothing of them is read as code.
  bash: (words) => {
    const ask = `${scripts.get("bash")}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
[[ $(complete -p portolan) == "complete -F _portolan portolan" ]] || exit 9
_portolan portolan "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD - 1]}"
((\${#COMPREPLY[@]})) && printf '%s\\n' "\${COMPREPLY[@]}"
exit 0`;
    return lines("bash", ["--norc", "--noprofile", "-c", ask, "bash", "portolan", ...words]);
  },
  fish: (words) => {
    const line = ["portolan", ...words].join(" ");
    const ask = `${scripts.get("fish")}\ncomplete -C ${JSON.stringify(line)}`;
    return lines("fish", ["--no-config", "-c", ask])
      .map((each) => each.split("\t")[0] as string)
      .sort();
  },
};

/** zsh completes at a terminal only: what it would be told is printed instead, by functions in the place of its own. */
const ZSH_STUBS = `
compdef() { :; }
compset() { PREFIX="\${PREFIX#*=}"; }
compadd() { shift; offered=("$@"); }
_files() { offered=($PREFIX*(N)); }
_describe() { local name="$argv[-1]"; offered=(\${\${(P)name}%%:*}); }
`;

COMPLETERS.zsh = (words) => {
  const ask = `setopt extendedglob\n${ZSH_STUBS}${scripts.get("zsh")}
typeset -a offered; words=("$@"); CURRENT=$#; PREFIX="$words[-1]"
_portolan
for each in $offered; do [[ $each == \${(b)PREFIX}* ]] && print -r -- "$each"; done
exit 0`;
  return lines("zsh", ["-f", "-c", ask, "zsh", "portolan", ...words]);
};

const CASES: readonly (readonly [words: readonly string[], offered: readonly string[]])[] = [
  [["se"], ["services"]],
  [["ma"], ["maps"]],
  [["maps", "du"], ["dump"]],
  [
    ["maps", "dump", "nat"],
    ["nat4", "nat6"],
  ],
  [["services", "-o", "w"], ["wide"]],
  [
    ["services", "--output", ""],
    ["json", "name", "table", "wide", "yaml"],
  ],
  [["services", "--nam"], ["--namespace"]],
  [["services", "--from", "/etc/hostna"], ["/etc/hostname"]],
  [
    ["flows", "--state", "clos"],
    ["closed", "closing"],
  ],
  // The value of an option is no command.
  [["maps", "--bpf-root", "dump", "-o", "n"], ["name"]],
  [
    ["completion", ""],
    ["bash", "fish", "zsh"],
  ],
];

for (const [shell, complete] of Object.entries(COMPLETERS)) {
  for (const [words, offered] of CASES) {
    const skip = has(shell) ? false : `no ${shell} here`;
    test(`${shell} completes "portolan ${words.join(" ")}"`, { skip }, () => {
      assert.deepEqual(complete(words), offered);
    });
  }
}

test("bash completes the value of --output=, which it takes for three words", () => {
  const complete = COMPLETERS.bash as Completer;
  assert.deepEqual(complete(["services", "--output", "=", "j"]), ["json"]);
  assert.deepEqual(complete(["services", "--output", "="]), ["json", "name", "table", "wide", "yaml"]);
});

test("bash offers every command, and none that is hidden", () => {
  const complete = COMPLETERS.bash as Completer;
  const offered = complete([""]);
  for (const name of ["agent", "services", "dump", "completion"]) assert.ok(offered.includes(name), name);
  assert.ok(!offered.includes("command-tree"));
});

test("bash offers nothing for a value that can be anything", () => {
  assert.deepEqual((COMPLETERS.bash as Completer)(["services", "-n", ""]), []);
});
