// SPDX-License-Identifier: Apache-2.0
import { createWriteStream } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { hostname, release, version } from "node:os";
import { resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { LAYOUT_VERSION } from "../../../abi/abi-hash.gen.js";
import type { MapName } from "../../../abi/maps.gen.js";
import { bpfRoot } from "../../../dataplane/pins.js";
import { AppError, errorMessage, UserError } from "../../../util/errors.js";
import { productVersion } from "../../../util/version.js";
import { abiText, FORMAT, FORMAT_VERSION, type Meta } from "../../archive/format.js";
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

/** Null where the native library cannot be loaded: that is in what doctor says. */
async function libbpfVersion(): Promise<string | null> {
  try {
    const { NativeLibrary } = await import("../../../native/lib.js");
    return new NativeLibrary().libbpfVersion();
  } catch {
    return null;
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
  const meta: Meta = {
    format: FORMAT,
    version: FORMAT_VERSION,
    written: written.toISOString(),
    host: hostname(),
    versions: {
      portolan: productVersion(),
      node: process.version,
      kernel: `${release()} ${version()}`,
      libbpf: await libbpfVersion(),
      layout: LAYOUT_VERSION,
      abi: abiText(),
    },
    bpfRoot: root,
    maps: isOpen ? open.maps.infos(true) : [],
    noMaps: isOpen ? null : open,
    // As late as can be: what the maps are told to hold may be a little younger, and is then shown with an age of 0.
    monotonicNs: process.hrtime.bigint().toString(),
  };
  return {
    meta,
    hooks: { interfaces, attachments, xdp },
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

async function writeFile(file: string, content: ArchiveContent, written: Date): Promise<Entries> {
  // What is not whole has another name.
  const unfinished = `${file}.part`;
  try {
    const { stream, entries } = archiveStream(content, written);
    await pipeline(stream, createGzip(), createWriteStream(unfinished, { mode: 0o600 }));
    await rename(unfinished, file);
    return await entries;
  } catch (error) {
    await rm(unfinished, { force: true });
    const { code, path } = error as NodeJS.ErrnoException;
    if (error instanceof AppError || code === undefined || path === undefined) throw error;
    throw new UserError(`${file} cannot be written: ${errorMessage(error)}`);
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
