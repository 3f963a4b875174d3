// SPDX-License-Identifier: Apache-2.0
/**
 * The archive of `portolan dump`: a gzipped tar file with these members, in this order. All paths begin with
 * "portolan-dump/"; integers are little-endian.
 *
 *   meta.json         Meta: format and versions, the machine's clock, the maps
 *   interfaces.json   ArchivedHooks: the interfaces, and the programs at their hooks
 *   problems.json     FoundProblems: what the agent left out of the maps
 *   doctor.json       what `portolan doctor -o json` says
 *   log.jsonl         the agent's last log lines, where it keeps them
 *   maps/NAME.NNN     parts of a map, at most PART_ENTRIES entries each: magic "PTLM", index of the first entry, count, bytes
 *                     of keys (u32 each); the keys, packed (none of an array: they are the indexes); the values, packed
 *   end.json          ArchiveEnd: how many entries of each map there are. Without it the archive is not whole
 *
 * Members of other names are for later versions, and skipped.
 */
import { ABI_HASH, LAYOUT_VERSION } from "../../abi/abi-hash.gen.js";
import { MAPS, type MapName } from "../../abi/maps.gen.js";
import { verifyMaps } from "../../abi/verify.js";
import type { ForwardingReport } from "../../daemon/forwarding-file.js";
import type { Attachment } from "../../native/hooks.js";
import { isArrayMap } from "../../native/kernel.js";
import type { NativeMapInfo } from "../../native/maps.js";
import { AppError } from "../../util/errors.js";
import type { InterfaceName, XdpHook } from "../open-maps.js";

export const ROOT: string = "portolan-dump/";
export const FORMAT = "portolan-dump";
/** Raised when older programs would misread an archive; new members alone do not. */
export const FORMAT_VERSION = 1;
export const PART_ENTRIES = 65_536;
/** "PTLM" */
const PART_MAGIC = 0x4d4c5450;
const PART_HEADER_BYTES = 16;
/** Of one JSON member: thousands of problems are a few megabytes. */
export const MAX_JSON_BYTES: number = 32 * 1024 * 1024;

/** What begins with a Meta: the archive, and the lines of `portolan maps dump --all` (maps-dump.ts). */
export interface Form {
  readonly format: string;
  /** The latest that is known here. */
  readonly version: number;
  /** For messages. */
  readonly noun: "archive" | "dump";
  /** What makes one. */
  readonly command: string;
  /** Where its Meta and its ArchiveEnd are, for messages. */
  readonly head: string;
  readonly end: string;
}

export const ARCHIVE: Form = {
  format: FORMAT,
  version: FORMAT_VERSION,
  noun: "archive",
  command: "portolan dump -f FILE",
  head: "meta.json",
  end: "end.json",
};

/** E_ARCHIVE: it is none, it is damaged, or a later version's. E_OTHER_LAYOUT: its maps are not laid out as this program's. */
export type ArchiveErrorCode = "E_ARCHIVE" | "E_OTHER_LAYOUT";

export interface Meta {
  readonly format: typeof FORMAT;
  readonly version: number;
  /** RFC 3339. */
  readonly written: string;
  /** The machine's host name. */
  readonly host: string;
  readonly versions: {
    readonly portolan: string;
    readonly node: string;
    readonly kernel: string;
    /** Null when the native library could not be loaded. */
    readonly libbpf: string | null;
    readonly layout: number;
    /** 16 hexadecimal digits. */
    readonly abi: string;
  };
  readonly bpfRoot: string;
  /** CLOCK_MONOTONIC when the maps had been read: a decimal u64. */
  readonly monotonicNs: string;
  readonly maps: readonly NativeMapInfo[];
  /** Why there are no maps; null when there are. */
  readonly noMaps: string | null;
}

export interface ArchivedHooks {
  readonly interfaces: readonly InterfaceName[];
  readonly attachments: readonly Attachment[];
  /** Interfaces with an XDP program; left out in archives of before there was one. */
  readonly xdp?: readonly XdpHook[];
  /** Left out in archives of before there was a choice. */
  readonly forwarding?: ForwardingReport | null;
}

export interface ArchiveEnd {
  readonly entries: Readonly<Partial<Record<MapName, number>>>;
}

/** Entries of a map as they stand in an archive. */
export interface Part {
  /** Of an array: the index of the first entry. */
  readonly first: number;
  readonly count: number;
  /** Empty for an array. */
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

export const abiText = (hash: bigint = ABI_HASH): string =>
  BigInt.asUintN(64, hash).toString(16).padStart(16, "0");

export function partName(map: MapName, number: number): string {
  return `${ROOT}maps/${map}.${String(number).padStart(3, "0")}`;
}

/** The map that a member is a part of; null: it is no part of a map that is known here. */
export function mapOfPart(member: string): MapName | null {
  const name = /^portolan-dump\/maps\/(\w+)\.\d{3,6}$/.exec(member)?.[1];
  return name !== undefined && Object.hasOwn(MAPS, name) ? (name as MapName) : null;
}

/** The largest part of a map that there can be. */
export function maxPartBytes(map: MapName): number {
  const { keySize, valueSize } = MAPS[map];
  return PART_HEADER_BYTES + 2 * PART_ENTRIES * (keySize + valueSize);
}

export function encodePart({ first, count, keys, values }: Part): Buffer {
  const part = Buffer.alloc(PART_HEADER_BYTES + keys.length + values.length);
  for (const [i, word] of [PART_MAGIC, first, count, keys.length].entries()) part.writeUInt32LE(word, 4 * i);
  part.set(keys, PART_HEADER_BYTES);
  part.set(values, PART_HEADER_BYTES + keys.length);
  return part;
}

/** @throws AppError E_ARCHIVE when the bytes are no part of this map */
export function decodePart(map: MapName, bytes: Buffer, file: string): Part {
  const { keySize, valueSize } = MAPS[map];
  if (bytes.length < PART_HEADER_BYTES || bytes.readUInt32LE(0) !== PART_MAGIC)
    throw damaged(file, `a part of map ${map} does not begin as one`);
  const [first, count, keyBytes] = [bytes.readUInt32LE(4), bytes.readUInt32LE(8), bytes.readUInt32LE(12)];
  const isRight = keyBytes === (isArrayMap(map) ? 0 : count * keySize);
  if (!isRight || bytes.length !== PART_HEADER_BYTES + keyBytes + count * valueSize)
    throw damaged(file, `a part of map ${map} is not as long as its ${count} entries`);
  const keys = bytes.subarray(PART_HEADER_BYTES, PART_HEADER_BYTES + keyBytes);
  return { first, count, keys, values: bytes.subarray(PART_HEADER_BYTES + keyBytes) };
}

/** Keys of an array's cells, from `first` on. */
export function indexKeys(first: number, count: number): Uint8Array {
  const keys = new DataView(new ArrayBuffer(4 * count));
  for (let i = 0; i < count; i++) keys.setUint32(4 * i, first + i, true);
  return new Uint8Array(keys.buffer);
}

function archiveError(
  file: string,
  message: string,
  hint: string,
  cause?: unknown,
): AppError<ArchiveErrorCode> {
  return new AppError("E_ARCHIVE", `${file}: ${message}`, { fields: { file }, hint, cause });
}

export function foreign(file: string, cause?: unknown, form: Form = ARCHIVE): AppError<ArchiveErrorCode> {
  const [what] = form.command.split(/ -[fo] /);
  return archiveError(
    file,
    `this is no ${form.noun} of \`${what}\``,
    `Make one on the node: ${form.command}.`,
    cause,
  );
}

export function damaged(
  file: string,
  what: string,
  cause?: unknown,
  form: Form = ARCHIVE,
): AppError<ArchiveErrorCode> {
  return archiveError(
    file,
    `the ${form.noun} is damaged: ${what}`,
    "Copy it again, or make another one.",
    cause,
  );
}

/** A map that was not pinned when they were read. */
export function withoutMap(file: string, map: MapName): AppError<ArchiveErrorCode> {
  const hint =
    "On the node, `portolan maps` shows which are missing, and `portolan verify` what becomes of them.";
  return archiveError(file, `it has no map ${map}: that was not pinned where it was made`, hint);
}

type Fields = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown): value is string => typeof value === "string";

function isMapInfo(value: unknown): value is NativeMapInfo {
  if (!isObject(value)) return false;
  const { name, type, keySize, valueSize, maxEntries, flags, id, bytes, used } = value;
  const counts = [keySize, valueSize, maxEntries, flags, id, bytes, ...(used === null ? [] : [used])];
  return isText(name) && isText(type) && counts.every(isCount);
}

/**
 * What meta.json says, when this program can read what follows.
 *
 * @throws AppError E_ARCHIVE, or E_OTHER_LAYOUT naming both layouts
 */
export function readMeta(value: unknown, file: string): Meta {
  const meta = readHead(value, file, ARCHIVE);
  const { noMaps } = meta as Partial<Meta>;
  if (noMaps !== null && !isText(noMaps)) throw damaged(file, "meta.json");
  return meta as Meta;
}

/** What both forms begin with. */
export type Head = Omit<Meta, "format" | "noMaps"> & { readonly format: string };

/**
 * The same of what any form begins with.
 *
 * @throws AppError E_ARCHIVE, or E_OTHER_LAYOUT naming both layouts
 */
export function readHead(value: unknown, file: string, form: Form): Head {
  if (!isObject(value) || value.format !== form.format || !isCount(value.version))
    throw foreign(file, undefined, form);
  const { versions } = value;
  const by = isObject(versions) && isText(versions.portolan) ? ` by portolan ${versions.portolan}` : "";
  const written = `the ${form.noun} was written${by}`;
  if (value.version > form.version) {
    const what = `${written} in a later form (${value.version}, this program reads up to ${form.version})`;
    throw archiveError(file, what, "Read it with that version.");
  }
  if (!isObject(versions) || !isCount(versions.layout) || !isText(versions.abi))
    throw damaged(file, form.head, undefined, form);
  if (versions.layout !== LAYOUT_VERSION || versions.abi !== abiText()) {
    const [theirs, ours] = [`v${versions.layout} (${versions.abi})`, `v${LAYOUT_VERSION} (${abiText()})`];
    throw new AppError<ArchiveErrorCode>(
      "E_OTHER_LAYOUT",
      `${file}: ${written}, its maps have layout ${theirs}, this program's is ${ours}`,
      { fields: { file, found: theirs, wanted: ours }, hint: "Read it with that version." },
    );
  }
  if (!isWhole(value)) throw damaged(file, form.head, undefined, form);
  const head = value as unknown as Head;
  verifyMaps(
    head.maps.map((info) => ({ ...info, typeId: typeIdOf(info) })),
    file,
  );
  return head;
}

function isWhole({ written, host, bpfRoot, monotonicNs, maps }: Fields): boolean {
  return (
    [written, host, bpfRoot].every(isText) &&
    isText(monotonicNs) &&
    /^\d{1,20}$/.test(monotonicNs) &&
    Array.isArray(maps) &&
    maps.every(isMapInfo)
  );
}

/** 0, which is no type, for one that is not known. */
function typeIdOf({ name, type }: NativeMapInfo): number {
  return Object.hasOwn(MAPS, name) && MAPS[name].type === type ? MAPS[name].typeId : 0;
}

function isAttachment(value: unknown): value is Attachment {
  if (!isObject(value)) return false;
  const { ifindex, direction, mode, ours, name } = value;
  const [inOut, modes]: [readonly unknown[], readonly unknown[]] = [
    ["in", "out"],
    ["tcx", "clsact"],
  ];
  return (
    isCount(ifindex) &&
    inOut.includes(direction) &&
    modes.includes(mode) &&
    typeof ours === "boolean" &&
    isText(name)
  );
}

function isXdpHook(value: unknown): value is XdpHook {
  if (!isObject(value)) return false;
  const { ifindex, mode, ours, name } = value;
  const modes: readonly unknown[] = ["native", "generic", "other", null];
  return isCount(ifindex) && modes.includes(mode) && typeof ours === "boolean" && isText(name);
}

/** @throws AppError E_ARCHIVE */
export function readHooks(value: unknown, file: string): ArchivedHooks {
  const isInterface = (each: unknown): boolean =>
    isObject(each) && isCount(each.ifindex) && isText(each.name);
  const isWhole =
    isObject(value) &&
    Array.isArray(value.interfaces) &&
    value.interfaces.every(isInterface) &&
    Array.isArray(value.attachments) &&
    value.attachments.every(isAttachment) &&
    (value.xdp === undefined || (Array.isArray(value.xdp) && value.xdp.every(isXdpHook)));
  if (!isWhole) throw damaged(file, "interfaces.json");
  return value as unknown as ArchivedHooks;
}

/** @throws AppError E_ARCHIVE */
export function readEnd(value: unknown, file: string, form: Form = ARCHIVE): ArchiveEnd {
  if (!isObject(value) || !isObject(value.entries) || !Object.values(value.entries).every(isCount))
    throw damaged(file, form.end, undefined, form);
  return value as unknown as ArchiveEnd;
}
