// SPDX-License-Identifier: Apache-2.0
/** What lines may be ordered by. Known before anything is loaded that reads them. */
export const SORT_KEYS = ["name", "new", "packets", "bytes", "drops", "active"] as const;
export type SortKey = (typeof SORT_KEYS)[number];
