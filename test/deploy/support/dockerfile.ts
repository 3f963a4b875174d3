// SPDX-License-Identifier: Apache-2.0
/** Reads a Dockerfile as far as ours goes: stages and their instructions, lines that go on joined. */

export interface Instruction {
  readonly word: string;
  readonly rest: string;
}

export interface Stage {
  readonly image: string;
  readonly name: string | null;
  readonly instructions: readonly Instruction[];
}

export interface Copy {
  /** The stage that it is taken from; null: the build's context. */
  readonly from: string | null;
  readonly sources: readonly string[];
  readonly target: string;
}

const WORDS = ["FROM", "RUN", "COPY", "WORKDIR", "ENV", "LABEL", "USER", "ENTRYPOINT", "CMD"];

/** @throws Error for an instruction that is not one of ours */
export function readStages(text: string): readonly Stage[] {
  const lines = text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n")
    .replace(/\\\n\s*/g, " ")
    .split("\n")
    .filter((line) => line.trim() !== "");
  const stages: { image: string; name: string | null; instructions: Instruction[] }[] = [];
  for (const line of lines) {
    const [, word = "", rest = ""] = /^(\S+)\s+(.*)$/.exec(line) ?? [];
    if (!WORDS.includes(word)) throw new Error(`not understood: ${line}`);
    if (word === "FROM") {
      const [image = "", , name = null] = rest.split(/\s+/);
      stages.push({ image, name, instructions: [] });
    } else stages.at(-1)?.instructions.push({ word, rest });
  }
  return stages;
}

export function copiesOf({ instructions }: Stage): readonly Copy[] {
  return instructions
    .filter(({ word }) => word === "COPY")
    .map(({ rest }) => {
      const words = rest.split(/\s+/);
      const from = words.find((each) => each.startsWith("--from="))?.slice("--from=".length) ?? null;
      const paths = words.filter((each) => !each.startsWith("--"));
      return { from, sources: paths.slice(0, -1), target: paths.at(-1) as string };
    });
}

/** Of `ln -s TARGET LINK` in the stage's commands. */
export function linksOf({
  instructions,
}: Stage): readonly { readonly target: string; readonly link: string }[] {
  return instructions
    .filter(({ word }) => word === "RUN")
    .flatMap(({ rest }) => [...rest.matchAll(/\bln -s (\S+) (\S+)/g)])
    .map(([, target = "", link = ""]) => ({ target, link }));
}

/** What `apt-get install` names in the stage's commands. */
export function packagesOf({ instructions }: Stage): readonly string[] {
  return instructions
    .filter(({ word }) => word === "RUN")
    .flatMap(({ rest }) => [...rest.matchAll(/apt-get install ((?:[^&|;])+)/g)])
    .flatMap(([, names = ""]) => names.trim().split(/\s+/))
    .filter((name) => !name.startsWith("-"));
}
