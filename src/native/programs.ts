// SPDX-License-Identifier: Apache-2.0
/** Programs and the maps they work on, by the ids that the kernel gives them: these hold whatever becomes of a pin. */
import { type PtlConfig, ptlConfigCodec } from "../abi/layout.gen.js";
import { NativeError } from "./errors.js";
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
  /** The settings that it was loaded with; null: it has none in this layout. */
  readonly config: PtlConfig | null;
}

const MAX_PROGRAMS = 32;
const MAX_MAPS = 64;
/** In the error, for a program without these settings. */
const ENOENT = 2;

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
  const config = Buffer.alloc(ptlConfigCodec.size);
  const count = ffi.call("ptl_program_maps", programId, out, MAX_MAPS, config, config.length);
  const infos = Array.from({ length: count }, (_, i): PtlMapInfo => ptlMapInfoCodec.decode(out, i * size));
  return {
    maps: new Map(infos.map(({ name, id }) => [name, id])),
    config: config.some((byte) => byte !== 0) ? ptlConfigCodec.decode(config) : null,
  };
}

/** The settings that a loaded program has. Throws NativeError: E_NATIVE_OBJECT when it is of another build. */
export function programConfig(ffi: Ffi, programId: number): PtlConfig {
  const { config } = programMaps(ffi, programId);
  if (config !== null) return config;
  const details = { errno: ENOENT, op: "program_maps", object: `program ${programId}`, verifierLog: null };
  throw new NativeError(
    "E_NATIVE_OBJECT",
    "Cannot read the settings of the program: it is not one of this build",
    details,
  );
}
