// SPDX-License-Identifier: Apache-2.0
/** Comparison of frames that says which field is wrong, in the words of the protocol, when bytes differ. */
import assert from "node:assert/strict";
import { checksumProblems, type Dissection, dissectFrame } from "./packet-dissect.js";

/** Fails unless the frames are equal in every byte; the message lists each field that differs. */
export function assertSameFrame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) === 0) return;
  assert.fail(`${what}: the packet is not as expected\n${diffFrames(actual, expected)}`);
}

/** Fails when a checksum of the frame is wrong, naming each. */
export function assertChecksums(frame: Uint8Array, what: string): void {
  const problems = checksumProblems(frame);
  if (problems.length > 0) assert.fail(`${what}: ${problems.join("; ")}\n${describeFrame(frame)}`);
}

/** The fields that differ, one a line, then both frames in hex with the first difference marked. Empty if equal. */
export function diffFrames(actual: Uint8Array, expected: Uint8Array): string {
  const first = firstDifference(actual, expected);
  if (first === -1) return "";
  const lines = diffFields(dissectFrame(actual), dissectFrame(expected));
  if (actual.length !== expected.length) {
    lines.push(`  length: ${actual.length} bytes, expected ${expected.length}`);
  }
  lines.push(...checksumProblems(actual).map((problem) => `  wrong sum: ${problem}`));
  lines.push(`  first difference at byte ${first}`);
  lines.push("  actual:", hexDump(actual, expected), "  expected:", hexDump(expected, actual));
  return lines.join("\n");
}

/** Every field on a line of its own. */
export function describeFrame(frame: Uint8Array): string {
  return dissectFrame(frame)
    .fields.map((field) => `  ${field.name}: ${field.text}`)
    .join("\n");
}

function diffFields(actual: Dissection, expected: Dissection): string[] {
  const found = new Map(actual.fields.map((field) => [field.name, field.text]));
  const lines: string[] = [];
  for (const field of expected.fields) {
    const value = found.get(field.name);
    found.delete(field.name);
    if (value === field.text) continue;
    lines.push(`  ${field.name}: ${value ?? "(missing)"}, expected ${field.text}`);
  }
  for (const [name, value] of found) lines.push(`  ${name}: ${value}, expected no such field`);
  return lines;
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) if (a[i] !== b[i]) return i;
  return -1;
}

/** 16 bytes a line; bytes that differ from `other` are in brackets. */
function hexDump(frame: Uint8Array, other: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < frame.length; at += 16) {
    const cells = Array.from(frame.subarray(at, at + 16), (byte, i) => {
      const cell = byte.toString(16).padStart(2, "0");
      return other[at + i] === byte ? ` ${cell} ` : `[${cell}]`;
    });
    lines.push(`    ${at.toString(16).padStart(4, "0")} ${cells.join("")}`);
  }
  return lines.join("\n");
}
