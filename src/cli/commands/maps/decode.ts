// SPDX-License-Identifier: Apache-2.0
/** Map entries as plain values, by the layouts generated from the kernel programs. */
import type { Codec } from "../../../abi/codec.js";
import { BackendState, Counters, Direction, REASONS, Role } from "../../../abi/enums.gen.js";
import * as layouts from "../../../abi/layout.gen.js";
import type { MapSpec } from "../../../abi/maps.gen.js";
import { isArrayMap } from "../../../native/kernel.js";
import { ipFromBytes } from "../../../net/ip.js";

/** Of every struct that there is: what is generated tomorrow is known here at once. */
const CODECS = Object.values(layouts).filter((each) => "decode" in each) as readonly Codec<object>[];

/** @throws RangeError when there is no struct of this name */
export function codecOf(type: string): Codec<object> {
  const codec = CODECS.find(({ name }) => name === type);
  if (codec === undefined) throw new RangeError(`no layout is known for "${type}"`);
  return codec;
}

/** A value that JSON can hold. */
export type Plain = string | number | { readonly [field: string]: Plain };

/** One entry of a map, decoded. */
export interface DecodedEntry {
  readonly key: Plain;
  /** Of `counters`: the reason that the cell counts; left out where it is a service port's. */
  readonly reason?: string;
  readonly value: Plain;
}

const wordOf = (name: string): string => name.toLowerCase().replace(/^backend_/, "");

function nameOf(values: Readonly<Record<string, number>>, value: number): string {
  const name = Object.keys(values).find((key) => values[key] === value);
  return name === undefined ? String(value) : wordOf(name);
}

/** Numbers that stand for a word, by struct and field. */
const WORDS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  "backend4.state": BackendState,
  "backend6.state": BackendState,
  "fragment_key4.direction": Direction,
  "fragment_key6.direction": Direction,
  "nat_key4.direction": Direction,
  "nat_key6.direction": Direction,
  "interface.role": Role,
  "socket_key4.direction": Direction,
  "socket_key6.direction": Direction,
};

/** The number that stands for a word; undefined: the field has no words, or not this one. */
export function numberOfWord(struct: string, field: string, word: string): number | undefined {
  const words = WORDS[`${struct}.${field}`] ?? {};
  const name = Object.keys(words).find((key) => wordOf(key) === word);
  return name === undefined ? undefined : words[name];
}

export const MAC_BYTES = 6;

const macText = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");

function plain(struct: string, field: string, value: unknown): Plain {
  if (value instanceof Uint8Array)
    return value.length === MAC_BYTES ? macText(value) : ipFromBytes(value).text;
  // A u64 in two words, which hash keys have so that they need no padding: a socket's cookie. Below 2^53 for centuries.
  if (Array.isArray(value)) return Number(value[1]) * 2 ** 32 + Number(value[0]);
  if (typeof value === "bigint") {
    // Choice words are read in hexadecimal; counters are figures.
    return struct === "frontend" ? `0x${value.toString(16).padStart(16, "0")}` : Number(value);
  }
  const words = WORDS[`${struct}.${field}`];
  return words === undefined ? (value as string | number) : nameOf(words, value as number);
}

/** A reader of the entries that a map's spec names: a struct of ours, a u32 or a u64. */
export function decoderOf(type: string): (bytes: Uint8Array) => Plain {
  if (type === "u32") {
    return (bytes) => new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  }
  if (type === "") return () => ""; // a ring buffer: it has neither keys nor values
  if (type === "u64") {
    return (bytes) => Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true));
  }
  const codec = codecOf(type);
  return (bytes) =>
    Object.fromEntries(
      Object.entries(codec.decode(bytes)).map(([field, value]) => [field, plain(type, field, value)]),
    );
}

/** What a cell of `counters` counts; null: a service port, or nothing that this program knows. */
function reasonName(key: Plain): string | null {
  if (typeof key !== "number" || key >= Counters.SERVICE_BASE) return null;
  return REASONS[key]?.name ?? null;
}

/** Whether an entry holds anything: cells of arrays that were never used are all zero. */
const isUsed = (value: Uint8Array): boolean => value.some((byte) => byte !== 0);

/** Decodes packed entries; of arrays those in use, or each of them. */
export function* decodeEntries(
  spec: MapSpec,
  dump: { readonly count: number; readonly keys: Uint8Array; readonly values: Uint8Array },
  each = false,
): Generator<DecodedEntry> {
  const [key, value] = [decoderOf(spec.key), decoderOf(spec.value)];
  const isArray = isArrayMap(spec.name);
  for (let i = 0; i < dump.count; i++) {
    const valueBytes = dump.values.subarray(i * spec.valueSize, (i + 1) * spec.valueSize);
    if (!each && isArray && !isUsed(valueBytes)) continue;
    const decoded = key(dump.keys.subarray(i * spec.keySize, (i + 1) * spec.keySize));
    const reason = spec.name === "counters" ? reasonName(decoded) : null;
    yield { key: decoded, ...(reason === null ? {} : { reason }), value: value(valueBytes) };
  }
}

/** A decoded key or value in one line: `addr=10.96.65.65 port=6379 protocol=6`. */
export function plainText(value: Plain): string {
  if (typeof value !== "object") return String(value);
  return Object.entries(value)
    .map(([field, part]) => `${field}=${plainText(part)}`)
    .join(" ");
}
