// SPDX-License-Identifier: Apache-2.0
/** What all commands have in common: their options, how they are run, and how they fail. */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { AppError, UserError } from "../util/errors.js";
import { ExitCode } from "./exit-codes.js";
import { loadYamlWriter, OBJECT_FORMATS, type OutputFormat, Printer } from "./output.js";

/** Options that every command has. */
export interface CommonOptions {
  readonly output: OutputFormat;
  /** Undefined: `<bpffs>/portolan`. */
  readonly bpfRoot?: string;
  /** Of commands that read: the archive of `portolan dump` that stands for the kernel. */
  readonly from?: string;
}

/** An example for the help text: what to type, and what that does. */
export interface Example {
  readonly line: string;
  readonly does: string;
}

/** How a command is announced. */
export interface CommandText {
  readonly name: string;
  readonly summary: string;
  readonly description: string;
  readonly examples: readonly Example[];
  /** Left out: OBJECT_FORMATS. */
  readonly formats?: readonly OutputFormat[];
  /** It only reads, by withMaps(): it can read an archive too. */
  readonly reads?: true;
}

const examplesByCommand = new WeakMap<Command, readonly Example[]>();

/** The examples that a command was described with. */
export function examplesOf(command: Command): readonly Example[] {
  return examplesByCommand.get(command) ?? [];
}

/** The work of a command. It prints its result and returns its exit status. */
export type Handler<Options> = (
  options: Options & CommonOptions,
  printer: Printer,
  args: readonly string[],
) => Promise<ExitCode>;

/** A command without options of its own, described in full and with the common options. */
export function describe(text: CommandText): Command {
  const width = Math.max(...text.examples.map((example) => example.line.length));
  const examples = text.examples.map(({ line, does }) => `  $ ${line.padEnd(width)}   # ${does}`);
  const formats = text.formats ?? OBJECT_FORMATS;
  const command = new Command(text.name)
    .summary(text.summary)
    // Its lines are those of our source: the terminal has a width of its own. An empty line begins a paragraph.
    .description(text.description.replaceAll(/([^\n])\n(?!\n)/g, "$1 "))
    .addOption(new Option("-o, --output <format>", "form of the result").choices(formats).default("table"))
    .option("--bpf-root <dir>", "directory of the pinned maps (default: portolan below the bpffs mount)")
    .addHelpText("after", `\nExamples:\n${examples.join("\n")}`);
  examplesByCommand.set(command, text.examples);
  if (text.reads === true) {
    const what = "read an archive of `portolan dump` instead of this machine's kernel";
    command.addOption(new Option("--from <file>", what).conflicts("bpfRoot"));
  }
  return command;
}

/**
 * Makes a handler what commander calls. The handler's module is loaded only when its command is run: `portolan services`
 * shall not wait for the YAML reader of `portolan compile`.
 */
export function run<Options>(load: () => Promise<Handler<Options>>): (...args: unknown[]) => Promise<void> {
  return async (...all: unknown[]) => {
    const command = all.at(-1) as Command;
    // `maps` and `maps dump` have the same options, and commander gives them to the first that knows them.
    const options = command.optsWithGlobals() as Options & CommonOptions;
    const handler = await load();
    const yaml = options.output === "yaml" ? await loadYamlWriter() : null;
    const printer = new Printer(options.output, process.stdout, process.stderr, yaml);
    process.exitCode = await handler(options, printer, command.args);
  };
}

/** Reads a whole number from the command line, between two bounds (both included). */
export function integerOption(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) {
      throw new InvalidArgumentError(`it must be a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

/** An option that takes one of these words, in capitals or not: tables have TCP, and people type tcp. */
export function wordOption(flags: string, description: string, words: readonly string[]): Option {
  return new Option(flags, description).choices(words).argParser((text: string) => {
    const word = words.find((each) => each.toLowerCase() === text.toLowerCase());
    if (word === undefined) throw new InvalidArgumentError(`Allowed choices are ${words.join(", ")}.`);
    return word;
  });
}

/** Gathers the values of an option that may be repeated. */
export function repeatedOption(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/**
 * Prints an error and gives its exit status. Mistakes of the person at the keyboard and errors with a code are told in a
 * line or two; of anything else, which is a fault of ours, all is told.
 */
export function report(error: unknown, stderr: NodeJS.WriteStream = process.stderr): ExitCode {
  if (error instanceof CommanderError) {
    // commander has printed it; help and version are no errors.
    return error.exitCode === 0 ? ExitCode.ok : ExitCode.usage;
  }
  if (error instanceof AppError) {
    stderr.write(`portolan: ${error.message}\n`);
    if (error.hint !== null) stderr.write(`  ${error.hint}\n`);
    for (const line of verifierLog(error)) stderr.write(`  | ${line}\n`);
    return error instanceof UserError ? ExitCode.usage : ExitCode.failure;
  }
  stderr.write(`portolan: unexpected error, please report it\n`);
  stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return ExitCode.failure;
}

/** The end of the kernel's own words about a program that it refused: the reason is in the last lines. */
function verifierLog(error: object): readonly string[] {
  if (!("verifierLog" in error) || typeof error.verifierLog !== "string") return [];
  return error.verifierLog.trimEnd().split("\n").slice(-30);
}
