// SPDX-License-Identifier: Apache-2.0
import type { Command } from "commander";
import { describe, integerOption, run } from "../../command.js";
import { LIST_FORMATS } from "../../output.js";
import type { DumpOptions } from "./dump.js";

function dumpCommand(): Command {
  return describe({
    name: "dump",
    summary: "the entries of one map, decoded",
    description: `Prints every entry of a pinned map, decoded by the layouts that the kernel programs were built with. Of arrays only the
cells in use are shown. With -o json each entry is one line of JSON; with --all a first line says whose maps they are and how
they are laid out, and a last one how many entries there were: \`portolan diff\` reads that back.`,
    examples: [
      { line: "portolan maps dump frontends4", does: "the IPv4 frontends, word by word" },
      { line: "portolan maps dump nat4 --limit 10", does: "the first ten" },
      { line: "portolan maps dump slots6 -o json", does: "one JSON object a line" },
      { line: "portolan maps dump --all -o json", does: "all maps; portolan diff reads it from a file" },
    ],
    reads: true,
  })
    .argument("[name]", "a map, as `portolan maps` lists them")
    .option("--all", "every map, each entry with the map's name")
    .option("--limit <n>", "at most so many entries of a map", integerOption(1, 1_000_000_000))
    .action(run<DumpOptions>(async () => (await import("./dump.js")).dumpMap));
}

export function mapsCommand(): Command {
  const command = describe({
    name: "maps",
    summary: "the pinned maps: type, entries used and possible, bytes",
    description: `Every map, how full it is, and the memory that its entries take when it is full. A map whose pin is missing is shown as that, and
the exit status is 1: the programs go on without it, but nothing else can read it.`,
    examples: [
      { line: "portolan maps", does: "all maps" },
      { line: "portolan maps dump services", does: "what is in one of them" },
      { line: "portolan maps -o json", does: "for programs" },
    ],
    formats: LIST_FORMATS,
    reads: true,
  });
  return command.action(run(async () => (await import("./handler.js")).maps)).addCommand(dumpCommand());
}
