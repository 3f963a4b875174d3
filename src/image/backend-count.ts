// SPDX-License-Identifier: Apache-2.0
import { VersionedMap } from "../util/versioned-map.js";
import type { Image } from "./types.js";

type ServicePorts = Image["servicePorts"];

/** How many backends there are, at the cost of the service ports that are others than when it was last asked. */
export class BackendCount {
  #last: { readonly servicePorts: ServicePorts; readonly backends: number } = {
    servicePorts: new Map(),
    backends: 0,
  };

  of(servicePorts: ServicePorts): number {
    const { servicePorts: before, backends: known } = this.#last;
    const changed = VersionedMap.changedKeys(before, servicePorts);
    let backends = changed === null ? 0 : known;
    for (const key of changed ?? servicePorts.keys()) {
      backends += servicePorts.get(key)?.backends.length ?? 0;
      if (changed !== null) backends -= before.get(key)?.backends.length ?? 0;
    }
    this.#last = { servicePorts, backends };
    return backends;
  }
}
