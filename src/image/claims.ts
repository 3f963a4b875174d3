// SPDX-License-Identifier: Apache-2.0
/** Who owns an address, port and protocol when several Services name the same one (2.22). */
import type { Service } from "../model/types.js";
import type { Protocol } from "../net/ip.js";
import { formatAddressPort } from "../net/port.js";
import type { FrontendImage } from "./types.js";

/**
 * "10.96.0.1:80/TCP". A NodePort's is that of the all-zero address, which nothing else can have: with a frontend on an
 * address of the node it does not conflict, that one goes first (6.7).
 */
export function claimKey(frontend: FrontendImage, protocol: Protocol): string {
  return `${formatAddressPort(frontend.address, frontend.port)}/${protocol}`;
}

/** Negative when `a` goes before `b`: the older one (no time stamp: the newest), then by namespace and name (2.22). */
export function compareSeniority(a: Service, b: Service): number {
  const age = createdAt(a) - createdAt(b);
  if (age !== 0 && !Number.isNaN(age)) return age;
  return compareText(a.namespace, b.namespace) || compareText(a.name, b.name);
}

function createdAt(service: Service): number {
  if (service.creationTimestamp === "") return Number.MAX_SAFE_INTEGER;
  const time = Date.parse(service.creationTimestamp);
  return Number.isNaN(time) ? Number.MAX_SAFE_INTEGER : time;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Every claim of every Service. Almost all have one claimant, which is why those are stored without a list. */
export class Claims {
  readonly #claimants = new Map<string, Service | Service[]>();

  add(key: string, service: Service): void {
    const present = this.#claimants.get(key);
    if (present === undefined) this.#claimants.set(key, service);
    else this.#claimants.set(key, [...listOf(present), service].sort(compareSeniority));
  }

  remove(key: string, service: Service): void {
    const rest = listOf(this.#claimants.get(key)).filter((other) => other !== service);
    const [first] = rest;
    if (first === undefined) this.#claimants.delete(key);
    else this.#claimants.set(key, rest.length === 1 ? first : rest);
  }

  /** The senior claimant, or undefined when nobody claims it. */
  owner(key: string): Service | undefined {
    const present = this.#claimants.get(key);
    return Array.isArray(present) ? present[0] : present;
  }

  /** All claimants of a contested key, the owner first; empty when there are fewer than two. */
  contestants(key: string): readonly Service[] {
    const present = this.#claimants.get(key);
    return Array.isArray(present) ? present : [];
  }
}

function listOf(present: Service | Service[] | undefined): Service[] {
  if (present === undefined) return [];
  return Array.isArray(present) ? present : [present];
}
