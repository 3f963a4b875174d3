// SPDX-License-Identifier: Apache-2.0
/**
 * Which service ports have series of their own: at most so many, those with the most traffic; the others share one. A
 * shared counter must not jump when one of them gets or loses its own series, so it is a sum of what each has grown by.
 */
import type { ServiceTraffic } from "./map-reader.js";

export interface Amounts {
  readonly flows: number;
  readonly packets: number;
  readonly bytes: number;
}

export interface TopTrafficResult {
  readonly top: readonly { readonly service: ServiceTraffic; readonly amounts: Amounts }[];
  /** Of all others, since the start. */
  readonly other: Amounts;
}

interface Known {
  amounts: Amounts;
  /** Bytes lately: what was before counts for less each time. */
  score: number;
}

const NOTHING: Amounts = { flows: 0, packets: 0, bytes: 0 };
/** What an earlier growth counts for after each reading. */
const DECAY = 0.9;
/** By how much a newcomer must be ahead to take a place: or two of a size would change places for ever. */
const AHEAD = 2;

export class TopTraffic {
  readonly #most: number;
  #known = new Map<string, Known>();
  #top = new Set<string>();
  #other: Amounts = NOTHING;

  constructor(most: number) {
    this.#most = most;
  }

  /** A reading, newer than the one before. */
  update(services: readonly ServiceTraffic[]): TopTrafficResult {
    const before = this.#known;
    const byKey = new Map(services.map((service) => [service.key, service]));
    const growth = new Map<string, Amounts>();
    this.#known = new Map();
    for (const [key, { traffic }] of byKey) {
      const amounts = toAmounts(traffic);
      const known = before.get(key);
      const grown = known === undefined ? NOTHING : grownBy(known.amounts, amounts);
      growth.set(key, grown);
      // At first sight there is no growth: who has had the most so far begins ahead.
      const score = known === undefined ? amounts.bytes * (1 - DECAY) : known.score * DECAY + grown.bytes;
      this.#known.set(key, { amounts, score });
    }
    this.#choose();
    for (const [key, grown] of growth) if (!this.#top.has(key)) this.#other = sum(this.#other, grown);
    const top = [...this.#top].sort().flatMap((key) => {
      const service = byKey.get(key);
      return service === undefined ? [] : [{ service, amounts: toAmounts(service.traffic) }];
    });
    return { top, other: this.#other };
  }

  #choose(): void {
    const score = (key: string): number => this.#known.get(key)?.score ?? 0;
    this.#top = new Set([...this.#top].filter((key) => this.#known.has(key)));
    const outside = [...this.#known.keys()]
      .filter((key) => !this.#top.has(key))
      .sort((a, b) => score(b) - score(a) || (a < b ? -1 : 1));
    const inside = [...this.#top].sort((a, b) => score(a) - score(b));
    for (const key of outside) {
      if (this.#top.size < this.#most) {
        this.#top.add(key);
        continue;
      }
      const lowest = inside.shift();
      if (lowest === undefined || score(key) <= AHEAD * score(lowest)) break;
      this.#top.delete(lowest);
      this.#top.add(key);
    }
  }
}

const toAmounts = ({ flows, packets, bytes }: ServiceTraffic["traffic"]): Amounts => ({
  flows: Number(flows),
  packets: Number(packets),
  bytes: Number(bytes),
});

/** A count that has become less began anew: its index is another service port's now. */
function grownBy(before: Amounts, now: Amounts): Amounts {
  const grown = (a: number, b: number): number => (b >= a ? b - a : b);
  return {
    flows: grown(before.flows, now.flows),
    packets: grown(before.packets, now.packets),
    bytes: grown(before.bytes, now.bytes),
  };
}

const sum = (a: Amounts, b: Amounts): Amounts => ({
  flows: a.flows + b.flows,
  packets: a.packets + b.packets,
  bytes: a.bytes + b.bytes,
});
