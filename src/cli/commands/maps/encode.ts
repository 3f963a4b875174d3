// SPDX-License-Identifier: Apache-2.0
/**
 * Map entries from the plain values that decode.ts makes of them. Only figures above 2^53
 * lose their last digits on the way, and bytes that are no text become `?`.
 */
import { parseIp } from "../../../net/ip.js";
import { codecOf, MAC_BYTES, numberOfWord } from "./decode.js";

const IP6_BYTES = 16;
/** ::ffff:0:0/96: 16 bytes that hold an IPv4 address are told as that one. */
const MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const MAX_U64 = 2n ** 64n - 1n;
const MAX_U32 = 2 ** 32 - 1;

type Fields = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wrong(what: string, value: unknown): RangeError {
  return new RangeError(`${what} cannot be ${JSON.stringify(value)}`);
}

/** `most` of a u64 is beyond what a number can be exact about: there the largest number stands for the largest u64. */
function whole(value: unknown, most: number, what: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw wrong(what, value);
}

function u64(value: unknown, what: string): bigint {
  // Choice words are written in hexadecimal.
  if (typeof value === "string" && /^0x[0-9a-f]{16}$/.test(value)) return BigInt(value);
  const big = BigInt(whole(value, Number(MAX_U64), what));
  return big > MAX_U64 ? MAX_U64 : big;
}

function address(value: unknown, size: number, what: string): Uint8Array {
  const ip = typeof value === "string" ? parseIp(value) : null;
  if (ip === null) throw wrong(what, value);
  if (ip.bytes.length === size) return ip.bytes;
  if (size !== IP6_BYTES) throw wrong(what, value);
  return Uint8Array.from([...MAPPED, ...ip.bytes]);
}

function hardwareAddress(value: unknown, what: string): Uint8Array {
  if (typeof value !== "string" || !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(value)) throw wrong(what, value);
  return Uint8Array.from(value.split(":"), (byte) => Number.parseInt(byte, 16));
}

/** The field's value; `like` is one of its type. */
function fieldOf(struct: string, field: string, like: unknown, value: unknown): unknown {
  const what = `${struct}.${field}`;
  if (like instanceof Uint8Array)
    return like.length === MAC_BYTES ? hardwareAddress(value, what) : address(value, like.length, what);
  // A u64 in two words: see decode.ts.
  if (Array.isArray(like)) {
    const all = u64(value, what);
    return [Number(BigInt.asUintN(32, all)), Number(all >> 32n)];
  }
  if (typeof like === "bigint") return u64(value, what);
  if (typeof like === "string") {
    if (typeof value !== "string") throw wrong(what, value);
    // What was no text when it was read: three bytes now, where there was one, would not fit.
    return value.replaceAll("\ufffd", "?");
  }
  if (typeof value !== "string") return whole(value, MAX_U32, what);
  const number = numberOfWord(struct, field, value) ?? (/^\d{1,10}$/.test(value) ? Number(value) : -1);
  return whole(number, MAX_U32, what);
}

function words(type: "u32" | "u64", value: unknown): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(type === "u32" ? 4 : 8));
  if (type === "u32") bytes.setUint32(0, whole(value, MAX_U32, "a u32"), true);
  else bytes.setBigUint64(0, u64(value, "a u64"), true);
  return new Uint8Array(bytes.buffer);
}

/**
 * A writer of the keys or values that a map's spec names: a struct of ours, a u32 or a u64. It throws RangeError for what is
 * none, and for a field that is missing or does not fit.
 */
export function encoderOf(type: string): (value: unknown) => Uint8Array {
  if (type === "u32" || type === "u64") return (value) => words(type, value);
  if (type === "")
    return () => {
      throw new RangeError("a ring buffer has no entries");
    };
  const codec = codecOf(type);
  const like = Object.entries(codec.decode(new Uint8Array(codec.size)));
  return (value) => {
    if (!isObject(value)) throw wrong(`struct ${type}`, value);
    const fields = like.map(([field, each]) => [field, fieldOf(type, field, each, value[field])] as const);
    const bytes = codec.encode(Object.fromEntries(fields));
    // A figure that is too large for its field loses its upper bits without a word.
    const held = codec.decode(bytes) as Fields;
    for (const [field, wanted] of fields)
      if (typeof wanted === "number" && held[field] !== wanted) throw wrong(`${type}.${field}`, wanted);
    return bytes;
  };
}
