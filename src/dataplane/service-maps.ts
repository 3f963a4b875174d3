// SPDX-License-Identifier: Apache-2.0
/** The maps that an agent writes by Services, reads when it starts and looks at in its audits. */
import { FAMILIES, type Family } from "../net/ip.js";

export type ServiceMap =
  | "services"
  | `${"frontends" | "addresses" | "source_ranges" | "service_nets" | "backends" | "slots"}${Family}`;

export const SERVICE_MAPS: readonly ServiceMap[] = [
  "services",
  ...FAMILIES.flatMap((family): readonly ServiceMap[] => [
    `frontends${family}`,
    `addresses${family}`,
    `source_ranges${family}`,
    `service_nets${family}`,
    `backends${family}`,
    `slots${family}`,
  ]),
];
