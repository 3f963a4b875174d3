// SPDX-License-Identifier: Apache-2.0

/** Arguments for an agent whose maps shall hold so many Services with so many endpoints each: none where they do as built. */
export function mapSizes(services: number, endpoints: number): string[] {
  if (services * endpoints <= 100_000 && services <= 30_000) return [];
  return [
    ...["--max-services", String(2 * services)],
    ...["--max-frontends", String(4 * services)],
    ...["--max-backends", String(2 * services * endpoints)],
    ...["--max-slots", String(4 * services * endpoints)],
  ];
}
