// SPDX-License-Identifier: Apache-2.0
/** Types of the tc hooks, and what is at them. */
import type { NativeError } from "./errors.js";
import { AttachMode, type PtlAttachment, ptlAttachmentCodec } from "./portolan.gen.js";

/** `auto`: tcx where the kernel has it (Linux 6.6), else clsact. */
export type HookMode = "auto" | "tcx" | "clsact";

export interface AttachRequest {
  readonly ifindex: number;
  /** enum ptl_role: pods get ptl_pod_in/out, uplinks and overlays ptl_net_in/out. */
  readonly role: number;
  readonly mode: HookMode;
}

/** One per request, in order. `replaced`: a program of an earlier life was exchanged without a gap. */
export type AttachResult =
  | {
      readonly ifindex: number;
      readonly ok: true;
      readonly mode: "tcx" | "clsact";
      readonly change: "new" | "replaced";
    }
  | { readonly ifindex: number; readonly ok: false; readonly error: NativeError };

/** One program at one hook. tcx programs run before all of clsact; `position` is the order within one of them. */
export interface Attachment {
  readonly ifindex: number;
  readonly direction: "in" | "out";
  readonly mode: "tcx" | "clsact";
  readonly position: number;
  /** The program's name begins with ptl_. */
  readonly ours: boolean;
  /** 0: a filter that is not BPF; `name` is its kind. */
  readonly programId: number;
  readonly linkId: number;
  /** Preference of a clsact filter; 0 with tcx. */
  readonly priority: number;
  readonly name: string;
  /** Hash of the program's instructions, 16 hex digits. */
  readonly tag: string;
}

export const HOOK_MODES: Readonly<Record<HookMode, number>> = {
  auto: AttachMode.MODE_AUTO,
  tcx: AttachMode.MODE_TCX,
  clsact: AttachMode.MODE_CLSACT,
};

export const modeName = (mode: number): "tcx" | "clsact" => (mode === AttachMode.MODE_TCX ? "tcx" : "clsact");

export function decodeAttachments(bytes: Uint8Array, count: number): Attachment[] {
  return Array.from({ length: count }, (_, i) => {
    const entry: PtlAttachment = ptlAttachmentCodec.decode(bytes, i * ptlAttachmentCodec.size);
    return {
      ifindex: entry.ifindex,
      direction: entry.out ? "out" : "in",
      mode: modeName(entry.mode),
      position: entry.position,
      ours: entry.ours !== 0,
      programId: entry.programId,
      linkId: entry.linkId,
      priority: entry.priority,
      name: entry.name,
      tag: Buffer.from(entry.tag).toString("hex"),
    };
  });
}

/** ifindexes as the array of u32 that the library reads. */
export function packIndexes(ifindexes: readonly number[]): Buffer {
  return Buffer.from(Uint32Array.from(ifindexes).buffer);
}
