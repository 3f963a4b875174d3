// SPDX-License-Identifier: Apache-2.0
/** Side by side: A B C A B C …, so that what the machine does beside falls on all of them alike. */

/** One thing to be measured, once each round. */
export interface Contestant<T> {
  readonly name: string;
  readonly measure: () => Promise<T> | T;
}

/** Each one's samples, in the order of the rounds. The order within a round turns, so that nobody is always behind the same one. */
export async function interleave<T>(
  contestants: readonly Contestant<T>[],
  rounds: number,
): Promise<Map<string, T[]>> {
  const samples = new Map<string, T[]>(contestants.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contestants.length; i++) {
      const { name, measure } = contestants[(i + round) % contestants.length] as Contestant<T>;
      samples.get(name)?.push(await measure());
    }
  }
  return samples;
}

/** The middle one; the mean of the two in the middle of an even number. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}
