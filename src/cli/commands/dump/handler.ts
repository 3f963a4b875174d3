// SPDX-License-Identifier: Apache-2.0
import { createWriteStream, type Stats } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { MapName } from "../../../abi/maps.gen.js";
import { bpfRoot } from "../../../dataplane/pins.js";
import { AppError, errorMessage, UserError } from "../../../util/errors.js";
import { metaOf } from "../../archive/meta.js";
import { type ArchiveContent, archiveStream } from "../../archive/write.js";
import type { CommonOptions, Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type OpenMaps, withMaps } from "../../open-maps.js";
import { bytesText } from "../../output.js";
import { findProblems } from "../../problems.js";
import { DEFAULT_MARK_BIT, examine } from "../doctor/handler.js";

export interface DumpArchiveOptions {
  /** "-": stdout. */
  readonly file?: string;
}

/** There is nothing to dump, or nothing that this program understands: the rest of an archive tells why. */
const WITHOUT_MAPS: readonly string[] = ["E_NO_PINS", "E_OTHER_LAYOUT", "E_NATIVE_LIBRARY", "E_ABI_MAP"];

/** Calls `use` with the maps, or with why there are none. */
async function withMapsIfAny<T>(
  options: CommonOptions,
  use: (open: OpenMaps | string) => Promise<T>,
): Promise<T> {
  let isOpen = false;
  try {
    return await withMaps(options, (open) => {
      isOpen = true;
      return use(open);
    });
  } catch (error) {
    if (isOpen || !(error instanceof AppError) || !WITHOUT_MAPS.includes(error.code)) throw error;
    return use(error.message);
  }
}

async function gather(
  options: CommonOptions,
  open: OpenMaps | string,
  written: Date,
): Promise<ArchiveContent> {
  const root = bpfRoot(options.bpfRoot);
  const { readLogTail } = await import("../../../daemon/log-tail.js");
  const isOpen = typeof open !== "string";
  const doctor = await examine({ ...options, forwardMarkBit: DEFAULT_MARK_BIT });
  const interfaces = isOpen ? open.interfaces().map(({ ifindex, name }) => ({ ifindex, name })) : [];
  const attachments = isOpen ? await open.attachments(interfaces.map(({ ifindex }) => ifindex)) : [];
  const xdp = (isOpen ? await open.xdp(interfaces.map(({ ifindex }) => ifindex)) : [])
    .filter(({ mode }) => mode !== null)
    .map(({ ifindex, mode, ours, name }) => ({ ifindex, mode, ours, name }));
  const forwarding = isOpen ? await open.forwarding() : null;
  // As late as can be: what the maps are told to hold may be a little younger, and is then shown with an age of 0.
  const meta = isOpen ? await open.meta() : await metaOf(root, [], open);
  return {
    meta: { ...meta, written: written.toISOString() },
    hooks: { interfaces, attachments, xdp, forwarding },
    problems: await findProblems(root, () => true),
    doctor,
    log: await readLogTail(root),
    maps: isOpen ? open.maps : null,
  };
}

function defaultFile(written: Date): string {
  const time = written.toISOString().replace(/[-:]|\.\d+/g, "");
  return `portolan-dump-${hostname().replace(/[^\w.-]/g, "_")}-${time}.tar.gz`;
}

/** Null: there is nothing of that name. */
async function fileAt(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

async function writeFile(file: string, content: ArchiveContent, written: Date): Promise<Entries> {
  try {
    const before = await fileAt(file);
    // What is not whole has another name. A device or a pipe is written to: in its place there would be a file.
    if (before === null || before.isFile()) return await replaceFile(file, content, written);
    if (before.isDirectory())
      throw new UserError(`${file} is a directory`, { hint: "Name the file: portolan dump -f FILE." });
    const { stream, entries } = archiveStream(content, written);
    await pipeline(stream, createGzip(), createWriteStream(file));
    return await entries;
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    if (error instanceof AppError || code === undefined || path === undefined) throw error;
    throw new UserError(`${file} cannot be written: ${errorMessage(error)}`);
  }
}

async function replaceFile(file: string, content: ArchiveContent, written: Date): Promise<Entries> {
  const unfinished = `${file}.part`;
  try {
    const { stream, entries } = archiveStream(content, written);
    await pipeline(stream, createGzip(), createWriteStream(unfinished, { mode: 0o600 }));
    await rename(unfinished, file);
    return await entries;
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
}

type Entries = Readonly<Partial<Record<MapName, number>>>;

async function writeStdout(content: ArchiveContent, written: Date): Promise<void> {
  if (process.stdout.isTTY)
    throw new UserError("an archive is not written to a terminal", {
      hint: "Give -f FILE, or send it into a pipe.",
    });
  const { stream, entries } = archiveStream(content, written);
  await pipeline(stream, createGzip(), process.stdout);
  await entries;
}

/** `portolan dump`. */
export const dumpArchive: Handler<DumpArchiveOptions> = async (options, printer) => {
  const written = new Date();
  if (options.file === "") throw new UserError("--file is empty");
  const file = options.file ?? defaultFile(written);
  return withMapsIfAny(options, async (open) => {
    const content = await gather(options, open, written);
    if (typeof open === "string") printer.note(`without maps: ${open}`);
    if (file === "-") {
      await writeStdout(content, written);
      return ExitCode.ok;
    }
    const entries = await writeFile(resolve(file), content, written);
    const { size } = await stat(file);
    if (printer.structured)
      printer.json({ file: resolve(file), bytes: size, noMaps: content.meta.noMaps, entries });
    else {
      printer.line(`${file}: ${bytesText(size)}, ${Object.keys(entries).length} maps`);
      printer.note(`Read it anywhere: portolan services --from ${file}`);
    }
    return ExitCode.ok;
  });
};
