// SPDX-License-Identifier: Apache-2.0
import type { Family } from "../../net/ip.js";

/** The value of the label ip_family, and the key in a health report: as Kubernetes names its families. */
export type FamilyLabel = "IPv4" | "IPv6";

export const FAMILY_LABELS: Readonly<Record<Family, FamilyLabel>> = { 4: "IPv4", 6: "IPv6" };
