// SPDX-License-Identifier: Apache-2.0
import type { OptionWords, Place } from "./words.js";

/** In single quotes for fish, where a backslash escapes. */
const fishQuoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;

function optionLine(path: string, { names, description, value }: OptionWords): string {
  const flags = names.map((name) => (name.startsWith("--") ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  const behind =
    value === null
      ? ""
      : value === "text"
        ? " -x"
        : value === "file"
          ? " -r -F"
          : ` -x -a ${fishQuoted(value.join(" "))}`;
  return `complete -c portolan -n ${fishQuoted(`__portolan_at ${path}`)} ${flags.join(" ")}${behind} -d ${fishQuoted(description)}`;
}

function linesOf({ path, commands, arguments: known, options }: Place): string[] {
  const at = fishQuoted(`__portolan_at ${path}`);
  return [
    ...commands.map(
      ({ text, description }) => `complete -c portolan -n ${at} -a ${text} -d ${fishQuoted(description)}`,
    ),
    ...(known.length > 0 ? [`complete -c portolan -n ${at} -a ${fishQuoted(known.join(" "))}`] : []),
    ...options.map((option) => optionLine(path, option)),
  ];
}

export function fishScript(places: readonly Place[]): string {
  const paths = places.filter(({ path }) => path.includes(" ")).map(({ path }) => fishQuoted(path));
  const values = places.flatMap(({ path, options }) =>
    options.flatMap(({ names, value }) =>
      value === null ? [] : names.map((name) => fishQuoted(`${path} ${name}`)),
    ),
  );
  return `# fish completion of portolan. Made by: portolan completion fish
function __portolan_at # whether the words so far lead to this command
    set -l at portolan
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- "$at $word" ${paths.join(" ")}
            set at "$at $word"
        else if contains -- "$at $word" ${values.join(" ")}
            set skip 1
        end
    end
    test "$at" = "$argv"
end

complete -c portolan -e
complete -c portolan -f
${places.flatMap(linesOf).join("\n")}`;
}
