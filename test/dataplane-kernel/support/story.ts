// SPDX-License-Identifier: Apache-2.0
/** What happens in the kill test, known to both processes: the images by number, and the sizes of the maps. */
import fc from "fast-check";
import type { MapName } from "../../../src/abi/maps.gen.js";
import type { Image } from "../../../src/image/types.js";
import { ImageBuilder, nodeSpec, PORTS, portSpec } from "../../property/dataplane/images.js";

export const SIZES: Readonly<Partial<Record<MapName, number>>> = {
  services: 64,
  counters: 128,
  frontends4: 64,
  frontends6: 64,
  backends4: 512,
  backends6: 512,
  backend_stats4: 512,
  backend_stats6: 512,
  slots4: 1024,
  slots6: 1024,
  addresses4: 256,
  addresses6: 256,
  nat4: 128,
  nat6: 128,
  source_ranges4: 64,
  source_ranges6: 64,
};

/** Image number `i`: random, and the same whenever it is asked for. */
export function imageNumber(i: number): Image {
  const builder = new ImageBuilder();
  const specs = fc.sample(fc.option(portSpec, { nil: null }), { seed: 1000 + i, numRuns: PORTS });
  for (const [port, spec] of specs.entries()) builder.set(port, spec);
  for (const node of fc.sample(nodeSpec, { seed: 2000 + i, numRuns: 1 })) builder.setNode(node);
  return builder.build();
}

/** What the parent tells a child to do. */
export interface Orders {
  /** Bring the kernel to this image first, and say how many writes that took. */
  readonly repair: number;
  /**
   * Then write this one, and die after this part (0 to 1) of the writes. "inside": say how many writes there are and make
   * them in one long call, in which the parent kills. null: end in peace.
   */
  readonly next: number;
  readonly dieAt: number | "inside" | null;
}
