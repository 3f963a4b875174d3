// SPDX-License-Identifier: Apache-2.0
import { type Place, quoted } from "./words.js";

/** "portolan maps" for each command below: where a word leads. */
function walkCases(places: readonly Place[]): string[] {
  return places
    .filter(({ path }) => path.includes(" "))
    .map(({ path }) => `      ${quoted(path)}) at=${quoted(path)} ;;`);
}

/** Options with a value, and what that can be. */
function valueCases({ path, options }: Place): string[] {
  return options.flatMap(({ names, value }) => {
    if (value === null) return [];
    const pattern = names.map((name) => quoted(`${path} ${name}`)).join(" | ");
    const action =
      value === "text"
        ? "value=none"
        : value === "file"
          ? "value=files"
          : `value=words words=${quoted(value.join(" "))}`;
    return [`    ${pattern}) ${action} ;;`];
  });
}

function wordCases({ path, commands, arguments: known, options }: Place): string {
  const names = options.flatMap(({ names }) => names).join(" ");
  const words = [...commands.map(({ text }) => text), ...known].join(" ");
  return `    ${quoted(path)}) options=${quoted(names)} words=${quoted(words)} ;;`;
}

/** Needs bash 3.2 and nothing else: not every node has the package bash-completion. */
export function bashScript(places: readonly Place[]): string {
  return `# bash completion of portolan. Made by: portolan completion bash
_portolan_value() { # what the option $1 has behind it: value, words
  value=
  case "$1" in
${places.flatMap(valueCases).join("\n")}
  esac
}

_portolan() {
  local at=portolan cur="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD - 1]}" value= words= options= word i
  # "--output=json" is three words here.
  if [[ $cur == '=' ]]; then cur=
  elif [[ $before == '=' ]]; then before="\${COMP_WORDS[COMP_CWORD - 2]}"; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    if [[ $value && $word != '=' ]]; then value=; continue; fi
    case "$at $word" in
${walkCases(places).join("\n")}
      *) [[ $word == '=' ]] || _portolan_value "$at $word" ;;
    esac
  done
  words=
  _portolan_value "$at $before"
  COMPREPLY=()
  case "$value" in
    none) return ;;
    files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    words) COMPREPLY=($(compgen -W "$words" -- "$cur")); return ;;
  esac
  case "$at" in
${places.map(wordCases).join("\n")}
  esac
  if [[ $cur == -* ]]; then words="$options"; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}

complete -F _portolan portolan`;
}
