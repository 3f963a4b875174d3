// SPDX-License-Identifier: Apache-2.0
/**
 * Which service ports have series of their own: at most so many, those with the most traffic; the others share one. A
 * shared counter must not jump when one of them gets or loses its own series, so it is a sum of what each has grown by.
 */
import type { Sliced } from "../../util/slices.js";
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
  readonly service: ServiceTraffic;
  readonly amounts: Amounts;
  /** Since the reading before. */
  readonly grown: Amounts;
  /** Bytes lately: what was before counts for less each time. */
  readonly score: number;
}

/** Service ports handled between two chances to pause. */
const STRIDE = 256;

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

  /** A reading, newer than the one before. To be run to its end before the next one. */
  *update(services: readonly ServiceTraffic[]): Sliced<TopTrafficResult> {
    const before = this.#known;
    this.#known = new Map();
    for (const [i, service] of services.entries()) {
      this.#known.set(service.key, remember(service, before.get(service.key)));
      if (i % STRIDE === STRIDE - 1) yield;
    }
    this.#choose(yield* this.#candidates());
    let other = this.#other;
    for (const [key, { grown }] of this.#known) if (!this.#top.has(key)) other = sum(other, grown);
    this.#other = other;
    const top = [...this.#top].sort().flatMap((key) => {
      const known = this.#known.get(key);
      return known === undefined ? [] : [{ service: known.service, amounts: known.amounts }];
    });
    return { top, other };
  }

  /** The busiest of those that have no place, the first first; no more than there are places. */
  *#candidates(): Sliced<readonly string[]> {
    const best: string[] = [];
    let seen = 0;
    for (const key of this.#known.keys()) {
      seen += 1;
      if (seen % STRIDE === 0) yield;
      if (this.#top.has(key)) continue;
      const last = best[this.#most - 1];
      if (last !== undefined && this.#compare(key, last) >= 0) continue;
      if (last !== undefined) best.pop();
      const at = best.findIndex((other) => this.#compare(key, other) < 0);
      best.splice(at < 0 ? best.length : at, 0, key);
    }
    return best;
  }

  #choose(candidates: readonly string[]): void {
    this.#top = new Set([...this.#top].filter((key) => this.#known.has(key)));
    const lowestFirst = [...this.#top].sort((a, b) => this.#compare(b, a));
    for (const key of candidates) {
      if (this.#top.size < this.#most) {
        this.#top.add(key);
        continue;
      }
      const lowest = lowestFirst.shift();
      if (lowest === undefined || this.#score(key) <= AHEAD * this.#score(lowest)) break;
      this.#top.delete(lowest);
      this.#top.add(key);
    }
  }

  #score(key: string): number {
    return this.#known.get(key)?.score ?? 0;
  }

  /** Busier ones first; of two alike in the order of their names. */
  #compare(a: string, b: string): number {
    return this.#score(b) - this.#score(a) || (a < b ? -1 : 1);
  }
}

function remember(service: ServiceTraffic, before: Known | undefined): Known {
  const amounts = toAmounts(service.traffic);
  // At first sight there is no growth: who has had the most so far begins ahead.
  if (before === undefined) return { service, amounts, grown: NOTHING, score: amounts.bytes * (1 - DECAY) };
  const grown = grownBy(before.amounts, amounts);
  return { service, amounts, grown, score: before.score * DECAY + grown.bytes };
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
