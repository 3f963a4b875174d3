// SPDX-License-Identifier: Apache-2.0
/** What a compile must know of this host, kept up to date: addresses come from the interfaces, listeners are read. */
import type { HostFacts, ReservedAddress } from "../model/types.js";
import { compareIp, type IpAddress } from "../net/ip.js";

export class HostView {
  readonly #readListeners: () => Promise<readonly ReservedAddress[]>;
  #facts: HostFacts = { localAddresses: [], reserved: [] };
  /** The addresses are. */
  #known = false;

  /** `readListeners`: the transport addresses that programs of this host have taken. */
  constructor(readListeners: () => Promise<readonly ReservedAddress[]>) {
    this.#readListeners = readListeners;
  }

  /**
   * The same object as long as nothing has changed. Null before the addresses are known: a compile without them would take
   * NodePorts off every address.
   */
  get facts(): HostFacts | null {
    return this.#known ? this.#facts : null;
  }

  /** Addresses in any order, repeated or not (6.1). Returns whether they are others than before. */
  setLocalAddresses(addresses: readonly IpAddress[]): boolean {
    const unique = new Map(addresses.map((address) => [address.text, address]));
    const localAddresses = [...unique.values()].sort(compareIp);
    const before = this.#facts.localAddresses;
    const first = !this.#known;
    this.#known = true;
    const same =
      before.length === localAddresses.length &&
      localAddresses.every(({ text }, i) => text === before[i]?.text);
    if (same) return first;
    this.#facts = Object.freeze({ ...this.#facts, localAddresses: Object.freeze(localAddresses) });
    return true;
  }

  /** Reads the listeners anew. Returns whether they are others than before. */
  async refresh(): Promise<boolean> {
    const reserved = await this.#readListeners();
    const before = this.#facts.reserved;
    if (before.length === reserved.length && reserved.every((each, i) => sameReserved(each, before[i])))
      return false;
    this.#facts = Object.freeze({ ...this.#facts, reserved });
    return true;
  }
}

function sameReserved(a: ReservedAddress, b: ReservedAddress | undefined): boolean {
  return (
    b !== undefined &&
    a.port === b.port &&
    a.protocol === b.protocol &&
    a.use === b.use &&
    a.refusesNodePorts === b.refusesNodePorts &&
    a.address?.text === b.address?.text
  );
}
