// SPDX-License-Identifier: Apache-2.0
import { type Place, quoted } from "./words.js";

function walkCases(places: readonly Place[]): string[] {
  return places
    .filter(({ path }) => path.includes(" "))
    .map(({ path }) => `      (${quoted(path)}) at=${quoted(path)} ;;`);
}

function valueCases({ path, options }: Place): string[] {
  return options.flatMap(({ names, value }) => {
    if (value === null) return [];
    const pattern = names.map((name) => quoted(`${path} ${name}`)).join("|");
    const action =
      value === "text"
        ? "value=none"
        : value === "file"
          ? "value=files"
          : `value=words known=(${value.map(quoted).join(" ")})`;
    return [`    (${pattern}) ${action} ;;`];
  });
}

/** For _describe: a colon ends the word. */
const described = (text: string, description: string): string =>
  quoted(`${text.replaceAll(":", "\\:")}:${description}`);

function wordCases({ path, commands, arguments: known, options }: Place): string {
  const flags = options.flatMap(({ names, description }) =>
    names.map((name) => described(name, description)),
  );
  const words = [
    ...commands.map(({ text, description }) => described(text, description)),
    ...known.map((text) => described(text, text)),
  ];
  return `    (${quoted(path)}) options=(${flags.join(" ")}); words_here=(${words.join(" ")}) ;;`;
}

/** For `source`, and as a file _portolan in $fpath. */
export function zshScript(places: readonly Place[]): string {
  return `#compdef portolan
# zsh completion of portolan. Made by: portolan completion zsh
_portolan_value() { # what the option $1 has behind it: value, known
  value=
  case "$1" in
${places.flatMap(valueCases).join("\n")}
  esac
}

_portolan() {
  local at=portolan value= word
  local -a known options words_here
  integer i
  for ((i = 2; i < CURRENT; i++)); do
    word="$words[i]"
    if [[ -n $value ]]; then value=; continue; fi
    case "$at $word" in
${walkCases(places).join("\n")}
      (*) _portolan_value "$at $word" ;;
    esac
  done
  if [[ $PREFIX == --*=* ]]; then
    _portolan_value "$at \${PREFIX%%=*}"
    compset -P '*='
  else
    _portolan_value "$at $words[CURRENT-1]"
  fi
  case "$value" in
    (none) return ;;
    (files) _files; return ;;
    (words) compadd -- $known; return ;;
  esac
  case "$at" in
${places.map(wordCases).join("\n")}
  esac
  if [[ $PREFIX == -* ]]; then _describe -o option options; else _describe command words_here; fi
}

if [[ "\${funcstack[1]}" == _portolan ]]; then _portolan "$@"; else compdef _portolan portolan; fi`;
}
