// SPDX-License-Identifier: Apache-2.0
import type { MapName } from "../../../src/abi/maps.gen.js";

/** Small: what is not used is not worth memory, and with few frontends elements return soon. */
export const RACE_MAPS: Readonly<Partial<Record<MapName, number>>> = {
  frontends4: 16,
  frontends6: 16,
  slots4: 64,
  slots6: 64,
  backends4: 64,
  backends6: 64,
  backend_stats4: 64,
  backend_stats6: 64,
  nat4: 64,
  nat6: 64,
  addresses4: 64,
  addresses6: 64,
};
