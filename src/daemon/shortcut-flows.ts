// SPDX-License-Identifier: Apache-2.0
/** Whether flows that take the shortcut are left: the next programs must know it then, whatever --forwarding says now. */
import { viewOf } from "../abi/codec.js";
import { NatFlag, Option } from "../abi/enums.gen.js";
import { natValue4Codec, natValue6Codec } from "../abi/layout.gen.js";
import { layoutsAt } from "../dataplane/pins.js";
import type { NativeLibrary } from "../native/lib.js";

/** Entries read at a time: the first such flow is enough. */
const PIECE = 65_536;

/** The programs that are attached now have the shortcut, as an agent before this one set it. */
async function hadShortcut(library: NativeLibrary): Promise<boolean> {
  const indexes = library.interfaces().map(({ ifindex }) => ifindex);
  const [ours] = (await library.attachments(indexes)).filter((attachment) => attachment.ours);
  return ours !== undefined && (library.programConfig(ours.programId).options & Option.SHORTCUT) !== 0;
}

/**
 * Never throws: what cannot be told counts as yes.
 *
 * @param pins the layout's directory
 */
export async function shortcutFlowsLeft(
  library: NativeLibrary,
  bpfRoot: string,
  pins: string,
): Promise<boolean> {
  if (layoutsAt(bpfRoot).length === 0) return false;
  try {
    if (!(await hadShortcut(library))) return false;
    const maps = library.openPins(pins);
    try {
      for (const [name, codec] of [
        ["nat4", natValue4Codec],
        ["nat6", natValue6Codec],
      ] as const) {
        const at = codec.offsets.flags ?? 0;
        for await (const { count, values } of maps.dumpChunks(name, PIECE)) {
          const view = viewOf(values);
          for (let i = 0; i < count; i++)
            if ((view.getUint16(i * codec.size + at, true) & NatFlag.NAT_SHORTCUT) !== 0) return true;
        }
      }
      return false;
    } finally {
      await maps.close();
    }
  } catch {
    return true;
  }
}
