// SPDX-License-Identifier: Apache-2.0
/** Programs and the maps they work on, by the ids that the kernel gives them: these hold whatever becomes of a pin. */
import type { Ffi } from "./ffi.js";
import { type PtlMapInfo, ptlMapInfoCodec, ptlProgramCodec } from "./portolan.gen.js";

/** A loaded program. */
export interface LoadedProgram {
  /** "ptl_pod_in" …. */
  readonly name: string;
  readonly id: number;
  /** Hash of its instructions as the kernel computes it, 16 hex digits: the same on one kernel for one build. */
  readonly tag: string;
}

/** What a program works on. */
export interface ProgramMaps {
  /** Ids of maps by the name that the kernel has of them. */
  readonly maps: ReadonlyMap<string, number>;
  /** Its constants, which are what the settings became when it was loaded. */
  readonly constants: Uint8Array;
}

const MAX_PROGRAMS = 32;
const MAX_MAPS = 64;
/** More than struct ptl_config and the few other constants. */
const CONSTANT_BYTES = 1024;

export function programsOf(ffi: Ffi, handle: number): LoadedProgram[] {
  const { size } = ptlProgramCodec;
  const out = Buffer.alloc(MAX_PROGRAMS * size);
  const count = ffi.call("ptl_programs", handle, out, MAX_PROGRAMS);
  return Array.from({ length: count }, (_, i) => {
    const { name, id, tag } = ptlProgramCodec.decode(out, i * size);
    return { name, id, tag: Buffer.from(tag).toString("hex") };
  });
}

export function programMaps(ffi: Ffi, programId: number): ProgramMaps {
  const { size } = ptlMapInfoCodec;
  const out = Buffer.alloc(MAX_MAPS * size);
  const constants = Buffer.alloc(CONSTANT_BYTES);
  const count = ffi.call("ptl_program_maps", programId, out, MAX_MAPS, constants, CONSTANT_BYTES);
  const infos = Array.from({ length: count }, (_, i): PtlMapInfo => ptlMapInfoCodec.decode(out, i * size));
  return { maps: new Map(infos.map(({ name, id }) => [name, id])), constants };
}
