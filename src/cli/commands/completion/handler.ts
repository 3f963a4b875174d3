// SPDX-License-Identifier: Apache-2.0
import { MAP_NAMES } from "../../../abi/maps.gen.js";
import type { Handler } from "../../command.js";
import type { CommandNode } from "../../command-tree.js";
import { ExitCode } from "../../exit-codes.js";
import { bashScript } from "./bash.js";
import { fishScript } from "./fish.js";
import type { Shell } from "./index.js";
import { completionsOf, type Place } from "./words.js";
import { zshScript } from "./zsh.js";

const SCRIPTS: Readonly<Record<Shell, (places: readonly Place[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** `portolan completion SHELL`: commander takes no other. */
export const completion =
  (tree: CommandNode): Handler<object> =>
  async (_options, printer, [shell]) => {
    // commander does not know these: the handler has a better error for a name that is none.
    const places = completionsOf(tree, { "portolan maps dump": MAP_NAMES });
    printer.line(SCRIPTS[shell as Shell](places));
    return ExitCode.ok;
  };
