// SPDX-License-Identifier: Apache-2.0
/** The tables of settings as options of the command line, and back. */
import { type Command, Option } from "commander";
import { formatDuration } from "../../../config/duration.js";
import { KUBE_PROXY_FLAGS } from "../../../config/kube-proxy-settings.js";
import { PORTOLAN_SETTINGS } from "../../../config/portolan-settings.js";
import { fallbackText, flagName, type Setting } from "../../../config/setting.js";
import { repeatedOption } from "../../command.js";

type Flag = Setting & { readonly flag: string };

/** What the flags gave, by flag without dashes. */
export type FlagTexts = Readonly<Record<string, string | true | readonly string[] | undefined>>;

const REPEATED: readonly Setting["kind"][] = ["list", "gates", "vmodule"];

/** Adds an option for each flag of ours and of kube-proxy, in groups. */
export function addFlags(command: Command): Command {
  add(command, "Options:", PORTOLAN_SETTINGS);
  add(
    command,
    "Options of kube-proxy:",
    KUBE_PROXY_FLAGS.filter(({ idle }) => idle === undefined),
  );
  add(
    command,
    "Options of kube-proxy that are accepted and have no effect here:",
    KUBE_PROXY_FLAGS.filter(({ idle }) => idle !== undefined),
  );
  return command;
}

function add(command: Command, group: string, flags: readonly Flag[]): void {
  for (const flag of flags) command.addOption(optionOf(flag).helpGroup(group));
}

function optionOf(setting: Flag): Option {
  const { flag, kind, placeholder, does, idle, hidden, choices } = setting;
  const value = kind === "bool" || kind === "bool?" ? "[bool]" : (placeholder ?? "<value>");
  const fallback = fallbackText(setting, formatDuration);
  const note = fallback === "none" || fallback === "false" ? "" : ` (default: ${fallback})`;
  const words = choices === undefined ? does : `${does}: ${choices.join(", ")}`;
  const text = idle === undefined ? `${words}${note}` : `${does}; ${idle}`;
  const option = new Option(flag.length === 1 ? `-${flag}, --${flag} ${value}` : `--${flag} ${value}`, text);
  // commander takes "-v=2" for the value "=2".
  if (flag.length === 1) option.argParser((given) => given.replace(/^=/, ""));
  if (REPEATED.includes(kind)) option.argParser(repeatedOption);
  return hidden === true ? option.hideHelp() : option;
}

/** What of commander's options are such flags. */
export function flagTexts(options: object): FlagTexts {
  const values = options as Readonly<Record<string, string | true | readonly string[] | undefined>>;
  const names = [...PORTOLAN_SETTINGS, ...KUBE_PROXY_FLAGS].map(({ flag }) => flag);
  return Object.fromEntries(names.map((flag) => [flag, values[attributeOf(flag)]]));
}

/** A name and a password in a URL: nobody else's business. */
const USER_OF_URL = /\/\/[^/@\s]*@/g;

/** What was given on the command line, as it is typed but for passwords in URLs: for people. */
export function givenFlags(
  options: object & { readonly manifests?: readonly string[]; readonly bpfRoot?: string },
): Readonly<Record<string, string>> {
  const texts: FlagTexts = {
    ...flagTexts(options),
    manifests: options.manifests,
    "bpf-root": options.bpfRoot,
  };
  return Object.fromEntries(
    Object.entries(texts).flatMap(([flag, text]) =>
      text === undefined ? [] : [[flagName(flag), String(text).replaceAll(USER_OF_URL, "//***@")]],
    ),
  );
}

/** As commander names it: camel case. */
function attributeOf(flag: string): string {
  return flag.replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase());
}
