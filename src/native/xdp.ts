// SPDX-License-Identifier: Apache-2.0
/** The XDP hooks of interfaces: types, and what is at them. */

import type { Ffi } from "./ffi.js";
import { packIndexes } from "./hooks.js";
import { type PtlXdpState, ptlXdpStateCodec, XdpMode } from "./portolan.gen.js";

/** `native`: in the driver. `generic`: behind it, on a socket buffer; for tests, and where nothing else is to be had. */
export type XdpHookMode = "native" | "generic";

/** What is at one XDP hook. There is room for one program. */
export interface XdpState {
  readonly ifindex: number;
  /** null: no program is there. `other`: on the card itself, or several at once. */
  readonly mode: XdpHookMode | "other" | null;
  /** 0: none. */
  readonly programId: number;
  /** The program's name begins with ptl_. */
  readonly ours: boolean;
  readonly name: string;
  /** Hash of the program's instructions, 16 hex digits. */
  readonly tag: string;
  /** The interface's hardware address, 6 bytes; all zero where it has none, or is gone. */
  readonly address: Uint8Array;
}

export const XDP_MODES: Readonly<Record<XdpHookMode, number>> = {
  native: XdpMode.XDP_NATIVE,
  generic: XdpMode.XDP_GENERIC,
};

const MODE_NAMES: ReadonlyMap<number, XdpState["mode"]> = new Map<number, XdpState["mode"]>([
  [XdpMode.XDP_NONE, null],
  [XdpMode.XDP_NATIVE, "native"],
  [XdpMode.XDP_GENERIC, "generic"],
]);

function decodeState(entry: PtlXdpState): XdpState {
  const mode = MODE_NAMES.get(entry.mode);
  return {
    ifindex: entry.ifindex,
    mode: mode === undefined ? "other" : mode,
    programId: entry.programId,
    ours: entry.ours !== 0,
    name: entry.name,
    tag: Buffer.from(entry.tag).toString("hex"),
    address: Uint8Array.from(entry.address),
  };
}

/** What is at the XDP hooks of these interfaces, in their order. Throws NativeError. */
export async function xdpStates(ffi: Ffi, ifindexes: readonly number[]): Promise<readonly XdpState[]> {
  const { length } = ifindexes;
  if (length === 0) return [];
  const out = Buffer.alloc(length * ptlXdpStateCodec.size);
  await ffi.callFor(length, "ptl_xdp_states", packIndexes(ifindexes), length, out);
  return ifindexes.map((_, i) => decodeState(ptlXdpStateCodec.decode(out, i * ptlXdpStateCodec.size)));
}
