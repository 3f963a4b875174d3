// SPDX-License-Identifier: Apache-2.0
/** Choice words and their tags, and the cells of flow_marks, as bpf/include/abi.h defines them. */
import { wordsOf } from "./codec.js";
import { Choice, Empty, type Mark, Marks } from "./enums.gen.js";

const BASE_BITS = BigInt(Choice.BASE_BITS);
const COUNT_BITS = BigInt(Choice.COUNT_BITS);
export const MAX_CHOICE_BASE: number = 2 ** Choice.BASE_BITS - 1;
export const MAX_CHOICE_COUNT: number = 2 ** Choice.COUNT_BITS - 1;

/** What a frontend offers to one scope of senders. */
export interface ChoiceWord {
  /** 16 bits of the frontend's key, never 0. */
  readonly tag: number;
  /** Slots, from `base` on. 0: there is no backend, and `base` is an Empty. */
  readonly count: number;
  readonly base: number;
}

function mix(h: number, word: number): number {
  const product = Math.imul(h ^ word, 0x9e3779b1);
  return product ^ (product >>> 15);
}

/** ptl_choice_tag() of an encoded struct addr_port4/6: its little-endian words, first to last. */
export function choiceTag(key: Uint8Array): number {
  if (key.length % 4 !== 0) throw new RangeError(`Cannot tag a key of ${key.length} bytes: not whole words`);
  return choiceTagOf(wordsOf(key));
}

/** The same of the words themselves. */
export function choiceTagOf(words: Uint32Array): number {
  let h = 0x5bd1e995;
  for (let i = 0; i < words.length; i += 1) h = mix(h, words[i] as number);
  return h >>> 16 || 1;
}

/** The word for `count` slots from `base` on. Throws RangeError when a part does not fit its bits. */
export function encodeChoice({ tag, count, base }: ChoiceWord): bigint {
  if (!(tag > 0 && tag <= 0xffff)) throw new RangeError(`Cannot encode a choice word: tag ${tag}`);
  if (!(count >= 0 && count <= MAX_CHOICE_COUNT))
    throw new RangeError(`Cannot encode a choice word: ${count} slots, at most ${MAX_CHOICE_COUNT}`);
  if (!(base >= 0 && base <= MAX_CHOICE_BASE))
    throw new RangeError(`Cannot encode a choice word: slot ${base}, at most ${MAX_CHOICE_BASE}`);
  return (BigInt(tag) << (BASE_BITS + COUNT_BITS)) | (BigInt(count) << BASE_BITS) | BigInt(base);
}

/** The word of a frontend without backends. */
export function encodeEmptyChoice(tag: number, whenEmpty: "reject" | "drop"): bigint {
  return encodeChoice({ tag, count: 0, base: whenEmpty === "reject" ? Empty.REJECT : Empty.DROP });
}

export function decodeChoice(word: bigint): ChoiceWord {
  return {
    tag: Number(word >> (BASE_BITS + COUNT_BITS)),
    count: Number((word >> BASE_BITS) & ((1n << COUNT_BITS) - 1n)),
    base: Number(word & ((1n << BASE_BITS) - 1n)),
  };
}

/** ptl_mark_index(): the cell of `flow_marks` for an address in network byte order, which lies in `bytes` from `at` on. */
export function markIndex(bytes: Uint8Array, at: number, size: number, mark: Mark): number {
  let sum = Math.imul(mark, 0x7feb352d);
  for (let i = 0; i < size / 4; i += 1) {
    const from = at + 4 * i;
    const word =
      (bytes[from] as number) |
      ((bytes[from + 1] as number) << 8) |
      ((bytes[from + 2] as number) << 16) |
      ((bytes[from + 3] as number) << 24);
    sum = (sum + Math.imul(word ^ i, Math.imul(0x9e3779b1, 2 * i + 1))) | 0;
  }
  return Math.imul(sum ^ (sum >>> 15), 0x85ebca6b) >>> (32 - Marks.BITS);
}
