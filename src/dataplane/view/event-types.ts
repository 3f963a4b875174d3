// SPDX-License-Identifier: Apache-2.0
/** "gone": a flow's backend has left, and it was chosen anew or reset. */
export const EVENT_TYPES = ["new", "translated", "rejected", "dropped", "gone"] as const;
export type EventType = (typeof EVENT_TYPES)[number];
