// SPDX-License-Identifier: Apache-2.0
import { VersionedMap } from "../util/versioned-map.js";
import type { Snapshot } from "./types.js";

type Endpointed = Pick<Snapshot, "services" | "slices">;

/**
 * Keys ("namespace/name") whose Service or list of slices is another one in `now`; null when that is not known, and all of
 * them have to be looked at: sources whose maps are no versions of one another tell nothing.
 */
export function changedServices(before: Endpointed | null, now: Endpointed): ReadonlySet<string> | null {
  if (before === null) return null;
  const services = VersionedMap.changedKeys(before.services, now.services);
  const slices = services && VersionedMap.changedKeys(before.slices, now.slices);
  if (services === null || slices === null || services.size === 0) return slices;
  return new Set([...services, ...slices]);
}
