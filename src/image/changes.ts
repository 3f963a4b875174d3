// SPDX-License-Identifier: Apache-2.0
/**
 * Which service ports differ between two images, told by who made the second from the first: so that a change of one of ten
 * thousand Services costs nobody a look at all of them. A hint about two particular maps, never part of an image.
 */
import type { Image } from "./types.js";

type ServicePorts = Image["servicePorts"];

interface Changes {
  /** Weak, or every image would keep the one before it alive. */
  readonly since: WeakRef<ServicePorts>;
  readonly keys: readonly string[];
}

const changes = new WeakMap<ServicePorts, Changes>();

/** `keys`: those that are in one of the two maps only, or with another service port in each. */
export function noteChanges(since: ServicePorts, now: ServicePorts, keys: readonly string[]): void {
  changes.set(now, { since: new WeakRef(since), keys });
}

/** The keys that differ; null when nobody has noted that. */
export function changedKeys(since: ServicePorts, now: ServicePorts): readonly string[] | null {
  if (since === now) return [];
  const known = changes.get(now);
  return known?.since.deref() === since ? known.keys : null;
}
