// SPDX-License-Identifier: Apache-2.0
/** Side by side: A B C A B C …, so that what the machine does beside falls on all of them alike. */

/** One thing to be measured, once each round. */
export interface Contestant<T> {
  readonly name: string;
  readonly measure: () => Promise<T> | T;
}

/** The same in the order of a round. */
export type Order = <E>(all: readonly E[], round: number) => E[];

/** It turns: nobody is always first. Each goes on being behind the same one. */
export const turning: Order = (all, round) => {
  const first = all.length === 0 ? 0 : round % all.length;
  return [...all.slice(first), ...all.slice(0, first)];
};

/** Any order is as likely as any other: nobody is always behind the same one, and no period of the machine can meet one of them only. */
export const shuffled: Order = (all) => {
  const left = [...all];
  return all.flatMap(() => left.splice(Math.floor(Math.random() * left.length), 1));
};

/** Each one's samples, in the order of the rounds. */
export async function interleave<T>(
  contestants: readonly Contestant<T>[],
  rounds: number,
  order: Order = turning,
): Promise<Map<string, T[]>> {
  const samples = new Map<string, T[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const { name, measure } of order(contestants, round)) samples.get(name)?.push(await measure());
  return samples;
}

/** The middle one; the mean of the two in the middle of an even number. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}
