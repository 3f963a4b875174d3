// SPDX-License-Identifier: Apache-2.0
/** The generated files, as text, from the ABI's model. Pure: the same model gives the same bytes. */
import { createHash } from "node:crypto";
import type { Abi, AbiEnum, Field, Struct } from "./btf.js";

export interface Reason {
  readonly id: string;
  readonly name: string;
  readonly text: string;
}

export interface Constant {
  readonly name: string;
  readonly value: number;
}

const HEADER = `// SPDX-License-Identifier: Apache-2.0
// GENERATED from bpf/include/*.h by scripts/gen-abi.ts (make abi). Do not edit.
`;

const MAP_TYPES: Readonly<Record<number, string>> = {
  1: "hash",
  2: "array",
  5: "percpu_hash",
  6: "percpu_array",
  9: "lru_hash",
  11: "lpm_trie",
  27: "ringbuf",
};

const pascal = (name: string): string =>
  name.replace(/(^|_)([a-z0-9])/g, (_, _underscore: string, letter: string) => letter.toUpperCase());
const camel = (name: string): string => pascal(name).replace(/^./, (letter) => letter.toLowerCase());
const isPad = (field: Field): boolean => /^pad\d*$/.test(field.name);

/** One line per struct, field, enum value and map: what two builds must agree on. Sizes of maps may differ. */
export function canonicalText(abi: Abi): string {
  const lines: string[] = [];
  for (const struct of abi.structs) {
    lines.push(`struct ${struct.name} ${struct.size}`);
    for (const field of struct.fields)
      lines.push(`  ${field.name} ${field.offset} ${field.size} ${field.type}`);
  }
  for (const entry of abi.enums) {
    lines.push(`enum ${entry.name}`);
    for (const { name, value } of entry.values) lines.push(`  ${name} ${value}`);
  }
  for (const map of abi.maps)
    lines.push(
      `map ${map.name} ${map.type} ${map.key} ${map.keySize} ${map.value} ${map.valueSize} ${map.flags}`,
    );
  return `${lines.join("\n")}\n`;
}

/** 63 bits, so that it is a positive number in every language. */
export function layoutHash(abi: Abi): bigint {
  const digest = createHash("sha256").update(canonicalText(abi)).digest();
  return digest.readBigUInt64BE(0) >> 1n;
}

const GETTERS: Readonly<Record<string, readonly [string, string, number]>> = {
  u8: ["Uint8", "", 1],
  u16: ["Uint16", ", true", 2],
  u32: ["Uint32", ", true", 4],
  s32: ["Int32", ", true", 4],
  u64: ["BigUint64", ", true", 8],
  s64: ["BigInt64", ", true", 8],
  be16: ["Uint16", ", false", 2],
  be32: ["Uint32", ", false", 4],
};

function fieldType(field: Field): string {
  if (field.type === "text") return "string";
  if (field.type === "bytes") return "Uint8Array";
  const scalar = /^[us]64$/.test(field.type) ? "bigint" : "number";
  return field.count === null ? scalar : `readonly [${Array(field.count).fill(scalar).join(", ")}]`;
}

function encodeField(struct: Struct, field: Field): string[] {
  const value = `fields.${camel(field.name)}`;
  const at = (offset: number): string => (offset === 0 ? "offset" : `offset + ${offset}`);
  const label = JSON.stringify(`${struct.name}.${field.name}`);
  if (field.type === "text")
    return [`putText(view, ${at(field.offset)}, ${field.size}, ${value}, ${label});`];
  if (field.type === "bytes")
    return [`putBytes(view, ${at(field.offset)}, ${field.size}, ${value}, ${label});`];
  const [name, order, size] = GETTERS[field.type] as readonly [string, string, number];
  if (field.count === null) return [`view.set${name}(${at(field.offset)}, ${value}${order});`];
  return Array.from(
    { length: field.count },
    (_, i) => `view.set${name}(${at(field.offset + i * size)}, ${value}[${i}]${order});`,
  );
}

function decodeField(field: Field): string {
  const at = (offset: number): string => (offset === 0 ? "offset" : `offset + ${offset}`);
  if (field.type === "text") return `getText(view, ${at(field.offset)}, ${field.size})`;
  if (field.type === "bytes") return `getBytes(view, ${at(field.offset)}, ${field.size})`;
  const [name, order, size] = GETTERS[field.type] as readonly [string, string, number];
  const one = (i: number): string => `view.get${name}(${at(field.offset + i * size)}${order})`;
  return field.count === null
    ? one(0)
    : `[${Array.from({ length: field.count }, (_, i) => one(i)).join(", ")}]`;
}

function emitStruct(struct: Struct): string {
  const fields = struct.fields.filter((field) => !isPad(field));
  const type = pascal(struct.name);
  const offsets = struct.fields.map((field) => `${camel(field.name)}: ${field.offset}`).join(", ");
  return `
/** struct ${struct.name}, ${struct.size} bytes. */
export interface ${type} {
${fields.map((field) => `  readonly ${camel(field.name)}: ${fieldType(field)};`).join("\n")}
}

export const ${camel(struct.name)}Codec: Codec<${type}> = codec<${type}>({
  name: "${struct.name}",
  size: ${struct.size},
  offsets: { ${offsets} },
  encodeInto(view, offset, fields) {
${fields
  .flatMap((field) => encodeField(struct, field))
  .map((line) => `    ${line}`)
  .join("\n")}
  },
  decodeFrom: (view, offset) => ({
${fields.map((field) => `    ${camel(field.name)}: ${decodeField(field)},`).join("\n")}
  }),
});
`;
}

/** Structs that exist once per family, so that one routine can serve both. */
function emitFamilies(abi: Abi): string {
  const names = new Set(abi.structs.map((struct) => struct.name));
  const bases = abi.structs
    .filter((struct) => struct.name.endsWith("4") && names.has(`${struct.name.slice(0, -1)}6`))
    .map((struct) => struct.name.slice(0, -1));
  const row = (family: 4 | 6): string =>
    bases.map((base) => `${camel(base)}: ${camel(base)}${family}Codec`).join(", ");
  return `
/** The codecs that exist once per family; the field types are the same in both. */
export interface FamilyCodecs {
${bases.map((base) => `  readonly ${camel(base)}: Codec<${pascal(base)}4>;`).join("\n")}
}

export const FAMILY_CODECS: Readonly<Record<4 | 6, FamilyCodecs>> = {
  4: { ${row(4)} },
  6: { ${row(6)} },
};
`;
}

export function emitLayout(abi: Abi): string {
  const structs = abi.structs.filter((struct) => !struct.fields.every((field) => field.name === "w"));
  const table = structs.map((struct) => {
    const fields = struct.fields.map((f) => `["${f.name}", ${f.offset}, ${f.size}]`).join(", ");
    return `  { name: "${struct.name}", size: ${struct.size}, fields: [${fields}] },`;
  });
  return `${HEADER}import { type Codec, codec, getBytes, getText, putBytes, putText } from "./codec.js";
${structs.map(emitStruct).join("")}${emitFamilies({ ...abi, structs })}
export interface StructLayout {
  readonly name: string;
  readonly size: number;
  /** Name, offset and size of each field, padding included. */
  readonly fields: readonly (readonly [string, number, number])[];
}

/** What a loaded object is compared with. */
export const STRUCT_LAYOUTS: readonly StructLayout[] = [
${table.join("\n")}
];
`;
}

export function emitMaps(abi: Abi): string {
  const rows = abi.maps.map((map) => {
    const type = MAP_TYPES[map.type];
    if (!type) throw new Error(`map ${map.name}: map type ${map.type} has no name in scripts/abi/emit.ts`);
    return `  ${map.name}: { name: "${map.name}", type: "${type}", typeId: ${map.type}, keySize: ${map.keySize}, valueSize: ${map.valueSize}, maxEntries: ${map.maxEntries}, flags: ${map.flags}, key: "${map.key}", value: "${map.value}" },`;
  });
  const types = [...new Set(abi.maps.map((map) => `"${MAP_TYPES[map.type]}"`))].sort();
  return `${HEADER}
export type MapName = ${abi.maps.map((map) => `"${map.name}"`).join(" | ")};

export type MapType = ${types.join(" | ")};

export interface MapSpec {
  readonly name: MapName;
  readonly type: MapType;
  /** enum bpf_map_type. */
  readonly typeId: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; of a per-CPU map the size of one CPU's value. */
  readonly valueSize: number;
  /** The default; the loader may be told otherwise. */
  readonly maxEntries: number;
  readonly flags: number;
  /** Name of the struct, or of a number type such as "u32" (host byte order). */
  readonly key: string;
  readonly value: string;
}

/** In the order of maps.bpf.h; the position is the map's number in a transaction. */
export const MAP_NAMES: readonly MapName[] = [${abi.maps.map((map) => `"${map.name}"`).join(", ")}];

export const MAPS: Readonly<Record<MapName, MapSpec>> = {
${rows.join("\n")}
};
`;
}

function enumKey(entry: AbiEnum, value: string): string {
  const bare = value.replace(/^PTL_/, "");
  const own = `${entry.name.replace(/^ptl_/, "").toUpperCase()}_`;
  return bare.startsWith(own) ? bare.slice(own.length) : bare;
}

function emitEnumDeclarations(enums: readonly AbiEnum[]): string {
  const texts = enums.map((entry) => {
    const type = pascal(entry.name.replace(/^ptl_/, ""));
    const values = entry.values.map(({ name, value }) => `  ${enumKey(entry, name)}: ${value},`).join("\n");
    return `/** enum ${entry.name} */\nexport const ${type} = {\n${values}\n} as const;\nexport type ${type} = (typeof ${type})[keyof typeof ${type}];\n`;
  });
  return texts.join("\n");
}

/** The structs and enums of native/include/portolan.h. */
export function emitNative(abi: Abi): string {
  return `${HEADER.replace("bpf/include/*.h", "native/include/portolan.h")}import { type Codec, codec, getBytes, getText, putBytes, putText } from "../abi/codec.js";

${emitEnumDeclarations(abi.enums)}${abi.structs.map(emitStruct).join("")}`;
}

export function emitEnums(abi: Abi, reasons: readonly Reason[], constants: readonly Constant[]): string {
  const values = abi.enums.find((entry) => entry.name === "ptl_reason")?.values ?? [];
  const rows = reasons.map((reason) => {
    const value = values.find(({ name }) => name === `PTL_REASON_${reason.id}`)?.value;
    if (value === undefined) throw new Error(`reasons.h: ${reason.id} is not in enum ptl_reason`);
    return `  { id: ${value}, key: "${reason.id}", name: "${reason.name}", text: ${JSON.stringify(reason.text)} },`;
  });
  return `${HEADER}
${emitEnumDeclarations(abi.enums)}
${constants.map(({ name, value }) => `export const ${name.replace(/^PTL_/, "")} = ${value};`).join("\n")}

export type ReasonName = ${reasons.map(({ name }) => JSON.stringify(name)).join(" | ")};

export interface ReasonInfo {
  /** Index into \`counters\`. */
  readonly id: number;
  readonly key: string;
  /** Metric label and what the command line prints. */
  readonly name: ReasonName;
  readonly text: string;
}

/** By id: REASONS[i].id === i. */
export const REASONS: readonly ReasonInfo[] = [
${rows.join("\n")}
];
`;
}

export function emitHash(abi: Abi): string {
  const version = abi.enums.find((entry) => entry.name === "ptl_layout")?.values[0]?.value;
  if (version === undefined) throw new Error("enum ptl_layout is missing");
  return `${HEADER}
/** Pins live below <bpf-root>/v<LAYOUT_VERSION>/. */
export const LAYOUT_VERSION = ${version};

/** Of every struct, enum and map (their default sizes left out): library, object and this code must agree on it. */
export const ABI_HASH = ${layoutHash(abi)}n;
`;
}

/** For the native library: the hash, and assertions that make it impossible to build it against other headers. */
export function emitNativeHeader(abi: Abi): string {
  const asserts = abi.structs.flatMap((struct) => [
    `_Static_assert(sizeof(struct ${struct.name}) == ${struct.size}, "run make abi");`,
    ...struct.fields.map(
      (f) => `_Static_assert(offsetof(struct ${struct.name}, ${f.name}) == ${f.offset}, "run make abi");`,
    ),
  ]);
  return `/* SPDX-License-Identifier: Apache-2.0 */
/* GENERATED from bpf/include by scripts/gen-abi.ts (make abi). Do not edit. */
#ifndef PTL_ABI_HASH_GEN_H
#define PTL_ABI_HASH_GEN_H

#include <stddef.h>

#include "abi.h"

#define PTL_ABI_HASH ${layoutHash(abi)}ull

${asserts.join("\n")}

#endif
`;
}
