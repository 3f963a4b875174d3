// SPDX-License-Identifier: Apache-2.0
/** Which backend a run has come to, and why that one. */
import { Direction, NatFlag, NO_BACKEND, TraceMap, TraceOp } from "../abi/enums.gen.js";
import { type ChoiceWord, decodeChoice } from "../abi/hash.js";
import { FAMILY_CODECS, frontendCodec, type TraceRecord } from "../abi/layout.gen.js";
import type { KernelLookups } from "../native/kernel.js";
import { type Family, ipFromBytes } from "../net/ip.js";
import { formatAddressPort } from "../net/port.js";
import { reasonOf } from "./steps.js";

/**
 * `random`: any of the candidates, each packet anew. `affinity-new`: this client has no backend yet, or its time is up; any of the
 * candidates, and then that one. `affinity`, `flow`: this one and no other. `direct`: the client names the backend itself.
 */
export type ChoiceKind = "random" | "affinity" | "affinity-new" | "flow" | "direct";

export interface Choice {
  readonly kind: ChoiceKind;
  readonly service: number | null;
  /** "10.244.1.5:8080". */
  readonly backend: string;
  /** What it was chosen from, each as often as it has slots' share: with no doubles. `backend` is one of them. */
  readonly candidates: readonly string[];
}

const hit = (map: number) => (record: TraceRecord) =>
  record.op === TraceOp.TRACE_LOOK_UP && record.map === map && record.found !== 0;
const u32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

function backendOf(record: TraceRecord, family: Family): { readonly text: string; readonly service: number } {
  const { addr, port, service } = FAMILY_CODECS[family].backend.decode(record.value);
  return { text: formatAddressPort(ipFromBytes(addr), port), service };
}

/**
 * The choice that an ingress program or the socket hook has made; null: none. Reads the candidates from the live maps.
 *
 * @param chosen the program has chosen a backend for a new flow
 */
export async function choiceOf(
  records: readonly TraceRecord[],
  chosen: boolean,
  family: Family,
  kernel: KernelLookups,
): Promise<Choice | null> {
  const reasons = records.map((record) => reasonOf(record)?.key);
  if (!chosen) {
    const known = reasons.includes("TRANSLATED") || reasons.includes("PASS_DIRECT");
    return known ? flowChoice(records, family) : null;
  }
  const cell = records.findLast(hit(TraceMap.MAP_BACKENDS));
  if (cell === undefined) return null;
  const { text, service } = backendOf(cell, family);
  if (reasons.includes("AFFINITY_KEPT"))
    return { kind: "affinity", service, backend: text, candidates: [text] };
  const slot = records.findLast(hit(TraceMap.MAP_SLOTS));
  const frontend = records.findLast(hit(TraceMap.MAP_FRONTENDS));
  if (slot === undefined || frontend === undefined) return null;
  const { internal, external, affinitySeconds } = frontendCodec.decode(frontend.value);
  const index = u32(slot.key);
  const word = [internal, external]
    .map(decodeChoice)
    .find(({ base, count }) => index >= base && index < base + count);
  const candidates = word === undefined ? [text] : await candidatesOf(word, family, kernel);
  return {
    kind: affinitySeconds > 0 ? "affinity-new" : "random",
    service,
    backend: text,
    candidates: candidates.includes(text) ? candidates : [...candidates, text],
  };
}

/** What the entry that was found, or made, says. */
function flowChoice(records: readonly TraceRecord[], family: Family): Choice | null {
  const { natKey, natValue } = FAMILY_CODECS[family];
  // replies' entries, which are looked at and written besides, have the other direction
  const entry = records.find(
    (record) =>
      record.map === TraceMap.MAP_NAT &&
      record.found !== 0 &&
      record.op !== TraceOp.TRACE_DELETE &&
      natKey.decode(record.key).direction === Direction.IN,
  );
  if (entry === undefined) return null;
  const { addr, port, backend, service, flags } = natValue.decode(entry.value);
  const direct = (flags & NatFlag.NAT_DIRECT) !== 0;
  const { dst, dport } = natKey.decode(entry.key);
  const to = direct ? formatAddressPort(ipFromBytes(dst), dport) : formatAddressPort(ipFromBytes(addr), port);
  const named = direct || backend === NO_BACKEND;
  return { kind: direct ? "direct" : "flow", service: named ? null : service, backend: to, candidates: [to] };
}

const MOST_CANDIDATES = 65_536;

async function candidatesOf(
  { base, count }: ChoiceWord,
  family: Family,
  kernel: KernelLookups,
): Promise<string[]> {
  const indexes = Uint32Array.from({ length: Math.min(count, MOST_CANDIDATES) }, (_, i) => base + i);
  const slots = await kernel.lookUp(`slots${family}`, new Uint8Array(indexes.buffer));
  const cells = Uint32Array.from(new Set(slots.flatMap((value) => (value === null ? [] : [u32(value)]))));
  const values = await kernel.lookUp(`backends${family}`, new Uint8Array(cells.buffer));
  return values.flatMap((value) => {
    if (value === null) return [];
    const { addr, port } = FAMILY_CODECS[family].backend.decode(value);
    return [formatAddressPort(ipFromBytes(addr), port)];
  });
}
