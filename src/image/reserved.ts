// SPDX-License-Identifier: Apache-2.0
/** Frontends that would capture a transport address which this host itself uses. */
import type { HostFacts, ReservedAddress } from "../model/types.js";
import type { Protocol } from "../net/ip.js";
import type { FrontendImage } from "./types.js";

export class ReservedAddresses {
  /** By "port/PROTOCOL". */
  readonly #byPort = new Map<string, ReservedAddress[]>();
  readonly #local: ReadonlySet<string>;
  readonly #nodePortAddresses: ReadonlySet<string>;

  /** `nodePortAddresses`: the texts of those on which NodePorts are served. */
  constructor(host: HostFacts, nodePortAddresses: ReadonlySet<string>) {
    this.#local = new Set(host.localAddresses.map(({ text }) => text));
    this.#nodePortAddresses = nodePortAddresses;
    for (const reserved of host.reserved) {
      const key = `${reserved.port}/${reserved.protocol}`;
      this.#byPort.set(key, [...(this.#byPort.get(key) ?? []), reserved]);
    }
  }

  /**
   * Whom the frontend would take its traffic from; null when nobody. A ClusterIP never does: that the API server is reached
   * through one is what ClusterIPs are for. A NodePort does only where that is refused (6.10).
   */
  capturedBy(frontend: FrontendImage, protocol: Protocol): ReservedAddress | null {
    if (frontend.kind === "ClusterIP" || this.#byPort.size === 0) return null;
    const candidates = this.#byPort.get(`${frontend.port}/${protocol}`) ?? [];
    return candidates.find((reserved) => this.#captures(frontend, reserved)) ?? null;
  }

  #captures({ kind, address }: FrontendImage, reserved: ReservedAddress): boolean {
    if (kind === "NodePort") {
      if (reserved.refusesNodePorts !== true) return false;
      if (reserved.address === null) return true;
      return reserved.address.family === address.family && this.#nodePortAddresses.has(reserved.address.text);
    }
    return reserved.address === null ? this.#local.has(address.text) : reserved.address.text === address.text;
  }
}
