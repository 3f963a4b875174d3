// SPDX-License-Identifier: Apache-2.0
/** Compares the generated tables with what is really loaded: library, object file, maps. Each difference has its own code. */
import { AppError } from "../util/errors.js";
import { ABI_HASH, LAYOUT_VERSION } from "./abi-hash.gen.js";
import { STRUCT_LAYOUTS } from "./layout.gen.js";
import { MAPS, type MapName } from "./maps.gen.js";

export type AbiErrorCode = "E_ABI_LIBRARY" | "E_ABI_OBJECT" | "E_ABI_MAP" | "E_ABI_BYTE_ORDER";

export class AbiError extends AppError<AbiErrorCode> {
  constructor(
    code: AbiErrorCode,
    message: string,
    hint: string,
    fields: Readonly<Record<string, unknown>> = {},
  ) {
    super(code, message, { hint, fields });
    this.name = "AbiError";
  }
}

const REBUILD = "Run `make build`: library, object and program must come from one build";

/** Big-endian hosts are refused: the codecs are little endian. */
export function verifyByteOrder(): void {
  if (new Uint8Array(Uint16Array.of(1).buffer)[0] !== 1)
    throw new AbiError("E_ABI_BYTE_ORDER", "This machine is big endian", "Use a little-endian machine");
}

/** The version and hash that the native library was compiled with. */
export function verifyLibrary(version: number, hash: bigint, path: string): void {
  if (version === LAYOUT_VERSION && hash === ABI_HASH) return;
  const theirs = `layout ${version}, hash ${hash.toString(16)}`;
  const ours = `layout ${LAYOUT_VERSION}, hash ${ABI_HASH.toString(16)}`;
  throw new AbiError(
    "E_ABI_LIBRARY",
    `${path} was built for another layout: it has ${theirs}, this program has ${ours}`,
    REBUILD,
  );
}

/** The lines of ptl_object_layout. Structs that only one side knows are no error: an object need not use all of them. */
export function verifyObject(layout: string, path: string): void {
  const expected = new Map(STRUCT_LAYOUTS.map((struct) => [struct.name, struct]));
  for (const block of layout.split(/^struct /m).filter((text) => text.length > 0)) {
    const [head = "", ...lines] = block.trimEnd().split("\n");
    const [name = "", size = ""] = head.split(" ");
    const struct = expected.get(name);
    if (!struct) continue;
    const fields = struct.fields.map((field) => field.join(" "));
    const found = lines.map((line) => line.trim());
    const index = Math.max(fields.length, found.length);
    for (let i = 0; i < index; i++)
      if (fields[i] !== found[i])
        throw objectError(
          path,
          `struct ${name}: field "${found[i] ?? "none"}", expected "${fields[i] ?? "none"}"`,
        );
    if (Number(size) !== struct.size)
      throw objectError(path, `struct ${name} has ${size} bytes, expected ${struct.size}`);
  }
}

function objectError(path: string, difference: string): AbiError {
  return new AbiError(
    "E_ABI_OBJECT",
    `${path} was built for another layout (name, offset, size): ${difference}`,
    REBUILD,
  );
}

export interface ActualMap {
  readonly name: string;
  /** enum bpf_map_type. */
  readonly typeId: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly flags: number;
}

/** Maps of other names are none of ours. max_entries may differ: sizes are settings. */
export function verifyMaps(actual: readonly ActualMap[], where: string): void {
  for (const map of actual) {
    const expected = Object.hasOwn(MAPS, map.name) ? MAPS[map.name as MapName] : undefined;
    if (!expected) continue;
    for (const field of ["typeId", "keySize", "valueSize", "flags"] as const)
      if (map[field] !== expected[field])
        throw new AbiError(
          "E_ABI_MAP",
          `Map ${map.name} in ${where} has ${field} ${map[field]}, this program expects ${expected[field]}`,
          "Another version made it: use that version, or remove the pins with `portolan cleanup`",
          { map: map.name, field },
        );
  }
}
