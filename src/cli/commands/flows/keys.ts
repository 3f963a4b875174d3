// SPDX-License-Identifier: Apache-2.0
/** What flows may be counted and ordered by. Known before anything is loaded that reads them. */
export const COUNT_KEYS = ["service", "backend", "client", "state", "protocol"] as const;
export type CountKey = (typeof COUNT_KEYS)[number];

export const SORT_KEYS = ["idle", "client", "service", "backend", "state"] as const;
export type SortKey = (typeof SORT_KEYS)[number];
