// SPDX-License-Identifier: Apache-2.0
/**
 * From the JSON of `bpftool -j btf dump file OBJECT` to the layouts, enums and maps of the ABI, with the ABI's rules
 * checked on the way: no hole, no bitfield, no pointer, no `long`, no enum as a member, names of at most 15 bytes.
 * Every refusal names the struct and the field.
 */
export interface BtfType {
  readonly id: number;
  readonly kind: string;
  readonly name?: string;
  readonly size?: number;
  readonly type_id?: number;
  readonly nr_elems?: number;
  readonly nr_bits?: number;
  readonly encoding?: string;
  readonly members?: readonly {
    readonly name: string;
    readonly type_id: number;
    readonly bits_offset: number;
    readonly bitfield_size?: number;
  }[];
  readonly values?: readonly { readonly name: string; readonly val: number }[];
}

/** `bytes`: an address in network order, or an array of u8. `text`: a NUL-terminated char array. */
export type FieldType = "u8" | "u16" | "u32" | "u64" | "s32" | "s64" | "be16" | "be32" | "bytes" | "text";

export interface Field {
  readonly name: string;
  readonly offset: number;
  /** Of the whole member, in bytes. */
  readonly size: number;
  readonly type: FieldType;
  /** Elements of an array of numbers; null for everything else. */
  readonly count: number | null;
}

export interface Struct {
  readonly name: string;
  readonly size: number;
  readonly fields: readonly Field[];
}

export interface AbiEnum {
  readonly name: string;
  readonly values: readonly { readonly name: string; readonly value: number }[];
}

export interface AbiMap {
  readonly name: string;
  readonly type: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly key: string;
  readonly keySize: number;
  readonly value: string;
  readonly valueSize: number;
}

export interface Abi {
  readonly structs: readonly Struct[];
  readonly enums: readonly AbiEnum[];
  readonly maps: readonly AbiMap[];
}

/** A declaration that the ABI's rules forbid. The message names struct, field or map. */
export class AbiRuleError extends Error {
  override readonly name = "AbiRuleError";
}

const SCALARS: Readonly<Record<string, readonly [FieldType, number]>> = {
  __u8: ["u8", 1],
  __u16: ["u16", 2],
  __u32: ["u32", 4],
  __u64: ["u64", 8],
  __s32: ["s32", 4],
  __be16: ["be16", 2],
  __be32: ["be32", 4],
  // The native library's header has the names of <stdint.h>.
  uint8_t: ["u8", 1],
  uint16_t: ["u16", 2],
  uint32_t: ["u32", 4],
  uint64_t: ["u64", 8],
  int32_t: ["s32", 4],
  int64_t: ["s64", 8],
};

/** Kernel names of programs and maps hold 15 bytes and a NUL; longer ones would be cut silently. */
export const MAX_NAME_BYTES = 15;

export class BtfReader {
  readonly #types: ReadonlyMap<number, BtfType>;

  constructor(types: readonly BtfType[]) {
    this.#types = new Map(types.map((type) => [type.id, type]));
  }

  /** The whole ABI of one object. `isAbiEnum` tells our enums from those of the kernel's headers. */
  abi(isAbiEnum: (name: string) => boolean): Abi {
    const all = [...this.#types.values()];
    const isNamed = (type: BtfType): boolean => (type.name ?? "") !== "" && type.name !== "(anon)";
    const maps = this.#mapVariables().map((variable) => this.#map(variable));
    const wanted = new Set(maps.flatMap((map) => [map.key, map.value]));
    for (const variable of all) {
      if (variable.kind !== "VAR") continue;
      const type = this.#strip(variable.type_id);
      if (type.kind === "STRUCT" && isNamed(type)) wanted.add(`${type.name}`);
    }
    return {
      structs: all
        .filter((type) => type.kind === "STRUCT" && isNamed(type) && wanted.has(`${type.name}`))
        .map((type) => this.struct(type))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
      enums: all
        .filter((type) => type.kind === "ENUM" && isAbiEnum(type.name ?? ""))
        .map((type) => ({
          name: `${type.name}`,
          values: (type.values ?? []).map(({ name, val }) => ({ name, value: val })),
        }))
        .sort((a, b) => (a.name < b.name ? -1 : 1)),
      maps,
    };
  }

  /** One struct, checked member by member. */
  struct(type: BtfType): Struct {
    const name = `${type.name}`;
    const fields: Field[] = [];
    let end = 0;
    for (const member of type.members ?? []) {
      const where = `struct ${name}, field ${member.name || "(unnamed)"}`;
      if (member.bitfield_size || member.bits_offset % 8 !== 0)
        throw new AbiRuleError(`${where}: a bitfield; use a whole word and masks`);
      const offset = member.bits_offset / 8;
      if (offset !== end)
        throw new AbiRuleError(`${where}: a hole of ${offset - end} bytes before it; add an explicit pad`);
      const field = this.#field(member.name, offset, member.type_id, where);
      fields.push(field);
      end = offset + field.size;
    }
    if (end !== type.size)
      throw new AbiRuleError(
        `struct ${name}: a hole of ${(type.size ?? 0) - end} bytes after field ${fields.at(-1)?.name ?? "(none)"}; add an explicit pad`,
      );
    return { name, size: type.size ?? 0, fields };
  }

  #field(name: string, offset: number, typeId: number, where: string): Field {
    const type = this.#type(typeId);
    const bare = this.#strip(typeId);
    if (bare.kind === "STRUCT") {
      const inner = this.struct(bare);
      if (!inner.fields.every((field) => field.type === "bytes" || field.type === "be32"))
        throw new AbiRuleError(`${where}: struct ${inner.name} as a member; only an address may be one`);
      return { name, offset, size: inner.size, type: "bytes", count: null };
    }
    if (bare.kind === "ARRAY") {
      const count = bare.nr_elems ?? 0;
      const element = this.#type(bare.type_id ?? 0);
      if (element.kind === "INT" && element.name === "char")
        return { name, offset, size: count, type: "text", count: null };
      const [scalar, size] = this.#scalar(element, where);
      if (scalar === "u8") return { name, offset, size: count, type: "bytes", count: null };
      return { name, offset, size: size * count, type: scalar, count };
    }
    const [scalar, size] = this.#scalar(type, where);
    return { name, offset, size, type: scalar, count: null };
  }

  /** Only the fixed-width names of <linux/types.h>: they carry width and byte order. */
  #scalar(type: BtfType, where: string): readonly [FieldType, number] {
    const bare = this.#strip(type.id);
    if (bare.kind === "PTR") throw new AbiRuleError(`${where}: a pointer; it means nothing in user space`);
    if (bare.kind === "ENUM")
      throw new AbiRuleError(`${where}: an enum as a member; its width is the compiler's`);
    const known = type.kind === "TYPEDEF" ? SCALARS[type.name ?? ""] : undefined;
    if (known) return known;
    if (bare.name?.includes("long"))
      throw new AbiRuleError(`${where}: ${type.name}; its width depends on the machine: use __u64`);
    throw new AbiRuleError(`${where}: type ${type.name ?? type.kind}; use a fixed-width type such as __u32`);
  }

  /** Maps that are pinned. What a program keeps for itself is nobody else's layout. */
  #mapVariables(): BtfType[] {
    const section = [...this.#types.values()].find(
      (type) => type.kind === "DATASEC" && type.name === ".maps",
    ) as (BtfType & { readonly vars?: readonly { readonly type_id: number }[] }) | undefined;
    return (section?.vars ?? [])
      .map((variable) => this.#type(variable.type_id))
      .filter((variable) => this.#strip(variable.type_id).members?.some(({ name }) => name === "pinning"));
  }

  #map(variable: BtfType): AbiMap {
    const name = `${variable.name}`;
    if (Buffer.byteLength(name) > MAX_NAME_BYTES)
      throw new AbiRuleError(`map ${name}: the name has more than ${MAX_NAME_BYTES} bytes`);
    const members = this.#strip(variable.type_id).members ?? [];
    const pointed = (field: string): BtfType | undefined => {
      const member = members.find((candidate) => candidate.name === field);
      return member && this.#type(this.#strip(member.type_id).type_id ?? 0);
    };
    // libbpf's __uint(name, N) is a pointer to an array of N ints.
    const number = (field: string): number => pointed(field)?.nr_elems ?? 0;
    const side = (field: string): [string, number] => {
      const type = pointed(field);
      if (!type) return ["", 0];
      if (this.#strip(type.id).kind === "STRUCT") {
        const struct = this.struct(this.#strip(type.id));
        return [struct.name, struct.size];
      }
      return this.#scalar(type, `map ${name}, ${field}`) as [string, number];
    };
    const [key, keySize] = side("key");
    const [value, valueSize] = side("value");
    return {
      name,
      type: number("type"),
      maxEntries: number("max_entries"),
      flags: number("map_flags"),
      key,
      keySize,
      value,
      valueSize,
    };
  }

  #type(id: number): BtfType {
    const type = this.#types.get(id);
    if (!type) throw new AbiRuleError(`BTF type ${id} is missing`);
    return type;
  }

  /** Without typedefs and qualifiers. */
  #strip(id: number | undefined): BtfType {
    let type = this.#type(id ?? 0);
    while (["TYPEDEF", "CONST", "VOLATILE"].includes(type.kind)) type = this.#type(type.type_id ?? 0);
    return type;
  }
}

/** The object that is loaded must say the same as the one the ABI is generated from. */
export function assertSameAbi(abi: Abi, object: Abi, objectName: string): void {
  for (const map of object.maps) {
    const expected = abi.maps.find((candidate) => candidate.name === map.name);
    if (expected && JSON.stringify(expected) !== JSON.stringify(map))
      throw new AbiRuleError(
        `map ${map.name}: used with two specs: ${JSON.stringify(expected)} in maps.bpf.h, ${JSON.stringify(map)} in ${objectName}`,
      );
    if (!expected) throw new AbiRuleError(`map ${map.name}: in ${objectName} but not in maps.bpf.h`);
  }
  for (const struct of object.structs) {
    const expected = abi.structs.find((candidate) => candidate.name === struct.name);
    if (expected && JSON.stringify(expected) !== JSON.stringify(struct))
      throw new AbiRuleError(
        `struct ${struct.name}: ${objectName} was built from another layout; run make bpf`,
      );
  }
}
