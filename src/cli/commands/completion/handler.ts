// SPDX-License-Identifier: Apache-2.0
import { MAP_NAMES } from "../../../abi/maps.gen.js";
import type { Handler } from "../../command.js";
import type { CommandNode } from "../../command-tree.js";
import { ExitCode } from "../../exit-codes.js";
import { bashScript } from "./bash.js";
import { fishScript } from "./fish.js";
import { completionsOf } from "./words.js";
import { zshScript } from "./zsh.js";

/** `portolan completion SHELL`. */
export const completion =
  (tree: CommandNode): Handler<object> =>
  async (_options, printer, [shell = ""]) => {
    // commander does not know these: the handler has a better error for a name that is none.
    const places = completionsOf(tree, {
      "portolan maps dump": MAP_NAMES,
      "portolan completion": ["bash", "zsh", "fish"],
    });
    const scripts: Readonly<Record<string, () => string>> = {
      bash: () => bashScript(places),
      zsh: () => zshScript(places),
      fish: () => fishScript(places),
    };
    printer.line((scripts[shell] as () => string)());
    return ExitCode.ok;
  };
