// SPDX-License-Identifier: Apache-2.0
/**
 * Makes the kernel forget flows. What leads to the backend goes first, of all of them, and then what rewrites the replies:
 * a reply that is under way meanwhile is still translated, and no reply ever reaches a client with the backend's address
 * while that client's packets still go there. A flow whose client goes on between the two begins anew, and may then lose its
 * new reply entry to this: the programs see such a half within a second, and put it right.
 */
import { getSystemErrorName } from "node:util";
import { NatFlag } from "../abi/enums.gen.js";
import type { KernelMaps, MapWrite } from "../native/kernel.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { AppError } from "../util/errors.js";
import type { FlowEntries } from "./view/flows.js";
import {
  foundEntry,
  lookUpNat,
  type NatEntry,
  type NatKey,
  type NatReads,
  oppositeKey,
  packNatKeys,
} from "./view/nat-entries.js";

export interface DeletedFlows {
  readonly flows: number;
  /** Entries of `nat4` and `nat6`: 2 a flow, or 4 where the client's address is changed, too. */
  readonly entries: number;
}

/**
 * Two FFI calls for each family that has any of them.
 *
 * @throws AppError E_WRITE_REFUSED when the kernel refuses a delete: those before it are forgotten
 */
export async function deleteFlows(
  kernel: NatReads & Pick<KernelMaps, "apply">,
  flows: readonly FlowEntries[],
): Promise<DeletedFlows> {
  let entries = 0;
  for (const family of FAMILIES) {
    const mine = flows.filter(({ entry }) => entry.family === family);
    if (mine.length === 0) continue;
    const forward = mine.flatMap(({ entry, masquerade }) =>
      masquerade === null ? [entry] : [entry, masquerade],
    );
    const reply = await oppositesOf(kernel, family, forward);
    const { applied, failure } = await kernel.apply([
      deletion(
        family,
        forward.map(({ key }) => key),
      ),
      deletion(family, reply),
    ]);
    entries += applied;
    if (failure !== null) {
      const errno = getSystemErrorName(-failure.errno);
      throw new AppError("E_WRITE_REFUSED", `the kernel refused to delete from map nat${family}: ${errno}`, {
        hint: "Some of the flows are forgotten, others are not: it may be tried again.",
      });
    }
  }
  return { flows: flows.length, entries };
}

/** Keys of their opposites that are there, and are theirs: another flow may have that key by now. */
async function oppositesOf(
  kernel: NatReads,
  family: Family,
  forward: readonly NatEntry[],
): Promise<NatKey[]> {
  const paired = forward.filter(({ value }) => (value.flags & NatFlag.NAT_PENDING) === 0);
  const found = await lookUpNat(kernel, family, paired.map(oppositeKey));
  return paired.flatMap((entry, i) => {
    const { key } = entry;
    const opposite = foundEntry(family, oppositeKey(entry), found[i]);
    return opposite !== null && sameKey(family, oppositeKey(opposite), key) ? [opposite.key] : [];
  });
}

function sameKey(family: Family, a: NatKey, b: NatKey): boolean {
  return Buffer.compare(packNatKeys(family, [a]), packNatKeys(family, [b])) === 0;
}

function deletion(family: Family, keys: readonly NatKey[]): MapWrite {
  return {
    map: `nat${family}`,
    kind: "delete",
    count: keys.length,
    keys: packNatKeys(family, keys),
    values: new Uint8Array(0),
  };
}
