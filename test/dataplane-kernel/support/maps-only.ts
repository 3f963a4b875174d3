// SPDX-License-Identifier: Apache-2.0
/** The product's maps on the real kernel without its programs, and a look at what they hold. */
import type { MapName } from "../../../src/abi/maps.gen.js";
import type { KernelMaps } from "../../../src/native/kernel.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { SIZES } from "./story.js";

const MAPS: readonly MapName[] = [
  "services",
  "frontends4",
  "frontends6",
  "slots4",
  "slots6",
  "backends4",
  "backends6",
  "addresses4",
  "addresses6",
  "source_ranges4",
  "source_ranges6",
  "service_nets4",
  "service_nets6",
];

/** The product's maps with programs that the verifier is done with at once: a hundred agents start in this test. */
export const MAPS_ONLY: string = `
#include <linux/bpf.h>
#include "maps.bpf.h"
const volatile struct ptl_config config = {};
SEC("tc") int ptl_pod_in(struct __sk_buff *skb) { return -1 - !!config.timeout_tcp_closed; }
SEC("tc") int ptl_pod_out(struct __sk_buff *skb) { return -1; }
SEC("tc") int ptl_net_in(struct __sk_buff *skb) { return -1; }
SEC("tc") int ptl_net_out(struct __sk_buff *skb) { return -1; }
char _license[] SEC("license") = "Dual BSD/GPL";
`;

/** The real kernel's maps in memory, where the rules can be checked. */
export async function copyOf(kernel: KernelMaps): Promise<MemoryKernel> {
  const copy = new MemoryKernel({ maxEntries: SIZES });
  for (const map of MAPS) {
    const { count, keys, values } = await kernel.dump(map);
    if (count > 0) await copy.apply([{ map, kind: "update", count, keys, values }]);
  }
  return copy;
}
